//! What a call will probably take, guessed from what calls like it took.
//!
//! Must not know buckets. Its one surprise: it guesses *uncached* input, the only input that counts against a limit, by
//! taking off the prefix that the same session left in the server's cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::Ask;
use crate::model::Usage;

/// Bytes per token of a body in thousandths, before anything was learned.
const BYTES_PER_TOKEN: u64 = 3_200;
/// The least input that is ever reserved, in tokens.
const FLOOR: u64 = 500;
/// Output that is reserved for a kind of call never seen before, in tokens.
const FIRST_OUTPUT: u64 = 1_000;
/// The least output that is ever reserved, in tokens.
const LEAST_OUTPUT: u64 = 50;
/// How long the server keeps a prefix.
const CACHED_FOR: Duration = Duration::from_mins(5);
/// Sessions remembered at most, sub-agents' included; the oldest goes first.
const SESSIONS: usize = 65_536;

/// Letters without a break from which on they are a picture or document in base64, not text.
const PICTURE: usize = 2_000;
/// What such a thing weighs, in bytes of text: about 1,500 tokens.
const PICTURE_WEIGHT: usize = 5_000;

/// The weight of a request's body in bytes of text; encoded pictures and documents count as one weight each, however
/// long they are.
pub fn weight(body: &[u8]) -> usize {
    let is_base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=' | b'_' | b'-');
    let runs = body.split(|b| !is_base64(b));
    let (count, letters) = runs.fold((0, 0), |(count, letters), run| {
        (count + 1, letters + if run.len() < PICTURE { run.len() } else { PICTURE_WEIGHT })
    });
    // One separator between two runs.
    letters + count - 1
}

/// Who asks, as far as it matters for a guess.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asker {
    /// Agent, or the orchestrator.
    pub who: String,
    /// Model asked for.
    pub model: String,
    /// Session and sub-agent, where known.
    pub session: Option<String>,
}

#[derive(Debug, Clone, Copy)]
struct Kind {
    /// Tokens, a moving average.
    output: u64,
    /// Thousandths, a moving average.
    bytes_per_token: u64,
}

/// Learns from ended calls and guesses the next ones.
#[derive(Debug, Default)]
pub struct Estimator {
    /// By agent and model.
    kinds: BTreeMap<(String, String), Kind>,
    /// Total input of a session's last call that used the cache, and when.
    sessions: BTreeMap<(String, String), (u64, Instant)>,
    /// The same sessions by their age.
    ages: BTreeSet<(Instant, (String, String))>,
}

impl Estimator {
    /// Guesses what a request with a body of this [`weight`] in `bytes` takes.
    pub fn guess(&self, asker: &Asker, bytes: usize) -> Ask {
        let kind = self.kind(asker);
        let whole = (bytes as u64).saturating_mul(1_000) / kind.bytes_per_token.max(1);
        let cached = asker.session.as_ref().and_then(|s| self.sessions.get(&(s.clone(), asker.model.clone())));
        let cached = cached.filter(|(_, at)| at.elapsed() < CACHED_FOR).map_or(0, |(tokens, _)| *tokens);
        Ask { input: whole.saturating_sub(cached).max(FLOOR), output: kind.output.max(LEAST_OUTPUT) }
    }

    /// Learns from a call whose usage is known exactly.
    pub fn learn(&mut self, asker: &Asker, bytes: usize, usage: &Usage) {
        let input = usage
            .input_tokens
            .saturating_add(usage.cache_creation_input_tokens)
            .saturating_add(usage.cache_read_input_tokens);
        let mut kind = self.kind(asker);
        // A fifth of each new value: settles within some ten calls, forgets an odd one as fast.
        let blend = |old: u64, new: u64| (old.saturating_mul(4).saturating_add(new)) / 5;
        kind.output = blend(kind.output, usage.output_tokens);
        if let Some(seen) = (bytes as u64).saturating_mul(1_000).checked_div(input) {
            // Outside of this lie bodies that are mostly pictures, and servers that do not count.
            kind.bytes_per_token = blend(kind.bytes_per_token, seen.clamp(1_500, 20_000));
        }
        self.kinds.insert((asker.who.clone(), asker.model.clone()), kind);
        if let Some(session) = &asker.session {
            let used_cache = usage.cache_creation_input_tokens + usage.cache_read_input_tokens > 0;
            self.remember((session.clone(), asker.model.clone()), used_cache.then_some(input));
        }
    }

