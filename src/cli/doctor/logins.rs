//! What `doctor` says of the logins that agents work with, without a model call.

use jiff::Timestamp;

use super::check;
use crate::{
    cli::json::{Check, Level},
    config::{
        Config, Resolved,
        accounts::shared,
        login::{Login, Standing},
    },
    runtime::logins,
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
    let words = logins::words(&login, now);
    match login.standing(now) {
        Standing::Exposed => {
            let remedy = format!("chmod 600 {}", resolved.settings.home.join("config/.credentials.json").display());
            check(Level::Warn, name, words, Some(&remedy))
        }
        Standing::Renews => {
            check(Level::Ok, name, format!("{words}; its limits are read from what the CLI prints"), None)
        }
        Standing::Expired(_) => check(Level::Fail, name, words, Some(&again)),
        Standing::Lasts(_) | Standing::Open => check(Level::Ok, name, words, None),
    }
}
