//! The hidden verb `podium __messages`: one call to the Messages API, told in the words of the Claude Code CLI.
//!
//! Owns the translation: what the client hears becomes lines of stream-json on standard output, so that one reader
//! serves both engines. Must not know tasks, queues or workers: it gets a prompt, a model and a place to call. Its one
//! surprise: as with the CLI, a failed call ends in a `result` of subtype `success` with `is_error` set, and exit 1.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{self, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
};

use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use uuid::Uuid;

use crate::{
    api::{self, ApiError, Event, Heard, Reply, Request, Retry, StopReason, types::Block},
    model::{Clock, Effort, Usage},
};

/// The most tokens an answer may have.
const MAX_TOKENS: u32 = 32_000;

/// The exit code that the CLI uses after SIGTERM.
const TERMINATED: u8 = 143;

/// Everything about one call but the prompt.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to call, as whom, and how patiently.
    pub api: api::Settings,
    /// Model alias or full id.
    pub model: String,
    /// The engine's session, chosen by the caller.
    pub session_id: String,
    /// System prompt file.
    pub system: Option<PathBuf>,
    /// JSON schema of the answer.
    pub schema: Option<Value>,
    /// How hard the model thinks.
    pub effort: Option<Effort>,
    /// Where the caller says that it works.
    pub cwd: PathBuf,
    /// The time, for when a limit clears.
    pub clock: Clock,
}

/// Why there was no call; follows "podium `__messages`: could not".
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An argument is missing, unknown or unreadable.
    #[error("read its arguments: {0}")]
    Usage(String),
    /// A variable is not set.
    #[error("find {0} in the environment")]
    Missing(&'static str),
    /// The system prompt is not there.
    #[error("read the system prompt {path}: {source}")]
    System {
        /// Where it should be.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Standard input failed.
    #[error("read the prompt: {0}")]
    Prompt(io::Error),
    /// There is nothing to ask.
    #[error("use an empty prompt")]
    Empty,
    /// The machine refused something basic.
    #[error("get ready: {0}")]
    Machine(io::Error),
    /// Standard output failed.
    #[error("write its output: {0}")]
    Output(io::Error),
}

/// Runs the verb with the words after it.
pub fn main(args: impl Iterator<Item = OsString>, clock: Clock) -> ExitCode {
    let code = read(args, clock).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(StartError::Machine)?.block_on(run(settings))
    });
    code.unwrap_or_else(|error| {
        // Nobody reads the answer if even this fails; the exit code remains.
        drop(writeln!(io::stderr(), "Error: podium __messages: could not {error}"));
        1
    })
    .into()
}

/// Reads `--model`, `--session-id`, `--system-prompt-file`, `--json-schema`, `--effort` and the two variables of the API.
fn read(mut args: impl Iterator<Item = OsString>, clock: Clock) -> Result<Settings, StartError> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty()).ok_or(StartError::Missing(name));
    let token = SecretString::from(variable("ANTHROPIC_API_KEY")?);
    let mut settings = Settings {
        api: api::Settings::new(variable("ANTHROPIC_BASE_URL")?, token),
        model: String::new(),
        session_id: String::new(),
        system: None,
        schema: None,
        effort: None,
        cwd: env::current_dir().map_err(StartError::Machine)?,
        clock,
    };
    while let Some(flag) = args.next() {
        let flag = flag.to_string_lossy().into_owned();
        let value = args.next().ok_or_else(|| StartError::Usage(format!("{flag} needs a value")))?;
        let text = || value.clone().into_string().or(Err(StartError::Usage(format!("{flag} is not UTF-8"))));
        match &*flag {
            "--model" => settings.model = text()?,
            "--session-id" => settings.session_id = text()?,
            "--system-prompt-file" => settings.system = Some(value.into()),
            "--json-schema" => {
                let schema = serde_json::from_str(&text()?);
                settings.schema = Some(schema.map_err(|error| StartError::Usage(format!("{flag}: {error}")))?);
            }
            "--effort" => {
                let effort = Effort::parse(&text()?);
                settings.effort =
                    Some(effort.ok_or_else(|| StartError::Usage(format!("{flag}: low, medium or high")))?);
            }
            _ => return Err(StartError::Usage(format!("unknown option '{flag}'"))),
        }
    }
    if settings.model.is_empty() {
        return Err(StartError::Usage("--model is missing".to_owned()));
    }
    if settings.session_id.is_empty() {
        settings.session_id = Uuid::now_v7().to_string();
    }
    settings.api.session_id = Some(settings.session_id.clone());
    Ok(settings)
}

