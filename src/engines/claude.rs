//! The two engines that speak stream-json: the Claude Code CLI, and our own `__messages`.
//!
//! Owns how they are started and how the CLI is found. Must not know the stream's contents, which [`crate::claude`]
//! reads. Its one surprise: both print the same dialect, so they share one reader.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use super::{Engine, Exit, Finding, Job, Launch, Progress, Reader, cap, helpers, prepare_home};
use crate::{
    claude::{
        Decoder, Listener,
        args::{self, Request},
        wire::Asks,
    },
    model::{Ask, Ending, Permit, limit::Windows, text},
};

/// The variable that names another program for the CLI.
pub const COMMAND_VARIABLE: &str = "CLAUDE_COMMAND";

/// How long `claude --version` may take.
const VERSION_PATIENCE: Duration = Duration::from_secs(15);

/// The Claude Code CLI, headless, one fresh child per attempt.
#[derive(Debug)]
pub struct Claude {
    command: Option<Vec<OsString>>,
    podium: PathBuf,
}

impl Claude {
    /// The CLI as found by [`locate`], and our own binary, which counts its sub-agents.
    pub fn new(command: Option<Vec<OsString>>, podium: PathBuf) -> Self {
        Self { command, podium }
    }
}

impl Engine for Claude {
    fn launch(&self, job: &Job<'_>) -> Result<Launch, Ending> {
        let Some((program, leading)) = self.command.as_deref().and_then(<[_]>::split_first) else {
            return Err(Ending::Config {
                message: format!("the Claude Code CLI was not found; install it or set {COMMAND_VARIABLE}"),
            });
        };
        if !job.agent.prompt.is_file() {
            return Err(Ending::Config {
                message: format!("the prompt file {} is missing", job.agent.prompt.display()),
            });
        }
        prepare_home(&job.agent.home)?;
        helpers::lay_out(&job.agent.home, &job.agent.name).map_err(|error| Ending::Config {
            message: format!("the sub-agents of {} cannot be laid out: {error}", job.agent.name),
        })?;
        cap::tidy(&job.agent.home);
        let counter = cap::counter(&job.agent.home, job.session.id());
        let most = job.agent.subagents.most;
        let settings = cap::settings(&self.podium, &counter, most, args::STARTING).filter(|_| most > 0);
        let request = Request {
            settings: settings.as_deref(),
            model: job.model,
            session: &job.session,
            prompt: &job.agent.prompt,
            permissions: job.agent.permissions,
            max_turns: job.max_turns,
            max_budget_usd: job.max_budget_usd,
            schema: job.schema,
            effort: job.effort,
            tools: true,
            subagent_model: job.agent.subagent_model.as_deref(),
            subagents: job.agent.subagents,
            root: rustix::process::geteuid().is_root(),
        };
        let mut arguments = leading.to_vec();
        arguments.extend(args::arguments(&request));
        let mut env = job.environment();
        env.extend(args::environment(&job.agent.home, &request));
        env.extend(job.gateway_environment());
        Ok(Launch {
            program: program.clone(),
            args: arguments,
            env,
            cwd: job.agent.workspace.clone(),
            stdin: args::input(&request, job.prompt),
            dialogue: request.is_dialogue(),
            session_id: Some(job.session.id().to_owned()),
            interruptible: true,
        })
    }

