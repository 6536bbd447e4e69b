//! Which engine runs an agent: a pure decision from what was found.

use crate::model::EngineKind;

/// What was found on this machine, for one agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "five independent findings; the table in the tests is over all")]
pub struct Facts {
    /// The Claude Code CLI was found.
    pub cli: bool,
    /// A key for the Messages API is set.
    pub key: bool,
    /// A login of the CLI lies in the agent's home.
    pub login: bool,
    /// Model calls go to the rehearsal stand-in.
    pub rehearsal: bool,
    /// The `command` engine's program was found.
    pub program: bool,
}

/// The words for what is missing.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The program looked for as the CLI.
    pub cli: &'a str,
    /// The variables that may hold a key, the first one first.
    pub keys: &'a [String],
    /// The `command` engine's program.
    pub program: &'a str,
    /// Who could log in with the CLI.
    pub who: &'a str,
}

/// The engine in force, or what keeps the agent from working and what to do about it.
pub fn agent(wanted: EngineKind, facts: &Facts, names: Names<'_>) -> Result<EngineKind, String> {
    let credential = facts.key || facts.rehearsal;
    let cli_works = credential || facts.login;
    match wanted {
        EngineKind::Auto | EngineKind::Claude if facts.cli && cli_works => Ok(EngineKind::Claude),
        EngineKind::Auto | EngineKind::Messages if credential => Ok(EngineKind::Messages),
        EngineKind::Auto | EngineKind::Claude if facts.cli => {
            Err(format!("no key and no login: `podium auth {}`, {}", names.who, remedy(names)))
        }
        EngineKind::Auto if !facts.login => Err(format!("no Claude CLI and no key: {}", remedy(names))),
        EngineKind::Auto | EngineKind::Claude => Err(no_cli(names)),
        EngineKind::Messages => Err(format!("the messages engine needs a key: {}", remedy(names))),
        EngineKind::Command if facts.program => Ok(EngineKind::Command),
        EngineKind::Command => Err(format!("program {} is not found; correct `command` in podium.toml", names.program)),
    }
}

/// The same for the orchestrator, which asks for plans and reports: the Messages API with a key, the CLI with a login.
pub fn orchestrator(wanted: EngineKind, facts: &Facts, names: Names<'_>) -> Result<EngineKind, String> {
    match wanted {
        EngineKind::Auto if facts.key || facts.rehearsal => Ok(EngineKind::Messages),
        EngineKind::Auto | EngineKind::Claude => agent(wanted, facts, names),
        EngineKind::Messages => agent(EngineKind::Messages, facts, names),
        EngineKind::Command => Err("the orchestrator needs a model: auto, messages or claude".to_owned()),
    }
}

fn no_cli(names: Names<'_>) -> String {
    format!(
        "the Claude CLI ({}) is not found; install it, or name it with CLAUDE_COMMAND, or set engine = \"messages\"",
        names.cli
    )
}

fn remedy(names: Names<'_>) -> String {
    format!("set {}, or start with --rehearse", names.keys.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `c` CLI, `k` key, `l` login, `r` rehearsal, `p` program.
    fn facts(word: &str) -> Facts {
        Facts {
            cli: word.contains('c'),
            key: word.contains('k'),
            login: word.contains('l'),
            rehearsal: word.contains('r'),
            program: word.contains('p'),
        }
    }

    fn names(keys: &[String]) -> Names<'_> {
        Names { cli: "claude", keys, program: "sh", who: "marie" }
    }

    #[test]
    fn what_was_found_decides_the_engine() {
        use EngineKind::{Auto, Claude, Command, Messages};
        let keys = ["MARIE_API_KEY".to_owned(), "ANTHROPIC_API_KEY".to_owned()];
        let table = [
            (Auto, "ck", Ok(Claude)),
            (Auto, "cl", Ok(Claude)),
            (Auto, "cr", Ok(Claude)),
            (Auto, "k", Ok(Messages)),
            (Auto, "r", Ok(Messages)),
            (Auto, "c", Err("MARIE_API_KEY or ANTHROPIC_API_KEY")),
            (Auto, "l", Err("CLAUDE_COMMAND")),
            (Auto, "", Err("--rehearse")),
            (Claude, "ck", Ok(Claude)),
            (Claude, "cl", Ok(Claude)),
            (Claude, "cr", Ok(Claude)),
            (Claude, "c", Err("no key and no login")),
            (Claude, "kr", Err("(claude) is not found")),
            (Messages, "k", Ok(Messages)),
            (Messages, "r", Ok(Messages)),
            (Messages, "cl", Err("needs a key")),
            (Command, "p", Ok(Command)),
            (Command, "ckl", Err("program sh is not found")),
        ];
        for (wanted, found, expected) in table {
            let got = agent(wanted, &facts(found), names(&keys));
            match expected {
                Ok(engine) => assert_eq!(got, Ok(engine), "{wanted:?} with {found:?}"),
                Err(part) => {
                    assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{wanted:?} with {found:?}: {got:?}");
                }
            }
        }
    }

    #[test]
    fn the_orchestrator_prefers_the_api_and_takes_the_cli_with_a_login() {
        use EngineKind::{Auto, Claude, Messages};
        let keys = ["ORCHESTRATOR_API_KEY".to_owned()];
        for (found, expected) in
            [("ck", Some(Messages)), ("cr", Some(Messages)), ("cl", Some(Claude)), ("l", None), ("", None)]
        {
            assert_eq!(orchestrator(Auto, &facts(found), names(&keys)).ok(), expected, "{found:?}");
        }
    }
}
