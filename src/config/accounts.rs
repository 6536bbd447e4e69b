//! Which account each agent works on: its key's, its login's, or one of its own.
//!
//! Must not know what an account's limits are. Its one surprise: two homes with logins of one account share its limits,
//! so they are one account here, whatever else is wrong with that.

use std::path::PathBuf;

use super::{
    ApiKey, Config, Resolved,
    login::{Common, Login},
};
use crate::model::{AccountName, AccountSettings, AccountSetup, AgentName, Credential, EngineKind};

/// A login found in an agent's home.
#[derive(Debug, Clone)]
pub struct Found {
    /// Whose home.
    pub agent: AgentName,
    /// Where.
    pub home: PathBuf,
    /// What is there.
    pub login: Login,
}

impl Config {
    /// The logins of the agents that work with one.
    pub fn logins(&self, resolved: &[Resolved]) -> Vec<Found> {
        let with_login = resolved.iter().filter(|r| self.has_login_of_its_own(r));
        let found = with_login.filter_map(|r| {
            let login = Login::read(&r.settings.home).ok().flatten()?;
            Some(Found { agent: r.settings.name.clone(), home: r.settings.home.clone(), login })
        });
        found.collect()
    }

    /// Whether an agent's CLI works with its own login: it has no key, and nothing stands in for the API.
    pub fn has_login_of_its_own(&self, resolved: &Resolved) -> bool {
        let claude = resolved.settings.engine == EngineKind::Claude;
        claude && !self.is_rehearsal() && self.key_for(&resolved.settings.name).is_none()
    }

    /// Every account, by who uses it.
    pub fn accounts(&self, resolved: &[Resolved]) -> AccountSetup {
        let logins = self.logins(resolved);
        let mut accounts: Vec<AccountSettings> = Vec::new();
        for Resolved { settings, .. } in resolved {
            let (name, credential, label) = self.account_of(&settings.name, settings.engine, &logins);
            match accounts.iter_mut().find(|a| a.name == name) {
                Some(known) => {
                    known.agents.push(settings.name.clone());
                    known.label = known.label.take().or(label);
                }
                None => accounts.push(AccountSettings { name, credential, agents: vec![settings.name.clone()], label }),
            }
        }
        AccountSetup {
            resume: *self.resume,
            accounts,
            notes: shared(&logins).into_iter().map(|s| s.sentence()).collect(),
            ..AccountSetup::default()
        }
    }

    fn account_of(
        &self,
        agent: &AgentName,
        engine: EngineKind,
        logins: &[Found],
    ) -> (AccountName, Credential, Option<String>) {
        let named = self.agents.iter().find(|a| a.name == *agent).and_then(|a| a.account.value.clone());
        let key = self.key_for(agent).filter(|_| !self.is_rehearsal());
        // What the gateway calls it.
        let label = key.map(|key| if self.is_common(key) { String::new() } else { agent.to_string() });
        let (name, credential) = match key {
            Some(key) => (AccountName::new(key.variable.as_str()).ok(), Credential::Key),
            None if self.is_rehearsal() => (AccountName::new("rehearsal").ok(), Credential::Key),
            None if engine == EngineKind::Claude => {
                let mine = logins.iter().find(|found| found.agent == *agent);
                let first = mine.and_then(|mine| logins.iter().find(|other| other.login.common(&mine.login).is_some()));
                (Some(AccountName::login(first.map_or(agent, |found| &found.agent))), Credential::Login)
            }
            None => (None, Credential::Own),
        };
        let label = if self.is_rehearsal() { Some(String::new()) } else { label };
        (named.or(name).unwrap_or_else(|| AccountName::own(agent)), credential, label)
    }

    fn is_common(&self, key: &ApiKey) -> bool {
        key.variable == self.api_key_env.value
    }
}

/// Two homes that have a login in common.
#[derive(Debug, Clone)]
pub struct Shared {
    /// Whose homes.
    pub agents: [AgentName; 2],
    /// What they share.
    pub common: Common,
    /// Where the second one lies.
    pub home: PathBuf,
}

