//! Whose call is next.
//!
//! Owns the calls that wait for one pool and each caller's share of it. Must not know buckets. Its one surprise: the
//! order is *start-time fair*: a caller's virtual time goes on by what its calls cost, the one that is furthest behind
//! comes next, and whoever was away begins at the present, so that nobody saves up and nobody is ever refused its turn.
//! Who is next is kept in order, so that a thousand who wait cost a call little more than one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{sync::Notify, time::Instant};

use super::{Ask, state::Held};
use crate::model::AgentName;

/// A caller of whom no call went for this long, though one waited, comes before all others, whatever it had before.
const AGED: Duration = Duration::from_secs(30);
/// Who was refused and asks again within this time has waited all along.
const ASKS_AGAIN: Duration = Duration::from_mins(1);
/// What an output token costs, in input tokens; about the same for all models.
const OUTPUT_COSTS: u64 = 5;
/// What a call costs beside its tokens, so that none is free.
const CALL_COSTS: u64 = 100;

/// For whom a call is made. All calls of one are one share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Who {
    /// The orchestrator: a fifth of the whole at least, and the first of equals.
    Orchestrator,
    /// An agent, sub-agents included.
    Agent(AgentName),
}

/// What a call costs its caller's share.
pub(super) fn cost(ask: Ask) -> u64 {
    ask.input.saturating_add(ask.output.saturating_mul(OUTPUT_COSTS)).saturating_add(CALL_COSTS)
}

/// A call that waits, or that may go and has not gone yet.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: u64,
    pub(super) who: Who,
    pub(super) ask: Ask,
    at: Timestamp,
    /// Woken when it is its turn, to go or to watch the time.
    door: Arc<Notify>,
    granted: Option<Held>,
}

impl Waiter {
    pub(super) fn wake(&self) {
        self.door.notify_one();
    }
}

/// The calls that wait for one pool.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In the order of their coming.
    waiters: BTreeMap<u64, Waiter>,
    /// Callers of whom a call waits, and which.
    lines: BTreeMap<Who, Line>,
    /// Those of them that have waited for long, the others, and since when those do.
    aged: Ranks,
    fed: Ranks,
    fed_since: BTreeSet<(Instant, Who)>,
    /// How far each caller has come, in cost. Those that are not ahead of the present may be left out.
    shares: BTreeMap<Who, u64>,
    /// Since when each caller waits for a call of its to go, and when it was last here.
    hungry: BTreeMap<Who, (Instant, Instant)>,
    /// When what need not be remembered was last left out.
    swept: Option<Instant>,
    /// The present: where the last call that went had stood.
    now: u64,
    last_id: u64,
}

/// A caller's calls that wait.
#[derive(Debug)]
struct Line {
    calls: BTreeSet<u64>,
    /// Since when none of its calls went.
    since: Instant,
    is_aged: bool,
}

/// Callers in the order of their shares: first those that are not ahead of the present, by name.
#[derive(Debug, Default)]
struct Ranks {
    present: BTreeSet<Who>,
    ahead: BTreeSet<(u64, Who)>,
}

impl Ranks {
    fn insert(&mut self, who: Who, share: u64) {
        self.ahead.insert((share, who));
    }

    fn remove(&mut self, who: &Who, share: u64) {
        if !self.present.remove(who) {
            self.ahead.remove(&(share, who.clone()));
        }
    }

    /// Who has come the least far, as of now.
    fn first(&mut self, now: u64) -> Option<&Who> {
        while self.ahead.first().is_some_and(|(share, _)| *share <= now) {
            self.present.extend(self.ahead.pop_first().map(|(_, who)| who));
        }
        self.present.first().or_else(|| self.ahead.first().map(|(_, who)| who))
    }
}

