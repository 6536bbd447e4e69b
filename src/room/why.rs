//! Why a task stands where it stands: one sentence, exact, the same on screen and in JSON.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{Held, Leaving, Process, State, tasks::Prerequisites};
use crate::model::{Activity, AgentName, Dependency, Standing, TaskRef, budget::Reached, report::Retrying};

/// The reason as a value; its text comes from [`fmt::Display`].
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// An attempt runs; what it does.
    Doing(String),
    /// It ran and did this when the server was last heard, so long ago.
    Stale(String, SignedDuration),
    /// It runs and is silent; in so long it is ended for that.
    Stalling(SignedDuration),
    /// A person asked to end it.
    Cancelling,
    /// Handed to a worker, not begun.
    Starting,
    /// It is over; how.
    Over(String),
    /// Others must end first.
    After(Vec<TaskRef>),
    /// Nobody has submitted these.
    Unknown(Vec<Dependency>),
    /// One of its dependencies did not end well.
    Hopeless(TaskRef),
    /// Its file says not before; so much later.
    Later(SignedDuration),
    /// The next attempt starts later; why the last one ended.
    Again(SignedDuration, String),
    /// It asks a person for this.
    Wants(String),
    /// It was paused, for this; empty where a person did it.
    Held(String),
    /// This attempt was lost and the task asks what next.
    Asks(u32),
    /// The agent cannot work.
    Trouble(AgentName, String),
    /// A person paused the agent.
    Paused(AgentName),
    /// A person stopped the agent; how far that is.
    Stopped(AgentName, &'static str),
    /// The engine waits before it asks its model again.
    Retrying(Retrying, SignedDuration),
    /// A limit of its account holds the agent.
    Parked(AgentName, Shut),
    /// The agent's worker is not up; when it is started again, where that is known.
    NoWorker(AgentName, &'static str, Option<SignedDuration>),
    /// As many attempts run as may.
    Full(u32),
    /// A budget is used up.
    Spent(Reached),
    /// The agent is busy with this; so many are ahead.
    Next(AgentName, usize, Option<TaskRef>),
    /// There is no such agent.
    NoAgent(AgentName),
    /// The queue or a worker said no; when it is tried again, where that is known.
    Hindered(String, Option<SignedDuration>),
    /// The room is on its way out.
    Leaving,
    /// Nothing starts: no room is open.
    NoRoom,
}

/// What holds a parked agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Shut {
    /// What was met.
    pub words: String,
    /// How long until it clears, where that is known.
    pub left: Option<SignedDuration>,
    /// That is a guess.
    pub about: bool,
    /// What follows, or what a person can do; empty where it goes on by itself.
    pub then: String,
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.about { "about " } else { "" };
        match self.left {
            Some(left) if left > SignedDuration::ZERO => write!(f, " for {about}{}: {}", span(left), self.words)?,
            Some(_) => write!(f, ": {}, cleared", self.words)?,
            None => write!(f, ": {}", self.words)?,
        }
        if self.then.is_empty() { Ok(()) } else { write!(f, "; {}", self.then) }
    }
}

