//! Agents and their workers: who is up, who holds what, when a dead worker is started again.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, Leaving, OrderId, State, Voice, WorkerEvent, done, event::AgentSetup, halt::Halt, pulse::Pulse,
    time::later,
};
use crate::model::{
    Activity, AgentName, AgentSettings, Ending, Far, Report, SlotId, TaskRef, budget::Payer, outcome::EndState,
    task::Standing,
};

/// Every agent, in the order of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Agents {
    all: Vec<Agent>,
    /// Attempts at once, over all agents.
    pub max_running: u32,
    paused: BTreeMap<AgentName, bool>,
    halted: BTreeMap<AgentName, Halt>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its settings in force.
    pub settings: AgentSettings,
    /// What keeps it from working, with the remedy.
    pub trouble: Option<String>,
    /// Nothing starts while a person has paused it.
    pub paused: bool,
    /// A person has stopped it.
    #[serde(default)]
    pub halted: Option<Halt>,
    /// One per worker process.
    pub slots: Vec<Slot>,
}

/// One worker process's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Slot {
    /// Whose, and which.
    pub id: SlotId,
    /// How the process is.
    pub process: Process,
    /// Counts the starts; a word about an older start is ignored.
    pub epoch: u64,
    /// Starts in a row that did not last a minute.
    pub failures: u32,
    /// When the process that is up, or was a moment ago, first said hello.
    #[serde(default)]
    pub up_since: Option<Timestamp>,
    /// What it holds.
    pub held: Option<Held>,
    /// The worker that it stands for, where that is on another machine.
    #[serde(default)]
    pub far: Option<Far>,
}

/// How a worker process is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Process {
    /// Not running, and not wanted.
    Off,
    /// Started, has not said hello; or a former room's worker that has not found this one yet.
    Starting {
        /// Its process id, once known.
        pid: Option<u32>,
        /// Since when.
        since: Timestamp,
    },
    /// Up and connected.
    Up {
        /// Its process id.
        pid: u32,
        /// Since when.
        since: Timestamp,
    },
    /// Died; started again at `until`.
    Backoff {
        /// When.
        until: Timestamp,
        /// How it died.
        why: String,
    },
    /// Told to leave.
    Leaving {
        /// Its process id.
        pid: u32,
    },
}

/// A task in a worker's hands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// Which task.
    pub task: TaskRef,
    /// The attempt, once its child runs.
    pub attempt: Option<u32>,
    /// Since when.
    pub since: Timestamp,
    /// The child's process id.
    pub pid: Option<u32>,
    /// The log, relative to the stage.
    pub log: Option<String>,
    /// A person asked to end it.
    pub cancelling: bool,
    /// What it does.
    pub activity: Activity,
    /// How much it has written lately.
    #[serde(default)]
    pub pulse: Pulse,
}

impl Slot {
    /// Connected and free.
    pub fn is_idle(&self) -> bool {
        matches!(self.process, Process::Up { .. }) && self.held.is_none()
    }

    /// The worker's process id, where there is one.
    pub fn pid(&self) -> Option<u32> {
        match &self.process {
            Process::Off | Process::Backoff { .. } => None,
            Process::Starting { pid, .. } => *pid,
            Process::Up { pid, .. } | Process::Leaving { pid } => Some(*pid),
        }
    }
}

impl Agent {
    /// Its name.
    pub fn name(&self) -> &AgentName {
        &self.settings.name
    }

    /// Attempts running now.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|s| s.held.is_some()).count()
    }

    /// The word on screen: `running`, `idle`, `paused`, `parked`, `starting`, `restarting`, `not ready`, `draining`, `stopping`,
    /// `stopped`.
    fn word(&self, parked: bool) -> &'static str {
        if self.trouble.is_some() {
            "not ready"
        } else if let Some(halt) = self.halted {
            self.halted_word(halt)
        } else if self.running() > 0 {
            "running"
        } else if self.paused {
            "paused"
        } else if parked {
            "parked"
        } else if self.slots.iter().any(|s| matches!(s.process, Process::Up { .. })) {
            "idle"
        } else if self.slots.iter().any(|s| matches!(s.process, Process::Starting { .. })) {
            // Its deputies are up at once, and what they wait for is on another machine.
            if self.settings.elsewhere { "away" } else { "starting" }
        } else if self.slots.iter().any(|s| matches!(s.process, Process::Backoff { .. })) {
            "restarting"
        } else {
            "stopped"
        }
    }
}