impl Shared {
    /// What was found.
    pub fn found(&self) -> String {
        let [first, second] = &self.agents;
        match self.common {
            Common::Login => format!("{first} and {second} carry the same login, copied"),
            Common::Account => format!("{first} and {second} are logged in to the same account"),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let [_, second] = &self.agents;
        match self.common {
            Common::Login => {
                format!(
                    "the first of them that renews it locks the other one out: `podium auth {second}` gives it its own"
                )
            }
            Common::Account => "they share its windows: what one uses, the other one lacks".to_owned(),
        }
    }

    fn sentence(&self) -> String {
        format!("{}: {}", self.found(), self.remedy())
    }
}

/// Every pair of homes that have a login in common, each home with the first one like it.
pub fn shared(logins: &[Found]) -> Vec<Shared> {
    let mut pairs = Vec::new();
    for (n, second) in logins.iter().enumerate() {
        let before = logins.iter().take(n);
        let first = before.filter_map(|first| Some((first, first.login.common(&second.login)?)));
        // The worse one is the one to tell.
        if let Some((first, common)) = first.min_by_key(|(_, common)| *common != Common::Login) {
            let agents = [first.agent.clone(), second.agent.clone()];
            pairs.push(Shared { agents, common, home: second.home.clone() });
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

    use super::*;
    use crate::config::{Env, Flags};

    /// A stage and a machine with a CLI on it.
    struct Machine {
        dir: tempfile::TempDir,
        toml: &'static str,
    }

    impl Machine {
        fn new(toml: &'static str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let claude = dir.path().join("bin/claude");
            fs::create_dir_all(claude.parent().unwrap()).unwrap();
            for program in [&claude, &claude.with_file_name("sh")] {
                fs::write(program, "").unwrap();
                fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
            }
            Self { dir, toml }
        }

        fn login(&self, agent: &str, token: &str, account: &str) {
            let folder = self.dir.path().join("data/podium/auth-homes").join(agent).join("config");
            fs::create_dir_all(&folder).unwrap();
            let tokens = format!(r#"{{"claudeAiOauth":{{"accessToken":"a","refreshToken":"{token}"}}}}"#);
            fs::write(folder.join(".credentials.json"), tokens).unwrap();
            let account = format!(r#"{{"oauthAccount":{{"accountUuid":"{account}"}}}}"#);
            fs::write(folder.join(".claude.json"), account).unwrap();
        }

        fn setup(&self, vars: &[(&str, &str)]) -> AccountSetup {
            let stage = self.dir.path().join("stage");
            fs::create_dir_all(&stage).unwrap();
            fs::write(stage.join("podium.toml"), self.toml).unwrap();
            let path = self.dir.path().join("bin");
            let mut all = vec![("PATH", path.to_str().unwrap())];
            all.extend(vars);
            let env = Env::at(self.dir.path(), &all);
            let config = Config::load(Path::new(&stage), &env, &Flags::default()).unwrap();
            config.accounts(&config.resolved(&env))
        }
    }

    fn shown(setup: &AccountSetup) -> Vec<String> {
        let account = |a: &AccountSettings| {
            let agents: Vec<_> = a.agents.iter().map(AgentName::as_str).collect();
            let label = a.label.as_deref().map(|label| format!(" as {label:?}")).unwrap_or_default();
            format!("{} ({}): {}{label}", a.name, a.credential.word(), agents.join(" "))
        };
        setup.accounts.iter().map(account).collect()
    }

    #[test]
    fn a_key_is_an_account_and_so_is_each_login_and_each_program() {
        let machine = Machine::new("[agents.fabien]\nengine = \"command\"\ncommand = [\"sh\"]\n");
        machine.login("marie", "one", "u1");
        machine.login("anga", "two", "u2");
        let found = machine.setup(&[]);
        assert_eq!(
            shown(&found),
            ["marie-login (login): marie", "anga-login (login): anga", "fabien-own (its own): fabien"]
        );
        assert_eq!(found.notes, [""; 0]);
        let found = machine.setup(&[("ANTHROPIC_API_KEY", "k"), ("MARIE_API_KEY", "m")]);
        assert_eq!(
            shown(&found),
            ["MARIE_API_KEY (key): marie as \"marie\"", "ANTHROPIC_API_KEY (key): anga fabien as \"\""]
        );
    }

    #[test]
    fn a_login_that_lies_in_two_homes_is_one_account_and_warned_about() {
        let machine = Machine::new("[agents.fabien]\nslots = 0\n");
        machine.login("marie", "one", "u1");
        machine.login("anga", "one", "u1");
        let found = machine.setup(&[]);
        assert_eq!(shown(&found), ["marie-login (login): marie anga"]);
        assert_eq!(found.notes.len(), 1);
        assert!(found.notes[0].starts_with("marie and anga carry the same login, copied: "), "{:?}", found.notes);
        assert!(found.notes[0].contains("`podium auth anga`"), "{:?}", found.notes);
        machine.login("anga", "two", "u1");
        let found = machine.setup(&[]);
        assert_eq!(shown(&found), ["marie-login (login): marie anga"]);
        assert!(found.notes[0].contains("logged in to the same account"), "{:?}", found.notes);
    }

    #[test]
    fn a_name_in_the_file_says_who_shares_an_account() {
        let program = "engine = \"command\"\ncommand = [\"sh\"]\naccount = \"team\"\n";
        let toml: &'static str =
            Box::leak(format!("[agents.marie]\n{program}[agents.anga]\n{program}[agents.fabien]\nslots = 0\n").into());
        assert_eq!(shown(&Machine::new(toml).setup(&[])), ["team (its own): marie anga"]);
    }
}
