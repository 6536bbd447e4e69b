//! What a request asks for, read from its text: a plan, a task, a sub-agent's part, a report, or something else.

use serde_json::Value;

use super::{
    fault::{self, Directive, Fault},
    meter::Prefix,
    planner, seed,
};
use crate::orchestrator::{brief, plan, review, synthesis};

/// Opens what the stand-in lets a sub-agent do.
pub(super) const SUBTASK: &str = "# Second look";

/// The kinds of requests that are answered in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A plan for a goal.
    Plan,
    /// A task of a plan, or one that somebody dropped in.
    Task,
    /// A part of a task, from a sub-agent that the stand-in itself asked for.
    SubTask,
    /// A report on a goal.
    Report,
    /// A second look at a result.
    Review,
    /// A short name for a conversation, which the CLI asks for beside its work.
    Title,
    /// Anything else.
    Other,
}

/// A tool that the caller offers.
#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

/// A request, read.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) model: String,
    pub(super) stream: bool,
    /// The prompt that counts: the task, goal or question.
    pub(super) prompt: String,
    /// All system text.
    pub(super) system: String,
    /// The schema that the answer must fit.
    pub(super) schema: Option<Value>,
    /// Tools on offer.
    pub(super) tools: Vec<Tool>,
    /// Turns with tool calls since the prompt.
    pub(super) steps: usize,
    /// Tool calls in the whole conversation: in a session that was taken up again also those before the prompt.
    pub(super) calls: usize,
    /// The caller has the sub-agent for second looks that podium lays out.
    pub(super) has_second_look: bool,
    /// The folder the caller works in, where the request names it.
    pub(super) folder: Option<String>,
    /// Every prefix that ends at a block, shortest first.
    pub(super) prefixes: Vec<Prefix>,
}

impl Asked {
    /// Reads a body; the reason of a refusal follows the words of the real API.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let whole = body;
        let body: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let model = body["model"].as_str().ok_or("model: Field required")?.to_owned();
        let messages = body["messages"].as_array().ok_or("messages: Field required")?;
        if messages.is_empty() {
            return Err("messages: at least one message is required".to_owned());
        }
        let system = texts(&body["system"]).join("\n");
        let (at, prompt) = prompt(messages);
        let steps = messages.iter().skip(at + 1).filter(|m| tool_uses(m) > 0).count();
        let calls = messages.iter().map(tool_uses).sum();
        let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
        let kind = kind(&prompt, &system, has_tools);
        let all_text = || messages.iter().flat_map(|m| texts(&m["content"])).collect::<Vec<_>>().join("\n");
        let folder = folder(&system).or_else(|| folder(&all_text()));
        let config = &body["output_config"]["format"]["schema"];
        let schema = [config, &body["output_format"]["schema"]].into_iter().find(|s| s.is_object()).cloned();
        let tools = body["tools"].as_array().into_iter().flatten();
        let tools = tools
            .filter_map(|tool| {
                Some(Tool { name: tool["name"].as_str()?.to_owned(), schema: tool["input_schema"].clone() })
            })
            .collect();
        let stream = body["stream"].as_bool().unwrap_or(false);
        let prefixes = prefixes(&body);
        let has_second_look = memchr::memmem::find(whole, b"second-look:").is_some();
        Ok(Self { kind, model, stream, prompt, system, schema, tools, steps, calls, has_second_look, folder, prefixes })
    }

    /// Tokens of the whole request.
    pub(super) fn tokens(&self) -> u64 {
        self.prefixes.last().map_or(0, |p| p.tokens)
    }

    /// Of everything that decides about the answer.
    pub(super) fn hash(&self, seed: u64) -> u64 {
        let whole = self.prefixes.last().map_or(0, |p| p.hash);
        seed::fold(seed::of(&[&seed.to_string(), &self.model]), &whole.to_le_bytes())
    }

    /// Whether a tool of this name is offered.
    pub(super) fn offers(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    /// The prompt's own words, without what other agents found: their words must not cause faults here.
    pub(super) fn own_words(&self) -> &str {
        let ends = [
            "\nIt worked from these",
            "\nIts agent answered",
            "\n# Results of earlier tasks",
            "\n# The attempt before this one",
            "\n# Your answer",
        ];
        ends.iter().fold(&*self.prompt, |text, end| text.split_once(end).map_or(text, |(head, _)| head))
    }

    /// Faults asked for. A goal keeps its own for the tasks that come of it.
    pub(super) fn directives(&self) -> Vec<Directive> {
        match self.kind {
            Kind::Task | Kind::Review | Kind::Other => fault::directives(self.own_words()),
            Kind::Plan => {
                let mut all = fault::directives(&planner::goal(&self.prompt));
                all.retain(|directive| matches!(directive.fault, Fault::Plan(_)));
                all
            }
            Kind::SubTask | Kind::Report | Kind::Title => Vec::new(),
        }
    }

    /// What stays the same over all attempts at one task.
    pub(super) fn task_key(&self) -> String {
        match self.kind {
            // A repair is another request for the same goal.
            Kind::Plan => planner::goal(&self.prompt),
            Kind::Task | Kind::Review | Kind::SubTask | Kind::Report | Kind::Title | Kind::Other => {
                self.own_words().to_owned()
            }
        }
    }

    /// `marie/g1-notes` of a task.
    pub(super) fn reference(&self) -> Option<(&str, &str)> {
        let line = self.prompt.strip_prefix(brief::HEADING)?.lines().next()?;
        line.split_whitespace().next()?.split_once('/')
    }
}

