//! `podium logs`: what agents said, cleaned. Reads the files; needs no room.

use std::{
    collections::HashMap,
    sync::{atomic::AtomicBool, mpsc},
    thread,
    time::Duration,
};

use clap::Args;

use super::{Call, Exit, Trouble, ids::known_agent, json, out::Paint};
use crate::{
    config::Config,
    logs::{Extent, Found, LogFile, Pattern, Stream, catalog, context, search},
    model::{
        AgentName, LogScope, TaskRef,
        log::{Kind, LogFrom, LogHit, LogReading, Show, TimedLine},
    },
};

/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Findings that wait to be printed; a search that is faster than its reader waits.
const AHEAD: usize = 64;

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
    /// Only lines that match this regular expression, through everything on disk: ended attempts, standard error, the
    /// trash; exit code 1 when there are none
    #[arg(long, value_name = "RE")]
    grep: Option<String>,
    /// With --grep: capitals and small letters are the same
    #[arg(short, long, requires = "grep")]
    ignore_case: bool,
    /// With --grep: so many lines before and after each
    #[arg(short = 'C', long, value_name = "N", default_value_t = 0, requires = "grep", conflicts_with = "follow")]
    context: usize,
}

pub(super) async fn logs(call: &Call, args: &LogsArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let scopes = scopes(&config, args)?;
    let pattern = match &args.grep {
        Some(pattern) => {
            let pattern = if args.ignore_case { format!("(?i:{pattern})") } else { pattern.clone() };
            let compiled = Pattern::new(&pattern, true);
            Some(compiled.map_err(|why| Trouble::Wrong(format!("--grep is no regular expression: {why}")))?)
        }
        None => None,
    };
    match pattern {
        Some(pattern) if !args.follow => Ok(grep(call, &config, &scopes, &pattern, args.context)),
        pattern => read(call, &config, scopes, pattern.as_ref(), args.follow).await,
    }
}

/// What is meant; a task without its agent may be several agents'.
fn scopes(config: &Config, args: &LogsArgs) -> anyhow::Result<Vec<LogScope>> {
    let known: Vec<AgentName> = config.agents.iter().map(|a| a.name.clone()).collect();
    let agent = args.agent.as_deref().map(|name| known_agent(&known, name)).transpose()?;
    let Some(task) = &args.task else {
        return Ok(vec![agent.map_or(LogScope::All, LogScope::Agent)]);
    };
    let (agents, id) = match task.split_once('/') {
        Some((agent, id)) => (vec![known_agent(&known, agent)?], id),
        None => (agent.map_or(known, |agent| vec![agent]), task.as_str()),
    };
    // A name that can be no task's has no logs.
    let Ok(id) = id.parse() else { return Ok(Vec::new()) };
    Ok(agents.into_iter().map(|agent| LogScope::Task(TaskRef::new(agent, std::clone::Clone::clone(&id)))).collect())
}

/// Prints everything, in the order of its time, and what follows.
async fn read(
    call: &Call,
    config: &Config,
    scopes: Vec<LogScope>,
    pattern: Option<&Pattern>,
    follow: bool,
) -> anyhow::Result<Exit> {
    let wanted = |line: &TimedLine| pattern.is_none_or(|pattern| pattern.text().is_match(&line.line.text));
    let mut any = false;
    let mut streams = Vec::new();
    for scope in scopes {
        let reading = LogReading { scope, raw: false, show: Show::All };
        let mut stream = Stream::open(&config.stage, reading);
        stream.everything(&LogFrom::Start, !follow, &|| false, &mut |line| {
            any = true;
            if wanted(&line) {
                print(call, &line, false);
            }
            !call.out.is_closed()
        });
        streams.push(stream);
    }
    if !any && !follow {
        call.out.note("nothing has been said yet");
    }
    while follow && !call.out.is_closed() {
        tokio::time::sleep(LOOK).await;
        for stream in &mut streams {
            while let Some(part) = stream.more(&|| false).filter(|part| !part.lines.is_empty()) {
                part.lines.iter().filter(|line| wanted(line)).for_each(|line| print(call, line, false));
            }
        }
    }
    Ok(Exit::Done)
}

/// Prints what matches as it is found: the newest logs first, each log in its own order.
fn grep(call: &Call, config: &Config, scopes: &[LogScope], pattern: &Pattern, around: usize) -> Exit {
    let files: Vec<LogFile> =
        scopes.iter().flat_map(|scope| catalog::find(&config.stage, scope, Extent::Everything)).collect();
    let stop = AtomicBool::new(false);
    let (tell, found) = mpsc::sync_channel(AHEAD);
    let mut printed = Printed { last: HashMap::new(), around, any: false };
    thread::scope(|scope| {
        let stop = &stop;
        scope.spawn(move || {
            search::by_file(files, pattern, stop, &|news| match news {
                Found::Hits(hits) => tell.send(hits).is_ok(),
                Found::Read(_) => true,
            })
        });
        for hits in found {
            for hit in hits {
                printed.hit(call, config, &hit);
            }
            if call.out.is_closed() {
                // Nobody reads any more; the search notices with its next finding, or at once.
                stop.store(true, std::sync::atomic::Ordering::Relaxed);
            }
        }
    });
    if printed.any { Exit::Done } else { Exit::Failed }
}

/// What of each log has been printed.
struct Printed {
    last: HashMap<String, (u64, u32)>,
    around: usize,
    any: bool,
}

impl Printed {
    fn hit(&mut self, call: &Call, config: &Config, hit: &LogHit) {
        let between = std::mem::replace(&mut self.any, true) && self.around > 0;
        if self.around == 0 {
            return print(call, &hit.line(), false);
        }
        let place = hit.place();
        let (lines, here) = context(&config.stage, &hit.log, &place, &hit.text, self.around);
        let last = self.last.get(&hit.log.path).copied();
        let is_new = |line: &TimedLine| last.is_none_or(|last| (line.line.offset, line.nth) > last);
        if between && lines.first().is_none_or(is_new) && !call.out.is_json() {
            call.out.line("--");
        }
        for (n, line) in lines.iter().enumerate().filter(|(_, line)| is_new(line)) {
            if n == here { print(call, &hit.line(), false) } else { print(call, line, true) }
        }
        if !lines.get(here).is_some_and(is_new) {
            // It was printed as another one's neighbour.
            print(call, &hit.line(), false);
        }
        if let Some(line) = lines.last() {
            let end = (line.line.offset, line.nth);
            self.last.insert(hit.log.path.clone(), last.map_or(end, |last| last.max(end)));
        }
    }
}

fn print(call: &Call, line: &TimedLine, beside: bool) {
    let (log, line, at) = (&line.log, &line.line, line.at);
    let paint = match line.kind {
        _ if beside => Paint::Dim,
        Kind::Text | Kind::Raw => Paint::Plain,
        Kind::Tool | Kind::System => Paint::Dim,
        Kind::Agent => Paint::Good,
        Kind::Error => Paint::Bad,
    };
    if call.out.is_json() {
        call.out.json_line(&json::LogLine {
            agent: log.agent.as_str(),
            task_id: log.task.as_deref(),
            attempt: log.attempt,
            kind: line.kind.word(),
            depth: line.depth,
            text: &line.text,
            log: &log.path,
            offset: line.offset,
            at,
            context: beside,
        });
        return;
    }
    let indent = "  ".repeat(usize::from(line.depth));
    let head = call.out.paint(Paint::Dim, &format!("{:<28} {:<6}", log.to_string(), line.kind.word()));
    call.out.line(&format!("{head} {indent}{}", call.out.paint(paint, &line.text)));
}