/// Takes the prompt from standard input and speaks on standard output; the exit code is the CLI's.
async fn run(settings: Settings) -> Result<u8, StartError> {
    let mut prompt = Vec::new();
    // Until the prompt is there, a signal ends the process in the usual way.
    io::stdin().lock().read_to_end(&mut prompt).map_err(StartError::Prompt)?;
    let prompt = String::from_utf8_lossy(&prompt).into_owned();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Machine)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Machine)?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => Stop::Interrupted,
            _ = terminate.recv() => Stop::Terminated,
        }
    };
    converse(&settings, &prompt, io::stdout(), stopped).await
}

/// Why a call was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: what came so far is told, with a result that says so.
    Interrupted,
    /// SIGTERM: nothing more is told.
    Terminated,
}

/// Calls, tells, and returns the exit code. Each line reaches `out` in one write.
pub async fn converse(
    settings: &Settings,
    prompt: &str,
    out: impl Write,
    stopped: impl Future<Output = Stop>,
) -> Result<u8, StartError> {
    if prompt.trim().is_empty() {
        return Err(StartError::Empty);
    }
    let model = api::full_id(&settings.model);
    let mut request = Request::new(model, MAX_TOKENS, prompt);
    if let Some(path) = &settings.system {
        let system = fs::read_to_string(path).map_err(|source| StartError::System { path: path.clone(), source })?;
        if !system.trim().is_empty() {
            request = request.with_cached_system(system);
        }
    }
    if let Some(schema) = &settings.schema {
        request = request.with_schema(schema.clone());
    }
    // The small models know no effort and refuse the whole call for it.
    if let Some(effort) = settings.effort.filter(|_| !model.contains("haiku")) {
        request = request.with_effort(effort.word());
    }
    let mut teller = Teller {
        out,
        failed: None,
        session_id: settings.session_id.clone(),
        model: model.to_owned(),
        so_far: Reply::default(),
        told: 0,
        started: Instant::now(),
    };
    teller.init(&settings.cwd.to_string_lossy());
    let client = api::Client::new(settings.api.clone());
    let outcome = match client {
        Ok(client) => tokio::select! {
            answer = client.stream(&request, |heard| teller.hear(heard)) => Ok(answer),
            stop = stopped => Err(stop),
        },
        Err(error) => Ok(Err(error)),
    };
    let code = match outcome {
        Ok(Ok(reply)) => teller.answered(&reply, settings.schema.is_some()),
        Ok(Err(error)) => teller.failed(&error, &settings.clock),
        Err(Stop::Interrupted) => teller.interrupted(),
        Err(Stop::Terminated) => TERMINATED,
    };
    match teller.failed {
        Some(error) => Err(StartError::Output(error)),
        None => Ok(code),
    }
}

/// Tells what happens, line by line.
struct Teller<W> {
    out: W,
    failed: Option<io::Error>,
    session_id: String,
    model: String,
    so_far: Reply,
    /// Blocks that have had their line.
    told: usize,
    started: Instant,
}

impl<W: Write> Teller<W> {
    fn line(&mut self, mut line: Value) {
        line["session_id"] = json!(self.session_id);
        line["uuid"] = json!(Uuid::now_v7());
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        if let Err(error) = self.out.write_all(&bytes).and_then(|()| self.out.flush()) {
            self.failed.get_or_insert(error);
        }
    }

    fn init(&mut self, cwd: &str) {
        let line = json!({
            "type": "system", "subtype": "init", "cwd": cwd, "tools": [], "mcp_servers": [], "model": self.model,
            "permissionMode": "dontAsk", "apiKeySource": "ANTHROPIC_API_KEY", "engine": "messages",
        });
        self.line(line);
    }

    fn hear(&mut self, heard: Heard<'_>) {
        match heard {
            Heard::Retrying(retry) => self.retry(&retry),
            Heard::Event { event, data, request_id } => {
                self.so_far.apply(event);
                if self.so_far.request_id.is_none() {
                    self.so_far.request_id = request_id.map(str::to_owned);
                }
                match event {
                    Event::Ping => return,
                    Event::ContentBlockStop { index } => self.block(*index),
                    Event::MessageStart { .. }
                    | Event::ContentBlockStart { .. }
                    | Event::ContentBlockDelta { .. }
                    | Event::MessageDelta { .. }
                    | Event::MessageStop
                    | Event::Error { .. }
                    | Event::Unknown => {}
                }
                let event: Value = serde_json::from_str(data).unwrap_or_default();
                self.line(json!({ "type": "stream_event", "event": event, "parent_tool_use_id": null }));
            }
        }
    }

