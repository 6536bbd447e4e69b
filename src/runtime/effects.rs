//! How the room's effects are carried out: each a future that ends in at most one event.

use std::{
    fmt::Write as _,
    fs,
    io::{ErrorKind, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    ask::Reply,
    serve::Settings,
    sweep::{self, Kin},
};
use crate::{
    attach::wire::{Door, WorkerTell},
    gateway::{Gateway, Identity, TokenHash},
    model::{
        AgentName, Changes, Clock, EndState, Ending, Fault, GoalId, Item, Plan, Request, SlotId, Spend, TaskRef,
        TaskSpec, id::stage_id, plan::VALIDATOR, text,
    },
    orchestrator::{
        Prompt,
        pays::Pays,
        plan::{self, Before},
        record, replan, synthesis,
    },
    queue::{Queue as _, QueueError, Submitted, file::FileQueue},
    room::{Answer, Effect, Event, GoalEvent, OrderId, Retry, TaskEvent, WorkerEvent},
    supervisor::Workers,
};

/// The doors, and what they are used with.
#[derive(Debug)]
pub struct World {
    /// What the room was opened with.
    pub settings: Settings,
    /// Tasks and results.
    pub queue: FileQueue,
    /// Model calls.
    pub gateway: Gateway,
    /// Worker processes.
    pub workers: Workers,
    guardian: u32,
    pub(super) clock: Clock,
    /// The orchestrator's own token.
    pub(super) token: SecretString,
}

/// How the queue is opened by the room and by its workers alike.
pub fn queue_settings(
    stage: &Path,
    agents: Vec<AgentName>,
    attempts: u32,
    copies: Option<u32>,
    clock: Clock,
) -> crate::queue::file::Settings {
    crate::queue::file::Settings { attempts, copies, ..crate::queue::file::Settings::new(stage, agents, clock) }
}

/// The wait after a disk that would not let the queue be mended.
const CHANGE_OF_MIND: Duration = Duration::from_secs(10);

/// `exit 0`, `signal 9`.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

impl World {
    /// Gathers the doors and gets the orchestrator its token.
    pub fn new(
        settings: Settings,
        guardian: u32,
        queue: FileQueue,
        gateway: Gateway,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let token = gateway.issue_token(Identity::Orchestrator)?;
        let workers = Workers::default();
        Ok(Self { settings, queue, gateway, workers, guardian, clock, token })
    }

    /// Ends whatever belongs to no living worker; also the numbers of what would not go, as the end of a sentence.
    pub async fn sweep(&self) -> Option<String> {
        let stage_id = stage_id(&self.settings.stage);
        let kin = Kin { stage_id, guardian: self.guardian, workers: self.workers.all() };
        let left = sweep::end_strays(&self.queue, &kin).await.err()?;
        tracing::error!(?left, "processes that belong to no worker do not end");
        Some(format!("processes {left:?} do not end"))
    }

    /// A worker has ended: the room hears of it once everything that it left behind has been seen gone.
    pub async fn worker_ended(&self, slot: SlotId, pid: u32, how: String) -> Event {
        self.workers.ended(pid);
        let how = match self.sweep().await {
            None => how,
            Some(left) => format!("{how}; {left}"),
        };
        Event::Worker(WorkerEvent::Exited { slot, pid, how })
    }

    /// Where a worker's model calls go; a token that it has already stays good.
    pub fn welcome(&self, slot: &SlotId, token: Option<&str>) -> Result<WorkerTell, String> {
        let identity = Identity::Worker(slot.clone());
        if !self.gateway.has_key(&identity) {
            return Ok(WorkerTell::Welcome(None));
        }
        let token = if let Some(token) = token {
            self.gateway.adopt_token(TokenHash::of(token.as_bytes()), identity);
            token.to_owned()
        } else {
            let token = self.gateway.issue_token(identity).map_err(|error| format!("could not {error}"))?;
            token.expose_secret().to_owned()
        };
        Ok(WorkerTell::Welcome(Some(Door { url: self.gateway.url(), token })))
    }

    /// What it means when an effect does not come back.
    pub fn failure(effect: &Effect) -> Option<Event> {
        let message = || "podium failed inside; see logs/podium.log".to_owned();
        let refused = |id: &OrderId| {
            let answer = Answer::Refused { reason: message() };
            Some(Event::Task(TaskEvent::Answered { id: *id, answer }))
        };
        match effect {
            Effect::Submit { id, .. }
            | Effect::RetryTask { id, .. }
            | Effect::Remove { id, .. }
            | Effect::Restore { id, .. } => refused(id),
            Effect::EndTask { id, .. } => id.as_ref().and_then(refused),
            Effect::Plan { goal, round, .. } | Effect::Replan { goal, round, .. } => {
                Some(Event::Goal(GoalEvent::PlanFailed { id: goal.clone(), round: *round, message: message() }))
            }
            Effect::Publish { goal, .. } => {
                Some(Event::Goal(GoalEvent::PublishFailed { id: goal.clone(), message: message() }))
            }
            Effect::Amend { goal, .. } => {
                Some(Event::Goal(GoalEvent::AmendFailed { id: goal.clone(), message: message() }))
            }
            Effect::Synthesise { goal, .. } => {
                Some(Event::Goal(GoalEvent::ReportFailed { id: goal.clone(), message: message() }))
            }
            Effect::Answer { .. }
            | Effect::SpawnWorker { .. }
            | Effect::Assign { .. }
            | Effect::CancelAttempt { .. }
            | Effect::EndAttempt { .. }
            | Effect::StopWorker { .. }
            | Effect::Recover { .. }
            | Effect::Extend { .. }
            | Effect::Permit { .. }
            | Effect::AnswerRequest { .. }
            | Effect::Keep { .. }
            | Effect::Reopen { .. }
            | Effect::Limit { .. }
            | Effect::Shutdown => None,
        }
    }

    /// Carries out one effect that takes time.
    pub fn carry_out(self: Arc<Self>, effect: Effect) -> BoxFuture<'static, Option<Event>> {
        Box::pin(async move { self.dispatch(effect).await })
    }

    async fn dispatch(&self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Recover { task, cancel } => self.recover(task, cancel).await,
            Effect::EndTask { id, task, ending } => {
                let answer = self.end(&task, ending, id.is_some()).await;
                id.map(|id| answered(id, answer))
            }
            Effect::RetryTask { id, retry } => Some(answered(id, self.retry(*retry).await)),
            Effect::Remove { id, item } => Some(answered(id, self.remove(&item).await)),
            Effect::Restore { id, item } => {
                let answer = match self.queue.restore(&item).await {
                    Ok(()) => Answer::Done { text: format!("{} is back", named(&item)), ids: vec![named(&item)] },
                    Err(error) => could_not(&error),
                };
                Some(answered(id, answer))
            }
            Effect::AnswerRequest { task, request } => {
                if let Err(error) = self.queue.answered(&task, request).await {
                    tracing::warn!(%error, %task, request = request.word(), "a marker could not be taken away");
                }
                None
            }
            Effect::Plan { goal, text, round, repair, follows } => {
                let repair = repair.as_ref().map(|(answer, faults)| (answer.as_str(), faults.as_slice()));
                Some(Event::Goal(self.plan(goal, &text, round, repair, follows).await))
            }
            Effect::Replan { goal, text, round, repair, plan } => {
                let repair = repair.as_ref().map(|(answer, faults)| (answer.as_str(), faults.as_slice()));
                Some(Event::Goal(self.replan(goal, &text, round, repair, &plan).await))
            }
            Effect::Publish { goal, tasks } => Some(Event::Goal(match self.publish(tasks).await {
                Ok(()) => GoalEvent::Published { id: goal },
                Err(message) => GoalEvent::PublishFailed { id: goal, message },
            })),
            Effect::Amend { goal, withdraw, publish } => Some(Event::Goal(match self.amend(withdraw, publish).await {
                Ok(()) => GoalEvent::Amended { id: goal },
                Err(message) => GoalEvent::AmendFailed { id: goal, message },
            })),
            Effect::Synthesise { goal, text, plan, pays } => {
                Some(Event::Goal(self.synthesise(goal, &text, &plan, pays.as_deref()).await))
            }
            Effect::Answer { .. }
            | Effect::Submit { .. }
            | Effect::SpawnWorker { .. }
            | Effect::Assign { .. }
            | Effect::CancelAttempt { .. }
            | Effect::EndAttempt { .. }
            | Effect::StopWorker { .. }
            | Effect::Extend { .. }
            | Effect::Permit { .. }
            | Effect::Keep { .. }
            | Effect::Reopen { .. }
            | Effect::Limit { .. }
            | Effect::Shutdown => None,
        }
    }

    /// Puts a task into the queue. Blocks: whoever submits one task after the other waits for nothing else.
    pub fn submit(&self, id: OrderId, spec: &TaskSpec) -> Event {
        let task = &spec.task;
        let answer = match self.queue.submit_blocking(spec) {
            Ok(Submitted::New | Submitted::Exists) => done(format!("{task} is in the queue"), task),
            Ok(Submitted::Conflict) => refused(format!("{task} is known already, with other content")),
            Ok(Submitted::Full { waiting, limit }) => {
                refused(format!("{waiting} tasks wait already, at most {limit} may"))
            }
            Err(error) => could_not(&error),
        };
        answered(id, answer)
    }

    /// Ends a task. What nobody ordered cannot be ordered again: then the disk is asked until it takes it.
    async fn end(&self, task: &TaskRef, ending: Ending, ordered: bool) -> Answer {
        loop {
            let Err(error) = self.queue.end(task, ending.clone()).await else {
                return done(format!("{task} is ended"), task);
            };
            tracing::warn!(%error, %task, "a task could not be ended");
            if ordered || !matches!(error, QueueError::Io { .. } | QueueError::NoSpace(_)) {
                return could_not(&error);
            }
            tokio::time::sleep(CHANGE_OF_MIND).await;
        }
    }

    /// Brings a task back, or makes another agent's of it, and what was skipped because of it.
    async fn retry(&self, retry: Retry) -> Answer {
        let Retry { task, instead, changes, followers } = retry;
        let mut text = match &instead {
            Some(new) => format!("{new} starts instead of {task}"),
            None => format!("{task} starts again"),
        };
        let head = instead.as_ref().unwrap_or(&task).to_string();
        if let Some(new) = instead
            && let Err(reason) = self.submit_instead(&task, new, &changes).await
        {
            return refused(reason);
        }
        let mut ids = Vec::new();
        let mut left = Vec::new();
        // What was skipped comes first: should we end here, it is skipped again, and the order can be given again.
        for (follower, changes) in followers {
            match self.queue.retry(&follower, changes).await {
                Ok(()) => ids.push(follower.to_string()),
                Err(error) => left.push(format!("{follower} stays as it is: {error}")),
            }
        }
        if head == task.to_string()
            && let Err(error) = self.queue.retry(&task, changes).await
        {
            return could_not(&error);
        }
        if !ids.is_empty() {
            // Writing into a string cannot fail.
            let _ok = write!(text, ", and {} that were skipped because of it", ids.len());
        }
        for why in left {
            let _ok = write!(text, "; {why}");
        }
        ids.insert(0, head);
        Answer::Done { text, ids }
    }

    /// Throws something away.
    async fn remove(&self, item: &Item) -> Answer {
        let removed = match item {
            Item::Task(task) => self.queue.remove(task).await,
            Item::File(path) => self.queue.discard(path).await,
        };
        let name = named(item);
        match removed {
            Ok(()) => Answer::Done { text: format!("removed {name}"), ids: vec![name] },
            Err(error) => could_not(&error),
        }
    }

    /// Puts a task into the queue again, as another agent's.
    async fn submit_instead(&self, task: &TaskRef, new: TaskRef, changes: &Changes) -> Result<(), String> {
        let mut spec = self.queue.spec(task).await.map_err(|error| error.to_string())?;
        spec.task = new;
        spec.retry_of = Some(task.clone());
        changes.apply(&mut spec, None);
        self.publish(vec![spec]).await
    }

    async fn recover(&self, task: TaskRef, cancel: bool) -> Option<Event> {
        // What a lost attempt left running must be gone before anybody may start another.
        let _said = self.sweep().await;
        if let Err(error) = self.queue.recover().await {
            tracing::error!(%error, "the queue could not be mended");
            // The room asks again as long as the task is lost: not faster than a disk can change its mind.
            tokio::time::sleep(CHANGE_OF_MIND).await;
        }
        if cancel && let Err(error) = self.queue.end(&task, Ending::Cancelled).await {
            // An attempt elsewhere outlives its deputy, and the next one hears of it.
            let kept = match &error {
                QueueError::State { .. } => self.queue.request(&task, Request::Cancel).await,
                _ => Err(error),
            };
            if let Err(error) = kept {
                tracing::warn!(%error, %task, "a cancelled task could not be ended");
            }
        }
        match self.queue.get(&task).await {
            Ok(record) => Some(Event::Task(TaskEvent::Changed { record: Box::new(record) })),
            Err(QueueError::Unknown(_)) => Some(Event::Task(TaskEvent::Withdrawn { task })),
            Err(error) => {
                tracing::error!(%error, %task, "a task could not be read");
                None
            }
        }
    }

    async fn publish(&self, tasks: Vec<TaskSpec>) -> Result<(), String> {
        let names: Vec<_> = tasks.iter().map(|t| t.task.clone()).collect();
        let answers = self.queue.submit_many(tasks).await.map_err(|error| error.to_string())?;
        let bad = names.iter().zip(answers).find_map(|(name, answer)| match answer {
            Submitted::New | Submitted::Exists => None,
            Submitted::Conflict => Some(format!("{name} is known already, with other content")),
            Submitted::Full { waiting, limit } => Some(format!("{waiting} tasks wait already, at most {limit} may")),
        });
        bad.map_or(Ok(()), Err)
    }

    /// Takes tasks out of the queue and puts others in; on trouble those that went come back.
    async fn amend(&self, withdraw: Vec<TaskRef>, publish: Vec<TaskSpec>) -> Result<(), String> {
        let mut gone = Vec::new();
        for task in withdraw {
            match self.queue.remove(&task).await {
                Ok(()) => gone.push(task),
                // Taken out before a crash.
                Err(QueueError::Unknown(_)) => {}
                Err(error) => {
                    self.bring_back(gone).await;
                    return Err(error.to_string());
                }
            }
        }
        let names: Vec<TaskRef> = publish.iter().map(|spec| spec.task.clone()).collect();
        let Err(message) = self.publish(publish).await else { return Ok(()) };
        for task in names {
            // What of it came in must not run; that the rest is unknown is no trouble.
            let _unknown = self.queue.remove(&task).await;
        }
        self.bring_back(gone).await;
        Err(message)
    }

    async fn bring_back(&self, tasks: Vec<TaskRef>) {
        for task in tasks {
            if let Err(error) = self.queue.restore(&Item::Task(task.clone())).await {
                tracing::error!(%error, %task, "a task of an edited plan could not be brought back");
            }
        }
    }

    async fn plan(
        &self,
        id: GoalId,
        goal: &str,
        round: u32,
        repair: Option<(&str, &[Fault])>,
        follows: Option<GoalId>,
    ) -> GoalEvent {
        let before = match follows {
            None => None,
            Some(former) => {
                let path = self.settings.stage.join(format!("results/goals/{former}.md"));
                match tokio::fs::read_to_string(&path).await {
                    Ok(report) => Some(Before { id: former.to_string(), report }),
                    Err(error) => {
                        let message = format!("the report of {former} could not be read: {error}");
                        return GoalEvent::PlanFailed { id, round, message };
                    }
                }
            }
        };
        let prompt = self.plan_prompt(goal, before.as_ref(), repair);
        self.planned(id, round, prompt).await
    }

    /// The same for what is missing of a plan that was run in part.
    async fn replan(
        &self,
        id: GoalId,
        goal: &str,
        round: u32,
        repair: Option<(&str, &[Fault])>,
        plan: &Plan,
    ) -> GoalEvent {
        match self.ended(&id, plan).await {
            Ok(ended) => {
                let prompt = replan::prompt(self.plan_prompt(goal, None, repair), plan, &ended);
                self.planned(id, round, prompt).await
            }
            Err(message) => GoalEvent::PlanFailed { id, round, message },
        }
    }

    fn plan_prompt(&self, goal: &str, before: Option<&Before>, repair: Option<(&str, &[Fault])>) -> Prompt {
        let agents: Vec<_> = self
            .settings
            .agents
            .iter()
            .map(|a| (a.settings.name.clone(), a.settings.role.clone(), a.settings.model.clone()))
            .collect();
        plan::prompt(goal, &agents, &self.settings.orchestrator_prompt, before, repair)
    }

    async fn planned(&self, id: GoalId, round: u32, prompt: Prompt) -> GoalEvent {
        match self.ask(&id, prompt).await {
            Ok(Reply { text, model, spend }) => {
                GoalEvent::Answered { id, round, text, model, spend, validator: VALIDATOR }
            }
            Err(message) => GoalEvent::PlanFailed { id, round, message },
        }
    }

    /// The tasks of a plan and what came of each, in full.
    async fn ended(&self, id: &GoalId, plan: &Plan) -> Result<Vec<synthesis::Ended>, String> {
        let mut ended = Vec::with_capacity(plan.tasks.len());
        for task in &plan.tasks {
            let outcome = match task.reference(id) {
                Some(reference) => self.queue.result(&reference).await.map_err(|error| error.to_string())?,
                None => None,
            };
            ended.push((task.clone(), outcome));
        }
        Ok(ended)
    }

    async fn synthesise(&self, id: GoalId, goal: &str, plan: &Plan, pays: Option<&Pays>) -> GoalEvent {
        let ended = match self.ended(&id, plan).await {
            Ok(ended) => ended,
            Err(message) => return GoalEvent::ReportFailed { id, message },
        };
        let prompt = synthesis::prompt(goal, plan, &ended, &self.settings.orchestrator_prompt);
        let (words, alone, spend) = match self.ask(&id, prompt).await {
            Ok(reply) if !reply.text.trim().is_empty() => (Some(reply.text), None, reply.spend),
            Ok(Reply { spend, .. }) => (None, Some("the model's answer was empty".to_owned()), spend),
            Err(message) => (None, Some(message), Spend::default()),
        };
        let end = synthesis::verdict(&ended, words.is_some());
        let done =
            ended.iter().filter(|(_, outcome)| outcome.as_ref().is_some_and(|o| o.state == EndState::Done)).count();
        let report = synthesis::report(&id, goal, words.as_deref(), &ended, pays);
        let record = record::record(&id, goal, plan, words.as_deref(), &ended, pays, end);
        let opening = text::first_line(words.as_deref().unwrap_or(&report), 160);
        let path = format!("results/goals/{id}.md");
        let target = self.settings.stage.join(&path);
        let write = move || {
            for (target, content) in [(target.with_extension("json"), record), (target, report)] {
                keep_former(&target)?;
                write_whole(&target, &content)?;
            }
            Ok::<_, std::io::Error>(())
        };
        match tokio::task::spawn_blocking(write).await {
            Ok(Ok(())) => GoalEvent::Reported { id, path, opening, end, done, plain: alone, spend },
            Ok(Err(error)) => GoalEvent::ReportFailed { id, message: format!("could not write {path}: {error}") },
            Err(error) => GoalEvent::ReportFailed { id, message: error.to_string() },
        }
    }
}

/// Keeps a former report of the same goal beside the new one: `g1.1.md`, the oldest first.
fn keep_former(path: &Path) -> std::io::Result<()> {
    let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or("md");
    for k in 1_u32.. {
        match fs::hard_link(path, path.with_extension(format!("{k}.{kind}"))) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            other => return other,
        }
    }
    Ok(())
}

/// Writes a file so that nobody ever reads a half of it.
fn write_whole(path: &Path, content: &str) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".report-").tempfile_in(folder)?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

fn answered(id: OrderId, answer: Answer) -> Event {
    Event::Task(TaskEvent::Answered { id, answer })
}

/// What a thing in the trash is called.
fn named(item: &Item) -> String {
    match item {
        Item::Task(task) => task.to_string(),
        Item::File(path) => path.clone(),
    }
}

fn done(text: String, task: &TaskRef) -> Answer {
    Answer::Done { text, ids: vec![task.to_string()] }
}

fn refused(reason: String) -> Answer {
    Answer::Refused { reason }
}

fn could_not(error: &QueueError) -> Answer {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    refused(format!("{error}{cause}"))
}