impl Agents {
    /// Every agent.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.all.iter()
    }

    /// One agent.
    pub fn get(&self, name: &AgentName) -> Option<&Agent> {
        self.all.iter().find(|a| a.name() == name)
    }

    /// Their names, in order.
    pub fn names(&self) -> Vec<AgentName> {
        self.all.iter().map(|a| a.name().clone()).collect()
    }

    /// Attempts running now, over all agents.
    pub fn running(&self) -> usize {
        self.all.iter().map(Agent::running).sum()
    }

    /// The slot that holds a task.
    pub fn holder(&self, task: &TaskRef) -> Option<&Slot> {
        self.get(&task.agent)?.slots.iter().find(|s| s.held.as_ref().is_some_and(|h| &h.task == task))
    }

    fn get_mut(&mut self, name: &AgentName) -> Option<&mut Agent> {
        self.all.iter_mut().find(|a| a.name() == name)
    }

    pub(super) fn each(&mut self, change: impl FnMut(&mut Agent)) {
        self.all.iter_mut().for_each(change);
    }

    fn slot_mut(&mut self, id: &SlotId) -> Option<&mut Slot> {
        self.get_mut(&id.agent)?.slots.iter_mut().find(|s| &s.id == id)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.all.iter().flat_map(|a| &a.slots)
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let restarts = self.slots().filter_map(|s| match &s.process {
            Process::Backoff { until, .. } => Some(*until),
            Process::Off | Process::Starting { .. } | Process::Up { .. } | Process::Leaving { .. } => None,
        });
        restarts.min()
    }

    /// Pauses one, or takes that back; whether it was paused, where there is such an agent.
    pub(super) fn set_paused(&mut self, name: &AgentName, paused: bool) -> Option<bool> {
        // The journal is replayed before the configuration is known: the wish is kept for when the agent appears.
        self.paused.insert(name.clone(), paused);
        let agent = self.get_mut(name)?;
        Some(std::mem::replace(&mut agent.paused, paused))
    }

    /// How a person has stopped one.
    pub(super) fn halted(&self, name: &AgentName) -> Option<Halt> {
        self.halted.get(name).copied()
    }

    pub(super) fn set_halted(&mut self, name: &AgentName, halt: Option<Halt>) {
        match halt {
            Some(halt) => self.halted.insert(name.clone(), halt),
            None => self.halted.remove(name),
        };
        if let Some(agent) = self.get_mut(name) {
            agent.halted = halt;
        }
    }

    pub(super) fn open(&mut self, agents: Vec<AgentSetup>, max_running: u32, found: &[(SlotId, u32)], now: Timestamp) {
        self.max_running = max_running;
        let (paused, halted) = (&self.paused, &self.halted);
        self.all = agents
            .into_iter()
            .map(|AgentSetup { settings, trouble }| {
                let slots = (0..settings.slots)
                    .map(|index| {
                        let id = SlotId { agent: settings.name.clone(), index };
                        let alive = found.iter().find(|(slot, _)| *slot == id);
                        let process =
                            alive.map_or(Process::Off, |(_, pid)| Process::Starting { pid: Some(*pid), since: now });
                        Slot { id, process, epoch: 0, failures: 0, up_since: None, held: None, far: None }
                    })
                    .collect();
                let paused = paused.get(&settings.name).copied().unwrap_or(false);
                let halted = halted.get(&settings.name).copied();
                Agent { settings, trouble, paused, halted, slots }
            })
            .collect();
    }
}

