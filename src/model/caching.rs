//! How well the server's cache was used, and why it was not where it was not.
//!
//! Owns the inference. Must not know prices or gateways. Its one surprise: the server never says why a prefix was not
//! found; a cause here is concluded from the calls before in the same session, and is called an inference wherever it
//! is shown.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::gateway::{Call, CallEnd};

/// Why a call found little or nothing in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// Nothing of this session was there to be found.
    First,
    /// The prompt is shorter than what its model caches.
    BelowMinimum,
    /// The call before went to another model.
    ModelChanged,
    /// The call before asked for another effort.
    EffortChanged,
    /// The call before is longer ago than the cache keeps anything.
    Expired,
    /// The call before asked to keep nothing.
    NotMarked,
    /// The beginning of the prompt is another one.
    PrefixChanged,
}

impl Miss {
    /// Every cause.
    pub const ALL: [Self; 7] = [
        Self::First,
        Self::BelowMinimum,
        Self::ModelChanged,
        Self::EffortChanged,
        Self::Expired,
        Self::NotMarked,
        Self::PrefixChanged,
    ];

    /// As people read it.
    pub fn words(self) -> &'static str {
        match self {
            Self::First => "first call of its session",
            Self::BelowMinimum => "prompt below the model's minimum",
            Self::ModelChanged => "another model than before",
            Self::EffortChanged => "another effort than before",
            Self::Expired => "longer ago than the cache keeps",
            Self::NotMarked => "nothing was marked to be kept",
            Self::PrefixChanged => "the prompt begins otherwise",
        }
    }
}

/// Calls that missed, and the input tokens that they paid for as new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Missed {
    /// Calls.
    pub calls: u64,
    /// Input tokens neither read from the cache nor free.
    pub tokens: u64,
}

/// How the cache was used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caching {
    /// Calls that found what the call before had left.
    pub hits: u64,
    /// The others, by cause.
    pub misses: BTreeMap<Miss, Missed>,
    /// The last call of each session and sub-agent.
    sessions: BTreeMap<String, Last>,
}

/// What is remembered of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    at: Timestamp,
    model: String,
    effort: Option<String>,
    /// What it left in the cache, in tokens.
    kept: u64,
    /// Some of it for an hour.
    hour: bool,
}

/// Sessions remembered at most; the one that is silent for longest goes first.
const SESSIONS: usize = 512;

impl Caching {
    /// Takes a call in. `min_cacheable` is its model's shortest prefix, where that is known.
    pub fn add(&mut self, call: &Call, min_cacheable: Option<u64>) {
        let usage = &call.usage;
        let input = usage.total() - usage.output_tokens;
        if call.end != CallEnd::Complete || call.estimated || input == 0 {
            return;
        }
        let session = call.session_id.as_ref().map(|id| format!("{id} {}", call.subagent.as_deref().unwrap_or("")));
        let last = session.as_ref().and_then(|session| self.sessions.get(session));
        match cause(call, last, min_cacheable) {
            None => self.hits += 1,
            Some(miss) => {
                let missed = self.misses.entry(miss).or_default();
                missed.calls += 1;
                missed.tokens += input - usage.cache_read_input_tokens;
            }
        }
        let hour = usage.cache_creation_1h_input_tokens > 0
            || (usage.cache_creation_input_tokens == 0 && last.is_some_and(|last| last.hour));
        let kept = usage.cache_read_input_tokens + usage.cache_creation_input_tokens;
        if let Some(session) = session {
            let last = Last { at: call.at, model: call.model.clone(), effort: call.effort.clone(), kept, hour };
            self.sessions.insert(session, last);
            if self.sessions.len() > SESSIONS {
                let oldest = self.sessions.iter().min_by_key(|(_, last)| last.at).map(|(id, _)| id.clone());
                oldest.and_then(|id| self.sessions.remove(&id));
            }
        }
    }

    /// Forgets the counts and keeps what the next calls are compared with.
    pub fn clear(&mut self) {
        self.hits = 0;
        self.misses.clear();
    }

    /// Calls that were looked at.
    pub fn calls(&self) -> u64 {
        self.hits + self.misses.values().map(|missed| missed.calls).sum::<u64>()
    }
}

