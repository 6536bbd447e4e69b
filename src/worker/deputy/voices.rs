//! Whom a deputy hears: the worker that it has, and those that it has just offered its place to.
//!
//! Owns the subscriptions. Must not know what is said. Its one surprise: it never hears all of an agent's workers. Each of them
//! says every two seconds that it is there, and a thousand deputies that hear sixteen each would do nothing else.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use crate::{attach::far, model::AgentName};

/// How long somebody who was offered the place is heard for an answer.
const OFFER: Duration = Duration::from_secs(10);
/// The most offers at a time; the oldest is forgotten.
const OFFERS: usize = 64;

/// Those who are heard, the oldest first.
pub(super) struct Voices {
    client: Client,
    agent: AgentName,
    all: Vec<Voice>,
}

struct Voice {
    subject: String,
    says: Subscriber,
    /// `None` = it has the place.
    until: Option<Instant>,
}

impl Voices {
    pub(super) fn new(client: Client, agent: AgentName) -> Self {
        Self { client, agent, all: Vec::new() }
    }

    /// Hears a worker before it is offered the place, so that its answer is not missed.
    pub(super) async fn offer(&mut self, worker: &str) -> Result<(), SubscribeError> {
        let subject = far::says_subject(&self.agent, worker);
        if self.all.iter().any(|voice| voice.subject == subject) {
            return Ok(());
        }
        if self.all.len() > OFFERS
            && let Some(oldest) = self.all.iter().position(|voice| voice.until.is_some())
        {
            drop(self.all.remove(oldest));
        }
        let says = self.client.subscribe(subject.clone()).await?;
        self.all.push(Voice { subject, says, until: Some(Instant::now() + OFFER) });
        Ok(())
    }

    /// This one has the place. The others are told so if they still answer.
    pub(super) fn keep(&mut self, subject: &str) {
        self.all.retain_mut(|voice| {
            if voice.subject == subject {
                voice.until = None;
                return true;
            }
            voice.until.is_some()
        });
    }

    /// This one is not heard any more.
    pub(super) fn forget(&mut self, subject: &str) {
        self.all.retain(|voice| voice.subject != subject);
    }

    /// Forgets those who have not answered.
    pub(super) fn tidy(&mut self) {
        let now = Instant::now();
        self.all.retain(|voice| voice.until.is_none_or(|until| until > now));
    }

    /// The next word of any of them. Safe to drop half-way.
    pub(super) async fn next(&mut self) -> Message {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Message> {
        let heard = self.all.iter_mut().find_map(|voice| match voice.says.poll_next_unpin(context) {
            Poll::Ready(Some(message)) => Some(message),
            // A connection that is closed says nothing; whoever asks the server finds out.
            Poll::Ready(None) | Poll::Pending => None,
        });
        heard.map_or(Poll::Pending, Poll::Ready)
    }
}
