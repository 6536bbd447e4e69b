//! The look at a result before it counts: files, programs and JSON by code, then a reviewer where the plan asks for one.
//!
//! Owns what a probe of each kind does and how long it may take. Must not know plans: what is looked at comes from the room,
//! which takes it from the plan that was approved, and never from the task's file, which anybody may have written. Its one
//! surprise: what cannot be looked at is no failure; it is said in the result instead.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    process::Command,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Farewell, Order, Settings, Worker, end::Judged, tail::end_of};
use crate::{
    api,
    engines::{self, Gateway, exec, tree::Grace, tree::Tree},
    model::{Activity, AttemptRef, Checks, DoneWhen, Ending, Modifiers, Permissions, Report, Spend, text},
    orchestrator::review::{self, Review},
    queue::{Claim, Lease as _, Queue},
};

/// How long a program that tells whether a task is done may take.
const PATIENCE: Duration = Duration::from_mins(2);
/// How long a reviewer may take.
const REVIEWING: Duration = Duration::from_mins(5);
/// How often a program's output is looked at.
const PACE: Duration = Duration::from_millis(50);
/// Bytes of output after which a program is ended.
const OUTPUT: u64 = 1024 * 1024;
/// Bytes of output that are told.
const TOLD: u64 = 400;
/// The largest JSON file that is read, and how long it may be compared with its schema.
const JSON: u64 = 8 * 1024 * 1024;
const COMPARING: Duration = Duration::from_secs(10);
/// Files shown to a reviewer, and bytes read of each.
const SHOWN: (usize, u64) = (12, 16 * 1024);

/// What one look came to.
enum Seen {
    /// It is so.
    Holds,
    /// It is not so; why.
    Not(String),
    /// Nobody looked; why.
    Unseen(String),
    /// The attempt is to end, and the worker perhaps too.
    Stop(Ending, Option<Farewell>),
}

/// Looks at a result that says that it is done, and changes what it is judged as where it is not.
pub(super) async fn verify<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: &Claim<Q::Lease>,
    attempt: &AttemptRef,
    checks: &Checks,
    judged: &mut Judged,
) {
    let folder = claim.lease.folder();
    let mut looked = 0_usize;
    for (n, probe) in checks.done_when.iter().enumerate().filter(|(_, probe)| probe.is_probe()) {
        tell(worker, attempt, judged.finding.spend, &format!("looks whether {probe}"));
        match look(worker, attempt, probe, &folder.join(format!("probe-{n}.log"))).await {
            Seen::Holds => looked += 1,
            Seen::Unseen(why) => judged.notes.push(format!("not looked at: {probe} ({why})")),
            Seen::Not(why) => {
                judged.ending = Ending::Unproven { message: format!("{probe}: {why}") };
                return;
            }
            Seen::Stop(ending, farewell) => {
                judged.ending = ending;
                judged.farewell = judged.farewell.or(farewell);
                return;
            }
        }
    }
    if looked > 0 {
        judged.notes.push(format!("podium looked: {looked} of the plan's checks hold"));
    }
    if checks.review {
        tell(worker, attempt, judged.finding.spend, "is reviewed");
        match reviewed(worker, claim, attempt, checks, judged).await {
            Seen::Holds => judged.notes.push("a reviewer has accepted it".to_owned()),
            Seen::Unseen(why) => judged.notes.push(format!("not reviewed, though the plan asks for it: {why}")),
            Seen::Not(why) => judged.ending = Ending::Unproven { message: format!("the reviewer: {why}") },
            Seen::Stop(ending, farewell) => {
                judged.ending = ending;
                judged.farewell = judged.farewell.or(farewell);
            }
        }
    }
}

fn tell<Q: Queue>(worker: &mut Worker<Q>, attempt: &AttemptRef, spend: Spend, doing: &str) {
    let activity = Activity { doing: text::first_line(doing, 120), spend, ..Activity::default() };
    worker.post.send(Report::Active { attempt: attempt.clone(), activity });
}

async fn look<Q: Queue>(worker: &mut Worker<Q>, attempt: &AttemptRef, probe: &DoneWhen, log: &Path) -> Seen {
    let workspace = worker.settings.agent.workspace.clone();
    match probe {
        DoneWhen::Statement(_) => Seen::Holds,
        DoneWhen::File { path } => match inside(&workspace, path) {
            Ok(found) if fs::metadata(&found).is_ok_and(|m| m.len() > 0) => Seen::Holds,
            Ok(_) => Seen::Not("it is empty".to_owned()),
            Err(why) => Seen::Not(why),
        },
        DoneWhen::Json { path, schema } => match inside(&workspace, path) {
            Ok(found) => {
                let schema = schema.clone();
                let comparing = tokio::task::spawn_blocking(move || fits(&found, &schema));
                match timeout(COMPARING, comparing).await {
                    Ok(Ok(Ok(()))) => Seen::Holds,
                    Ok(Ok(Err(Misfit::Not(why)))) => Seen::Not(why),
                    Ok(Ok(Err(Misfit::Schema(why)))) => Seen::Unseen(format!("the schema cannot be used: {why}")),
                    Ok(Err(error)) => Seen::Unseen(error.to_string()),
                    Err(_) => Seen::Unseen("comparing takes too long".to_owned()),
                }
            }
            Err(why) => Seen::Not(why),
        },
        DoneWhen::Command { argv } => match worker.settings.agent.permissions {
            Permissions::ReadOnly => Seen::Unseen("a read-only agent starts no programs".to_owned()),
            Permissions::Standard | Permissions::Ask | Permissions::Full => run(worker, attempt, argv, log).await,
        },
    }
}

