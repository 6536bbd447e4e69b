//! One attempt, from a held lease to a published ending.
//!
//! Owns how an attempt is begun, and its three acts: start, watch, end. Must not know where orders come from. Its one
//! surprise: the result is committed even when there is no room to hear of it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};

use super::{
    Farewell, Settings, Worker,
    artifacts::{self, Moment},
    commit::commit,
    cut::Capped,
    end::Judged,
    growth::Growth,
    policy::stronger,
    stall::Silence,
    tail::Tail,
    verify::verify,
    watch::{REPORT_PACE, Running},
};
use crate::{
    engines::{
        self, Job, Launch, Session, exec,
        tree::{self, Grace, Load, Tree},
    },
    model::{Activity, AttemptRef, Checks, Ending, GoalId, MicroUsd, Report, text},
    orchestrator::brief,
    queue::{Claim, Lease as _, Queue, Spawned},
};

/// How long leftovers of an attempt before this one may take to go.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(10);

/// Runs the attempt and commits how it ended; says why the worker must go, where it must.
pub(super) async fn run<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: Claim<Q::Lease>,
    may_spend: Option<MicroUsd>,
    checks: &Checks,
) -> Option<Farewell> {
    let attempt = claim.lease.attempt().clone();
    let started_at = worker.settings.clock.now();
    let mut result = match start(worker, &claim, &attempt, may_spend).await {
        Ok(mut running) => {
            let cause = running.watch(worker, &claim.spec, &claim.lease).await;
            running.end(&worker.settings, &claim.spec, cause).await
        }
        Err(ending) => Judged::only(ending),
    };
    if result.ending == Ending::Done && result.farewell.is_none() {
        verify(worker, &claim, &attempt, checks, &mut result).await;
    }
    if result.ending == Ending::Done && !result.artifacts.is_empty() {
        let whose = claim.spec.goal.as_ref().map_or("tasks", GoalId::as_str);
        let (folder, stage) = (format!(".podium/runs/{whose}"), worker.settings.stage.clone());
        let mut artifacts = std::mem::take(&mut result.artifacts);
        let kept = tokio::task::spawn_blocking(move || {
            let kept = artifacts::keep(&mut artifacts, &stage, &folder);
            (artifacts, kept)
        });
        if let Ok((artifacts, kept)) = kept.await {
            result.artifacts = artifacts;
            if let Err(error) = kept {
                result.notes.push(format!("not every file could be kept as it was: {error}"));
            }
        }
    }
    commit(worker, claim, &attempt, started_at, result).await
}

