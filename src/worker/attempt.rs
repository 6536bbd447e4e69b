//! One attempt, from a held lease to a published ending.
//!
//! Owns the child and everything below it until all of it was seen gone. Must not know where orders come from. Its one
//! surprise: the result is committed even when there is no room to hear of it.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Farewell, Order, Settings, Word, Worker,
    artifacts::{self, Moment},
    stall::Silence,
    tail::{AT_ONCE, Tail, end_of},
};
use crate::{
    engines::{
        self, Exit, Finding, Job, Launch, Reader, Session, exec,
        tree::{self, Grace, Load, Tree},
    },
    ledger::Prices,
    model::{
        Activity, AttemptRef, CostSource, EndState, Ending, MicroUsd, Outcome, Report, Spend, TaskSpec, Verdict, text,
    },
    orchestrator::brief,
    queue::{Claim, Lease as _, Queue, Spawned},
};

/// How often the log is looked at: at first, and at most after it has been quiet.
const POLL: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(100));

/// The shortest time between two reports of activity.
const REPORT_PACE: Duration = Duration::from_millis(250);

/// How often memory, CPU and the log's size are looked at.
const LOAD_PACE: Duration = Duration::from_secs(1);

/// Bytes of an answer that go into the result file.
const SUMMARY_LIMIT: usize = 256 * 1024;

/// Bytes of standard error that are looked at.
const STDERR_LIMIT: u64 = 16 * 1024;

/// How long leftovers of an attempt before this one may take to go.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(10);

/// Why watching a child ended.
#[derive(Debug)]
enum Cause {
    Exited(ExitStatus),
    Cancelled,
    Deadline,
    Stalled(Duration),
    /// It stays after its result.
    Settled,
    /// The engine waits for what cannot come.
    Hopeless(Ending),
    Stopped,
    Orphaned,
    /// The operating system would not tell how it is.
    Unknown(io::Error),
}

/// What an attempt came to, before the queue hears of it.
struct Judged {
    finding: Finding,
    ending: Ending,
    artifacts: Vec<crate::model::Artifact>,
    farewell: Option<Farewell>,
}

impl Judged {
    fn only(ending: Ending) -> Self {
        let finding = Finding::plain(ending.clone(), String::new());
        Self { finding, ending, artifacts: Vec::new(), farewell: None }
    }
}

/// Runs the attempt and commits how it ended; says why the worker must go, where it must.
pub(super) async fn run<Q: Queue>(worker: &mut Worker<Q>, claim: Claim<Q::Lease>) -> Option<Farewell> {
    let attempt = claim.lease.attempt().clone();
    let started_at = worker.settings.clock.now();
    let result = match start(worker, &claim, &attempt).await {
        Ok(mut running) => {
            let cause = running.watch(worker, &claim.spec).await;
            running.end(&worker.settings, &claim.spec, cause).await
        }
        Err(ending) => Judged::only(ending),
    };
    let farewell = result.farewell;
    commit(worker, claim, &attempt, started_at, result).await;
    farewell
}

