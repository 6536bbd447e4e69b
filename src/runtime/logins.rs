//! How the login in an agent's home stands, in a sentence.

use jiff::Timestamp;

use crate::{
    config::login::{Login, Standing},
    model::AgentName,
    room::why::span,
    runtime::terminal::Home,
};

/// `max, renews itself`, `pro, expired 3 h ago and cannot renew itself`.
pub fn words(login: &Login, now: Timestamp) -> String {
    let plan = login.plan.as_deref().unwrap_or("subscription");
    match login.standing(now) {
        Standing::Exposed => format!("{plan}; others may read it"),
        Standing::Renews => format!("{plan}, renews itself"),
        Standing::Expired(ago) => format!("{plan}, expired {} ago and cannot renew itself", span(ago)),
        Standing::Lasts(left) => format!("{plan}, for {} more", span(left)),
        Standing::Open => plan.to_owned(),
    }
}

/// What lies in an agent's home now; `Err` where it needs a person.
pub(super) fn read(agent: &AgentName, home: &Home, now: Timestamp) -> Result<String, String> {
    match Login::read(&home.folder) {
        Ok(Some(login)) if login.works(now) && login.standing(now) != Standing::Exposed => Ok(words(&login, now)),
        Ok(Some(login)) => Err(words(&login, now)),
        Ok(None) => Ok(format!("none in its home; `podium auth {agent}` makes one")),
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}
