//! What a person is told of: everything new that waits for them, gathered, each once.
//!
//! Owns what is news and when it is told. Must not know how: a bell, a desktop, a program. Its one surprise: what is there
//! when it first looks is no news; whoever looks sees it.

use std::collections::{BTreeMap, HashSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Serialize;

use super::{Need, State};
use crate::model::{EndState, Quiet};

/// How long news are gathered, so that what happens at once is told at once.
const GATHER: SignedDuration = SignedDuration::from_secs(2);

/// So many are named; the others are counted.
const NAMED: usize = 50;

/// One thing that is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Named {
    /// `permission`, `account`, `asks`, `paused`, `plan`, `failed`.
    pub kind: &'static str,
    /// Which.
    pub id: String,
    /// Why, one line.
    pub why: String,
}

/// News for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// One line.
    pub text: String,
    /// How many are new.
    pub new: usize,
    /// How many wait in all.
    pub waiting: usize,
    /// How many are new of each kind.
    pub kinds: BTreeMap<&'static str, usize>,
    /// The first of them.
    pub needs: Vec<Named>,
}

/// Remembers what a person was told of.
#[derive(Debug, Default)]
pub struct Herald {
    known: Option<HashSet<Need>>,
    fresh: Vec<Need>,
    since: Option<Timestamp>,
}

impl Herald {
    /// Looks at what waits; what is new is gathered, and what waits no more is forgotten.
    pub fn look(&mut self, waiting: &[Need], now: Timestamp) {
        let Some(known) = &mut self.known else {
            self.known = Some(waiting.iter().cloned().collect());
            return;
        };
        let here: HashSet<&Need> = waiting.iter().collect();
        known.retain(|need| here.contains(need));
        self.fresh.retain(|need| here.contains(need));
        for need in waiting {
            if known.insert(need.clone()) {
                self.fresh.push(need.clone());
                self.since.get_or_insert(now);
            }
        }
        if self.fresh.is_empty() {
            self.since = None;
        }
    }

    /// Whether something waits to be told.
    pub fn has_news(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What is to be told now: all that was gathered, once; nothing while it is quiet.
    pub fn due(&mut self, state: &State, now: Timestamp, quiet: Option<Quiet>, zone: &TimeZone) -> Option<Notice> {
        let since = self.since?;
        if now.duration_since(since) < GATHER || quiet.is_some_and(|quiet| quiet.holds(now, zone)) {
            return None;
        }
        self.since = None;
        let fresh = std::mem::take(&mut self.fresh);
        let waiting = self.known.as_ref().map_or(0, HashSet::len);
        let mut kinds: BTreeMap<&'static str, usize> = BTreeMap::new();
        for need in &fresh {
            *kinds.entry(need.kind()).or_default() += 1;
        }
        let needs: Vec<Named> = fresh.iter().take(NAMED).map(|need| state.named(need, now)).collect();
        Some(Notice { text: told(&needs, fresh.len(), &kinds), new: fresh.len(), waiting, kinds, needs })
    }
}

/// `marie/x failed: exit 1`, `200 failed, 1 plan`.
fn told(needs: &[Named], new: usize, kinds: &BTreeMap<&'static str, usize>) -> String {
    match needs {
        [one] if new == 1 => format!("{} {}: {}", one.id, one.kind, one.why),
        _ => kinds.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", "),
    }
}

impl Need {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Permit(_) => "permission",
            Self::Account(_) => "account",
            Self::Asks(_) => "asks",
            Self::Paused(_) => "paused",
            Self::Question(_) => "question",
            Self::Plan(_) => "plan",
            Self::Failed(_) => "failed",
        }
    }
}

impl State {
    /// What waits, by its name and with its reason.
    pub fn named(&self, need: &Need, now: Timestamp) -> Named {
        let why = |task| self.why(task, now).map(|why| why.to_string()).unwrap_or_default();
        let (id, why) = match need {
            Need::Permit(ask) => {
                let open = self.asks.get(*ask);
                let why = open.map(|open| format!("{} {}", open.attempt.task, open.ask.words()));
                (ask.to_string(), why.unwrap_or_default())
            }
            Need::Account(account) => {
                let words = self.accounts.parked(account).map(|parked| parked.words().to_owned());
                (account.to_string(), words.unwrap_or_default())
            }
            Need::Asks(task) | Need::Paused(task) | Need::Failed(task) => (task.to_string(), why(task)),
            Need::Question(goal) => {
                let asked = self.goals.get(goal).map(|goal| goal.questions().join(" "));
                (goal.to_string(), asked.unwrap_or_default())
            }
            Need::Plan(goal) => {
                let text = self.goals.get(goal).map(|goal| crate::model::text::first_line(&goal.text, 120));
                (goal.to_string(), text.unwrap_or_default())
            }
        };
        Named { kind: need.kind(), id, why: crate::model::text::first_line(&why, 200) }
    }