    fn resumes(&self) -> bool {
        true
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

/// Our own binary's hidden verb that calls the Messages API, without tools.
#[derive(Debug)]
pub struct Messages {
    podium: PathBuf,
}

impl Messages {
    /// With the binary that has the verb.
    pub fn new(podium: PathBuf) -> Self {
        Self { podium }
    }
}

impl Engine for Messages {
    fn launch(&self, job: &Job<'_>) -> Result<Launch, Ending> {
        if job.gateway.is_none() {
            return Err(Ending::Auth { message: "the messages engine needs the room's gateway".to_owned() });
        }
        prepare_home(&job.agent.home)?;
        let mut env = job.environment();
        env.push(("HOME".into(), job.agent.home.join("home").into()));
        env.extend(job.gateway_environment());
        let arguments: [&OsStr; 7] = [
            "__messages".as_ref(),
            "--model".as_ref(),
            job.model.as_ref(),
            "--system-prompt-file".as_ref(),
            job.agent.prompt.as_ref(),
            "--session-id".as_ref(),
            job.session.id().as_ref(),
        ];
        let mut args = arguments.map(OsString::from).to_vec();
        if let Some(schema) = job.schema {
            args.extend(["--json-schema".into(), schema.to_string().into()]);
        }
        if let Some(effort) = job.effort {
            args.extend(["--effort".into(), effort.word().into()]);
        }
        Ok(Launch {
            program: self.podium.clone().into(),
            args,
            env,
            cwd: job.agent.workspace.clone(),
            stdin: job.prompt.as_bytes().to_vec(),
            dialogue: false,
            session_id: Some(job.session.id().to_owned()),
            interruptible: false,
        })
    }

    fn reader(&self) -> Box<dyn Reader> {
        Box::new(Stream::default())
    }
}

/// Reads stream-json.
#[derive(Debug, Default)]
pub struct Stream {
    decoder: Decoder,
    listener: Listener,
    /// What waits for an answer.
    asked: Vec<Asks>,
}

impl Reader for Stream {
    fn feed(&mut self, bytes: &[u8]) {
        for line in self.decoder.feed(bytes) {
            self.listener.hear(&line);
        }
    }

    fn settled(&self) -> bool {
        self.listener.settled()
    }

    fn hopeless(&self) -> Option<Ending> {
        self.listener.hopeless()
    }

    fn announced(&self) -> Duration {
        self.listener.announced()
    }

    fn progress(&self) -> Progress {
        self.listener.progress()
    }

    fn take_windows(&mut self) -> Vec<Windows> {
        self.listener.take_windows()
    }

    fn take_asked(&mut self) -> Vec<Ask> {
        let asked = self.listener.take_asked();
        let cwd = self.listener.cwd();
        let asks = |a: &Asks| {
            let ask = Ask::new(&a.request, &a.tool, &a.line(cwd), &a.input, &a.about).asking(a.questions());
            let helper = a.agent.as_deref().map(|id| self.listener.helper(id).unwrap_or("a sub-agent"));
            helper.map_or(ask.clone(), |helper| ask.by(helper))
        };
        let told = asked.iter().map(asks).collect();
        self.asked.extend(asked);
        told
    }

    fn take_withdrawn(&mut self) -> Vec<String> {
        let mut withdrawn = self.listener.take_withdrawn();
        withdrawn.retain(|request| self.asked.iter().any(|asks| asks.request == *request));
        self.asked.retain(|asks| !withdrawn.contains(&asks.request));
        withdrawn
    }

    fn answer_to(&mut self, request: &str, permit: &Permit) -> Option<String> {
        let at = self.asked.iter().position(|asks| asks.request == request)?;
        Some(self.asked.remove(at).answer(permit))
    }

    fn waits_for_a_person(&self) -> bool {
        !self.asked.is_empty()
    }

    fn finding(&mut self, exit: Exit, stderr: &str) -> Finding {
        if let Some(line) = self.decoder.finish() {
            self.listener.hear(&line);
        }
        self.listener.finding(exit, stderr)
    }
}

/// Finds the CLI: what [`COMMAND_VARIABLE`] says, else `claude` on `path`.
///
/// The variable holds a program, or a program and arguments separated by blanks.
pub fn locate(command: Option<&OsStr>, path: &OsStr) -> Option<Vec<OsString>> {
    if let Some(command) = command.filter(|c| !c.is_empty()) {
        if Path::new(command).is_file() {
            return Some(vec![command.to_owned()]);
        }
        let words = command.to_str()?.split_whitespace().map(OsString::from);
        let mut words: Vec<OsString> = words.collect();
        let program = find(words.first()?, path)?;
        *words.first_mut()? = program;
        return Some(words);
    }
    find(OsStr::new("claude"), path).map(|found| vec![found])
}

/// The first executable file of that name on `path`; a name with a slash stands for itself.
fn find(name: &OsStr, path: &OsStr) -> Option<OsString> {
    use std::os::unix::fs::PermissionsExt as _;
    let is_program = |file: &Path| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if Path::new(name).components().count() > 1 {
        return is_program(Path::new(name)).then(|| name.to_owned());
    }
    let found = std::env::split_paths(path).filter(|f| f.is_absolute()).map(|folder| folder.join(name));
    found.into_iter().find(|file| is_program(file)).map(PathBuf::into_os_string)
}

/// Asks the CLI for its version, with nothing in its environment but `path` and a throw-away home.
pub async fn version(command: &[OsString], path: &OsStr) -> Result<String, String> {
    let (program, leading) = command.split_first().ok_or("no program")?;
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let run = tokio::process::Command::new(program)
        .args(leading)
        .arg("--version")
        .env_clear()
        .env("PATH", path)
        .env("HOME", home.path())
        .env("CLAUDE_CONFIG_DIR", home.path())
        .env("DISABLE_AUTOUPDATER", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(VERSION_PATIENCE, run)
        .await
        .map_err(|late| format!("no answer in {} s: {late}", VERSION_PATIENCE.as_secs()))?
        .map_err(|error| error.to_string())?;
    let said = text::first_line(&String::from_utf8_lossy(&output.stdout), 80);
    if output.status.success() && !said.is_empty() {
        Ok(said)
    } else {
        let stderr = text::first_line(&String::from_utf8_lossy(&output.stderr), 200);
        Err(if stderr.is_empty() { output.status.to_string() } else { stderr })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn the_cli_is_found_by_name_by_path_or_by_the_variable() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("claude");
        fs::write(&program, "#!/bin/sh\necho '9.9.9 (Claude Code)'\n").unwrap();
        assert_eq!(locate(None, dir.path().as_os_str()), None, "not executable");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().as_os_str();
        assert_eq!(locate(None, path), Some(vec![program.clone().into()]));
        assert_eq!(locate(Some(program.as_os_str()), OsStr::new("")), Some(vec![program.clone().into()]));
        let with_args = locate(Some(OsStr::new("claude --debug")), path);
        assert_eq!(with_args, Some(vec![program.into(), "--debug".into()]));
        assert_eq!(locate(Some(OsStr::new("other")), path), None);
    }

    /// What the terms of subscriptions ask: the CLI keeps its login to itself and talks to the API by itself.
    #[test]
    fn with_a_login_nothing_stands_between_the_cli_and_the_api() {
        let dir = tempfile::tempdir().unwrap();
        let prompt = dir.path().join("prompt.md");
        fs::write(&prompt, "x").unwrap();
        let agent = crate::model::AgentSettings {
            name: "marie".parse().unwrap(),
            role: String::new(),
            engine: crate::model::EngineKind::Claude,
            command: Vec::new(),
            output: crate::model::OutputKind::StreamJson,
            model: "sonnet".to_owned(),
            subagent_model: None,
            subagents: crate::model::SubagentCaps::default(),
            prompt,
            workspace: dir.path().to_owned(),
            home: dir.path().join("home"),
            slots: 1,
            timeout: Duration::from_mins(1),
            permissions: crate::model::Permissions::Standard,
            elsewhere: false,
        };
        let attempt = "marie/a".parse::<crate::model::TaskRef>().unwrap().attempt(1);
        let session = crate::claude::args::Session::New("s".to_owned());
        let mut job = Job {
            attempt: &attempt,
            agent: &agent,
            model: "sonnet",
            effort: None,
            prompt: "x",
            stage_id: "0",
            session,
            gateway: None,
            path: OsStr::new("/usr/bin"),
            lang: OsStr::new("C.UTF-8"),
            max_turns: None,
            max_budget_usd: None,
            schema: None,
        };
        let engine = Claude::new(Some(vec!["/usr/bin/claude".into()]), "/usr/bin/podium".into());
        let names = |launch: &Launch| -> Vec<String> {
            launch.env.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
        };
        let launch = engine.launch(&job).unwrap();
        let found = names(&launch);
        assert!(
            !found.iter().any(|n| n.starts_with("ANTHROPIC") || n.contains("TOKEN") || n.contains("KEY")),
            "{found:?}"
        );
        assert!(found.contains(&"CLAUDE_CONFIG_DIR".to_owned()), "{found:?}");
        let gateway = super::super::Gateway { url: "http://127.0.0.1:1".to_owned(), token: "t".to_owned().into() };
        job.gateway = Some(&gateway);
        assert!(names(&engine.launch(&job).unwrap()).contains(&"ANTHROPIC_API_KEY".to_owned()));
    }

    #[test]
    fn a_question_is_answered_in_the_clis_own_words_and_what_is_taken_back_is_answered_no_more() {
        use crate::model::Reply;
        let mut stream = Stream::default();
        let question = serde_json::json!({ "type": "control_request", "request_id": "q", "request": {
            "subtype": "can_use_tool", "tool_name": "AskUserQuestion", "input": { "questions": [
                { "question": "Which\u{1b}[2J one?", "multiSelect": true,
                  "options": [{ "label": "A\u{202e}" }, { "label": "B" }] } ] } } });
        let started = serde_json::json!({ "type": "system", "subtype": "task_started", "task_id": "t1",
            "task_type": "local_agent", "subagent_type": "general-purpose", "description": "Second look" });
        let tool = serde_json::json!({ "type": "control_request", "request_id": "r", "request": {
            "subtype": "can_use_tool", "tool_name": "Bash", "input": { "command": "ls" }, "agent_id": "t1" } });
        stream.feed(format!("{question}\n{started}\n{tool}\n").as_bytes());
        let asked = stream.take_asked();
        assert_eq!(
            (asked[0].words().as_str(), asked[0].questions[0].choices[0].label.as_str()),
            ("asks: Which one?", "A")
        );
        assert_eq!(asked[1].words(), "asks for Bash ls · general-purpose: Second look");
        stream.feed(b"{\"type\":\"control_cancel_request\",\"request_id\":\"r\"}\n");
        assert_eq!(stream.take_withdrawn(), ["r"]);
        assert_eq!(stream.answer_to("r", &Permit::Allowed), None);
        assert!(stream.waits_for_a_person());
        let replies = vec![Reply { chosen: vec![0, 1], words: "or C".into() }];
        let line = stream.answer_to("q", &Permit::Answered { replies }).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let answers = &said["response"]["response"]["updatedInput"]["answers"];
        assert_eq!(*answers, serde_json::json!({ "Which\u{1b}[2J one?": "A\u{202e}, B, or C" }));
        assert!(!stream.waits_for_a_person());
    }

    #[tokio::test]
    async fn the_version_is_the_first_line_it_prints() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("claude");
        fs::write(&program, "#!/bin/sh\necho \"9.9.9 (Claude Code)\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let path = OsStr::new("/usr/bin:/bin");
        assert_eq!(version(&[program.into()], path).await, Ok("9.9.9 (Claude Code)".to_owned()));
        assert!(version(&["/nonexistent/claude".into()], path).await.is_err());
    }
}