/// Why a call missed; `None` where it did not.
fn cause(call: &Call, last: Option<&Last>, min_cacheable: Option<u64>) -> Option<Miss> {
    let usage = &call.usage;
    let read = usage.cache_read_input_tokens;
    let Some(last) = last else {
        return match read {
            0 if too_short(call, min_cacheable) => Some(Miss::BelowMinimum),
            0 => Some(Miss::First),
            // Another session has left the same beginning.
            _ => None,
        };
    };
    // Half of what was there, and it was found: a conversation that was cut shorter keeps its beginning.
    if read > 0 && read >= last.kept / 2 {
        return None;
    }
    let keeps = if last.hour { SignedDuration::from_hours(1) } else { SignedDuration::from_mins(5) };
    Some(if last.model != call.model {
        Miss::ModelChanged
    } else if last.effort != call.effort {
        Miss::EffortChanged
    } else if too_short(call, min_cacheable) {
        Miss::BelowMinimum
    } else if last.kept == 0 {
        Miss::NotMarked
    } else if call.at.duration_since(last.at) > keeps {
        Miss::Expired
    } else {
        Miss::PrefixChanged
    })
}

/// Whether nothing was cached and the prompt is shorter than its model caches.
fn too_short(call: &Call, min_cacheable: Option<u64>) -> bool {
    let usage = &call.usage;
    let input = usage.total() - usage.output_tokens;
    usage.cache_creation_input_tokens + usage.cache_read_input_tokens == 0
        && min_cacheable.is_some_and(|least| input < least)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{MicroUsd, Usage, gateway::Caller};

    fn call(second: i64, read: u64, write: u64) -> Call {
        Call {
            millis: 1,
            session_id: Some("s".into()),
            model: "m".into(),
            end: CallEnd::Complete,
            usage: Usage {
                input_tokens: 10,
                cache_read_input_tokens: read,
                cache_creation_input_tokens: write,
                ..Usage::default()
            },
            cost: MicroUsd(1),
            ..Call::new(
                String::new(),
                Timestamp::from_second(1_800_000_000 + second).unwrap(),
                Caller::Orchestrator { goal: None },
            )
        }
    }

    /// The causes of a row of calls, hits as nothing.
    fn causes(calls: &[Call]) -> Vec<Option<Miss>> {
        let mut caching = Caching::default();
        calls
            .iter()
            .map(|call| {
                let before = caching.clone();
                caching.add(call, Some(1_024));
                Miss::ALL.into_iter().find(|miss| caching.misses.get(miss) != before.misses.get(miss))
            })
            .collect()
    }

    #[test]
    fn each_cause_is_told_from_the_calls_before() {
        let other = |change: fn(&mut Call)| {
            let mut call = call(20, 0, 5_000);
            change(&mut call);
            call
        };
        let first = call(0, 0, 5_000);
        assert_eq!(causes(&[first.clone(), call(10, 5_000, 100)]), [Some(Miss::First), None]);
        let second = |change| causes(&[first.clone(), other(change)])[1];
        assert_eq!(second(|_| {}), Some(Miss::PrefixChanged));
        assert_eq!(second(|c| c.model = "n".into()), Some(Miss::ModelChanged));
        assert_eq!(second(|c| c.effort = Some("high".into())), Some(Miss::EffortChanged));
        assert_eq!(second(|c| c.at += SignedDuration::from_mins(6)), Some(Miss::Expired));
        assert_eq!(second(|c| c.session_id = Some("t".into())), Some(Miss::First));
        assert_eq!(second(|c| c.subagent = Some("a".into())), Some(Miss::First));
        // Another agent's prefix, found by a first call, is a hit.
        assert_eq!(causes(&[call(0, 4_000, 10)]), [None]);
        assert_eq!(causes(&[call(0, 0, 0)]), [Some(Miss::BelowMinimum)]);
        // Nothing was marked, then something was.
        let mut long = call(0, 0, 0);
        long.usage.input_tokens = 5_000;
        assert_eq!(causes(&[long.clone(), long]), [Some(Miss::First), Some(Miss::NotMarked)]);
        // An hour was paid for.
        let mut hour = first;
        hour.usage.cache_creation_1h_input_tokens = 5_000;
        assert_eq!(causes(&[hour, call(20 * 60, 0, 5_000)])[1], Some(Miss::PrefixChanged));
        // A conversation that was shortened found its beginning.
        assert_eq!(
            causes(&[call(0, 0, 5_000), call(9, 3_000, 0), call(19, 1_000, 0)])[1..],
            [None, Some(Miss::PrefixChanged)]
        );
    }

    #[test]
    fn what_broke_off_or_was_refused_says_nothing_about_the_cache() {
        let mut caching = Caching::default();
        let broken = Call { end: CallEnd::Broken, ..call(0, 0, 10) };
        caching.add(&broken, None);
        caching.add(&Call { estimated: true, ..call(0, 0, 10) }, None);
        assert_eq!(caching.calls(), 0);
    }
}