impl Queue {
    /// Takes a call in.
    pub(super) fn join(&mut self, who: Who, ask: Ask, at: Timestamp) -> (u64, Arc<Notify>) {
        self.last_id += 1;
        let now = Instant::now();
        let here = self.lines.contains_key(&who);
        let (since, seen) = self.hungry.entry(who.clone()).or_insert((now, now));
        if !here && now - *seen > ASKS_AGAIN {
            *since = now;
        }
        *seen = now;
        let (id, door, since) = (self.last_id, Arc::new(Notify::new()), *since);
        if !here {
            self.lines.insert(who.clone(), Line { calls: BTreeSet::new(), since, is_aged: false });
            self.place(&who);
        }
        if let Some(line) = self.lines.get_mut(&who) {
            line.calls.insert(id);
        }
        self.waiters.insert(id, Waiter { id, who, ask, at, door: door.clone(), granted: None });
        (id, door)
    }

    /// The call that is next.
    pub(super) fn head(&mut self) -> Option<&Waiter> {
        let now = Instant::now();
        while self.fed_since.first().is_some_and(|(since, _)| now - *since >= AGED) {
            let Some((_, who)) = self.fed_since.pop_first() else { break };
            let share = self.share(&who);
            self.fed.remove(&who, share);
            if let Some(line) = self.lines.get_mut(&who) {
                line.is_aged = true;
            }
            self.aged.insert(who, share);
        }
        // Callers in the order of their shares, and the calls of each in the order of their coming.
        let who = self.aged.first(self.now).or_else(|| self.fed.first(self.now))?;
        self.waiters.get(self.lines.get(who)?.calls.first()?)
    }

    /// Lets a call go with what was set aside for it.
    pub(super) fn grant(&mut self, id: u64, held: Held) {
        let callers = self.lines.len() as u64;
        let Some(waiter) = self.waiters.get_mut(&id).filter(|waiter| waiter.granted.is_none()) else { return };
        waiter.granted = Some(held);
        waiter.wake();
        let (who, cost) = (waiter.who.clone(), cost(waiter.ask));
        let stood = self.stands(&who);
        self.take_out(&who);
        self.now = self.now.max(stood);
        // As one of n it would get less than a fifth from the fifth on.
        let cost = if who == Who::Orchestrator { cost.saturating_mul(4) / callers.max(4) } else { cost };
        self.shares.insert(who.clone(), stood.saturating_add(cost));
        if self.remove(&who, id) {
            let now = Instant::now();
            self.hungry.insert(who.clone(), (now, now));
            if let Some(line) = self.lines.get_mut(&who) {
                (line.since, line.is_aged) = (now, false);
            }
            self.place(&who);
        } else {
            self.hungry.remove(&who);
        }
        self.sweep();
    }

    /// Corrects a share once it is known what a call that was let go for `guess` has really cost.
    pub(super) fn correct(&mut self, who: &Who, guess: u64, cost: u64) {
        let stood = self.stands(who);
        self.take_out(who);
        self.shares.insert(who.clone(), stood.saturating_sub(guess).saturating_add(cost).max(stood.min(self.now)));
        self.place(who);
    }

    /// Takes a call out: what was set aside for it, if it may go.
    pub(super) fn leave(&mut self, id: u64) -> Option<Held> {
        let waiter = self.waiters.remove(&id)?;
        if waiter.granted.is_none() {
            let who = &waiter.who;
            if let Some((_, seen)) = self.hungry.get_mut(who) {
                *seen = Instant::now();
            }
            self.take_out(who);
            if self.remove(who, id) {
                self.place(who);
            }
        }
        waiter.granted
    }

    /// Whether a call may go.
    pub(super) fn may_go(&self, id: u64) -> bool {
        self.waiters.get(&id).is_some_and(|waiter| waiter.granted.is_some())
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.lines.values().map(|line| line.calls.len()).sum()
    }

    /// How many wait by caller, and since when the first of each.
    pub(super) fn by_caller(&self) -> BTreeMap<Who, (u32, Timestamp)> {
        let all = self.lines.iter().filter_map(|(who, line)| {
            let first = self.waiters.get(line.calls.first()?)?;
            Some((who.clone(), (u32::try_from(line.calls.len()).unwrap_or(u32::MAX), first.at)))
        });
        all.collect()
    }

    fn share(&self, who: &Who) -> u64 {
        self.shares.get(who).copied().unwrap_or_default()
    }