/// Seconds before the next start after this many failures in a row: 1, 2, 4 … 60.
fn backoff(failures: u32) -> SignedDuration {
    SignedDuration::from_secs(1_i64.checked_shl(failures.saturating_sub(1)).unwrap_or(60).clamp(1, 60))
}

/// How long a task rests after its worker could not begin it; a disk's trouble lasts longer than a moment.
const REST: SignedDuration = SignedDuration::from_secs(1);

/// A worker that lived this long was healthy: its next death starts the back-off anew.
const HEALTHY: SignedDuration = SignedDuration::from_secs(60);

impl State {
    /// Starts every worker that is wanted and due.
    pub(super) fn start_workers(&mut self, effects: &mut Vec<Effect>) {
        if self.leaving != Leaving::No {
            return;
        }
        let (now, has_server) = (self.now, self.has_server());
        // An agent that cannot work has no use for a worker, and its worker could not begin.
        let wanted = |agent: &&mut Agent| {
            agent.halted.is_none() && agent.trouble.is_none() && (has_server || !agent.settings.elsewhere)
        };
        for agent in self.agents.all.iter_mut().filter(wanted) {
            for slot in &mut agent.slots {
                let due = match &slot.process {
                    Process::Off => true,
                    Process::Backoff { until, .. } => *until <= now,
                    Process::Starting { .. } | Process::Up { .. } | Process::Leaving { .. } => false,
                };
                if due {
                    slot.epoch += 1;
                    slot.process = Process::Starting { pid: None, since: now };
                    effects.push(Effect::SpawnWorker { slot: slot.id.clone(), epoch: slot.epoch });
                }
            }
        }
    }

    pub(super) fn worker_event(&mut self, event: WorkerEvent, effects: &mut Vec<Effect>) {
        let now = self.now;
        match event {
            WorkerEvent::Spawned { slot, epoch, pid } => {
                if let Some(slot) = self.agents.slot_mut(&slot)
                    && slot.epoch == epoch
                    && matches!(slot.process, Process::Starting { pid: None, .. })
                {
                    slot.process = Process::Starting { pid: Some(pid), since: now };
                }
            }
            WorkerEvent::SpawnFailed { slot, epoch, message } => {
                if self.agents.slot_mut(&slot).is_some_and(|s| s.epoch == epoch) {
                    self.worker_died(&slot, &message, effects);
                }
            }
            WorkerEvent::Connected { slot: id, pid, running } => {
                let Some(slot) = self.agents.slot_mut(&id) else { return };
                slot.process = Process::Up { pid, since: now };
                slot.up_since.get_or_insert(now);
                let dropped = slot.held.take_if(|h| running.as_ref().is_none_or(|r| r.task != h.task));
                if let Some(attempt) = running
                    && slot.held.is_none()
                {
                    let known =
                        self.tasks.get(&attempt.task).and_then(|t| t.record.attempts.iter().find(|a| a.n == attempt.n));
                    slot.held = Some(Held {
                        since: known.map_or(now, |a| a.started_at),
                        log: known.map(|a| a.log.clone()),
                        attempt: (attempt.n > 0).then_some(attempt.n),
                        task: attempt.task.clone(),
                        pid: None,
                        cancelling: false,
                        activity: Activity::default(),
                        pulse: Pulse::default(),
                    });
                    self.tasks.adopt(&attempt.task, now);
                }
                // The order may have been on its way when the connection broke.
                if let Some(held) = slot.held.as_ref().filter(|h| h.cancelling) {
                    let attempt = held.task.attempt(held.attempt.unwrap_or(0));
                    effects.push(Effect::CancelAttempt { slot: id.clone(), attempt });
                }
                if let Some(held) = dropped {
                    effects.push(Effect::Recover { task: held.task, cancel: held.cancelling });
                }
                if let Some(task) = self.agents.slot_mut(&id).and_then(|slot| Some(slot.held.as_ref()?.task.clone())) {
                    self.end_if_over_budget(&task, effects);
                }
                match self.leaving {
                    Leaving::No => {
                        let is_far = self.agents.get(&id.agent).is_some_and(|agent| agent.settings.elsewhere);
                        let taken = Some(Halt::Stop).filter(|_| is_far && self.is_server_taken());
                        let halted = self.agents.halted(&id.agent).or(taken);
                        if let (Some(halt), Some(slot)) = (halted, self.agents.slot_mut(&id)) {
                            slot.process = Process::Leaving { pid };
                            effects.push(Effect::StopWorker { slot: id, drain: halt == Halt::Drain });
                        }
                    }
                    Leaving::Draining => effects.push(Effect::StopWorker { slot: id, drain: true }),
                    Leaving::Stopping => effects.push(Effect::StopWorker { slot: id, drain: false }),
                }
            }
            WorkerEvent::Disconnected { slot, pid } => {
                if let Some(slot) = self.agents.slot_mut(&slot)
                    && matches!(slot.process, Process::Up { pid: up, .. } if up == pid)
                {
                    slot.process = Process::Starting { pid: Some(pid), since: now };
                    slot.far = None;
                }
            }
            WorkerEvent::Exited { slot: id, pid, how } => {
                let Some(slot) = self.agents.slot_mut(&id) else { return };
                if slot.pid().is_none_or(|known| known == pid) {
                    self.worker_died(&id, &how, effects);
                }
            }
            WorkerEvent::Reported { slot, report } => self.reported(&slot, report, effects),
            WorkerEvent::Unreached { slot: id, task } => {
                let Some(slot) = self.agents.slot_mut(&id) else { return };
                // A slot that still counted as free would be given the next task at once.
                if let Process::Up { pid, .. } = slot.process {
                    slot.process = Process::Starting { pid: Some(pid), since: now };
                }
                let reason = format!("the worker of {id} is not connected");
                self.not_started(&id, task, reason, None, effects);
            }
        }
    }

