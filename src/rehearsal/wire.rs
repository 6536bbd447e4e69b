//! An answer as bytes: one JSON object, or events spread over time.

use std::{collections::VecDeque, io, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::{Response, body::Frame};
use serde_json::{Value, json};

use super::{
    Body,
    script::{Said, Script, Twist},
};
use crate::model::Usage;

/// A body without bytes.
pub(super) fn empty() -> Body {
    Empty::new().map_err(io::Error::other).boxed_unsync()
}

/// An answer about to be given.
pub(super) struct Performance {
    pub(super) id: String,
    pub(super) model: String,
    pub(super) script: Script,
    pub(super) usage: Usage,
    pub(super) length: Duration,
}

enum Step {
    Say(Duration, Bytes),
    Break(Duration),
    Silence,
}

impl Performance {
    /// Sets how long it takes at this pace.
    pub(super) fn at(mut self, pace: f64) -> Self {
        self.length = Duration::try_from_secs_f64(self.script.seconds * pace).unwrap_or_default();
        if self.script.twist == Some(Twist::Slow) {
            // Slow must be seen even where everything else is as fast as can be.
            self.length = (self.length * 10).max(Duration::from_secs(2));
        }
        self
    }

    /// Gives it.
    pub(super) fn perform(self, streaming: bool) -> Response<Body> {
        let mut steps = if streaming { self.events() } else { self.whole() };
        match self.script.twist {
            Some(Twist::Cut) => {
                steps.truncate(steps.len().div_ceil(2));
                steps.push_back(Step::Break(Duration::ZERO));
            }
            Some(Twist::Hang) => {
                steps.truncate(if streaming { 3 } else { 0 });
                steps.push_back(Step::Silence);
            }
            Some(Twist::Slow) | None => {}
        }
        let frames = stream::unfold(steps, |mut steps| async move {
            let step = steps.pop_front()?;
            let item = match step {
                Step::Say(wait, bytes) => {
                    pause(wait).await;
                    Ok(Frame::data(bytes))
                }
                Step::Break(wait) => {
                    pause(wait).await;
                    Err(io::Error::other("cut on request"))
                }
                Step::Silence => std::future::pending().await,
            };
            Some((item, steps))
        });
        let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
        let kind = if streaming { "text/event-stream; charset=utf-8" } else { "application/json" };
        super::set(&mut response, "content-type", kind);
        super::set(&mut response, "cache-control", "no-cache");
        response
    }

    fn usage(&self, output: u64) -> Value {
        let hour = self.usage.cache_creation_1h_input_tokens;
        json!({
            "input_tokens": self.usage.input_tokens,
            "cache_creation_input_tokens": self.usage.cache_creation_input_tokens,
            "cache_read_input_tokens": self.usage.cache_read_input_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.usage.cache_creation_input_tokens - hour,
                "ephemeral_1h_input_tokens": hour,
            },
            "output_tokens": output,
            "service_tier": "standard",
        })
    }

    fn message(&self, content: &[Value], stop_reason: Option<&str>, output: u64) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": self.usage(output),
        })
    }

    fn whole(&self) -> VecDeque<Step> {
        let content: Vec<Value> = self
            .script
            .said
            .iter()
            .map(|said| match said {
                Said::Text(text) => json!({ "type": "text", "text": text }),
                Said::Tool { id, name, input } => json!({ "type": "tool_use", "id": id, "name": name, "input": input }),
            })
            .collect();
        let body = self.message(&content, Some(self.script.stop.word()), self.usage.output_tokens).to_string();
        // In two pieces, so that a cut falls into the middle of it.
        let middle = (0..=body.len() / 2).rev().find(|at| body.is_char_boundary(*at)).unwrap_or(0);
        let (head, tail) = body.split_at(middle);
        [
            Step::Say(self.length, Bytes::copy_from_slice(head.as_bytes())),
            Step::Say(Duration::ZERO, Bytes::copy_from_slice(tail.as_bytes())),
        ]
        .into()
    }

    fn events(&self) -> VecDeque<Step> {
        let pieces: Vec<Vec<String>> = self.script.said.iter().map(Said::pieces).collect();
        let count = pieces.iter().map(Vec::len).sum::<usize>().max(1);
        let first = self.length.mul_f64(0.15);
        let each = self.length.mul_f64(0.85).div_f64(count as f64);
        let mut steps = VecDeque::new();
        let mut say = |wait, event: Value| {
            let name = event["type"].as_str().unwrap_or("message");
            steps.push_back(Step::Say(wait, Bytes::from(format!("event: {name}\ndata: {event}\n\n"))));
        };
        let none = Duration::ZERO;
        say(first, json!({ "type": "message_start", "message": self.message(&[], None, 1) }));
        say(none, json!({ "type": "ping" }));
        for ((index, said), pieces) in self.script.said.iter().enumerate().zip(pieces) {
            let block = match said {
                Said::Text(_) => json!({ "type": "text", "text": "" }),
                Said::Tool { id, name, .. } => json!({ "type": "tool_use", "id": id, "name": name, "input": {} }),
            };
            say(none, json!({ "type": "content_block_start", "index": index, "content_block": block }));
            for piece in pieces {
                let delta = match said {
                    Said::Text(_) => json!({ "type": "text_delta", "text": piece }),
                    Said::Tool { .. } => json!({ "type": "input_json_delta", "partial_json": piece }),
                };
                say(each, json!({ "type": "content_block_delta", "index": index, "delta": delta }));
            }
            say(none, json!({ "type": "content_block_stop", "index": index }));
        }
        let delta = json!({ "stop_reason": self.script.stop.word(), "stop_sequence": null });
        let usage = self.usage(self.usage.output_tokens);
        say(none, json!({ "type": "message_delta", "delta": delta, "usage": usage }));
        say(none, json!({ "type": "message_stop" }));
        steps
    }
}

/// Sleeps, or lets others run: without a pause the whole stream would be one write.
async fn pause(wait: Duration) {
    if wait.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(wait).await;
    }
}
