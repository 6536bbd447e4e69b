//! What a person says about parked accounts and paused agents.
//!
//! Its one surprise: an agent has two reasons not to start, its own pause and its account's limit. Resuming it takes back
//! the pause first; only an agent that is not paused has its account's limit lifted.

use super::{Parked, Plan, State};
use crate::{
    model::{AccountName, AgentName},
    room::{Effect, OrderId, agents::join, done, refuse, why::span},
};

impl State {
    /// Starts nothing more on an account; where it is parked, takes back that it goes on.
    pub(in crate::room) fn park_account(&mut self, id: OrderId, account: &AccountName, effects: &mut Vec<Effect>) {
        if !self.knows_account(account) {
            return self.no_account(id, account, effects);
        }
        let now = self.now;
        let text = if let Some(parked) = self.accounts.parked.get_mut(account) {
            parked.wish = Some(Plan::Stays);
            parked.told = false;
            format!("{account} stays parked until it is resumed")
        } else {
            self.accounts.parked.insert(account.clone(), Parked::by_hand(now));
            format!("{account} is parked: nothing more starts on it")
        };
        done(effects, id, text, vec![account.to_string()]);
    }

    /// Lets work go on: now, or when the limit clears.
    pub(in crate::room) fn resume_account(
        &mut self,
        id: OrderId,
        account: &AccountName,
        when_clear: bool,
        effects: &mut Vec<Effect>,
    ) {
        if !self.knows_account(account) {
            return self.no_account(id, account, effects);
        }
        let now = self.now;
        let ids = vec![account.to_string()];
        let Some(parked) = self.accounts.parked.get_mut(account) else {
            return done(effects, id, format!("{account} is not parked"), ids);
        };
        if when_clear && (parked.until.is_none() || parked.needs_mending()) {
            let reason = format!("nobody knows when {account} clears; `podium resume {account}` lets it go on now");
            return refuse(effects, id, reason);
        }
        if let Some(until) = parked.until.filter(|until| when_clear && *until > now) {
            parked.wish = Some(Plan::GoesOn);
            parked.told = false;
            let wait = span(until.duration_since(now));
            return done(effects, id, format!("{account} goes on by itself when its limit clears, in {wait}"), ids);
        }
        self.lift(account);
        if let Some(label) = self.accounts.settings(account).and_then(|a| a.label.clone()) {
            effects.push(Effect::Reopen { label });
        }
        done(effects, id, format!("{account} goes on"), ids);
    }

    /// Pauses an agent or takes that back.
    pub(in crate::room) fn pause(&mut self, id: OrderId, name: &AgentName, pause: bool, effects: &mut Vec<Effect>) {
        let Some(was) = self.agents.set_paused(name, pause) else {
            let names = join(&self.agents.names());
            return refuse(effects, id, format!("there is no agent {name}; there are {names}"));
        };
        let account = self.accounts.of(name);
        if !pause && !was && self.accounts.parked.contains_key(&account) {
            return self.resume_account(id, &account, false, effects);
        }
        let text = match (pause, self.accounts.parked.get(&account)) {
            (true, _) => format!("{name} is paused"),
            (false, None) => format!("{name} goes on"),
            (false, Some(parked)) => format!("{name} is not paused any more; {account} is parked: {}", parked.words()),
        };
        done(effects, id, text, vec![name.to_string()]);
    }

    fn knows_account(&self, account: &AccountName) -> bool {
        self.account_names().contains(account)
    }

    fn no_account(&self, id: OrderId, account: &AccountName, effects: &mut Vec<Effect>) {
        let names: Vec<_> = self.account_names().iter().map(ToString::to_string).collect();
        refuse(effects, id, format!("there is no account {account}; there are {}", names.join(", ")));
    }
}
