//! What agents ask a person for: requests that wait, the answers, and what is remembered of them.
//!
//! Owns who may answer, when it is too late, and when a task that is denied too often is paused. Must not know engines.
//! Its one surprise: a request is not a fact and an answer is. A room that opens anew hears of what still waits from the
//! worker again, under a new number.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Effect, Event, OrderId, State, Voice, done, pauses::Pause, refuse, why::span};
use crate::model::{Ask, AskId, Asking, AttemptRef, Permit, Reply, SlotId, TaskRef};

/// So many denials of one tool pause a task.
const PATIENCE: u32 = 3;

/// What waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenAsk {
    /// Its name.
    pub id: AskId,
    /// The worker whose engine waits.
    pub slot: SlotId,
    /// Which attempt.
    pub attempt: AttemptRef,
    /// What it wants to do.
    pub ask: Ask,
    /// Since when.
    pub since: Timestamp,
    /// When it is denied unless somebody answers.
    pub until: Timestamp,
}

/// Who gave an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// A person.
    Person,
    /// A person, for all the rest of the task.
    Always,
    /// A person had said yes to the tool for all of the task.
    Rule,
    /// Nobody, in time.
    Nobody,
    /// There is nobody to be asked.
    Unattended,
}

/// A request and its answer, kept in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Which attempt asked.
    pub attempt: AttemptRef,
    /// For what.
    pub ask: Ask,
    /// The answer.
    pub permit: Permit,
    /// Whose it was.
    pub by: By,
}

/// Requests and what is remembered of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asks {
    /// What waits, oldest first.
    open: Vec<OpenAsk>,
    /// Numbers handed out.
    given: u64,
    /// Tools that a person has allowed for the rest of a task.
    always: BTreeMap<TaskRef, BTreeSet<String>>,
    /// How often each tool was denied to a task since somebody looked.
    denied: BTreeMap<TaskRef, BTreeMap<String, u32>>,
    /// The newest that were taken back, so that a late answer hears why.
    withdrawn: VecDeque<AskId>,
    /// What was answered to attempts that still run.
    answered: Vec<Settled>,
    /// The newest answers, newest last.
    record: VecDeque<(Timestamp, Settled)>,
    /// How requests are dealt with.
    pub asking: Asking,
}

impl Asks {
    /// Answers, and requests that were taken back, that are remembered.
    const RECORD: usize = 200;

    /// What waits for a person, oldest first.
    pub fn open(&self) -> &[OpenAsk] {
        &self.open
    }

    /// One of them.
    pub fn get(&self, id: AskId) -> Option<&OpenAsk> {
        self.open.iter().find(|open| open.id == id)
    }

    /// What a task waits for.
    pub fn of(&self, task: &TaskRef) -> Option<&OpenAsk> {
        self.open.iter().find(|open| open.attempt.task == *task)
    }

    /// The newest answers, newest last.
    pub fn record(&self) -> impl ExactSizeIterator<Item = &(Timestamp, Settled)> {
        self.record.iter()
    }

    /// What waits under this name; why nothing does.
    fn waits(&self, id: AskId) -> Result<&OpenAsk, String> {
        self.get(id).ok_or_else(|| {
            if self.withdrawn.contains(&id) {
                format!("{id} does not wait for an answer any more: the agent's engine has taken it back")
            } else {
                format!("{id} does not wait for an answer: it was answered, or its attempt is over")
            }
        })
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        self.open.iter().map(|open| open.until).min()
    }

    /// An attempt is over, or another one has begun: nobody waits for its answers any more.
    pub(super) fn attempt_over(&mut self, task: &TaskRef) {
        self.open.retain(|open| open.attempt.task != *task);
        self.answered.retain(|settled| settled.attempt.task != *task);
    }

    /// A task is over: what was said about it was about it alone.
    pub(super) fn task_over(&mut self, task: &TaskRef) {
        self.attempt_over(task);
        self.always.remove(task);
        self.denied.remove(task);
    }

    /// A person has looked at a task: what it was denied before counts no more.
    pub(super) fn forgive(&mut self, task: &TaskRef) {
        self.denied.remove(task);
    }
}

