//! Pretended tokens, cache and limits: four characters are a token, prefixes are remembered, buckets fall and refill.

use std::collections::HashMap;

use hyper::Response;
use jiff::{SignedDuration, Timestamp};

use super::{asked::Asked, seed};
use crate::model::Usage;

/// Below this many tokens nothing is cached. The real minimums are higher; ours lets short prompts show the effect.
const SMALLEST_PREFIX: u64 = 256;

/// A part of a request that ends at a block, as the cache sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Of everything up to here.
    pub(super) hash: u64,
    /// Of everything up to here.
    pub(super) tokens: u64,
    /// The caller asked to keep it, and for how many seconds.
    pub(super) keep: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    limit: f64,
    level: f64,
    at: Timestamp,
}

impl Bucket {
    fn refill(&mut self, now: Timestamp) {
        let minutes = now.duration_since(self.at).as_secs_f64().max(0.0) / 60.0;
        self.level = (self.level + self.limit * minutes).min(self.limit);
        self.at = now;
    }

    fn take(&mut self, amount: u64, now: Timestamp) {
        self.refill(now);
        self.level = (self.level - amount as f64).max(0.0);
    }
}

/// Requests, input tokens and output tokens of one model.
type Buckets = [Bucket; 3];

/// What the stand-in remembers of calls.
#[derive(Debug)]
pub(super) struct Meter {
    limits: [f64; 3],
    buckets: HashMap<String, Buckets>,
    cache: HashMap<u64, Timestamp>,
    requests: u64,
}

/// Names and values of headers.
pub(super) type Headers = Vec<(String, String)>;

impl Meter {
    /// Limits that move visibly while somebody watches, and the real API's first tier while nobody does.
    pub(super) fn new(pace: f64) -> Self {
        let limits = if pace > 0.0 { [120.0, 400e3, 200e3] } else { [1000.0, 2e6, 400e3] };
        Self { limits, buckets: HashMap::new(), cache: HashMap::new(), requests: 0 }
    }

    /// An id that no other call has, of this stand-in or another that began at another time.
    pub(super) fn next_request_id(&mut self, seed: u64, began: Timestamp) -> String {
        self.requests += 1;
        // Another stand-in with the same seed gives the same answers, and they are other calls.
        let began = began.as_millisecond().to_string();
        format!("req_rehearsal_{:08x}{:06}", seed::of(&[&seed.to_string(), &began]) >> 32, self.requests)
    }

    fn buckets(&mut self, model: &str, now: Timestamp) -> &mut Buckets {
        let limits = self.limits;
        self.buckets
            .entry(model.to_owned())
            .or_insert_with(|| limits.map(|limit| Bucket { limit, level: limit, at: now }))
    }

    /// Counts a call: the longest remembered prefix is read, the rest up to the last marked block is written.
    pub(super) fn count(&mut self, asked: &Asked, output_tokens: u64, now: Timestamp) -> Usage {
        let key = |prefix: &Prefix| seed::fold(prefix.hash, asked.model.as_bytes());
        let last = asked.prefixes.iter().rev().find(|p| p.keep.is_some() && p.tokens >= SMALLEST_PREFIX);
        let upto = last.map_or(0, |p| p.tokens);
        let read = asked
            .prefixes
            .iter()
            .rev()
            .filter(|p| p.tokens <= upto)
            .find(|p| self.cache.get(&key(p)).is_some_and(|until| *until >= now))
            .map_or(0, |p| p.tokens);
        for prefix in &asked.prefixes {
            if let Some(until) = prefix.keep.and_then(|s| now.checked_add(SignedDuration::from_secs(s)).ok())
                && prefix.tokens >= SMALLEST_PREFIX
            {
                self.cache.insert(key(prefix), until);
            }
        }
        if self.cache.len() > 4096 {
            self.cache.retain(|_, until| *until >= now);
        }
        let written = upto - read;
        let hour = last.and_then(|p| p.keep).is_some_and(|seconds| seconds > 300);
        let usage = Usage {
            input_tokens: (asked.tokens() - upto).max(1),
            output_tokens,
            cache_read_input_tokens: read,
            cache_creation_input_tokens: written,
            cache_creation_1h_input_tokens: if hour { written } else { 0 },
        };
        let [requests, input, output] = self.buckets(&asked.model, now);
        requests.take(1, now);
        input.take(usage.input_tokens + written, now);
        output.take(output_tokens, now);
        usage
    }

    /// The limits as the real API tells them.
    pub(super) fn headers(&mut self, model: &str, now: Timestamp) -> Headers {
        let mut headers = Headers::new();
        let names = ["requests", "input-tokens", "output-tokens"];
        for (name, bucket) in names.into_iter().zip(self.buckets(model, now)) {
            bucket.refill(now);
            let (limit, level) = (bucket.limit, bucket.level);
            let level = if name == "requests" { level.floor() } else { (level / 1000.0).round() * 1000.0 };
            let wait = SignedDuration::try_from_secs_f64((limit - level) / limit * 60.0).unwrap_or_default();
            // Whole seconds, rounded up, as the API gives them.
            let reset = now.as_second() + wait.as_secs() + i64::from(wait.subsec_nanos() > 0);
            let reset = Timestamp::from_second(reset).unwrap_or(now);
            let mut add =
                |what: &str, value: String| headers.push((format!("anthropic-ratelimit-{name}-{what}"), value));
            add("limit", format!("{limit:.0}"));
            add("remaining", format!("{level:.0}"));
            add("reset", reset.to_string());
        }
        headers
    }
}

/// Puts headers into a response.
pub(super) fn put<B>(response: &mut Response<B>, headers: Headers) {
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (name.parse::<hyper::header::HeaderName>(), value.parse()) {
            response.headers_mut().insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(system: &str, user: &str) -> Asked {
        let body = serde_json::json!({
            "model": "m", "max_tokens": 10,
            "system": [{"type": "text", "text": system, "cache_control": {"type": "ephemeral"}}],
            "messages": [{"role": "user", "content": user}],
        });
        Asked::read(body.to_string().as_bytes()).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_marked_prefix_is_written_once_then_read_until_five_minutes_have_passed() {
        let system = "long ".repeat(400);
        let mut meter = Meter::new(0.0);
        let first = meter.count(&asked(&system, "one"), 5, at(0));
        assert!(first.cache_creation_input_tokens > 400 && first.cache_read_input_tokens == 0, "{first:?}");
        let second = meter.count(&asked(&system, "two"), 5, at(200));
        assert_eq!(second.cache_read_input_tokens, first.cache_creation_input_tokens);
        assert_eq!(second.cache_creation_input_tokens, 0);
        let third = meter.count(&asked(&system, "two"), 5, at(600));
        assert_eq!(third.cache_read_input_tokens, 0);
        assert_eq!(meter.count(&asked("short", "two"), 5, at(600)).cache_creation_input_tokens, 0);
    }

    #[test]
    fn limits_fall_with_use_and_refill_with_time() {
        let mut meter = Meter::new(1.0);
        let remaining = |meter: &mut Meter, second| meter.headers("m", at(second))[1].1.parse::<u32>().unwrap();
        assert_eq!(remaining(&mut meter, 0), 120);
        for _ in 0..10 {
            meter.count(&asked("s", "u"), 5, at(0));
        }
        assert_eq!(remaining(&mut meter, 0), 110);
        assert_eq!(meter.headers("m", at(0))[2].1, "1970-01-01T00:00:05Z");
        assert_eq!(remaining(&mut meter, 3), 116);
        assert_eq!(remaining(&mut meter, 60), 120);
    }
}