/// Composes, launches, spawns, and tells queue and room.
async fn start<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: &Claim<Q::Lease>,
    attempt: &AttemptRef,
) -> Result<Running, Ending> {
    let settings = &worker.settings;
    let spec = &claim.spec;
    if let Some(before) = attempt.n.checked_sub(1).filter(|n| *n > 0) {
        let cookie = engines::cookie(&settings.stage_id, &attempt.task.attempt(before));
        if let Err(left) = tree::sweep_cookie(&cookie, LEFTOVER_PATIENCE).await {
            return Err(Ending::NeverStarted { message: format!("processes of attempt {before} remain: {left:?}") });
        }
    }
    let never = |what: &str, error: &io::Error| Ending::NeverStarted { message: format!("{what}: {error}") };
    let prompt = brief::compose(spec, &claim.prerequisites, claim.previous.as_ref().map(|(ending, _)| ending));
    let engine = engines::of(&settings.agent, &settings.programs);
    let launch = engine.launch(&Job {
        attempt,
        agent: &settings.agent,
        model: spec.model.as_deref().unwrap_or(&settings.agent.model),
        prompt: &prompt,
        stage_id: &settings.stage_id,
        session: Session::New(engines::new_session_id()),
        gateway: settings.gateway.as_ref(),
        path: &settings.path,
        lang: &settings.lang,
        max_turns: settings.max_turns,
        max_budget_usd: settings.max_budget_usd,
        schema: None,
    })?;
    fs::create_dir_all(&launch.cwd).map_err(|error| never("the workspace cannot be made", &error))?;
    let folder = claim.lease.folder();
    let (out, err) = (folder.join("out.log"), folder.join("err.log"));
    let spawned = spawn(settings, &launch, &out, &err).map_err(|error| never("the child cannot be started", &error))?;
    let (mut child, since, offset) = spawned;
    let pid = child.id().unwrap_or_default();
    let tree = Tree::new(pid, &engines::cookie(&settings.stage_id, attempt), settings.sole);
    let log = claim.lease.log();
    let times = settings.stage.join(log.strip_suffix(".log").unwrap_or(&log)).with_added_extension("times");
    let mut feeding = JoinSet::new();
    if let Some(mut stdin) = child.stdin.take() {
        let bytes = launch.stdin;
        feeding.spawn(async move {
            // A child that ends without reading its prompt says so by how it ends.
            let _unread = stdin.write_all(&bytes).await;
        });
    }
    let note = Spawned {
        pid,
        start_ticks: tree.leader_start(),
        boot_id: tree::boot_id(),
        session_id: launch.session_id.clone(),
    };
    let opened = Tail::open(&out, offset, &times);
    let mut running = match opened {
        Ok(tail) => Running {
            attempt: attempt.clone(),
            child,
            tree,
            tail,
            reader: engine.reader(),
            err,
            errors: 0,
            since,
            feeding,
            activity: Activity::default(),
            silence: Silence::new(spec.stall.or(settings.stall), Instant::now()),
            load: Load::default(),
            log_bytes: offset,
            look: Instant::now(),
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

/// Starts the child through our own `__exec`. Also the moment before it, on the file system's clock, and where its
/// output begins in the log.
fn spawn(settings: &Settings, launch: &Launch, out: &Path, err: &Path) -> io::Result<(Child, Moment, u64)> {
    let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
    let out = append(out)?;
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

/// A child at work.
struct Running {
    attempt: AttemptRef,
    child: Child,
    tree: Tree,
    tail: Tail,
    reader: Box<dyn Reader>,
    err: PathBuf,
    /// Bytes in `err`.
    errors: u64,
    since: Moment,
    feeding: JoinSet<()>,
    activity: Activity,
    silence: Silence,
    /// What was last seen of the tree and the log's size, and when both are looked at again.
    load: Load,
    log_bytes: u64,
    look: Instant,
}

impl Running {
    /// Follows the child until something ends the attempt.
    async fn watch<Q: Queue>(&mut self, worker: &mut Worker<Q>, spec: &TaskSpec) -> Cause {
        let deadline = Instant::now() + allowed(&worker.settings, spec);
        let mut poll = POLL.0;
        let mut told = Instant::now();
        let mut settled_since: Option<Instant> = None;
        loop {
            let word = tokio::select! {
                biased;
                status = self.child.wait() => return status.map_or_else(Cause::Unknown, Cause::Exited),
                word = worker.link.next() => Some(word),
                () = sleep_until(deadline) => return Cause::Deadline,
                () = sleep(poll) => None,
            };
            match word {
                Some(Word::Alone) => return Cause::Orphaned,
                Some(Word::Order(order)) => {
                    if let Some(cause) = self.obey(worker, order) {
                        return cause;
                    }
                    continue;
                }
                None => {}
            }
            let reader = &mut self.reader;
            let read = self.tail.read(worker.settings.clock.now(), |bytes| reader.feed(bytes)).unwrap_or(0);
            let now = Instant::now();
            if read > 0 {
                poll = if read >= AT_ONCE { Duration::ZERO } else { POLL.0 };
                self.silence.heard(now, self.reader.announced());
                if let Some(ending) = self.reader.hopeless() {
                    return Cause::Hopeless(ending);
                }
            } else {
                poll = (poll + Duration::from_millis(10)).min(POLL.1);
            }
            if self.reader.settled() {
                let since = *settled_since.get_or_insert(now);
                if now.duration_since(since) >= worker.settings.settle {
                    return Cause::Settled;
                }
            } else {
                settled_since = None;
            }
            if now >= self.look {
                self.look = now + LOAD_PACE;
                self.look_around(now);
            }
            if self.is_stalled(now) {
                return Cause::Stalled(self.silence.allowed());
            }
            if now >= told + REPORT_PACE && self.report(worker, now, deadline) {
                told = now;
            }
        }
    }

    /// Looks at the processes and the other log.
    fn look_around(&mut self, now: Instant) {
        self.load = self.tree.load();
        self.silence.saw(&self.load, now);
        self.log_bytes = self.tail.offset();
        let errors = fs::metadata(&self.err).map_or(self.errors, |m| m.len());
        if errors != self.errors {
            self.errors = errors;
            self.silence.heard(now, Duration::ZERO);
        }
    }

    /// Whether it has been silent for too long; judged by what is there now, however late this is asked.
    fn is_stalled(&mut self, now: Instant) -> bool {
        let over = |silence: &Silence| silence.ends().is_some_and(|end| now >= end);
        if over(&self.silence) {
            self.look_around(now);
        }
        over(&self.silence)
    }

    /// Whether an order speaks of this attempt. 0: it was given before anybody knew the attempt's number.
    fn is_meant(&self, attempt: &AttemptRef) -> bool {
        attempt.task == self.attempt.task && [0, self.attempt.n].contains(&attempt.n)
    }

    fn obey<Q: Queue>(&mut self, worker: &mut Worker<Q>, order: Order) -> Option<Cause> {
        match order {
            Order::Assign { task } => {
                let reason = format!("this worker is busy with {}", self.attempt);
                worker.post.send(Report::NotStarted { task, reason });
            }
            Order::Cancel { attempt } if self.is_meant(&attempt) => return Some(Cause::Cancelled),
            Order::Extend { attempt, by } if self.is_meant(&attempt) => self.silence.extend(by),
            // Meant for an attempt that has ended.
            Order::Cancel { .. } | Order::Extend { .. } => {}
            Order::Drain => worker.draining = true,
            Order::Stop => return Some(Cause::Stopped),
            Order::Room(there) => worker.room(there),
            Order::Gateway { url, token } => worker.settings.gateway = Some(engines::Gateway { url, token }),
        }
        None
    }

    /// Tells the room what a person would see change; false when that is nothing.
    fn report<Q: Queue>(&mut self, worker: &mut Worker<Q>, now: Instant, deadline: Instant) -> bool {
        let progress = self.reader.progress();
        // What ends at its deadline before is not ended for its silence.
        let stalls = self.silence.ends().is_some_and(|end| end < deadline);
        let countdown = self.silence.countdown(now, worker.settings.clock.now());
        let next = Activity {
            doing: progress.doing,
            subagents: progress.subagents,
            spend: progress.spend,
            rss_bytes: self.load.rss_bytes,
            cpu_percent: self.load.cpu_percent,
            log_bytes: self.log_bytes,
            stalls_at: countdown.filter(|_| stalls),
        };
        let worth = worth_telling(&self.activity, &next);
        if worth {
            self.activity = next.clone();
            worker.post.send(Report::Active { attempt: self.attempt.clone(), activity: next });
        }
        worth
    }

    /// Ends what still runs, sees it gone, reads the rest, and judges.
    async fn end(mut self, settings: &Settings, spec: &TaskSpec, cause: Cause) -> Judged {
        let grace = match cause {
            Cause::Stopped | Cause::Orphaned => Grace::short(),
            _ => settings.grace,
        };
        let exit = if let Cause::Exited(status) = &cause {
            exit_of(*status)
        } else {
            let status = self.tree.end_leader(&mut self.child, grace).await;
            status.map_or(Exit::Signal(9), exit_of)
        };
        let left = self.tree.sweep(settings.grace.sweep).await;
        self.feeding.abort_all();
        let reader = &mut self.reader;
        while self.tail.read(settings.clock.now(), |bytes| reader.feed(bytes)).unwrap_or(0) > 0 {}
        let stderr = end_of(&self.err, STDERR_LIMIT);
        let settled = self.reader.settled();
        let (exit, farewell) = match cause {
            // Its result was in: that counts, whatever ended the process.
            Cause::Settled => (Exit::Settled, None),
            Cause::Deadline | Cause::Stalled(_) if settled => (Exit::Settled, None),
            Cause::Stopped if settled => (Exit::Settled, Some(Farewell::Stopped)),
            Cause::Orphaned if settled => (Exit::Settled, Some(Farewell::Orphaned)),
            Cause::Stopped => (exit, Some(Farewell::Stopped)),
            Cause::Orphaned => (exit, Some(Farewell::Orphaned)),
            _ => (exit, None),
        };
        let finding = self.reader.finding(exit, &stderr);
        let ending = match cause {
            Cause::Cancelled => Ending::Cancelled,
            Cause::Hopeless(ending) => ending,
            Cause::Unknown(error) => Ending::Lost { message: format!("the child's end is unknown: {error}") },
            _ if exit == Exit::Settled => finding.ending.clone(),
            Cause::Deadline => Ending::Deadline { seconds: allowed(settings, spec).as_secs() },
            Cause::Stalled(silence) => Ending::Stalled { seconds: silence.as_secs() },
            Cause::Stopped => Ending::Lost { message: "the worker was stopped".to_owned() },
            Cause::Orphaned => Ending::Lost { message: "the worker had no room".to_owned() },
            Cause::Exited(_) | Cause::Settled => match exit {
                Exit::Code(code) => exec::refusal(code, &stderr)
                    .map_or_else(|| finding.ending.clone(), |message| Ending::NeverStarted { message }),
                Exit::Signal(_) | Exit::Settled => finding.ending.clone(),
            },
        };
        let ending = match left {
            // What a person ended stays ended.
            Err(pids) if ending == Ending::Cancelled => {
                tracing::error!(attempt = %self.attempt, ?pids, "processes could not be ended");
                ending
            }
            Err(pids) => Ending::Lost { message: format!("processes {pids:?} could not be ended") },
            Ok(()) => ending,
        };
        let (workspace, stage, since) = (settings.agent.workspace.clone(), settings.stage.clone(), self.since);
        let artifacts = tokio::task::spawn_blocking(move || artifacts::left(&workspace, &stage, since)).await;
        Judged { finding, ending, artifacts: artifacts.unwrap_or_default(), farewell }
    }
}

/// Whether a person would see the difference.
fn worth_telling(told: &Activity, now: &Activity) -> bool {
    let more = |a: u64, b: u64| a.abs_diff(b) > a / 20;
    told.doing != now.doing
        || told.subagents != now.subagents
        || told.spend != now.spend
        || told.log_bytes != now.log_bytes
        || told.stalls_at != now.stalls_at
        || more(told.rss_bytes, now.rss_bytes)
        || (told.cpu_percent - now.cpu_percent).abs() > 5.0
}

fn allowed(settings: &Settings, spec: &TaskSpec) -> Duration {
    spec.timeout.unwrap_or(settings.agent.timeout)
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

/// Tells the queue, then the room.
async fn commit<Q: Queue>(
    worker: &mut Worker<Q>,
    claim: Claim<Q::Lease>,
    attempt: &AttemptRef,
    started_at: Timestamp,
    result: Judged,
) {
    let Judged { finding, ending, artifacts, farewell } = result;
    let Claim { spec, counted, lease, .. } = claim;
    let now = worker.settings.clock.now();
    let retries = &worker.settings.retries;
    let spend = finding.spend;
    let lost = matches!(ending, Ending::Lost { .. });
    let verdict = match farewell {
        // The task did nothing wrong, so it is never ended by this.
        Some(_) if lost => Verdict::Retry,
        Some(_) | None => retries.verdict(&spec, &ending, counted),
    };
    let not_before = match verdict {
        Verdict::End(state) => {
            let outcome = outcome(spec, attempt, state, ending, finding, artifacts, (started_at, now));
            let clipped = Box::new(outcome.clone().clipped(crate::model::TaskRecord::TEXT_LIMIT));
            let report = match worker.queue.finish(lease, outcome).await {
                Ok(_) => Report::Ended { outcome: clipped },
                Err(error) => unpublished(attempt, &error, spend, now),
            };
            worker.post.send(report);
            return;
        }
        Verdict::Retry if farewell.is_some() => now,
        Verdict::Retry => retries.next(&spec, attempt, counted.saturating_add(1), now),
        Verdict::Park(until) => {
            let parked = attempt.n.saturating_sub(1).saturating_sub(counted);
            retries.unpark(attempt, until, parked, now)
        }
    };
    let report = match worker.queue.fail(lease, ending.clone(), spend, not_before).await {
        Ok(()) => Report::Failed { attempt: attempt.clone(), ending, spend, not_before, at: now },
        Err(error) => unpublished(attempt, &error, spend, now),
    };
    worker.post.send(report);
}

/// The lease is gone and nothing was written: whoever recovers next will find the attempt lost.
fn unpublished(attempt: &AttemptRef, error: &crate::queue::QueueError, spend: Spend, at: Timestamp) -> Report {
    tracing::error!(%attempt, %error, "the attempt's end could not be written");
    let ending = Ending::Lost { message: format!("its end could not be written: {error}") };
    Report::Failed { attempt: attempt.clone(), ending, spend, not_before: at, at }
}

fn outcome(
    spec: TaskSpec,
    attempt: &AttemptRef,
    state: EndState,
    ending: Ending,
    finding: Finding,
    artifacts: Vec<crate::model::Artifact>,
    (started_at, completed_at): (Timestamp, Timestamp),
) -> Outcome {
    let (cost, cost_source) = cost(&finding, completed_at);
    let summary = if ending == Ending::Done { finding.summary } else { ending.sentence() };
    let mut findings = listed_findings(&summary);
    findings.extend(finding.permission_denials.iter().map(|tool| format!("was not allowed to use {tool}")));
    Outcome {
        task: spec.task,
        state,
        ending,
        attempt: attempt.n,
        summary: text::clip(&summary, SUMMARY_LIMIT).into_owned(),
        findings,
        artifacts,
        started_at,
        completed_at,
        usage: finding.spend.usage,
        cost,
        cost_source,
        model: finding.model.or(spec.model),
        session_id: finding.session_id,
        goal: spec.goal,
        foreign: false,
    }
}

/// What the attempt cost: the server's counts at our own prices; the engine's word only where the model has no price.
fn cost(finding: &Finding, at: Timestamp) -> (MicroUsd, CostSource) {
    let priced = finding.model.as_ref().map(|model| Prices::embedded().cost(model, &finding.spend.usage, at));
    match priced {
        Some(priced) if !priced.estimated && finding.spend.usage.total() > 0 => (priced.cost, CostSource::Measured),
        _ if finding.cost_reported => (finding.spend.cost, CostSource::Reported),
        Some(priced) => (priced.cost, CostSource::Estimated),
        None => (finding.spend.cost, CostSource::Estimated),
    }
}

/// The points of the first list under a line that says `Findings`, however it is marked up.
fn listed_findings(summary: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in summary.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let point = line.strip_prefix("- ").or_else(|| line.strip_prefix("* "));
        match point {
            Some(point) if inside => found.push(text::clip(point.trim(), 1_000).into_owned()),
            Some(_) => {}
            None => {
                let word = line.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
                inside = matches!(word.as_str(), "findings" | "finding" | "key findings");
            }
        }
    }
    found.truncate(50);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_the_points_under_their_heading_only() {
        let summary = "All good.\n\n## Findings\n- one\n- two\n\n## Next\n- not this\n";
        assert_eq!(listed_findings(summary), ["one", "two"]);
        for heading in ["Findings", "Findings:", "**Findings**", "### Key findings"] {
            assert_eq!(
                listed_findings(&format!("{heading}\n\n- one\nNot verified: all\n- no\n")),
                ["one"],
                "{heading}"
            );
        }
        assert!(listed_findings("- a\n- b\n").is_empty());
    }
}
