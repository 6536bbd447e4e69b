//! `podium logs`: what agents said, cleaned. Reads the files; needs no room.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use regex::Regex;

use super::{Call, Exit, Trouble, ids::known_agent, json, out::Paint};
use crate::{
    claude::log::{Kind, LogLine, Reader},
    config::Config,
    model::AgentName,
};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// `podium logs`.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// Only this agent
    agent: Option<String>,
    /// Only this task: `x`, or `marie/x`
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Only lines that match this regular expression
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
}

/// One log and how far it has been read.
struct Log {
    agent: AgentName,
    task: Option<String>,
    attempt: Option<u32>,
    path: PathBuf,
    shown: String,
    at: u64,
    reader: Reader,
}

pub(super) async fn logs(call: &Call, args: &LogsArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let known: Vec<AgentName> = config.agents.iter().map(|a| a.name.clone()).collect();
    let mut agents = match &args.agent {
        Some(name) => vec![known_agent(&known, name)?],
        None => known.clone(),
    };
    let mut task = args.task.clone();
    if let Some((agent, id)) = args.task.as_deref().and_then(|t| t.split_once('/')) {
        agents = vec![known_agent(&known, agent)?];
        task = Some(id.to_owned());
    }
    let grep = match &args.grep {
        Some(pattern) => {
            Some(Regex::new(pattern).map_err(|e| Trouble::Wrong(format!("--grep is no regular expression: {e}")))?)
        }
        None => None,
    };
    let mut logs: BTreeMap<PathBuf, Log> = BTreeMap::new();
    let mut order = find(&config, &agents, task.as_deref(), &mut logs);
    if order.is_empty() && !args.follow {
        call.out.note("nothing has been said yet");
    }
    loop {
        for path in &order {
            let Some(log) = logs.get_mut(path) else { continue };
            while let Some(lines) = log.read(!args.follow) {
                for line in lines {
                    if grep.as_ref().is_none_or(|re| re.is_match(&line.text)) {
                        print(call, log, &line);
                    }
                }
            }
        }
        if !args.follow || call.out.is_closed() {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK).await;
        order = find(&config, &agents, task.as_deref(), &mut logs);
    }
}

/// Every log that is meant, the oldest first; new ones are added to `logs`.
fn find(config: &Config, agents: &[AgentName], task: Option<&str>, logs: &mut BTreeMap<PathBuf, Log>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for agent in agents {
        let Ok(entries) = fs::read_dir(config.layout().agent_logs(agent)) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".log")) else {
                continue;
            };
            let (id, attempt) = match name.rsplit_once('.') {
                Some((id, n)) => (Some(id.to_owned()), n.parse().ok()),
                None => (Some(name.to_owned()), None),
            };
            // A link to a log is one by design; a FIFO would hold us for ever.
            let Some(meta) = fs::metadata(&path).ok().filter(fs::Metadata::is_file) else { continue };
            if task.is_some_and(|task| id.as_deref() != Some(task)) {
                continue;
            }
            found.push((meta.created().or_else(|_| meta.modified()).ok(), path.clone()));
            logs.entry(path.clone()).or_insert_with(|| Log {
                agent: agent.clone(),
                task: id,
                attempt,
                shown: path.strip_prefix(&config.stage).unwrap_or(&path).display().to_string(),
                path,
                at: 0,
                reader: Reader::default(),
            });
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

impl Log {
    /// The lines of the next piece; `None` when there is nothing more now. At the end a line that was never ended is
    /// handed out too, unless more may follow.
    fn read(&mut self, to_the_end: bool) -> Option<Vec<LogLine>> {
        let bytes = piece(&self.path, self.at).unwrap_or_default();
        if bytes.is_empty() {
            let last = if to_the_end { self.reader.finish() } else { Vec::new() };
            return (!last.is_empty()).then_some(last);
        }
        self.at += bytes.len() as u64;
        Some(self.reader.feed(&bytes))
    }
}

fn piece(path: &Path, at: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.take(PIECE as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn print(call: &Call, log: &Log, line: &LogLine) {
    let (kind, paint) = match line.kind {
        Kind::Text => ("text", Paint::Plain),
        Kind::Tool => ("tool", Paint::Dim),
        Kind::Agent => ("agent", Paint::Good),
        Kind::Error => ("error", Paint::Bad),
        Kind::System => ("system", Paint::Dim),
        Kind::Raw => ("raw", Paint::Plain),
    };
    if call.out.is_json() {
        call.out.json_line(&json::LogLine {
            agent: log.agent.as_str(),
            task_id: log.task.as_deref(),
            attempt: log.attempt,
            kind,
            depth: line.depth,
            text: &line.text,
            log: &log.shown,
            offset: line.offset,
        });
        return;
    }
    let name = match (&log.task, log.attempt) {
        (Some(task), Some(n)) => format!("{}/{task}#{n}", log.agent),
        (Some(task), None) => format!("{}/{task}", log.agent),
        (None, _) => log.agent.to_string(),
    };
    let indent = "  ".repeat(usize::from(line.depth));
    let head = call.out.paint(Paint::Dim, &format!("{name:<28} {kind:<6}"));
    call.out.line(&format!("{head} {indent}{}", call.out.paint(paint, &line.text)));
}