    fn remember(&mut self, session: (String, String), input: Option<u64>) {
        let now = Instant::now();
        let before = match input {
            Some(input) => self.sessions.insert(session.clone(), (input, now)),
            None => self.sessions.remove(&session),
        };
        if let Some((_, at)) = before {
            self.ages.remove(&(at, session.clone()));
        }
        if input.is_some() {
            self.ages.insert((now, session));
        }
        // What the server has forgotten is of no use here.
        while let Some((at, _)) = self.ages.first()
            && (now - *at >= CACHED_FOR || self.ages.len() > SESSIONS)
        {
            self.ages.pop_first().and_then(|(_, session)| self.sessions.remove(&session));
        }
    }

    fn kind(&self, asker: &Asker) -> Kind {
        let known = self.kinds.get(&(asker.who.clone(), asker.model.clone())).copied();
        known.unwrap_or(Kind { output: FIRST_OUTPUT, bytes_per_token: BYTES_PER_TOKEN })
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn asker(session: Option<&str>) -> Asker {
        Asker { who: "marie".to_owned(), model: "sonnet".to_owned(), session: session.map(str::to_owned) }
    }

    #[test]
    fn text_weighs_its_length_and_a_picture_the_same_at_any_size() {
        for text in ["", "{}", "{\"model\":\"x\", \"é\": 1}"] {
            assert_eq!(weight(text.as_bytes()), text.len());
        }
        let with = |n| weight(format!("{{\"data\":\"{}\"}}", "Ab+/".repeat(n)).as_bytes());
        assert_eq!((with(1_000), with(1_000_000)), (11 + PICTURE_WEIGHT, 11 + PICTURE_WEIGHT));
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_call_of_a_session_reserves_only_what_is_new() {
        let mut estimator = Estimator::default();
        let asker = asker(Some("s1"));
        assert_eq!(estimator.guess(&asker, 64_000), Ask { input: 20_000, output: 1_000 });
        let usage =
            Usage { input_tokens: 10, output_tokens: 200, cache_creation_input_tokens: 19_990, ..Usage::default() };
        estimator.learn(&asker, 64_000, &usage);
        assert_eq!(estimator.guess(&asker, 67_200).input, 1_000);
        assert_eq!(estimator.guess(&super::tests::asker(Some("other")), 67_200).input, 21_000);
        advance(CACHED_FOR).await;
        assert_eq!(estimator.guess(&asker, 67_200).input, 21_000, "the server's cache has forgotten it too");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_the_server_has_forgotten_are_forgotten_here_and_others_are_not() {
        let mut estimator = Estimator::default();
        let usage = Usage { cache_creation_input_tokens: 20_000, ..Usage::default() };
        for n in 0..5_000 {
            estimator.learn(&asker(Some(&format!("s{n}"))), 64_000, &usage);
        }
        advance(CACHED_FOR / 2).await;
        estimator.learn(&asker(Some("s0")), 64_000, &usage);
        assert_eq!((estimator.sessions.len(), estimator.ages.len()), (5_000, 5_000));
        advance(CACHED_FOR / 2).await;
        estimator.learn(&asker(Some("new")), 64_000, &usage);
        let left: Vec<_> = estimator.sessions.keys().map(|(session, _)| session.as_str()).collect();
        assert_eq!((left, estimator.ages.len()), (vec!["new", "s0"], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn output_follows_what_such_calls_produce_and_is_never_nothing() {
        let mut estimator = Estimator::default();
        let asker = asker(None);
        for _ in 0..40 {
            estimator.learn(&asker, 3_200, &Usage { input_tokens: 1_000, output_tokens: 3_000, ..Usage::default() });
        }
        assert!((2_900..=3_000).contains(&estimator.guess(&asker, 3_200).output));
        for _ in 0..80 {
            estimator.learn(&asker, 3_200, &Usage { input_tokens: 1_000, output_tokens: 0, ..Usage::default() });
        }
        assert_eq!(estimator.guess(&asker, 10), Ask { input: FLOOR, output: LEAST_OUTPUT });
    }
}