    /// What has happened since then, in one line; `None` where that is nothing.
    pub fn since_then(&self, then: Timestamp) -> Option<String> {
        let (mut done, mut bad, mut dropped) = (0_usize, 0_usize, 0_usize);
        for outcome in self.tasks.iter().filter_map(|t| t.record.outcome.as_ref()).filter(|o| o.completed_at > then) {
            match outcome.state {
                EndState::Done => done += 1,
                state if Self::is_bad(state) => bad += 1,
                EndState::Cancelled
                | EndState::Skipped
                | EndState::Failed
                | EndState::TimedOut
                | EndState::Expired
                | EndState::Dead => dropped += 1,
            }
        }
        let goals = self.goals.iter().filter(|goal| goal.ended_at.is_some_and(|at| at > then)).count();
        let needs = self.needs_you().len();
        let parts = [
            (done, "done"),
            (bad, "failed"),
            (dropped, "cancelled or skipped"),
            (goals, if goals == 1 { "goal over" } else { "goals over" }),
        ];
        let mut told: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}")).collect();
        if told.is_empty() {
            return None;
        }
        if needs > 0 {
            told.push(format!("{needs} waiting for you"));
        }
        Some(told.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TaskRef;

    fn at(s: i64) -> Timestamp {
        "2026-11-22T21:30:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_secs(s)
    }

    fn failed(n: usize) -> Vec<Need> {
        (0..n).map(|i| Need::Failed(format!("marie/t{i}").parse::<TaskRef>().unwrap())).collect()
    }

    #[test]
    fn two_hundred_failures_at_once_are_one_notice_and_each_is_told_once() {
        let (mut herald, state) = (Herald::default(), State::default());
        let due = |herald: &mut Herald, s| herald.due(&state, at(s), None, &TimeZone::UTC);
        herald.look(&failed(3), at(0));
        assert_eq!(due(&mut herald, 10), None, "what was there before is no news");
        for n in 4..=203 {
            herald.look(&failed(n), at(20));
        }
        assert_eq!(due(&mut herald, 21), None, "more may follow");
        let notice = due(&mut herald, 22).unwrap();
        assert_eq!((notice.new, notice.waiting, notice.text.as_str()), (200, 203, "200 failed"));
        assert_eq!(notice.needs.len(), NAMED);
        herald.look(&failed(203), at(30));
        assert_eq!(due(&mut herald, 40), None);
        // What was seen to and fails again is new again.
        herald.look(&failed(202), at(50));
        herald.look(&failed(203), at(51));
        assert_eq!(due(&mut herald, 60).unwrap().new, 1);
    }

    #[test]
    fn what_is_seen_to_before_it_is_told_is_not_told() {
        let (mut herald, state) = (Herald::default(), State::default());
        herald.look(&[], at(0));
        herald.look(&failed(1), at(1));
        herald.look(&[], at(2));
        assert_eq!(herald.due(&state, at(9), None, &TimeZone::UTC), None);
    }

    #[test]
    fn in_quiet_hours_nobody_is_called_and_afterwards_once() {
        let quiet = Quiet::parse("22:00-07:00").unwrap();
        let (mut herald, state) = (Herald::default(), State::default());
        herald.look(&[], at(0));
        let hour = 3_600;
        for n in 1..=8 {
            herald.look(&failed(n), at(hour * i64::try_from(n).unwrap()));
            let notice = herald.due(&state, at(hour * i64::try_from(n).unwrap() + 5), Some(quiet), &TimeZone::UTC);
            assert_eq!(notice, None, "{n} h");
        }
        let morning = herald.due(&state, at(10 * hour), Some(quiet), &TimeZone::UTC).unwrap();
        assert_eq!(morning.new, 8);
    }
}
