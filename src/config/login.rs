//! The CLI's own login in an agent's home, looked at from outside.
//!
//! Owns what can be said of it: whether it is there, until when, and whether two homes carry the same one. Must not keep
//! or hand out what is in it: of token and account only a `Mark` is made, in memory, that can be compared and nothing
//! else. Its one surprise: an access token that has expired is no trouble while the CLI can renew it by itself.

use std::{fmt, fs, io, os::unix::fs::PermissionsExt as _, path::Path};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The largest file that is read.
const LARGEST: u64 = 64 * 1024 * 1024;

/// What two logins are compared by. It is never written anywhere.
#[derive(Clone, PartialEq, Eq)]
struct Mark([u8; 32]);

impl Mark {
    fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

/// A login of the CLI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The subscription, where the file says so: `max`, `pro`.
    pub plan: Option<String>,
    /// When the access token expires.
    pub expires_at: Option<Timestamp>,
    /// The CLI can get the next access token by itself.
    pub renews: bool,
    /// Others than its owner may read the file.
    pub exposed: bool,
    account: Option<Mark>,
    token: Option<Mark>,
}

/// What two homes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Common {
    /// The login itself, copied: the first of them that renews it locks the other one out.
    Login,
    /// Only the account: each has a login of its own, and they share its limits.
    Account,
}

/// How a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Others than its owner may read it.
    Exposed,
    /// The CLI gets the next access token by itself.
    Renews,
    /// It works for so long, and not longer.
    Lasts(SignedDuration),
    /// It does not say until when it works.
    Open,
    /// It has not worked for so long.
    Expired(SignedDuration),
}

impl Login {
    /// What lies in an agent's home; `None` without a login.
    pub fn read(home: &Path) -> io::Result<Option<Self>> {
        let folder = home.join("config");
        let file = folder.join(".credentials.json");
        let Some(found) = json(&file)? else { return Ok(None) };
        let oauth = found.get("claudeAiOauth").cloned().unwrap_or_default();
        let text = |value: &Value, key: &str| {
            value.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let (access, refresh) = (text(&oauth, "accessToken"), text(&oauth, "refreshToken"));
        if access.is_none() && refresh.is_none() {
            return Ok(None);
        }
        // Written at the login and beside it; without it only tokens can be compared.
        let whose = json(&folder.join(".claude.json")).ok().flatten().unwrap_or_default();
        let whose = whose.get("oauthAccount").cloned().unwrap_or_default();
        let account = text(&whose, "accountUuid").or_else(|| text(&whose, "emailAddress"));
        let organisation = text(&whose, "organizationUuid").unwrap_or_default();
        Ok(Some(Self {
            plan: text(&oauth, "subscriptionType").map(|plan| crate::model::text::first_line(&plan, 40)),
            expires_at: oauth
                .get("expiresAt")
                .and_then(Value::as_i64)
                .and_then(|at| Timestamp::from_millisecond(at).ok()),
            renews: refresh.is_some(),
            exposed: fs::metadata(&file)?.permissions().mode() & 0o077 != 0,
            account: account.map(|account| Mark::of(&format!("{account} {organisation}"))),
            token: refresh.or(access).map(|token| Mark::of(&token)),
        }))
    }

    /// Whether the CLI can work with it at `now`.
    pub fn works(&self, now: Timestamp) -> bool {
        self.renews || self.expires_at.is_none_or(|at| at > now)
    }

    /// How it stands at `now`.
    pub fn standing(&self, now: Timestamp) -> Standing {
        match self.expires_at {
            _ if self.exposed => Standing::Exposed,
            _ if self.renews => Standing::Renews,
            Some(at) if !self.works(now) => Standing::Expired(now.duration_since(at)),
            Some(at) => Standing::Lasts(at.duration_since(now)),
            None => Standing::Open,
        }
    }

    /// What it shares with another one.
    pub fn common(&self, other: &Self) -> Option<Common> {
        let same = |a: &Option<Mark>, b: &Option<Mark>| a.is_some() && a == b;
        if same(&self.token, &other.token) {
            Some(Common::Login)
        } else {
            same(&self.account, &other.account).then_some(Common::Account)
        }
    }
}

fn json(path: &Path) -> io::Result<Option<Value>> {
    match fs::metadata(path) {
        Ok(found) if found.len() > LARGEST => return Err(io::ErrorKind::FileTooLarge.into()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    serde_json::from_slice(&fs::read(path)?).map(Some).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};

    use super::*;

    fn home(credentials: &str, account: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        let path = dir.path().join("config/.credentials.json");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(credentials.as_bytes()).unwrap();
        fs::write(dir.path().join("config/.claude.json"), account).unwrap();
        dir
    }

    fn read(dir: &tempfile::TempDir) -> Option<Login> {
        Login::read(dir.path()).unwrap()
    }

    #[test]
    fn a_home_without_tokens_has_no_login_whatever_else_lies_there() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir), None);
        for empty in ["{}", r#"{"claudeAiOauth":null}"#, r#"{"claudeAiOauth":{"accessToken":"","refreshToken":""}}"#] {
            assert_eq!(read(&home(empty, "{}")), None, "{empty}");
        }
        assert!(Login::read(home("{", "{}").path()).is_err(), "half a file is no login and says so");
    }

    #[test]
    fn an_expired_login_works_as_long_as_it_renews_itself() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let renewed = r#"{"claudeAiOauth":{"accessToken":"a","refreshToken":"r","expiresAt":1748658860401}}"#;
        let found = read(&home(renewed, "{}")).unwrap();
        assert!(found.renews && found.works(now) && !found.exposed);
        assert_eq!(found.expires_at, Some(Timestamp::from_millisecond(1_748_658_860_401).unwrap()));
        let expired = r#"{"claudeAiOauth":{"accessToken":"a","expiresAt":1748658860401,"subscriptionType":"max"}}"#;
        let found = read(&home(expired, "{}")).unwrap();
        assert!(!found.works(now));
        assert_eq!(found.plan.as_deref(), Some("max"));
    }

    #[test]
    fn a_copied_login_is_told_from_two_logins_of_one_account_and_nothing_of_it_is_shown() {
        let account = |uuid: &str| format!(r#"{{"oauthAccount":{{"accountUuid":"{uuid}","organizationUuid":"o"}}}}"#);
        let of = |token: &str, uuid: &str| {
            let tokens = format!(r#"{{"claudeAiOauth":{{"accessToken":"x","refreshToken":"{token}"}}}}"#);
            read(&home(&tokens, &account(uuid))).unwrap()
        };
        let marie = of("secret-one", "u1");
        assert_eq!(marie.common(&of("secret-one", "u1")), Some(Common::Login));
        assert_eq!(marie.common(&of("secret-two", "u1")), Some(Common::Account));
        assert_eq!(marie.common(&of("secret-two", "u2")), None);
        let shown = format!("{marie:?}");
        assert!(!shown.contains("secret") && !shown.contains("u1"), "{shown}");
    }
}