    fn stands(&self, who: &Who) -> u64 {
        self.share(who).max(self.now)
    }

    /// Takes a call out of its caller's line; whether others of its wait there.
    fn remove(&mut self, who: &Who, id: u64) -> bool {
        let Some(line) = self.lines.get_mut(who) else { return false };
        line.calls.remove(&id);
        let others = !line.calls.is_empty();
        if !others {
            self.lines.remove(who);
        }
        others
    }

    /// Puts a caller of whom calls wait where it belongs; before its share or its time changes it is [taken out](Self::take_out).
    fn place(&mut self, who: &Who) {
        let Some(line) = self.lines.get(who) else { return };
        let (since, share) = (line.since, self.share(who));
        if line.is_aged {
            self.aged.insert(who.clone(), share);
        } else {
            self.fed.insert(who.clone(), share);
            self.fed_since.insert((since, who.clone()));
        }
    }

    fn take_out(&mut self, who: &Who) {
        let Some(line) = self.lines.get(who) else { return };
        let (since, share) = (line.since, self.share(who));
        if line.is_aged {
            self.aged.remove(who, share);
        } else {
            self.fed.remove(who, share);
            self.fed_since.remove(&(since, who.clone()));
        }
    }

    /// Leaves out what says no more than its absence would; once in a while, since nobody asks for it.
    fn sweep(&mut self) {
        let (present, now) = (self.now, Instant::now());
        if now - *self.swept.get_or_insert(now) < ASKS_AGAIN {
            return;
        }
        self.swept = Some(now);
        let lines = &self.lines;
        // Whoever waits is ranked by its share, present or not.
        self.shares.retain(|who, stands| *stands > present || lines.contains_key(who));
        self.hungry.retain(|who, (_, seen)| now - *seen <= ASKS_AGAIN || lines.contains_key(who));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Queue {
        /// The same, by looking at everybody.
        fn head_of_all(&self) -> Option<u64> {
            let now = Instant::now();
            let fed = |who: &Who| self.hungry.get(who).is_none_or(|(since, _)| now - *since < AGED);
            let waiting = self.waiters.values().filter(|w| w.granted.is_none());
            waiting.min_by_key(|w| (fed(&w.who), self.stands(&w.who), &w.who, w.id)).map(|w| w.id)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Join(usize, u64),
        Grant,
        Correct(usize, u64, u64),
        Leave(usize),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_usize, 0..5_000_u64).prop_map(|(who, tokens)| Step::Join(who, tokens)),
            3 => Just(Step::Grant),
            1 => (0..6_usize, 0..5_000_u64, 0..5_000_u64).prop_map(|(who, guess, cost)| Step::Correct(who, guess, cost)),
            1 => (0..40_usize).prop_map(Step::Leave),
            2 => (0..40_u64).prop_map(Step::Pass),
        ]
    }

    fn who(n: usize) -> Who {
        if n == 0 { Who::Orchestrator } else { Who::Agent(format!("agent-{n}").parse().unwrap()) }
    }

    proptest! {
        #[test]
        fn who_is_next_is_who_looking_at_everybody_would_find(steps in prop::collection::vec(step(), 1..120)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut queue = Queue::default();
                for step in steps {
                    match step {
                        Step::Join(n, input) => drop(queue.join(who(n), Ask { input, output: 0 }, Timestamp::UNIX_EPOCH)),
                        Step::Grant => {
                            if let Some(id) = queue.head().map(|next| next.id) {
                                queue.grant(id, Held::default());
                            }
                        }
                        Step::Correct(n, guess, cost) => queue.correct(&who(n), guess, cost),
                        Step::Leave(n) => {
                            let id = queue.waiters.keys().copied().nth(n);
                            id.and_then(|id| queue.leave(id));
                        }
                        Step::Pass(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                    }
                    assert_eq!(queue.head().map(|next| next.id), queue.head_of_all());
                    let waiting = queue.waiters.values().filter(|w| w.granted.is_none()).count();
                    assert_eq!(queue.len(), waiting);
                }
            });
        }
    }
}
