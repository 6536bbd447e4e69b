//! Stopping and starting the workers of one agent.
//!
//! Owns what a person has said of it, which holds until they say otherwise, whatever happens to the room. Its one
//! surprise: a drained agent counts as stopped at once, because nothing more is given to it; its word says how far it is.

use serde::{Deserialize, Serialize};

use super::{Agent, Effect, OrderId, Process, State, agents::join, done, refuse};
use crate::model::AgentName;

/// How an agent was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Halt {
    /// What runs ends first.
    Drain,
    /// At once; what runs is taken up again when the agent starts.
    Stop,
}

impl Agent {
    /// The word for an agent that was stopped: how far that is.
    pub(super) fn halted_word(&self, halt: Halt) -> &'static str {
        let gone = self.slots.iter().all(|slot| slot.pid().is_none() && slot.held.is_none());
        match halt {
            _ if gone => "stopped",
            Halt::Drain => "draining",
            Halt::Stop => "stopping",
        }
    }
}

impl State {
    /// Ends an agent's workers, at once or after what they run.
    pub(super) fn halt(&mut self, id: OrderId, name: &AgentName, halt: Halt, effects: &mut Vec<Effect>) {
        // Also where the agent is not known yet: the journal is read before the configuration.
        let before = self.agents.halted(name);
        // What is being stopped does not drain.
        let halt = if before == Some(Halt::Stop) { Halt::Stop } else { halt };
        self.agents.set_halted(name, Some(halt));
        let Some(agent) = self.agents.get(name) else {
            let names = join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {name}; there are {names}"));
        };
        if before == Some(halt) {
            return refuse(effects, id, format!("{name} is {} already", agent.halted_word(halt)));
        }
        let held: Vec<String> =
            agent.slots.iter().filter_map(|slot| Some(slot.held.as_ref()?.task.id.to_string())).collect();
        let what = held.join(", ");
        let text = match (halt, held.is_empty()) {
            (_, true) => format!("{name} is stopped"),
            (Halt::Drain, false) => format!("{name} is stopped when {what} has ended"),
            (Halt::Stop, false) => format!("{name} is stopped; {what} is taken up again when it starts"),
        };
        done(effects, id, text, vec![name.to_string()]);
        self.agents.each(|agent| {
            for slot in agent.slots.iter_mut().filter(|slot| slot.id.agent == *name) {
                match &slot.process {
                    Process::Up { pid, .. } | Process::Starting { pid: Some(pid), .. } | Process::Leaving { pid } => {
                        slot.process = Process::Leaving { pid: *pid };
                        effects.push(Effect::StopWorker { slot: slot.id.clone(), drain: halt == Halt::Drain });
                    }
                    Process::Backoff { .. } => slot.process = Process::Off,
                    // One that has just been started is told when it says hello.
                    Process::Off | Process::Starting { pid: None, .. } => {}
                }
            }
        });
    }

    /// Starts an agent's workers.
    pub(super) fn start_agent(&mut self, id: OrderId, name: &AgentName, effects: &mut Vec<Effect>) {
        let before = self.agents.halted(name);
        self.agents.set_halted(name, None);
        let Some(agent) = self.agents.get(name) else {
            let names = join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {name}; there are {names}"));
        };
        let waits = agent.slots.iter().any(|slot| matches!(slot.process, Process::Backoff { .. }));
        if before.is_none() && !waits {
            return refuse(effects, id, format!("{name} was not stopped: it is {}", self.word(agent)));
        }
        let leaving = agent.slots.iter().any(|slot| matches!(slot.process, Process::Leaving { .. }));
        let after = if leaving { " when its worker before has left" } else { "" };
        done(effects, id, format!("{name} starts{after}"), vec![name.to_string()]);
        self.agents.each(|agent| {
            for slot in agent.slots.iter_mut().filter(|slot| slot.id.agent == *name) {
                // Nobody waits any longer for one that died.
                if matches!(slot.process, Process::Backoff { .. }) {
                    slot.process = Process::Off;
                }
            }
        });
        self.start_workers(effects);
    }
}