    fn retry(&mut self, retry: &Retry<'_>) {
        self.line(json!({
            "type": "system", "subtype": "api_retry", "attempt": retry.attempt, "max_retries": retry.allowed,
            "retry_delay_ms": u64::try_from(retry.wait.as_millis()).unwrap_or(u64::MAX),
            "error_status": retry.error.status(), "error": retry.error.word(),
        }));
    }

    /// One `assistant` line per content block, as the CLI does.
    fn block(&mut self, index: usize) {
        self.told = self.told.max(index.saturating_add(1));
        let Some(Block::Text { text }) = self.so_far.content.get(index) else { return };
        let line = json!({
            "type": "assistant", "parent_tool_use_id": null, "request_id": self.so_far.request_id,
            "message": {
                "id": self.so_far.id, "type": "message", "role": "assistant", "model": self.so_far.model,
                "content": [{ "type": "text", "text": text }], "stop_reason": null, "stop_sequence": null,
                "usage": usage(&self.so_far.usage),
            },
        });
        self.line(line);
    }

    /// A message that no model wrote, with the class of an error.
    fn synthetic(&mut self, text: &str, error: &str, stop: Option<StopReason>) {
        let line = json!({
            "type": "assistant", "parent_tool_use_id": null, "error": error, "is_api_error_message": true,
            "message": {
                "id": Uuid::now_v7(), "type": "message", "role": "assistant", "model": "<synthetic>",
                "content": [{ "type": "text", "text": text }], "stop_reason": stop.map(StopReason::word),
                "stop_sequence": "", "usage": usage(&Usage::default()),
            },
        });
        self.line(line);
    }

    fn result(&mut self, more: Value) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let spent = self.so_far.usage;
        let mut by_model = json!({});
        if spent != Usage::default() {
            let model = if self.so_far.model.is_empty() { &self.model } else { &self.so_far.model };
            by_model[model] = json!({
                "inputTokens": spent.input_tokens, "outputTokens": spent.output_tokens,
                "cacheReadInputTokens": spent.cache_read_input_tokens,
                "cacheCreationInputTokens": spent.cache_creation_input_tokens,
                "cacheCreationEphemeral1hInputTokens": spent.cache_creation_1h_input_tokens,
                "webSearchRequests": 0,
            });
        }
        let mut line = json!({
            "type": "result", "duration_ms": millis, "duration_api_ms": millis, "num_turns": 1, "usage": usage(&spent),
            "modelUsage": by_model, "permission_denials": [], "api_error_status": null,
            "stop_reason": self.so_far.stop_reason.map(StopReason::word),
        });
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        self.line(line);
    }

    fn answered(&mut self, reply: &Reply, wants_structure: bool) -> u8 {
        let text = reply.text();
        match reply.stop_reason {
            Some(StopReason::Refusal) => {
                self.line(json!({
                    "type": "system", "subtype": "model_refusal_no_fallback", "original_model": reply.model,
                    "request_id": reply.request_id,
                }));
                self.unfinished("The model refused to answer.", "invalid_request")
            }
            Some(StopReason::MaxTokens) => {
                self.unfinished(&format!("The answer was cut off at {MAX_TOKENS} tokens."), "max_output_tokens")
            }
            Some(StopReason::ModelContextWindowExceeded) => {
                self.unfinished("Prompt and answer filled the model's window.", "max_output_tokens")
            }
            // Without tools there is nothing to use and nothing to wait for: such a turn cannot go on.
            Some(StopReason::ToolUse | StopReason::PauseTurn) => {
                self.unfinished("The model asked for a tool, and this engine has none.", "unknown")
            }
            Some(StopReason::EndTurn | StopReason::StopSequence | StopReason::Unknown) | None => {
                let structured: Option<Value> = wants_structure.then(|| serde_json::from_str(&text).ok()).flatten();
                self.result(json!({
                    "subtype": "success", "is_error": false, "result": text, "structured_output": structured,
                    "terminal_reason": "completed",
                }));
                0
            }
        }
    }

    fn unfinished(&mut self, text: &str, error: &str) -> u8 {
        self.synthetic(text, error, self.so_far.stop_reason);
        self.result(json!({
            "subtype": "success", "is_error": true, "result": text, "terminal_reason": "api_error",
        }));
        1
    }

    fn failed(&mut self, error: &ApiError, clock: &Clock) -> u8 {
        if let (Some(429), Some(wait)) = (error.status(), error.retry_after()) {
            let wait = SignedDuration::try_from(wait).ok();
            let until = wait.and_then(|wait| clock.now().checked_add(wait).ok());
            self.line(json!({
                "type": "rate_limit_event",
                "rate_limit_info": { "status": "rejected", "resetsAt": until.map(jiff::Timestamp::as_second) },
            }));
        }
        let text = format!("API Error: could not {error}");
        self.synthetic(&text, error.word(), Some(StopReason::StopSequence));
        self.result(json!({
            "subtype": "success", "is_error": true, "result": text, "api_error_status": error.status(),
            "stop_reason": "stop_sequence",
            "terminal_reason": if error.is_overflow() { "prompt_too_long" } else { "api_error" },
        }));
        1
    }

    fn interrupted(&mut self) -> u8 {
        // What came so far, as the CLI tells it: the block that was open has had no line yet.
        if let Some(Block::Text { text }) = self.so_far.content.get(self.told)
            && !text.is_empty()
        {
            self.block(self.told);
        }
        self.result(json!({
            "subtype": "error_during_execution", "is_error": true, "errors": ["Request was interrupted."],
            "stop_reason": null, "terminal_reason": "aborted_streaming",
        }));
        1
    }
}

