//! Whose call is next.
//!
//! Owns the calls that wait for one pool and each caller's share of it. Must not know buckets. Its one surprise: the
//! order is *start-time fair*: a caller's virtual time goes on by what its calls cost, the one that is furthest behind
//! comes next, and whoever was away begins at the present, so that nobody saves up and nobody is ever refused its turn.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    waiters: Vec<Waiter>,
    /// How far each caller has come, in cost. Those that are not ahead of the present are left out.
    shares: BTreeMap<Who, u64>,
    /// Since when each caller waits for a call of its to go, and when it was last here.
    hungry: BTreeMap<Who, (Instant, Instant)>,
    /// The present: where the last call that went had stood.
    now: u64,
    last_id: u64,
}

impl Queue {
    /// Takes a call in.
    pub(super) fn join(&mut self, who: Who, ask: Ask, at: Timestamp) -> (u64, Arc<Notify>) {
        self.last_id += 1;
        let now = Instant::now();
        let here = self.waiting().any(|w| w.who == who);
        let (since, seen) = self.hungry.entry(who.clone()).or_insert((now, now));
        if !here && now - *seen > ASKS_AGAIN {
            *since = now;
        }
        *seen = now;
        let (id, door) = (self.last_id, Arc::new(Notify::new()));
        self.waiters.push(Waiter { id, who, ask, at, door: door.clone(), granted: None });
        (id, door)
    }

    /// The call that is next.
    pub(super) fn head(&self) -> Option<&Waiter> {
        let now = Instant::now();
        let fed = |who: &Who| self.hungry.get(who).is_none_or(|(since, _)| now - *since < AGED);
        // Callers in the order of their shares, and the calls of each in the order of their coming.
        self.waiting().min_by_key(|w| (fed(&w.who), self.stands(&w.who), &w.who, w.id))
    }

    /// Lets a call go with what was set aside for it.
    pub(super) fn grant(&mut self, id: u64, held: Held) {
        let callers = self.waiting().map(|w| &w.who).collect::<std::collections::BTreeSet<_>>().len() as u64;
        let Some(waiter) = self.waiters.iter_mut().find(|w| w.id == id) else { return };
        waiter.granted = Some(held);
        waiter.wake();
        let (who, cost) = (waiter.who.clone(), cost(waiter.ask));
        let stood = self.stands(&who);
        self.now = self.now.max(stood);
        // As one of n it would get less than a fifth from the fifth on.
        let cost = if who == Who::Orchestrator { cost.saturating_mul(4) / callers.max(4) } else { cost };
        self.shares.insert(who.clone(), stood.saturating_add(cost));
        if self.waiting().any(|w| w.who == who) {
            let now = Instant::now();
            self.hungry.insert(who, (now, now));
        } else {
            self.hungry.remove(&who);
        }
        self.forget();
    }

    /// Corrects a share once it is known what a call that was let go for `guess` has really cost.
    pub(super) fn correct(&mut self, who: &Who, guess: u64, cost: u64) {
        let stood = self.stands(who);
        self.shares.insert(who.clone(), stood.saturating_sub(guess).saturating_add(cost).max(stood.min(self.now)));
        self.forget();
    }

    /// Takes a call out: what was set aside for it, if it may go.
    pub(super) fn leave(&mut self, id: u64) -> Option<Held> {
        let at = self.waiters.iter().position(|w| w.id == id)?;
        let waiter = self.waiters.remove(at);
        if let (None, Some((_, seen))) = (waiter.granted, self.hungry.get_mut(&waiter.who)) {
            *seen = Instant::now();
        }
        waiter.granted
    }

    /// Whether a call may go.
    pub(super) fn may_go(&self, id: u64) -> bool {
        self.waiters.iter().any(|w| w.id == id && w.granted.is_some())
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting().count()
    }

    /// How many wait by caller, and since when the first of each.
    pub(super) fn by_caller(&self) -> BTreeMap<Who, (u32, Timestamp)> {
        let mut all = BTreeMap::new();
        for waiter in self.waiting() {
            let (count, _) = all.entry(waiter.who.clone()).or_insert((0, waiter.at));
            *count += 1;
        }
        all
    }

    fn waiting(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(|w| w.granted.is_none())
    }

    fn stands(&self, who: &Who) -> u64 {
        self.shares.get(who).copied().unwrap_or_default().max(self.now)
    }

    fn forget(&mut self) {
        let (present, now) = (self.now, Instant::now());
        self.shares.retain(|_, stands| *stands > present);
        let waiters = &self.waiters;
        self.hungry.retain(|who, (_, seen)| now - *seen <= ASKS_AGAIN || waiters.iter().any(|w| w.who == *who));
    }
}