impl Why {
    /// Whether an attempt is about to be ended for its silence.
    pub fn is_stalling(&self) -> bool {
        matches!(self, Self::Stalling(_))
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Doing(what) if what.is_empty() => f.write_str("running"),
            Self::Doing(text) | Self::Over(text) | Self::Hindered(text, None) => f.write_str(text),
            Self::Hindered(text, Some(wait)) => write!(f, "{text}; again in {}", span(*wait)),
            Self::Stalling(left) => {
                let seconds = left.as_secs().max(0);
                write!(f, "silent, ended in {}:{:02}", seconds / 60, seconds % 60)
            }
            Self::Cancelling => f.write_str("being ended"),
            Self::Wants(words) => f.write_str(words),
            Self::Held(why) if why.is_empty() => f.write_str("paused by a person"),
            Self::Stale(doing, ago) => {
                write!(f, "as of {} ago, the NATS server is away", span(*ago))?;
                if doing.is_empty() { Ok(()) } else { write!(f, ": {doing}") }
            }
            Self::Held(why) => write!(f, "paused: {why}"),
            Self::Starting => f.write_str("starting"),
            Self::After(tasks) => {
                f.write_str("after ")?;
                list(f, tasks.iter().map(|t| t.id.as_str()))
            }
            Self::Unknown(names) => {
                f.write_str("waiting for ")?;
                let names: Vec<String> = names.iter().map(ToString::to_string).collect();
                list(f, names.iter().map(String::as_str))?;
                f.write_str(", which nobody has submitted yet")
            }
            Self::Hopeless(task) => write!(f, "{task} did not end well"),
            Self::Later(wait) => write!(f, "starts in {}", span(*wait)),
            Self::Asks(attempt) => write!(f, "attempt {attempt} was lost: retry or cancel it"),
            Self::Again(wait, ending) => write!(f, "again in {}: {ending}", span(*wait)),
            Self::Trouble(agent, what) => write!(f, "{agent} is not ready: {what}"),
            Self::Paused(agent) => write!(f, "{agent} is paused"),
            Self::Stopped(agent, word) => write!(f, "{agent} is {word}: a person stopped it"),
            Self::Retrying(Retrying { n, of, why, .. }, wait) => {
                write!(f, "retrying {n} of {of}: {why}, next in {}", span(*wait))
            }
            Self::Parked(agent, shut) => write!(f, "{agent} parked{shut}"),
            Self::NoWorker(agent, word, None) => write!(f, "{agent}'s worker is {word}"),
            Self::NoWorker(agent, word, Some(wait)) => write!(f, "{agent}'s worker is {word} in {}", span(*wait)),
            Self::Full(1) => f.write_str("1 attempt runs already, no more may at once"),
            Self::Full(max) => write!(f, "{max} attempts run already, no more may at once"),
            Self::Next(agent, ahead, busy) => {
                match ahead {
                    0 => write!(f, "next on {agent}")?,
                    _ => write!(f, "{ahead} ahead on {agent}")?,
                }
                busy.as_ref().map_or(Ok(()), |task| write!(f, ", which does {}", task.id))
            }
            Self::Leaving => f.write_str("the room is leaving and starts nothing more"),
            Self::Spent(reached) => reached.fmt(f),
            Self::NoAgent(agent) => write!(f, "there is no agent {agent}"),
            Self::NoRoom => f.write_str("no room is open"),
        }
    }
}

fn list<'a>(f: &mut fmt::Formatter<'_>, names: impl Iterator<Item = &'a str>) -> fmt::Result {
    for (n, name) in names.enumerate() {
        if n > 0 {
            f.write_str(", ")?;
        }
        f.write_str(name)?;
    }
    Ok(())
}