/// Composes, launches, spawns, and tells queue and room.
async fn start<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: &Claim<Q::Lease>,
    attempt: &AttemptRef,
    may_spend: Option<MicroUsd>,
) -> Result<Running, Ending> {
    let settings = &worker.settings;
    let spec = &claim.spec;
    if let Some(relay) = &settings.relay {
        relay.begin(attempt);
    }
    if let Some(before) = attempt.n.checked_sub(1).filter(|n| *n > 0) {
        let cookie = engines::cookie(&settings.stage_id, &attempt.task.attempt(before));
        if let Err(left) = tree::sweep_cookie(&cookie, LEFTOVER_PATIENCE).await {
            return Err(Ending::NeverStarted { message: format!("processes of attempt {before} remain: {left:?}") });
        }
    }
    let never = |what: &str, error: &io::Error| Ending::NeverStarted { message: format!("{what}: {error}") };
    let prompt = brief::compose(spec, &claim.prerequisites, claim.previous.as_ref().map(|(ending, _)| ending));
    let engine = engines::of(&settings.agent, &settings.programs);
    let (session, mut word) = session(resumed(claim, engine.resumes()), engine.resumes());
    let (effort, model) = match &claim.previous {
        Some((Ending::Unproven { message }, _)) => {
            let (effort, model) = stronger(spec.effort, spec.model.as_deref().unwrap_or(&settings.agent.model));
            let with = if model.is_some() { "a stronger model" } else { "more effort" };
            word = format!(
                "{word}podium: once more with {with}, because it was not done: {}\n",
                text::first_line(message, 200)
            );
            (effort, model.or(spec.model.as_deref()))
        }
        Some(_) | None => (spec.effort, spec.model.as_deref()),
    };
    let launch = engine.launch(&Job {
        attempt,
        agent: &settings.agent,
        model: settings.tiers.model(model.unwrap_or(&settings.agent.model)),
        prompt: &prompt,
        stage_id: &settings.stage_id,
        session,
        gateway: settings.gateway.as_ref(),
        path: &settings.path,
        lang: &settings.lang,
        max_turns: settings.max_turns,
        max_budget_usd: may_spend.map(MicroUsd::dollars),
        schema: None,
        effort,
    })?;
    fs::create_dir_all(&launch.cwd).map_err(|error| never("the workspace cannot be made", &error))?;
    let folder = claim.lease.folder();
    let (out, err) = (folder.join("out.log"), folder.join("err.log"));
    let spawned =
        spawn(settings, &launch, &word, &out, &err).map_err(|error| never("the child cannot be started", &error))?;
    let (mut child, since, offset) = spawned;
    let pid = child.id().unwrap_or_default();
    let tree = Tree::new(pid, &engines::cookie(&settings.stage_id, attempt), settings.sole);
    let log = claim.lease.log();
    let times = settings.stage.join(log.strip_suffix(".log").unwrap_or(&log)).with_added_extension("times");
    let mut feeding = JoinSet::new();
    let (answers, mut lines) = mpsc::unbounded_channel::<String>();
    if let Some(mut stdin) = child.stdin.take() {
        let bytes = launch.stdin;
        feeding.spawn(async move {
            // A child that ends without reading its prompt says so by how it ends.
            let mut unread = stdin.write_all(&bytes).await;
            // Open for as long as somebody could answer; its end is what a dialogue ends with.
            while let Some(line) = lines.recv().await
                && unread.is_ok()
            {
                unread = stdin.write_all(line.as_bytes()).await;
            }
        });
    }
    let note = Spawned {
        pid,
        start_ticks: tree.leader_start(),
        boot_id: tree::boot_id(),
        session_id: launch.session_id.clone(),
    };
    // Standard error is for mishaps: an eighth of what there may be.
    let limit = settings.log_limit;
    let opened = || -> io::Result<_> {
        let logs = [Capped::open(&out, limit - limit / 8)?, Capped::open(&err, limit / 8)?];
        Ok((Tail::open(&out, offset, &times)?, logs))
    };
    let mut running = match opened() {
        Ok((tail, logs)) => Running {
            attempt: attempt.clone(),
            child,
            tree,
            tail,
            growth: Growth::of(&[&out, &err]),
            logs,
            reader: engine.reader(),
            err,
            errors: 0,
            since,
            feeding,
            answers: Some(answers).filter(|_| launch.dialogue),
            activity: Activity::default(),
            silence: Silence::new(spec.stall.or(settings.stall), Instant::now()),
            load: Load::default(),
            log_bytes: offset,
            // Not before anybody could be told of it.
            look: Instant::now() + REPORT_PACE,
            windows: None,
        },
        Err(error) => {
            let _status = tree.end_leader(&mut child, Grace::short()).await;
            let _left = tree.sweep(Grace::short().sweep).await;
            return Err(never("the log cannot be read", &error));
        }
    };
    if let Err(error) = worker.queue.spawned(&claim.lease, &note).await {
        let _status = running.tree.end_leader(&mut running.child, Grace::short()).await;
        let _left = running.tree.sweep(Grace::short().sweep).await;
        return Err(Ending::NeverStarted { message: format!("the child could not be noted: {error}") });
    }
    let at = worker.settings.clock.now();
    let session_id = launch.session_id;
    worker.post.send(Report::Started { attempt: attempt.clone(), pid, session_id, log, at });
    Ok(running)
}

/// The session that is taken up again: the one that was asked for, or that of an attempt that trouble on the way cut short.
fn resumed<L>(claim: &Claim<L>, can: bool) -> Option<&str> {
    let cut_short = match &claim.previous {
        Some((Ending::Transient { .. } | Ending::Paused, session)) if can => session.as_deref(),
        Some(_) | None => None,
    };
    claim.resume.as_deref().or(cut_short)
}

/// The session to run in, and what a person should know of it: a line of the log, or nothing.
fn session(wanted: Option<&str>, resumes: bool) -> (Session, String) {
    let fresh = || Session::New(engines::new_session_id());
    match wanted {
        Some(id) if resumes => (Session::Resume(id.to_owned()), format!("podium: session {id} is taken up again\n")),
        Some(id) => (fresh(), format!("podium: this engine cannot take up session {id}; a fresh one begins\n")),
        None => (fresh(), String::new()),
    }
}

/// Starts the child through our own `__exec`, with `word` before its own in the log. Also the moment before it, on the file system's clock, and where its
/// output begins in the log.
fn spawn(settings: &Settings, launch: &Launch, word: &str, out: &Path, err: &Path) -> io::Result<(Child, Moment, u64)> {
    let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
    let mut out = append(out)?;
    out.write_all(word.as_bytes())?;
    let err = append(err)?;
    // An attempt's folder is new, so this touches the clock without changing anything.
    err.set_len(0)?;
    let since = Moment::of(&err.metadata()?);
    let offset = out.metadata()?.len();
    let child = Command::new(&settings.programs.podium)
        .args(exec::arguments(std::process::id(), launch.interruptible))
        .arg(&launch.program)
        .args(&launch.args)
        .env_clear()
        .envs(launch.env.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.cwd)
        .stdin(Stdio::piped())
        .stdout(out)
        .stderr(err)
        .spawn()?;
    Ok((child, since, offset))
}
