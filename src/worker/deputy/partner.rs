//! Who works for the deputy: a worker on another machine that asks for the place, is there, and goes.
//!
//! Owns hellos and beats, on the deputy's side. Must not know what an attempt is at. Its one surprise: while an attempt is in
//! hand, only the worker that runs it gets the place, however long it was silent.

use std::time::Duration;

use jiff::SignedDuration;
use serde::Serialize;
use tokio::time::Instant;

use super::{Deputy, Word};
use crate::{
    attach::far::{self, Caller, Hello, Says, Told, Welcome},
    model::{AttemptRef, Far, Report},
};

/// After so long without a word a worker is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// The most workers that are told of as refused.
const REFUSED: usize = 32;

/// The worker that does the work.
#[derive(Debug, Clone)]
pub(super) struct Partner {
    /// Its random name.
    pub(super) name: String,
    far: Far,
    heard: Instant,
}

impl Deputy {
    pub(super) fn is_partner(&self, subject: &str) -> bool {
        let agent = &self.settings.slot.agent;
        self.partner.as_ref().is_some_and(|partner| subject == far::says_subject(agent, &partner.name))
    }

    /// Offers this slot to a worker that asks for one.
    pub(super) async fn answer(&mut self, message: &async_nats::Message) {
        let (Some(caller), Some(reply)) = (far::read::<Caller>(message), message.reply.clone()) else { return };
        let answer = if let Some(why) = caller.refusal() {
            // One of the agent's deputies is enough to say so.
            if self.settings.slot.index != 0 {
                return;
            }
            self.refuse(caller, &why);
            Welcome::Bye(why)
        } else if let Some(hello) = far::read::<Hello>(message)
            && far::is_name(&hello.worker)
            && self.is_free_for(hello.running.as_ref()).await
        {
            if let Err(error) = self.voices.offer(&hello.worker).await {
                tracing::warn!(%error, "a worker would not be heard, and is not answered");
                return;
            }
            Welcome::Free(self.name.clone())
        } else {
            return;
        };
        self.say(reply.to_string(), &answer).await;
    }

    fn refuse(&mut self, caller: Caller, why: &str) {
        if self.refused.len() < REFUSED && self.refused.insert(caller) {
            tracing::error!(why, "a worker elsewhere is refused");
            self.post.send(Report::Refused { why: why.to_owned() });
        }
    }

    /// Whether a worker that runs this may have the place.
    async fn is_free_for(&self, running: Option<&AttemptRef>) -> bool {
        if self.draining {
            return false;
        }
        match (&self.in_hand, running) {
            (Some(in_hand), Some(running)) => in_hand.is_meant_by(running),
            // Perhaps nobody has begun yet.
            (Some(_), None) => self.partner.is_none() && !self.begun,
            (None, None) => self.partner.is_none(),
            // Whoever has it in hand, or takes it up in a moment, waits for this very worker.
            (None, Some(running)) => {
                use crate::queue::Queue as _;
                let standing = self.files.get(&running.task).await.map(|record| record.standing);
                let runs = matches!(standing, Ok(crate::model::Standing::Running { attempt }) if running.n == attempt);
                self.partner.is_none() && !runs
            }
        }
    }

    /// What a worker says: `None` where nothing follows from it.
    pub(super) async fn hear(&mut self, subject: &str, says: Says) -> Option<Word> {
        match says {
            Says::Here { deputy, hello } => {
                let agent = &self.settings.slot.agent;
                if subject != far::says_subject(agent, &hello.worker) {
                    return None;
                }
                if deputy != self.name {
                    // It has taken another place.
                    if !self.is_partner(subject) {
                        self.voices.forget(subject);
                    }
                    return None;
                }
                if !self.is_free_for(hello.running.as_ref()).await {
                    let bye = Told::Bye("this place was given to another worker a moment ago".into());
                    self.say(far::told_subject(agent, &hello.worker), &bye).await;
                    return None;
                }
                let running = hello.running.clone();
                self.join(hello).await;
                Some(Word::Joined(running))
            }
            _ if !self.is_partner(subject) => None,
            Says::Beat { at, load, heard } => {
                let now = self.settings.clock.now();
                let offset_ms = millis(at.duration_since(now));
                self.offset_ms = offset_ms;
                if let Some(partner) = &mut self.partner {
                    partner.heard = Instant::now();
                    partner.far = Far { heard_at: now, offset_ms, load, ..partner.far.clone() };
                    let far = Box::new(partner.far.clone());
                    self.post.send(Report::Far { far });
                }
                self.unheard.heard(heard);
                for told in self.unheard.again() {
                    self.tell(&told).await;
                }
                None
            }
            Says::Leaves(why) => {
                self.lose(&why);
                Some(Word::Says(Says::Leaves(why)))
            }
            Says::Report(_) => {
                if let Some(partner) = &mut self.partner {
                    partner.heard = Instant::now();
                }
                Some(Word::Says(says))
            }
        }
    }

    async fn join(&mut self, hello: Hello) {
        let now = self.settings.clock.now();
        self.offset_ms = millis(hello.at.duration_since(now));
        let far = Far {
            host: crate::model::text::first_line(&hello.host, 60),
            version: crate::model::text::first_line(&hello.version, 40),
            pid: hello.pid,
            offset_ms: self.offset_ms,
            load: None,
            heard_at: now,
        };
        tracing::info!(slot = %self.settings.slot, host = far.host, offset_ms = far.offset_ms, "a worker is there");
        self.post.send(Report::Far { far: Box::new(far.clone()) });
        // The same worker under a new name, mostly.
        self.tell(&Told::Bye("this place was given to the worker that runs its attempt".into())).await;
        let subject = far::log_subject(&self.settings.slot.agent, &hello.worker);
        match self.engine.client().subscribe(subject).await {
            Ok(logs) => self.logs = Some(logs),
            Err(error) => tracing::warn!(%error, "its log is not shown as it grows"),
        }
        self.voices.keep(&far::says_subject(&self.settings.slot.agent, &hello.worker));
        self.partner = Some(Partner { name: hello.worker, far, heard: Instant::now() });
        self.duty.send_if_modified(|duty| !std::mem::replace(&mut duty.partner, true));
        self.tell(&Told::Beat).await;
    }

    /// Says that the room is there, and sees whether the worker is.
    pub(super) async fn beat(&mut self) {
        self.tell(&Told::Beat).await;
        if self.partner.as_ref().is_some_and(|partner| partner.heard.elapsed() > SILENCE) {
            self.lose("it has said nothing for 10 s");
        }
    }

    pub(super) fn lose(&mut self, why: &str) {
        if let Some(partner) = self.partner.take() {
            tracing::warn!(slot = %self.settings.slot, host = partner.far.host, why, "the worker is gone");
            self.voices.forget(&far::says_subject(&self.settings.slot.agent, &partner.name));
        }
        self.logs = None;
        self.duty.send_if_modified(|duty| std::mem::replace(&mut duty.partner, false));
    }

    /// Tells what must not be lost on the way, also to a worker that is not there just now.
    pub(super) async fn order(&mut self, told: Told) {
        let told = self.unheard.keep(told);
        self.tell(&told).await;
    }

    pub(super) async fn tell(&self, told: &Told) {
        if let Some(partner) = &self.partner {
            self.say(far::told_subject(&self.settings.slot.agent, &partner.name), told).await;
        }
    }

    async fn say(&self, subject: String, message: &impl Serialize) {
        if let Err(error) = self.engine.client().publish(subject, far::write(message)).await {
            tracing::warn!(%error, "a word could not be sent");
        }
    }
}

fn millis(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or_default()
}