impl State {
    /// An engine wants to do something.
    pub(super) fn asked(&mut self, slot: &SlotId, attempt: AttemptRef, ask: Ask, effects: &mut Vec<Effect>) {
        let same = |of: &AttemptRef, known: &Ask| *of == attempt && known.request == ask.request;
        if self.asks.open.iter().any(|open| same(&open.attempt, &open.ask)) {
            return;
        }
        // The answer was on its way when the connection broke.
        if let Some(known) = self.asks.answered.iter().find(|known| same(&known.attempt, &known.ask)) {
            return effects.push(Effect::Permit {
                slot: slot.clone(),
                attempt,
                request: ask.request,
                permit: known.permit.clone(),
            });
        }
        let always = self.asks.always.get(&attempt.task);
        let rule = !ask.is_question() && always.is_some_and(|tools| tools.contains(&ask.tool));
        let by = match (rule, self.asks.asking.attended) {
            (true, _) => Some((By::Rule, Permit::Allowed)),
            (false, false) => {
                Some((By::Unattended, Permit::Denied { why: without(&ask, "nobody is there to be asked") }))
            }
            (false, true) => None,
        };
        if let Some((by, permit)) = by {
            return settle(slot, Settled { attempt, ask, permit, by }, effects);
        }
        self.asks.given += 1;
        let patience = SignedDuration::try_from(self.asks.asking.patience).unwrap_or(SignedDuration::from_mins(5));
        let until = self.now.checked_add(patience).unwrap_or(Timestamp::MAX);
        let id = AskId(self.asks.given);
        self.asks.open.push(OpenAsk { id, slot: slot.clone(), attempt, ask, since: self.now, until });
    }

    /// A person answers.
    pub(super) fn permit(&mut self, id: OrderId, ask: AskId, by: By, allowed: bool, effects: &mut Vec<Effect>) {
        let open = match self.asks.waits(ask) {
            Ok(open) => open.clone(),
            Err(why) => return refuse(effects, id, why),
        };
        if allowed && open.ask.is_question() {
            return refuse(effects, id, format!("{ask} is a question: choose an answer, or write one"));
        }
        let permit = if allowed {
            Permit::Allowed
        } else {
            let why = if open.ask.is_question() { "the operator does not answer this" } else { "the operator said no" };
            Permit::Denied { why: without(&open.ask, why) }
        };
        let word = if allowed { "allowed" } else { "denied" };
        let rest = if by == By::Always {
            format!("; so is {} for the rest of the task", open.ask.tool)
        } else {
            String::new()
        };
        done(effects, id, format!("{word}: {}{rest}", open.ask.line), vec![open.attempt.task.to_string()]);
        settle(&open.slot, Settled { attempt: open.attempt, ask: open.ask, permit, by }, effects);
    }

    /// A person answers what an agent wants to know.
    pub(super) fn reply(&mut self, id: OrderId, ask: AskId, replies: Vec<Reply>, effects: &mut Vec<Effect>) {
        let open = match self.asks.waits(ask) {
            Ok(open) => open.clone(),
            Err(why) => return refuse(effects, id, why),
        };
        let questions = &open.ask.questions;
        let fault = if questions.is_empty() {
            Some(format!("{ask} is no question: it is allowed or denied"))
        } else if questions.len() == replies.len() {
            questions.iter().zip(&replies).find_map(|(question, reply)| question.fault(reply))
        } else {
            Some(format!("{ask} has {} questions, and this answers {}", questions.len(), replies.len()))
        };
        if let Some(fault) = fault {
            return refuse(effects, id, fault);
        }
        let permit = Permit::Answered { replies };
        done(effects, id, answer(&open.ask, &permit), vec![open.attempt.task.to_string()]);
        settle(&open.slot, Settled { attempt: open.attempt, ask: open.ask, permit, by: By::Person }, effects);
    }

    /// An engine takes back what it has asked for: somebody else has decided, or it is not needed any more.
    pub(super) fn withdrawn(&mut self, attempt: &AttemptRef, request: &str) {
        let same = |of: &AttemptRef, known: &Ask| of == attempt && known.request == request;
        let open = self.asks.open.iter().position(|open| same(&open.attempt, &open.ask));
        let (line, then) = if let Some(at) = open {
            let open = self.asks.open.remove(at);
            if self.asks.withdrawn.len() >= Asks::RECORD {
                self.asks.withdrawn.pop_front();
            }
            self.asks.withdrawn.push_back(open.id);
            (open.ask.line, "taken back before anybody answered")
        } else if let Some(known) = self.asks.answered.iter().find(|known| same(&known.attempt, &known.ask)) {
            (known.ask.line.clone(), "taken back before the answer had reached it")
        } else {
            return;
        };
        let goal = self.tasks.get(&attempt.task).and_then(|t| t.record.spec.goal.clone());
        self.say(Voice::Room, goal, format!("{} asked for {line}: {then}", attempt.task));
    }

