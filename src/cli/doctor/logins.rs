//! What `doctor` says of the logins that agents work with, without a model call.

use jiff::Timestamp;

use super::check;
use crate::{
    cli::json::{Check, Level},
    config::{Config, Resolved, accounts::shared, login::Login},
    room::why::span,
};

/// One check for each login, and one for each pair of homes that have a login in common.
pub(super) fn checks(config: &Config, resolved: &[Resolved], now: Timestamp) -> Vec<Check> {
    let with_login = resolved.iter().filter(|r| r.trouble.is_none() && config.has_login_of_its_own(r));
    let mut checks: Vec<Check> = with_login.map(|r| login(r, now)).collect();
    for pair in shared(&config.logins(resolved)) {
        checks.push(check(Level::Warn, "logins", pair.found(), Some(&pair.remedy())));
    }
    checks
}

fn login(resolved: &Resolved, now: Timestamp) -> Check {
    let agent = &resolved.settings.name;
    let name = format!("{agent} login");
    let again = format!("`podium auth {agent}`");
    let login = match Login::read(&resolved.settings.home) {
        Ok(Some(login)) => login,
        Ok(None) => return check(Level::Fail, name, "there is none", Some(&again)),
        Err(error) => return check(Level::Fail, name, format!("it cannot be read: {error}"), Some(&again)),
    };
    let plan = login.plan.as_deref().unwrap_or("subscription");
    if login.exposed {
        let remedy = format!("chmod 600 {}", resolved.settings.home.join("config/.credentials.json").display());
        return check(Level::Warn, name, format!("{plan}; others may read it"), Some(&remedy));
    }
    match login.expires_at {
        _ if login.renews => {
            check(Level::Ok, name, format!("{plan}, renews itself; its limits are read from what the CLI prints"), None)
        }
        Some(at) if !login.works(now) => {
            let ago = span(now.duration_since(at));
            check(Level::Fail, name, format!("{plan}, expired {ago} ago and cannot renew itself"), Some(&again))
        }
        Some(at) => check(Level::Ok, name, format!("{plan}, for {} more", span(at.duration_since(now))), None),
        None => check(Level::Ok, name, plan.to_owned(), None),
    }
}