    fn worker_died(&mut self, id: &SlotId, how: &str, effects: &mut Vec<Effect>) {
        let (now, leaving) = (self.now, self.leaving);
        let halted = self.agents.halted(&id.agent).is_some();
        let Some(slot) = self.agents.slot_mut(id) else { return };
        let held = slot.held.take();
        let lived = slot.up_since.take().map_or(SignedDuration::ZERO, |since| now.duration_since(since));
        let told_to_leave = matches!(slot.process, Process::Leaving { .. }) || leaving != Leaving::No || halted;
        if told_to_leave {
            slot.process = Process::Off;
        } else {
            slot.failures = if lived >= HEALTHY { 1 } else { slot.failures + 1 };
            let wait = backoff(slot.failures);
            slot.process = Process::Backoff { until: now + wait, why: how.to_owned() };
            let text = format!("worker {id} ended ({how}); starts again in {} s", wait.as_secs());
            self.say(Voice::Room, None, text);
        }
        if let Some(held) = held {
            self.asks.attempt_over(&held.task);
            self.tasks.release(&held.task);
            effects.push(Effect::Recover { task: held.task, cancel: held.cancelling });
        }
        if told_to_leave {
            self.replace_workers(effects);
        }
        self.leave_when_empty(effects);
    }

    fn reported(&mut self, id: &SlotId, report: Report, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(slot) = self.agents.slot_mut(id) else { return };
        match report {
            Report::Started { attempt, pid, session_id, log, at } => {
                let cancelling = slot.held.as_ref().is_some_and(|h| h.task == attempt.task && h.cancelling);
                slot.held = Some(Held {
                    task: attempt.task.clone(),
                    attempt: Some(attempt.n),
                    since: at,
                    pid: Some(pid),
                    log: Some(log.clone()),
                    cancelling,
                    activity: Activity::default(),
                    pulse: Pulse::default(),
                });
                self.asks.attempt_over(&attempt.task);
                self.tasks.started(&attempt, at, session_id, log);
            }
            Report::Active { attempt, activity } => {
                let named = self.money.helpers.named(&attempt, &activity.subagents);
                if !named.is_empty() {
                    let fact = Event::Helpers { attempt: attempt.clone(), named };
                    effects.push(Effect::Keep { fact: Box::new(fact) });
                }
                let Some(held) = slot.held.as_mut().filter(|h| h.task == attempt.task) else { return };
                held.pulse.beat(now, activity.log_bytes);
                let before = std::mem::replace(&mut held.activity, activity);
                let refused = held.activity.retrying.as_ref().filter(|now| before.retrying.as_ref() != Some(now));
                if let Some(status) = refused.and_then(|retrying| retrying.status) {
                    self.refusal_heard(&attempt.task.agent, status);
                }
            }
            Report::Asked { attempt, ask } => {
                if slot.held.as_ref().is_some_and(|h| h.task == attempt.task) {
                    self.asked(id, attempt, *ask, effects);
                }
            }
            Report::Withdrawn { attempt, request } => self.withdrawn(&attempt, &request),
            Report::Limited { attempt, windows, news } => {
                let account = self.accounts.of(&attempt.task.agent);
                if let Some(windows) = windows {
                    self.accounts.hear_windows(account.clone(), *windows);
                }
                if let Some(news) = news {
                    self.limit_met(account, &news, Some(attempt.task), effects);
                }
            }
            Report::Failed { attempt, ending, spend, not_before, at } => {
                let held = slot.held.take_if(|h| h.task == attempt.task);
                self.asks.attempt_over(&attempt.task);
                self.limit_ended(&attempt.task, &ending, effects);
                self.say_again(&attempt.task, attempt.n, &ending, not_before.duration_since(at));
                self.tasks.failed(&attempt, ending, spend, not_before, at);
                self.tasks.wait_anew(&attempt.task, not_before.duration_since(at), now);
                // It ended by itself before the order reached it.
                if held.is_some_and(|h| h.cancelling) {
                    effects.push(Effect::EndTask { id: None, task: attempt.task, ending: Ending::Cancelled });
                }
            }
            Report::Ended { outcome, .. } => {
                slot.held.take_if(|h| h.task == outcome.task);
                self.asks.task_over(&outcome.task);
                self.task_ended(*outcome);
            }
            Report::Far { far } => {
                let is_new = slot.far.as_ref().is_none_or(|before| before.host != far.host || before.pid != far.pid);
                let text = format!("{id} works on {} (podium {}, process {})", far.host, far.version, far.pid);
                slot.far = Some(*far);
                if is_new {
                    self.say(Voice::Room, None, text);
                }
            }
            Report::Refused { why } => self.say(Voice::Room, None, format!("{id}: {why}")),
            Report::NotStarted { task, reason } => {
                self.not_started(id, task, reason, Some(later(now, REST)), effects);
            }
        }
    }

