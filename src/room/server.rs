//! The NATS server that work elsewhere goes over: what follows when it is away, and when it is another room's.
//!
//! Its one surprise: a server that is away stops nothing that runs. Its workers and their deputies wait for it; only another
//! room on it ends them.

use super::{Agent, Effect, Process, State, Voice};
use crate::model::server::{Hold, Server};

impl State {
    /// Why nothing starts on an agent whose work is done elsewhere; `None` = it may.
    pub fn cut_off(&self, agent: &Agent) -> Option<String> {
        self.server.as_ref().filter(|_| agent.settings.elsewhere)?.shut()
    }

    /// Since when nothing was heard of what an agent runs elsewhere; `None` = it is fresh.
    pub fn stale_since(&self, agent: &Agent) -> Option<jiff::Timestamp> {
        let away = self.server.as_ref().filter(|_| agent.settings.elsewhere)?.away.as_ref()?;
        Some(away.since)
    }

    /// Whether deputies may be started.
    pub(super) fn has_server(&self) -> bool {
        self.server.as_ref().is_none_or(|server| server.hold == Hold::Held)
    }

    /// Whether another room has the server.
    pub(super) fn is_server_taken(&self) -> bool {
        self.server.as_ref().is_some_and(|server| matches!(server.hold, Hold::Taken { .. }))
    }

    pub(super) fn server_event(&mut self, server: Server, effects: &mut Vec<Effect>) {
        let (was_shut, was_taken) = (self.server.as_ref().and_then(Server::shut), self.is_server_taken());
        let (shut, known) = (server.shut(), self.server.is_some());
        let warning = server
            .warning
            .clone()
            .filter(|_| self.server.as_ref().and_then(|before| before.warning.as_ref()) != server.warning.as_ref());
        self.server = Some(server);
        match (&was_shut, shut) {
            (before, Some(now)) if before.as_ref() != Some(&now) => self.say(Voice::Room, None, now),
            (Some(_), None) if known => self.say(Voice::Room, None, "the NATS server is there; work elsewhere goes on"),
            (None | Some(_), _) => {}
        }
        if let Some(warning) = warning {
            self.say(Voice::Room, None, format!("the NATS server: {warning}"));
        }
        if self.is_server_taken() && !was_taken {
            self.leave_server(effects);
        }
        self.start_workers(effects);
    }

    /// Ends everybody who acts on a server that is another room's.
    fn leave_server(&mut self, effects: &mut Vec<Effect>) {
        self.agents.each(|agent| {
            if !agent.settings.elsewhere {
                return;
            }
            for slot in &mut agent.slots {
                match &slot.process {
                    Process::Up { pid, .. } | Process::Starting { pid: Some(pid), .. } => {
                        slot.process = Process::Leaving { pid: *pid };
                        effects.push(Effect::StopWorker { slot: slot.id.clone(), drain: false });
                    }
                    Process::Backoff { .. } => slot.process = Process::Off,
                    // One that has just been started is told when it says hello.
                    Process::Off | Process::Starting { pid: None, .. } | Process::Leaving { .. } => {}
                }
            }
        });
    }
}
