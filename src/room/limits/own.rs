//! Limits that an operator has set for model groups.
//!
//! Owns them for as long as they stand: until they are taken back, also over rooms. Must not know buckets. Its one surprise:
//! the gateway remembers nothing, so a room that opens tells it all of them anew.

use super::State;
use crate::{
    model::limit::{FAMILIES, OwnLimit, group},
    room::{Effect, OrderId, done, refuse},
};

impl State {
    /// Sets what a group may have, or takes it back.
    pub(in crate::room) fn set_limit(&mut self, id: OrderId, name: &str, own: OwnLimit, effects: &mut Vec<Effect>) {
        let name = group(name).to_owned();
        if !self.knows_group(&name) {
            let reason = format!("no model here belongs to {name}; groups are {}", self.groups().join(", "));
            return refuse(effects, id, reason);
        }
        let text = if own.is_empty() {
            if self.own_limits.remove(&name).is_none() {
                return done(effects, id, format!("{name}: nothing was set"), vec![name]);
            }
            format!("{name}: what was set is taken back; the server's limits hold")
        } else {
            let all = own.or(self.own_limits.get(&name).copied().unwrap_or_default());
            self.own_limits.insert(name.clone(), all);
            format!("{name}: at most {all} on each account, until it is taken back")
        };
        let own = self.own_limits.get(&name).copied().unwrap_or_default();
        effects.push(Effect::Limit { group: name.clone(), own });
        done(effects, id, text, vec![name]);
    }

    /// Tells the gateway of a room that opens what stands.
    pub(in crate::room) fn limit_again(&self, effects: &mut Vec<Effect>) {
        let each = self.own_limits.iter().map(|(group, own)| Effect::Limit { group: group.clone(), own: *own });
        effects.extend(each);
    }

    fn knows_group(&self, name: &str) -> bool {
        self.own_limits.contains_key(name) || self.groups().iter().any(|known| known == name)
    }

    /// Every model group that calls are made for, or may be.
    fn groups(&self) -> Vec<String> {
        // A key of its own stands behind the group's name.
        let used = self.levels.buckets.iter().filter_map(|level| level.group.split(' ').next());
        let mut groups: Vec<String> = FAMILIES.into_iter().chain(used).map(str::to_owned).collect();
        groups.sort();
        groups.dedup();
        groups
    }
}
