//! The arguments and the environment of the CLI for one unattended attempt.
//!
//! Owns which flags and variables are set and why. Must not know how a child is started. Its one surprise: the
//! environment is complete; nothing else is handed to the child.

use std::{ffi::OsString, path::Path};

use super::wire::QUESTION;
use crate::model::{Effort, Permissions, SubagentCaps};

/// The conversation an attempt belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Session {
    /// A new one, under this id.
    New(String),
    /// One that exists.
    Resume(String),
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        match self {
            Self::New(id) | Self::Resume(id) => id,
        }
    }
}

/// What one attempt asks of the CLI.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// Model alias or full id, passed on as it is.
    pub model: &'a str,
    /// Further settings, as JSON.
    pub settings: Option<&'a str>,
    /// The conversation.
    pub session: &'a Session,
    /// System prompt file.
    pub prompt: &'a Path,
    /// What it may do.
    pub permissions: Permissions,
    /// The most turns.
    pub max_turns: Option<u32>,
    /// The most it may spend, in dollars.
    pub max_budget_usd: Option<f64>,
    /// JSON schema of the answer.
    pub schema: Option<&'a serde_json::Value>,
    /// How hard the model thinks.
    pub effort: Option<Effort>,
    /// It may use the tools that its permissions give; else none.
    pub tools: bool,
    /// The model of its sub-agents, where it is another.
    pub subagent_model: Option<&'a str>,
    /// How many sub-agents it may have.
    pub subagents: SubagentCaps,
    /// The worker is root, where one mode needs a word more.
    pub root: bool,
}

impl Request<'_> {
    /// Whether the CLI asks its host, and reads answers until it has its result.
    pub fn is_dialogue(&self) -> bool {
        self.tools && self.permissions == Permissions::Ask
    }
}

/// Tools that read.
const READING: &str = "Read,Glob,Grep";

/// Tools that also write and run commands.
const WORKING: &str = "Bash,Read,Edit,Write,Glob,Grep";

/// The tool that starts sub-agents, under both of its names.
pub const STARTING: &str = "Task,Agent";

/// Variables that are set to 1: no calls home, no surprises, an event when the session is idle.
const ON: [&str; 9] = [
    "DISABLE_AUTOUPDATER",
    "DISABLE_TELEMETRY",
    "DISABLE_ERROR_REPORTING",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
    "CLAUDE_CODE_DISABLE_CRON",
    "CLAUDE_CODE_DISABLE_BUNDLED_SKILLS",
    "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS",
];

/// The arguments, without the program and without the prompt, which goes in on standard input.
pub fn arguments(request: &Request<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = ["-p", "--output-format", "stream-json", "--verbose", "--include-partial-messages"]
        .map(OsString::from)
        .to_vec();
    let mut flag = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
    flag("--model", request.model.into());
    match request.session {
        Session::New(id) => flag("--session-id", id.into()),
        Session::Resume(id) => flag("--resume", id.into()),
    }
    flag("--system-prompt-file", request.prompt.into());
    flag("--setting-sources", "user".into());
    if let Some(settings) = request.settings {
        flag("--settings", settings.into());
    }
    if let Some(turns) = request.max_turns {
        flag("--max-turns", turns.to_string().into());
    }
    if let Some(dollars) = request.max_budget_usd {
        flag("--max-budget-usd", dollars.to_string().into());
    }
    if let Some(schema) = request.schema {
        flag("--json-schema", schema.to_string().into());
    }
    if let Some(effort) = request.effort {
        flag("--effort", effort.word().into());
    }
    // These take many values and would swallow what follows, hence `=`.
    match request.permissions {
        _ if !request.tools => {
            args.push("--tools=".into());
            args.extend(["--permission-mode", "dontAsk"].map(OsString::from));
        }
        Permissions::ReadOnly => {
            args.push(format!("--tools={READING}").into());
            args.push(format!("--allowedTools={READING}").into());
            args.extend(["--permission-mode", "dontAsk"].map(OsString::from));
        }
        Permissions::Standard => {
            let starting = if request.subagents.most > 0 { format!(",{STARTING}") } else { String::new() };
            args.push(format!("--tools={WORKING}{starting}").into());
            args.push(format!("--allowedTools={WORKING}{starting}").into());
            args.extend(["--permission-mode", "dontAsk"].map(OsString::from));
        }
        Permissions::Ask => {
            let starting = if request.subagents.most > 0 { format!(",{STARTING}") } else { String::new() };
            // Who can be asked for permission can be asked anything.
            args.push(format!("--tools={WORKING}{starting},{QUESTION}").into());
            args.push(format!("--allowedTools={READING}").into());
            args.extend(
                ["--permission-mode", "default", "--permission-prompt-tool", "stdio", "--input-format", "stream-json"]
                    .map(OsString::from),
            );
        }
        Permissions::Full => {
            if request.subagents.most == 0 {
                args.push(format!("--disallowedTools={STARTING}").into());
            }
            args.extend(["--permission-mode", "bypassPermissions"].map(OsString::from));
        }
    }
    args.push("--strict-mcp-config".into());
    args
}

/// What goes in on standard input: the prompt, or a message that holds it where the host answers questions too.
pub fn input(request: &Request<'_>, prompt: &str) -> Vec<u8> {
    if !request.is_dialogue() {
        return prompt.as_bytes().to_vec();
    }
    let message = serde_json::json!({ "type": "user", "message": { "role": "user", "content": prompt } });
    format!("{message}\n").into_bytes()
}

