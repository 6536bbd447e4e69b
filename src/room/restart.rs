//! Starting an agent's workers anew, for when something around them has changed: a login, a program, their memory.

use super::{Effect, Leaving, OrderId, Process, State, done, refuse};
use crate::model::AgentName;

impl State {
    /// Lets an agent's workers end after what they run, and starts new ones.
    pub(super) fn restart(&mut self, id: OrderId, name: &AgentName, effects: &mut Vec<Effect>) {
        if self.agents.get(name).is_none() {
            let names = super::agents::join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {name}; there are {names}"));
        }
        if self.agents.halted(name).is_some() {
            return refuse(effects, id, format!("{name} is stopped by a person: start it instead"));
        }
        let (mut leave, mut running) = (Vec::new(), 0);
        self.agents.each(|agent| {
            for slot in agent.slots.iter_mut().filter(|slot| slot.id.agent == *name) {
                running += usize::from(slot.held.is_some());
                match &slot.process {
                    Process::Up { pid, .. } | Process::Starting { pid: Some(pid), .. } => {
                        slot.process = Process::Leaving { pid: *pid };
                        leave.push(slot.id.clone());
                    }
                    // Nobody waits any longer for one that died.
                    Process::Backoff { .. } => slot.process = Process::Off,
                    Process::Off | Process::Starting { pid: None, .. } | Process::Leaving { .. } => {}
                }
            }
        });
        let after = if running > 0 { " when what runs has ended" } else { "" };
        done(effects, id, format!("{name} starts anew{after}"), vec![name.to_string()]);
        effects.extend(leave.into_iter().map(|slot| Effect::StopWorker { slot, drain: true }));
        self.start_workers(effects);
    }

    /// A worker that was told to leave has left, and the room stays: another takes its place.
    pub(super) fn replace_workers(&mut self, effects: &mut Vec<Effect>) {
        if self.leaving == Leaving::No && self.opened_at.is_some() {
            self.start_workers(effects);
        }
    }
}