fn usage(usage: &Usage) -> Value {
    let hour = usage.cache_creation_1h_input_tokens;
    json!({
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.cache_creation_input_tokens.saturating_sub(hour),
            "ephemeral_1h_input_tokens": hour,
        },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn settings(base_url: String) -> Settings {
        let mut api = api::Settings::new(base_url, "token".to_owned().into());
        api.first_wait = Duration::from_millis(1);
        Settings {
            api,
            model: "sonnet".into(),
            session_id: "session-1".into(),
            system: None,
            schema: None,
            effort: None,
            cwd: "/work".into(),
            clock: Clock::fixed(jiff::Timestamp::UNIX_EPOCH),
        }
    }

    /// Answers one connection after the other with these texts.
    async fn serve(answers: Vec<String>) -> (String, tokio::task::JoinSet<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut piece = [0; 4096];
                let _ = stream.read(&mut piece).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        (url, server)
    }

    fn events(stop: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\nrequest-id: req_9\r\nconnection: close\r\n\r\n\
             data: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_1\",\"model\":\"claude-sonnet-5-5\",\"content\":[],\
             \"usage\":{{\"input_tokens\":5,\"cache_creation_input_tokens\":9,\"output_tokens\":1}}}}}}\n\n\
             data: {{\"type\":\"ping\"}}\n\n\
             data: {{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{{\"type\":\"text\",\"text\":\"\"}}}}\n\n\
             data: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"[1]\"}}}}\n\n\
             data: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n\
             data: {{\"type\":\"message_delta\",\"delta\":{{\"stop_reason\":\"{stop}\"}},\"usage\":{{\"output_tokens\":7}}}}\n\n\
             data: {{\"type\":\"message_stop\"}}\n\n"
        )
    }

    fn refusal(status: &str, headers: &str) -> String {
        let body = "{\"error\":{\"type\":\"e\",\"message\":\"no\"}}";
        format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    async fn run_with(settings: &Settings) -> (u8, Vec<Value>) {
        let mut out = Vec::new();
        let code = converse(settings, "hello", &mut out, std::future::pending()).await.unwrap();
        let text = String::from_utf8(out).unwrap();
        (code, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn kinds(lines: &[Value]) -> Vec<String> {
        let word = |v: &Value| v.as_str().map(str::to_owned);
        lines
            .iter()
            .map(|l| {
                word(&l["event"]["type"])
                    .or_else(|| word(&l["subtype"]))
                    .or_else(|| word(&l["type"]))
                    .unwrap_or_default()
            })
            .collect()
    }

    #[tokio::test]
    async fn an_answer_is_told_in_the_order_of_the_cli() {
        let (url, _server) = serve(vec![refusal("529 Busy", ""), events("end_turn")]).await;
        let (code, lines) = run_with(&settings(url)).await;
        assert_eq!(code, 0);
        assert_eq!(
            kinds(&lines),
            [
                "init",
                "api_retry",
                "message_start",
                "content_block_start",
                "content_block_delta",
                "assistant",
                "content_block_stop",
                "message_delta",
                "message_stop",
                "success"
            ]
        );
        assert!(lines.iter().all(|line| line["session_id"] == "session-1"));
        assert_eq!(lines[0]["model"], "claude-sonnet-5-5");
        assert_eq!((&lines[1]["error_status"], &lines[1]["error"]), (&json!(529), &json!("server_error")));
        assert_eq!(lines[5]["request_id"], "req_9");
        let result = lines.last().unwrap();
        assert_eq!((&result["is_error"], &result["result"]), (&json!(false), &json!("[1]")));
        assert_eq!(result["modelUsage"]["claude-sonnet-5-5"]["outputTokens"], 7);
        assert_eq!(result["usage"]["cache_creation"]["ephemeral_5m_input_tokens"], 9);
        assert!(result.get("total_cost_usd").is_none(), "we do not know prices here");
    }

    #[tokio::test]
    async fn with_a_schema_the_answer_is_also_given_as_data() {
        let (url, _server) = serve(vec![events("end_turn")]).await;
        let settings = Settings { schema: Some(json!({"type": "array"})), ..settings(url) };
        let (_, lines) = run_with(&settings).await;
        assert_eq!(lines.last().unwrap()["structured_output"], json!([1]));
    }

    #[tokio::test]
    async fn an_answer_that_is_none_ends_as_an_error() {
        for (stop, error) in
            [("refusal", "invalid_request"), ("max_tokens", "max_output_tokens"), ("tool_use", "unknown")]
        {
            let (url, _server) = serve(vec![events(stop)]).await;
            let (code, lines) = run_with(&settings(url)).await;
            let result = lines.last().unwrap();
            assert_eq!((code, &result["is_error"], &result["stop_reason"]), (1, &json!(true), &json!(stop)));
            assert_eq!(lines[lines.len() - 2]["error"], error);
        }
    }

    #[tokio::test]
    async fn a_refused_call_names_status_class_and_when_a_limit_clears() {
        let (url, _server) = serve(vec![refusal("429 Too Many", "retry-after: 900\r\n")]).await;
        let (code, lines) = run_with(&settings(url)).await;
        assert_eq!(
            (code, kinds(&lines)),
            (1, ["init", "rate_limit_event", "assistant", "success"].map(str::to_owned).to_vec())
        );
        assert_eq!(lines[1]["rate_limit_info"], json!({"status": "rejected", "resetsAt": 900}));
        assert_eq!(lines[2]["error"], "rate_limit");
        assert_eq!(lines[3]["api_error_status"], 429);
        assert_eq!(lines[3]["terminal_reason"], "api_error");
    }

    #[tokio::test]
    async fn an_interrupt_keeps_what_was_said_and_a_termination_says_nothing_more() {
        let (head, _) = events("end_turn")
            .split_once("data: {\"type\":\"content_block_stop\"")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        for (stop, code) in [(Stop::Interrupted, 1), (Stop::Terminated, TERMINATED)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let (tell, told) = tokio::sync::oneshot::channel::<()>();
            let head = head.clone();
            let mut server = tokio::task::JoinSet::new();
            server.spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut piece = [0; 4096];
                let _ = stream.read(&mut piece).await.unwrap();
                stream.write_all(head.as_bytes()).await.unwrap();
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
            });
            let mut out = Vec::new();
            let stopped = async {
                told.await.unwrap();
                // The words are on their way; give the client its turns to read them.
                tokio::time::sleep(Duration::from_millis(100)).await;
                stop
            };
            let ended = converse(&settings(url), "hello", &mut out, stopped).await.unwrap();
            let text = String::from_utf8(out).unwrap();
            let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(ended, code);
            match stop {
                Stop::Interrupted => {
                    assert_eq!(last["terminal_reason"], "aborted_streaming");
                    assert_eq!(last["usage"]["input_tokens"], 5);
                    assert!(text.contains("\"type\":\"assistant\""), "{text}");
                }
                Stop::Terminated => assert_eq!(last["type"], "stream_event"),
            }
        }
    }

    #[tokio::test]
    async fn an_empty_prompt_and_a_missing_system_prompt_are_told_before_any_call() {
        let mut settings = settings("http://127.0.0.1:9".into());
        let empty = converse(&settings, " \n", Vec::new(), std::future::pending()).await.unwrap_err();
        assert_eq!(empty.to_string(), "use an empty prompt");
        settings.system = Some("/nowhere/at/all.md".into());
        let missing = converse(&settings, "x", Vec::new(), std::future::pending()).await.unwrap_err();
        assert!(missing.to_string().starts_with("read the system prompt /nowhere/at/all.md:"), "{missing}");
    }

    #[tokio::test]
    async fn output_that_cannot_be_written_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (url, _server) = serve(vec![events("end_turn")]).await;
        assert!(converse(&settings(url), "x", Full, std::future::pending()).await.is_err());
    }
}