    /// An assignment came to nothing; the task is not handed out again before `rests_until`.
    fn not_started(
        &mut self,
        id: &SlotId,
        task: TaskRef,
        reason: String,
        rests_until: Option<Timestamp>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.agents.slot_mut(id) else { return };
        if slot.held.take_if(|h| h.task == task).is_some_and(|h| h.cancelling) {
            self.tasks.release(&task);
            effects.push(Effect::Recover { task, cancel: true });
        } else {
            self.tasks.not_started(&task, reason, rests_until, self.now);
        }
    }

    /// Hands ready tasks to free workers, the most urgent first.
    pub(super) fn dispatch(&mut self, effects: &mut Vec<Effect>) {
        if self.leaving != Leaving::No || self.tasks.space.is_some() || self.reached(&Payer::Day).is_some() {
            return;
        }
        let now = self.now;
        let cut_off = self.server.as_ref().is_some_and(|server| server.shut().is_some());
        let places = (self.agents.max_running as usize).saturating_sub(self.agents.running());
        let mut places = places;
        while places > 0 {
            let accounts = &self.accounts;
            let may_start = |a: &&Agent| {
                let parked = accounts.parked(&accounts.of(a.name())).is_some();
                let stopped = a.paused || a.halted.is_some() || cut_off && a.settings.elsewhere;
                !parked && !stopped && a.trouble.is_none() && a.slots.iter().any(Slot::is_idle)
            };
            let open = self.agents.all.iter().filter(may_start);
            let Some(task) = self.tasks.next_of(open.map(Agent::name)) else { return };
            // One whose budget, or whose goal's, is used up ends instead.
            if let Some(reached) = self.over_budget(&task) {
                self.tasks.stop(&task, &reached.to_string());
                effects.push(Effect::EndTask { id: None, task, ending: reached.ending() });
                continue;
            }
            let Some(agent) = self.agents.get_mut(&task.agent) else { return };
            let Some(slot) = agent.slots.iter_mut().find(|s| s.is_idle()) else { return };
            places -= 1;
            self.tasks.take(&task);
            slot.held = Some(Held {
                task: task.clone(),
                attempt: None,
                since: now,
                pid: None,
                log: None,
                cancelling: false,
                activity: Activity::default(),
                pulse: Pulse::default(),
            });
            effects.push(Effect::Assign { slot: slot.id.clone(), task });
        }
    }