/// A duration as people read it: `45 s`, `12 min`, `3 h 5 min`.
pub fn span(wait: SignedDuration) -> String {
    let seconds = wait.as_secs().max(0) + i64::from(wait.subsec_millis() > 0);
    match seconds {
        0..=90 => format!("{seconds} s"),
        91..=5400 => format!("{} min", seconds / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Whether the last attempt ended in a limit.
fn limited(task: &super::Task) -> bool {
    matches!(task.record.attempts.last().and_then(|a| a.ending.as_ref()), Some(crate::model::Ending::Limit { .. }))
}

impl State {
    /// Why a task stands where it stands, at `now`.
    pub fn why(&self, task: &TaskRef, now: Timestamp) -> Option<Why> {
        let entry = self.tasks.find(task)?;
        if let Some(outcome) = &entry.record.outcome {
            let text = if outcome.state == crate::model::EndState::Done {
                crate::model::text::first_line(&outcome.summary, 200)
            } else {
                outcome.ending.sentence()
            };
            return Some(Why::Over(text));
        }
        if let Some(slot) = self.agents.holder(task) {
            return Some(match &slot.held {
                Some(held) if held.cancelling => Why::Cancelling,
                Some(held) if held.attempt.is_none() => Why::Starting,
                Some(held) if let Some(since) = self.agents.get(&task.agent).and_then(|a| self.stale_since(a)) => {
                    Why::Stale(held.activity.doing.clone(), now.duration_since(since))
                }
                Some(_) if let Some(open) = self.asks.of(task) => Why::Wants(open.ask.words()),
                Some(Held { activity: Activity { stalls_at: Some(at), .. }, .. }) => {
                    Why::Stalling(at.duration_since(now))
                }
                Some(Held { activity: Activity { retrying: Some(retrying), .. }, .. }) if retrying.at > now => {
                    Why::Retrying((**retrying).clone(), retrying.at.duration_since(now))
                }
                Some(held) => Why::Doing(held.activity.doing.clone()),
                None => Why::Starting,
            });
        }
        if let Some(pause) = self.tasks.paused(task) {
            return Some(Why::Held(pause.why.clone()));
        }
        let Some(agent) = self.agents.get(&task.agent) else { return Some(Why::NoAgent(task.agent.clone())) };
        match &entry.record.standing {
            Standing::Running { .. } => return Some(Why::NoWorker(task.agent.clone(), "not connected", None)),
            // It waits for its account's limit, whatever was thought of its end when it was met.
            Standing::Retrying { .. } if limited(&entry) && self.parked(&task.agent).is_some() => {}
            Standing::Retrying { not_before, .. } if *not_before > now => {
                let last = entry.record.attempts.last().and_then(|a| a.ending.as_ref());
                let ending = last.map(crate::model::Ending::sentence).unwrap_or_default();
                return Some(Why::Again(not_before.duration_since(now), ending));
            }
            Standing::Asking { attempt } => return Some(Why::Asks(*attempt)),
            Standing::Waiting | Standing::Claimed | Standing::Retrying { .. } | Standing::Ended => {}
        }
        let shut = limited(&entry) && self.parked(&task.agent).is_some();
        if let Some(at) = entry.record.startable_at().filter(|at| *at > now && !shut) {
            return Some(Why::Later(at.duration_since(now)));
        }
        match self.tasks.prerequisites(&entry) {
            Prerequisites::Met => {}
            Prerequisites::Failed(dependency) => return Some(Why::Hopeless(dependency)),
            Prerequisites::Open(open, unknown) if open.is_empty() => return Some(Why::Unknown(unknown)),
            Prerequisites::Open(open, _) => return Some(Why::After(open)),
        }
        if let Some(reason) = entry.hindrance.as_ref().or(self.tasks.space.as_ref()) {
            let again = entry.rests_until.map(|at| at.duration_since(now)).filter(SignedDuration::is_positive);
            return Some(Why::Hindered(reason.clone(), again));
        }
        if self.leaving != Leaving::No {
            return Some(Why::Leaving);
        }
        if self.offline.is_some() {
            return Some(Why::NoRoom);
        }
        if let Some(reached) = self.over_budget(task) {
            return Some(Why::Spent(reached));
        }
        let name = agent.name().clone();
        if let Some(trouble) = &agent.trouble {
            return Some(Why::Trouble(name, trouble.clone()));
        }
        if agent.halted.is_some() {
            return Some(Why::Stopped(name, self.word(agent)));
        }
        if let Some(why) = self.cut_off(agent) {
            return Some(Why::Trouble(name, why));
        }
        if agent.paused {
            return Some(Why::Paused(name));
        }
        if let Some(shut) = self.shut(&name, now) {
            return Some(Why::Parked(name, shut));
        }
        if !agent.slots.iter().any(|s| matches!(s.process, Process::Up { .. })) {
            let again = agent.slots.iter().filter_map(|s| match &s.process {
                Process::Backoff { until, .. } => Some(until.duration_since(now)),
                Process::Off | Process::Starting { .. } | Process::Up { .. } | Process::Leaving { .. } => None,
            });
            return Some(Why::NoWorker(name, self.word(agent), again.min()));
        }
        if self.agents.running() >= self.agents.max_running as usize {
            return Some(Why::Full(self.agents.max_running));
        }
        let busy = agent.slots.iter().find_map(|s| s.held.as_ref()).map(|held| held.task.clone());
        Some(Why::Next(name, self.tasks.ahead(task).unwrap_or_default(), busy))
    }
}