fn kind(prompt: &str, system: &str, has_tools: bool) -> Kind {
    if prompt.starts_with(plan::HEADING) {
        Kind::Plan
    } else if prompt.starts_with(synthesis::HEADING) {
        Kind::Report
    } else if prompt.starts_with(review::HEADING) {
        Kind::Review
    } else if prompt.starts_with(SUBTASK) {
        Kind::SubTask
    } else if prompt.starts_with(brief::HEADING) {
        Kind::Task
    } else if system.contains("title") && !has_tools {
        Kind::Title
    } else {
        Kind::Other
    }
}

/// The text blocks of a content that is a text or a list of blocks.
fn texts(content: &Value) -> Vec<&str> {
    match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// Tool calls of a message.
fn tool_uses(message: &Value) -> usize {
    let blocks = message["content"].as_array().into_iter().flatten();
    blocks.filter(|block| message["role"] == "assistant" && block["type"] == "tool_use").count()
}

/// The last text of a user that opens with a heading of ours, else the last that is no reminder of the CLI; and where.
fn prompt(messages: &[Value]) -> (usize, String) {
    let headings = [plan::HEADING, synthesis::HEADING, review::HEADING, brief::HEADING, SUBTASK];
    let said = |wanted: &dyn Fn(&str) -> bool| {
        messages.iter().enumerate().rev().filter(|(_, m)| m["role"] == "user").find_map(|(at, message)| {
            let text = texts(&message["content"]).into_iter().rev().find(|text| wanted(text.trim()))?;
            Some((at, text.trim().to_owned()))
        })
    };
    said(&|text| headings.iter().any(|heading| text.starts_with(heading)))
        .or_else(|| said(&|text| !text.is_empty() && !text.starts_with("<system-reminder>")))
        .unwrap_or_default()
}

/// The folder after words like `Working directory: /somewhere`.
fn folder(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let at = line.to_ascii_lowercase().find("working directory")?;
        let rest = line.get(at..)?;
        let path = rest.get(rest.find('/')?..)?;
        let end = path.find(|c: char| c.is_whitespace() || matches!(c, '`' | '"' | '\'' | '<' | ',' | ';'));
        let path = path.get(..end.unwrap_or(path.len()))?.trim_end_matches(['.', '/']);
        (!path.is_empty()).then(|| path.to_owned())
    })
}

/// Walks tools, system and messages as the cache does.
fn prefixes(body: &Value) -> Vec<Prefix> {
    let mut prefixes = Vec::new();
    let mut hash = 0;
    let mut characters = 0_u64;
    let mut add = |block: &Value| {
        let mut block = block.clone();
        let control = block.as_object_mut().and_then(|fields| fields.remove("cache_control"));
        let keep = control.filter(Value::is_object).map(|c| if c["ttl"] == "1h" { 3600 } else { 300 });
        // The CLI sends a text as a block while it is marked and as a bare text afterwards.
        if let Value::String(text) = block {
            block = serde_json::json!({ "type": "text", "text": text });
        }
        let text = block.to_string();
        hash = seed::fold(hash, text.as_bytes());
        characters += text.chars().count() as u64;
        prefixes.push(Prefix { hash, tokens: characters.div_ceil(4), keep });
    };
    for part in ["tools", "system"] {
        match &body[part] {
            Value::Array(blocks) => blocks.iter().for_each(&mut add),
            Value::Null => {}
            text => add(text),
        }
    }
    for message in body["messages"].as_array().into_iter().flatten() {
        match &message["content"] {
            Value::Array(blocks) => blocks.iter().for_each(&mut add),
            text => add(text),
        }
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: &Value) -> Asked {
        Asked::read(json!({"model": "m", "messages": messages}).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_task_is_found_behind_reminders_and_tool_results() {
        let asked = read(&json!([
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>\nbe good\n</system-reminder>"},
                {"type": "text", "text": "# Task anga/g1-fix\n\nFix it.\n# Results of earlier tasks\n[[rehearse:refuse]]"},
            ]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "ok"}]},
        ]));
        assert_eq!((asked.kind, asked.steps), (Kind::Task, 1));
        assert_eq!(asked.reference(), Some(("anga", "g1-fix")));
        assert_eq!(asked.directives(), [], "what another agent wrote makes no fault");
    }

    #[test]
    fn the_working_folder_is_read_from_many_spellings() {
        for line in ["Primary working directory: /w/a b", "- Working directory: `/w/a`.", "working directory is /w/a/."]
        {
            assert_eq!(folder(&format!("x\n{line}\ny")).as_deref(), Some("/w/a"), "{line}");
        }
        assert_eq!(folder("your working directory"), None);
    }

    #[test]
    fn a_marked_block_hashes_like_an_unmarked_one_and_like_a_bare_text() {
        let marked = read(
            &json!([{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]}]),
        );
        let plain = read(&json!([{"role": "user", "content": [{"type": "text", "text": "a"}]}]));
        let bare = read(&json!([{"role": "user", "content": "a"}]));
        assert_eq!(marked.prefixes[0].hash, plain.prefixes[0].hash);
        assert_eq!(marked.prefixes[0].hash, bare.prefixes[0].hash);
        assert_eq!((marked.prefixes[0].keep, plain.prefixes[0].keep), (Some(300), None));
    }
}