    pub(super) fn stop(&mut self, id: OrderId, drain: bool, effects: &mut Vec<Effect>) {
        self.leaving = if drain { Leaving::Draining } else { Leaving::Stopping };
        let running = self.agents.running();
        let text = match (drain, running) {
            (true, 1..) => format!("leaving when {running} running attempts have ended"),
            _ => "leaving".to_owned(),
        };
        done(effects, id, text, Vec::new());
        for slot in self.agents.all.iter_mut().flat_map(|a| &mut a.slots) {
            match &slot.process {
                Process::Up { pid, .. } | Process::Starting { pid: Some(pid), .. } => {
                    slot.process = Process::Leaving { pid: *pid };
                    effects.push(Effect::StopWorker { slot: slot.id.clone(), drain });
                }
                Process::Leaving { .. } => effects.push(Effect::StopWorker { slot: slot.id.clone(), drain }),
                Process::Backoff { .. } => slot.process = Process::Off,
                Process::Off | Process::Starting { pid: None, .. } => {}
            }
        }
        self.leave_when_empty(effects);
    }

    fn leave_when_empty(&self, effects: &mut Vec<Effect>) {
        if self.leaving != Leaving::No && self.agents.slots().all(|s| s.process == Process::Off) {
            effects.push(Effect::Shutdown);
        }
    }

    /// Tells the worker that holds `task` to end it; false when nobody holds it.
    pub(super) fn cancel_held(&mut self, task: &TaskRef, effects: &mut Vec<Effect>) -> bool {
        let Some(agent) = self.agents.get_mut(&task.agent) else { return false };
        for slot in &mut agent.slots {
            if let Some(held) = slot.held.as_mut().filter(|h| &h.task == task) {
                held.cancelling = true;
                // 0 before the attempt has a number: the worker ends whatever it runs of this task.
                let attempt = task.attempt(held.attempt.unwrap_or(0));
                effects.push(Effect::CancelAttempt { slot: slot.id.clone(), attempt });
                return true;
            }
        }
        false
    }

    /// The word on screen for how an agent is.
    pub fn word(&self, agent: &Agent) -> &'static str {
        let free = agent.running() == 0 && agent.halted.is_none();
        if free && self.cut_off(agent).is_some() {
            return "not ready";
        }
        agent.word(self.parked(agent.name()).is_some())
    }

    /// Whether a task's ended state is one that a person should look at.
    pub(super) fn is_bad(state: EndState) -> bool {
        match state {
            EndState::Failed | EndState::TimedOut | EndState::Expired | EndState::Dead => true,
            EndState::Done | EndState::Cancelled | EndState::Skipped => false,
        }
    }

    /// Whether the queue says that an attempt of this task runs somewhere.
    pub(super) fn runs_elsewhere(&self, task: &TaskRef) -> bool {
        self.tasks.get(task).is_some_and(|t| matches!(t.record.standing, Standing::Running { .. }))
            && self.agents.holder(task).is_none()
    }
}

/// Names in a row: `marie, anga, fabien`.
pub(super) fn join(names: &[AgentName]) -> String {
    names.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ")
}