/// A regular file of the workspace, and not one that a link leads to from there.
fn inside(workspace: &Path, path: &str) -> Result<PathBuf, String> {
    let asked = Path::new(path);
    if asked.is_absolute() {
        return Err("it is not in the workspace".to_owned());
    }
    let root = fs::canonicalize(workspace).map_err(|error| format!("the workspace: {error}"))?;
    let found = fs::canonicalize(root.join(asked)).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "there is no such file".to_owned(),
        _ => error.to_string(),
    })?;
    if !found.starts_with(&root) {
        return Err("it leads out of the workspace".to_owned());
    }
    if found.is_file() { Ok(found) } else { Err("it is no file".to_owned()) }
}

/// Why a file does not fit.
enum Misfit {
    Not(String),
    Schema(String),
}

fn fits(path: &Path, schema: &Value) -> Result<(), Misfit> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| Misfit::Not(error.to_string()))?;
    file.take(JSON + 1).read_to_end(&mut bytes).map_err(|error| Misfit::Not(error.to_string()))?;
    if bytes.len() as u64 > JSON {
        return Err(Misfit::Not(format!("it is larger than {} MB", JSON / 1024 / 1024)));
    }
    let value: Value =
        serde_json::from_slice(&bytes).map_err(|error| Misfit::Not(format!("it is no JSON: {error}")))?;
    // References that lead elsewhere are not followed: the crate is built without a way to.
    let validator = jsonschema::validator_for(schema).map_err(|error| Misfit::Schema(error.to_string()))?;
    match validator.iter_errors(&value).next() {
        None => Ok(()),
        Some(error) => {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            Err(Misfit::Not(text::first_line(&format!("{place}{error}"), 300)))
        }
    }
}

/// Starts a program of the plan in the workspace, without a shell, and sees everything that it started gone.
async fn run<Q: Queue>(worker: &mut Worker<Q>, attempt: &AttemptRef, argv: &[String], log: &Path) -> Seen {
    let spawned = || -> std::io::Result<_> {
        let out = File::create(log)?;
        let settings = &worker.settings;
        Command::new(&settings.programs.podium)
            .args(exec::arguments(std::process::id(), false))
            .args(argv)
            .env_clear()
            .envs(environment(settings, attempt))
            .current_dir(&settings.agent.workspace)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
    };
    let mut child = match spawned() {
        Ok(child) => child,
        Err(error) => return Seen::Unseen(format!("it could not be started: {error}")),
    };
    let cookie = engines::cookie(&worker.settings.stage_id, attempt);
    let tree = Tree::new(child.id().unwrap_or_default(), &cookie, worker.settings.sole);
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let order = tokio::select! {
            biased;
            status = child.wait() => break status.map_or_else(|e| Seen::Unseen(e.to_string()), |status| judge(status, log)),
            order = worker.link.order() => order,
            () = sleep_until(deadline) => break Seen::Not(format!("it did not end within {} s", PATIENCE.as_secs())),
            () = sleep(PACE) => {
                if fs::metadata(log).is_ok_and(|m| m.len() > OUTPUT) {
                    break Seen::Not(format!("it printed more than {} kB", OUTPUT / 1024));
                }
                continue;
            }
        };
        if let Some(stop) = obey(worker, attempt, order) {
            break stop;
        }
    };
    let _status = tree.end_leader(&mut child, Grace::short()).await;
    match tree.sweep(worker.settings.grace.sweep).await {
        Ok(()) => seen,
        Err(pids) => Seen::Stop(Ending::Lost { message: format!("processes {pids:?} could not be ended") }, None),
    }
}

/// What every child of the attempt gets, and nothing that leads to a model.
fn environment(settings: &Settings, attempt: &AttemptRef) -> Vec<(String, std::ffi::OsString)> {
    let home = settings.agent.home.join("home");
    vec![
        ("PATH".to_owned(), settings.path.clone()),
        ("LANG".to_owned(), settings.lang.clone()),
        ("HOME".to_owned(), home.into()),
        ("TMPDIR".to_owned(), settings.agent.home.join("tmp").into()),
        (engines::tree::COOKIE.to_owned(), engines::cookie(&settings.stage_id, attempt).into()),
        ("PODIUM_AGENT".to_owned(), attempt.task.agent.as_str().into()),
        ("PODIUM_TASK_ID".to_owned(), attempt.task.id.as_str().into()),
        ("PODIUM_ATTEMPT".to_owned(), attempt.n.to_string().into()),
    ]
}