/// The variables that are the CLI's own; folders lie below `home`.
pub fn environment(home: &Path, request: &Request<'_>) -> Vec<(OsString, OsString)> {
    let mut env: Vec<(OsString, OsString)> = vec![
        ("HOME".into(), home.join("home").into()),
        ("CLAUDE_CONFIG_DIR".into(), home.join("config").into()),
        ("CLAUDE_CODE_TMPDIR".into(), home.join("tmp").into()),
    ];
    env.extend(ON.map(|name| (name.into(), "1".into())));
    env.push(("CLAUDE_CODE_MAX_RETRIES".into(), "4".into()));
    let SubagentCaps { at_once, depth, .. } = request.subagents;
    // How many there may be in all is counted by a hook: the CLI caps what runs at once and how deep, and no more.
    for (name, cap) in
        [("CLAUDE_CODE_MAX_CONCURRENT_SUBAGENTS", at_once), ("CLAUDE_CODE_MAX_SUBAGENT_SPAWN_DEPTH", depth)]
    {
        env.push((name.into(), cap.max(1).to_string().into()));
    }
    if let Some(model) = request.subagent_model {
        env.push(("CLAUDE_CODE_SUBAGENT_MODEL".into(), model.into()));
    }
    if request.permissions == Permissions::Full && request.root {
        // As root the CLI refuses this mode unless it is told that somebody else has fenced it in.
        env.push(("IS_SANDBOX".into(), "1".into()));
    }
    env
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(session: &Session, permissions: Permissions) -> Request<'_> {
        Request {
            model: "sonnet",
            settings: None,
            session,
            prompt: Path::new("/p/ANGA.md"),
            permissions,
            max_turns: Some(40),
            max_budget_usd: Some(2.0),
            schema: None,
            effort: Some(Effort::High),
            tools: true,
            subagent_model: Some("haiku"),
            subagents: SubagentCaps::default(),
            root: true,
        }
    }

    #[test]
    fn no_flag_can_swallow_another() {
        let session = Session::New("11111111-2222-4333-8444-555555555555".into());
        let args = arguments(&request(&session, Permissions::Standard));
        let args: Vec<&str> = args.iter().map(|a| a.to_str().unwrap()).collect();
        for greedy in ["--tools", "--allowedTools", "--mcp-config", "--add-dir", "--betas"] {
            assert!(!args.contains(&greedy), "{greedy} takes many values and must be written with =");
        }
        assert!(args.windows(2).any(|w| w == ["--session-id", session.id()]));
        assert!(args.windows(2).any(|w| w == ["--permission-mode", "dontAsk"]));
        assert!(args.windows(2).any(|w| w == ["--effort", "high"]));
    }

    #[test]
    fn a_reader_gets_no_tool_that_writes() {
        let session = Session::Resume("s".into());
        let args = arguments(&request(&session, Permissions::ReadOnly));
        let text = args.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert!(text.contains("--resume s ") && text.contains("--tools=Read,Glob,Grep "));
        assert!(!text.contains("Bash") && !text.contains("Write") && !text.contains("Edit"));
    }

    #[test]
    fn an_agent_that_asks_may_read_and_talks_to_its_host() {
        let session = Session::New("s".into());
        let request = request(&session, Permissions::Ask);
        let text = arguments(&request).iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ");
        assert!(text.contains("--permission-mode default --permission-prompt-tool stdio --input-format stream-json"));
        assert!(text.contains("--allowedTools=Read,Glob,Grep ") && text.contains("--tools=Bash,"), "{text}");
        assert!(text.contains(",AskUserQuestion "), "who is there to be asked can be asked anything: {text}");
        let line = String::from_utf8(input(&request, "two\nlines")).unwrap();
        assert_eq!(line.matches('\n').count(), 1, "one line: {line}");
    }

    #[test]
    fn sub_agents_work_on_their_own_tier() {
        let session = Session::New("s".into());
        let said = |model| {
            let request = Request { subagent_model: model, ..request(&session, Permissions::Standard) };
            let env = environment(Path::new("/h"), &request);
            env.into_iter().find(|(name, _)| name == "CLAUDE_CODE_SUBAGENT_MODEL").map(|(_, value)| value)
        };
        assert_eq!((said(Some("haiku")), said(None)), (Some("haiku".into()), None));
    }

    #[test]
    fn sub_agents_are_capped_and_none_means_that_nothing_starts_one() {
        let session = Session::New("s".into());
        let said = |most, permissions| {
            let subagents = SubagentCaps { most, at_once: 3, depth: 1 };
            let request = Request { subagents, ..request(&session, permissions) };
            let args = arguments(&request).into_iter().map(|a| a.into_string().unwrap()).collect::<Vec<_>>().join(" ");
            (args, environment(Path::new("/h"), &request))
        };
        let (args, env) = said(5, Permissions::Standard);
        assert!(args.contains("--tools=Bash,Read,Edit,Write,Glob,Grep,Task,Agent "), "{args}");
        let value =
            |wanted: &str| env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.to_str().unwrap());
        assert_eq!(value("CLAUDE_CODE_MAX_CONCURRENT_SUBAGENTS"), Some("3"));
        assert_eq!(value("CLAUDE_CODE_MAX_SUBAGENT_SPAWN_DEPTH"), Some("1"));
        assert!(!said(0, Permissions::Standard).0.contains("Task"));
        assert!(said(0, Permissions::Full).0.contains("--disallowedTools=Task,Agent "));
    }

    #[test]
    fn only_full_rights_as_root_claim_a_sandbox() {
        let session = Session::New("s".into());
        let names = |p| environment(Path::new("/h"), &request(&session, p));
        assert!(names(Permissions::Full).iter().any(|(n, _)| n == "IS_SANDBOX"));
        assert!(!names(Permissions::Standard).iter().any(|(n, _)| n == "IS_SANDBOX"));
    }
}