    /// Denies what nobody has answered in time.
    pub(super) fn settle_asks(&mut self, effects: &mut Vec<Effect>) {
        let late = self.asks.open.iter().filter(|open| open.until <= self.now).cloned().collect::<Vec<_>>();
        for open in late {
            let waited = span(open.until.duration_since(open.since));
            let why = without(&open.ask, &format!("nobody answered in {waited}"));
            let (attempt, ask, permit) = (open.attempt, open.ask, Permit::Denied { why });
            self.asks.open.retain(|other| other.id != open.id);
            settle(&open.slot, Settled { attempt, ask, permit, by: By::Nobody }, effects);
        }
    }

    /// A request was answered; also in a replay.
    pub(super) fn settled(&mut self, settled: Settled, effects: &mut Vec<Effect>) {
        let task = settled.attempt.task.clone();
        let tool = settled.ask.tool.clone();
        self.asks.open.retain(|open| open.attempt != settled.attempt || open.ask.request != settled.ask.request);
        if settled.by == By::Always {
            self.asks.always.entry(task.clone()).or_default().insert(tool.clone());
        }
        let said = match (&settled.by, settled.permit.is_allowed()) {
            (By::Rule, _) => None,
            (By::Person | By::Always | By::Nobody | By::Unattended, true) => Some("allowed"),
            (By::Person | By::Always, false) => Some("denied"),
            (By::Nobody, false) => Some("denied: nobody answered in time"),
            (By::Unattended, false) => Some("denied: nobody is there to be asked"),
        };
        if let (Some("allowed"), Permit::Answered { .. }) = (said, &settled.permit) {
            let goal = self.tasks.get(&task).and_then(|t| t.record.spec.goal.clone());
            self.say(Voice::Room, goal, format!("{task} {}", answer(&settled.ask, &settled.permit)));
        } else if let Some(said) = said {
            let goal = self.tasks.get(&task).and_then(|t| t.record.spec.goal.clone());
            self.say(Voice::Room, goal, format!("{task} asked for {}: {said}", settled.ask.line));
        }
        let denials = if settled.permit.is_allowed() {
            0
        } else {
            let of = self.asks.denied.entry(task.clone()).or_default().entry(tool.clone()).or_default();
            *of += 1;
            *of
        };
        if self.asks.record.len() >= Asks::RECORD {
            self.asks.record.pop_front();
        }
        self.asks.record.push_back((self.now, settled.clone()));
        if self.agents.holder(&task).is_some() {
            self.asks.answered.push(settled);
        }
        if denials == PATIENCE {
            let why = format!("{tool} was denied {PATIENCE} times");
            self.pause_now(&task, Some(Pause { why, since: self.now, by_room: true }), effects);
        }
    }
}

/// Answers, and keeps that as a fact.
fn settle(slot: &SlotId, settled: Settled, effects: &mut Vec<Effect>) {
    effects.push(Effect::Permit {
        slot: slot.clone(),
        attempt: settled.attempt.clone(),
        request: settled.ask.request.clone(),
        permit: settled.permit.clone(),
    });
    effects.push(Effect::Keep { fact: Box::new(Event::Permitted { settled: Box::new(settled) }) });
}

/// What the model is told with a no.
fn without(ask: &Ask, why: &str) -> String {
    if ask.is_question() {
        format!("{why}; decide as you think best, and say what you assumed")
    } else {
        format!("{why}, so it is not allowed; do without it and say so")
    }
}

/// `asked Which one?: A`.
fn answer(ask: &Ask, permit: &Permit) -> String {
    let replies = if let Permit::Answered { replies } = permit { replies.as_slice() } else { &[] };
    let each = ask.questions.iter().zip(replies).map(|(question, reply)| {
        let asked = crate::model::text::first_line(&question.text, 120);
        format!("asked `{asked}`: {}", crate::model::text::first_line(&question.told(reply), 200))
    });
    each.collect::<Vec<_>>().join("; ")
}