fn judge(status: ExitStatus, log: &Path) -> Seen {
    let said = end_of(log, TOLD);
    let said = said.trim();
    match status.code() {
        Some(0) => Seen::Holds,
        Some(code) => match exec::refusal(code, said) {
            Some(why) => Seen::Not(why),
            None if said.is_empty() => Seen::Not(format!("exit {code}")),
            None => Seen::Not(format!(
                "exit {code}: {}",
                text::fit(&said.split_whitespace().collect::<Vec<_>>().join(" "), 300)
            )),
        },
        None => Seen::Not("it was ended by a signal".to_owned()),
    }
}

fn obey<Q: Queue>(worker: &mut Worker<Q>, attempt: &AttemptRef, order: Order) -> Option<Seen> {
    match order {
        Order::Assign { task, .. } => {
            let reason = format!("this worker is busy with {attempt}");
            worker.post.send(Report::NotStarted { task, reason });
        }
        Order::Cancel { attempt: of } if attempt.is_meant_by(&of) => return Some(Seen::Stop(Ending::Cancelled, None)),
        Order::End { attempt: of, ending } if attempt.is_meant_by(&of) => return Some(Seen::Stop(ending, None)),
        Order::Cancel { .. } | Order::End { .. } | Order::Extend { .. } | Order::Permit { .. } | Order::Know { .. } => {
        }
        Order::Drain => worker.draining = true,
        Order::Stop => return Some(Seen::Stop(Ending::Stopped, Some(Farewell::Stopped))),
        Order::Quit { why } => return Some(Seen::Stop(Ending::Lost { message: why }, Some(Farewell::Stopped))),
        Order::Room(there) => worker.room(there),
        Order::Gateway { url, token } => worker.settings.gateway = Some(Gateway { url, token }),
    }
    None
}

/// One call of a model that has another prompt and sees what the task worked from.
async fn reviewed<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: &Claim<Q::Lease>,
    attempt: &AttemptRef,
    checks: &Checks,
    judged: &mut Judged,
) -> Seen {
    let Some(gateway) = worker.settings.gateway.clone() else {
        return Seen::Unseen("a reviewer needs a key, and this agent works with a login".to_owned());
    };
    let files = shown(&worker.settings.stage, judged);
    let prompt = review::prompt(&claim.spec, &checks.done_when, &claim.prerequisites, &judged.finding.summary, &files);
    let model = worker.settings.tiers.model(claim.spec.model.as_deref().unwrap_or(&worker.settings.agent.model));
    let mut settings = api::Settings::new(gateway.url, gateway.token);
    // The attempt's own session, so that the call is counted as the attempt's.
    settings.session_id.clone_from(&judged.finding.session_id);
    let request = api::Request::new(api::full_id(model), prompt.max_tokens, prompt.user)
        .with_cached_system(prompt.stable)
        .with_schema(prompt.schema.unwrap_or_default());
    let client = match api::Client::new(settings) {
        Ok(client) => client,
        Err(error) => return Seen::Unseen(format!("could not {error}")),
    };
    let mut asking = std::pin::pin!(timeout(REVIEWING, client.stream(&request, |_| {})));
    let answer = loop {
        let order = tokio::select! {
            biased;
            answer = &mut asking => break answer,
            order = worker.link.order() => order,
        };
        if let Some(stop) = obey(worker, attempt, order) {
            return stop;
        }
    };
    let reply = match answer {
        Ok(Ok(reply)) => reply,
        Ok(Err(error)) => return Seen::Unseen(format!("could not {error}")),
        Err(_) => return Seen::Unseen("the reviewer took too long".to_owned()),
    };
    let now = worker.settings.clock.now();
    let priced = worker.settings.prices.cost(&reply.model, &reply.usage, &Modifiers::default(), now);
    judged.finding.spend += priced.spend(reply.usage);
    match Review::read(&reply.text()) {
        Ok(review) if review.accepted => {
            if !review.problems.is_empty() {
                judged.notes.push(format!("the reviewer remarks: {}", review.sentence()));
            }
            Seen::Holds
        }
        Ok(review) => Seen::Not(review.sentence()),
        Err(why) => Seen::Unseen(why),
    }
}

/// The text of files that the attempt left, in part; what is no text is named by its size.
fn shown(stage: &Path, judged: &Judged) -> Vec<(String, String)> {
    let each = judged.artifacts.iter().take(SHOWN.0).map(|artifact| {
        let mut bytes = Vec::new();
        let read = File::open(stage.join(&artifact.path)).and_then(|file| file.take(SHOWN.1).read_to_end(&mut bytes));
        let content = match (read, String::from_utf8(bytes)) {
            (Ok(_), Ok(content)) => content,
            (Ok(_), Err(error)) if error.utf8_error().valid_up_to() > 1024 => {
                String::from_utf8_lossy(error.as_bytes()).into_owned()
            }
            _ => format!("({} bytes that are no text)", artifact.bytes),
        };
        (artifact.path.clone(), content)
    });
    each.collect()
}
