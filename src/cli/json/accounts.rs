//! Accounts and their limits, as `status --json` prints them.

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    model::{
        AccountName, Credential,
        limit::{Window, WindowStatus, Windows},
    },
    room::{Parked, Plan, State},
};

/// Why an agent is parked.
#[derive(Debug, Serialize)]
pub(super) struct AgentParkedJson {
    account: String,
    until: Option<Timestamp>,
    why: String,
}

impl AgentParkedJson {
    pub(super) fn of(state: &State, agent: &crate::model::AgentName, now: Timestamp) -> Option<Self> {
        let shut = state.shut(agent, now)?;
        let account = state.accounts.of(agent);
        let until = state.accounts.parked(&account).and_then(|parked| parked.until);
        Some(Self { account: account.to_string(), until, why: shut.words })
    }
}

/// One account.
#[derive(Debug, Serialize)]
pub(super) struct AccountJson {
    name: String,
    credential: Credential,
    /// What is known of it is read from what engines print; sums are estimates.
    observed: bool,
    agents: Vec<String>,
    parked: Option<ParkedJson>,
    windows: Option<WindowsJson>,
}

#[derive(Debug, Serialize)]
struct ParkedJson {
    /// What was met: `rate`, `window`, …; `null` = a person has parked it.
    kind: Option<crate::model::limit::LimitKind>,
    words: String,
    message: String,
    since: Timestamp,
    until: Option<Timestamp>,
    estimated: bool,
    said_before: Option<Timestamp>,
    heard_at: Timestamp,
    cleared: bool,
    /// What happens when it clears.
    then: Plan,
    needs_you: bool,
    remedy: String,
    task: Option<String>,
}

#[derive(Debug, Serialize)]
struct WindowsJson {
    five_hour: Option<WindowJson>,
    seven_day: Option<WindowJson>,
    at: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct WindowJson {
    used_percent: Option<f64>,
    resets_at: Option<Timestamp>,
    status: Option<WindowStatus>,
}

impl WindowJson {
    fn new(window: Window, now: Timestamp) -> Self {
        let Window { used, status, .. } = window.at(now);
        Self { used_percent: used.map(|used| f64::from(used) / 10.0), resets_at: window.resets_at, status }
    }
}

impl WindowsJson {
    fn new(windows: &Windows, now: Timestamp) -> Self {
        let window = |window: Option<Window>| window.map(|window| WindowJson::new(window, now));
        Self { five_hour: window(windows.five_hour), seven_day: window(windows.seven_day), at: windows.at }
    }
}

impl ParkedJson {
    fn new(state: &State, account: &AccountName, parked: &Parked, now: Timestamp) -> Self {
        Self {
            kind: parked.kind,
            words: parked.words().to_owned(),
            message: parked.message.clone(),
            since: parked.since,
            until: parked.until,
            estimated: parked.estimated,
            said_before: parked.said,
            heard_at: parked.heard,
            cleared: parked.has_cleared(now),
            then: parked.plan(state.accounts.resume),
            needs_you: state.account_needs_you(parked, now),
            remedy: state.mending(account, parked),
            task: parked.task.as_ref().map(ToString::to_string),
        }
    }
}

/// Every account that somebody uses.
pub(super) fn all(state: &State, now: Timestamp) -> Vec<AccountJson> {
    let account = |name: &AccountName| {
        let credential = state.accounts.credential(name);
        AccountJson {
            name: name.to_string(),
            credential,
            observed: credential.is_observed(),
            agents: state.users_of(name).iter().map(ToString::to_string).collect(),
            parked: state.accounts.parked(name).map(|parked| ParkedJson::new(state, name, parked, now)),
            windows: state.accounts.windows(name).map(|windows| WindowsJson::new(windows, now)),
        }
    };
    state.account_names().iter().map(account).collect()
}
