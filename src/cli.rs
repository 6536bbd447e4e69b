//! The command line: one file per verb.
//!
//! Owns arguments, what is printed, and exit codes. Must not decide anything about tasks or goals: it asks the room, or
//! reads the replica it was given. Its one surprise: printing goes through one door, `out::Out`, so `--json` and a
//! closed pipe are dealt with once.

mod auth;
mod doctor;
mod examples;
mod ids;
mod init;
mod invite;
pub mod json;
mod limit;
pub mod link;
mod logs;
mod migrate;
mod orders;
mod out;
mod parent;
mod plan;
mod rehearse;
mod replay;
mod room;
mod run;
mod show;
mod status;
mod submit;
mod taste;
mod usage;
mod wait;
mod workflow;

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    attach::AttachError,
    config::{Config, ConfigError, Env, Flags, parse_wait},
    guardian,
    model::{Effort, EngineKind, MicroUsd, Priority},
};
use out::Out;

/// How a verb ended; the number is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The task or goal failed, or a check did.
    Failed = 1,
    /// Wrong use or configuration.
    Wrong = 2,
    /// Refused: budget, approval, limit, or the state does not allow it.
    Refused = 3,
    /// No room, or it cannot be reached.
    NoRoom = 4,
    /// Not done in the time given.
    TimedOut = 124,
    /// Ctrl+C.
    Interrupted = 130,
}

impl Exit {
    /// The exit of a process of ours that this one stands for.
    fn passed_on(code: u8) -> Self {
        let all = [Self::Done, Self::Wrong, Self::Refused, Self::NoRoom, Self::TimedOut, Self::Interrupted];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Failed)
    }
}

/// What a verb tells the operator when it cannot do as asked.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    /// Wrong use.
    #[error("{0}")]
    Wrong(String),
    /// The room said no.
    #[error("{0}")]
    Refused(String),
    /// No room is open, and the files do not say either.
    #[error("{0}")]
    NoRoom(String),
}

/// A terminal control room for a small company of AI agents.
#[derive(Debug, Parser)]
#[command(name = "podium", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    /// The stage [default: the nearest parent with a podium.toml, else the default stage]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    stage: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true, help_heading = "Everywhere")]
    json: bool,
    #[command(flatten)]
    room: RoomArgs,
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    /// Where tasks wait; where another room acts on that NATS server, its screen is opened
    #[arg(long, value_name = "URL")]
    queue: Option<String>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

const EXIT_CODES: &str = "Without a verb, podium opens the control room and starts its room if none is running.\n\n\
    Exit codes: 0 done, 1 the task or goal failed, 2 wrong use or configuration, 3 refused,\n\
    4 no room or not reachable, 124 timed out, 130 interrupted.";

/// What changes the configuration of a room that is started.
#[derive(Debug, Clone, Default, Args)]
struct RoomArgs {
    /// Send model calls to the built-in stand-in: no key, no network, no cost
    #[arg(long)]
    rehearse: bool,
    /// How slowly a rehearsal plays: 1 = made for watching, 0 = as fast as it can
    #[arg(long, value_name = "N")]
    pace: Option<f64>,
    /// The rehearsal's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Open a throw-away stage with the rehearsal stand-in and a goal already composed
    Rehearse(rehearse::RehearseArgs),
    /// Make a stage; never overwrites
    Init {
        /// The folder [default: --stage, else here]
        dir: Option<PathBuf>,
    },
    /// Run the room without a screen
    Serve(room::ServeArgs),
    /// Stop the room and its workers, or the workers of one agent
    Stop {
        /// Only this agent's workers; nothing more starts on it until `podium start`
        agent: Option<String>,
        /// Let running attempts end first
        #[arg(long)]
        drain: bool,
    },
    /// Start an agent's workers again that were stopped
    Start {
        /// The agent
        agent: String,
    },
    /// Run one worker process (the room starts these)
    Worker {
        /// The agent
        #[arg(required_unless_present_any = ["invited", "revoke"])]
        agent: Option<String>,
        /// Which of its slots
        #[arg(long, default_value_t = 0, value_name = "N")]
        slot: u32,
        /// Send model calls to the room's gateway on another machine, as this file says
        #[arg(long, value_name = "FILE", env = "PODIUM_INVITATION")]
        invitation: Option<PathBuf>,
        /// Start nothing: let a worker on another machine call this room's gateway, and print what it needs for that
        #[arg(long, requires = "agent", conflicts_with_all = ["invitation", "engine"])]
        invite: bool,
        /// Start nothing: tell by the exit code, 0 or 1, whether a worker serves this slot here
        #[arg(long, requires = "agent", conflicts_with_all = ["invite", "engine"])]
        alive: bool,
        /// Start nothing: list who is invited
        #[arg(long, conflicts_with = "agent")]
        invited: bool,
        /// Start nothing: take an invitation back
        #[arg(long, value_name = "ID", conflicts_with_all = ["agent", "invited"])]
        revoke: Option<String>,
        /// Where tasks wait
        #[arg(long, value_name = "URL")]
        queue: Option<String>,
        /// The engine the room found for this agent
        #[arg(long, hide = true, value_parser = engine)]
        engine: Option<EngineKind>,
        /// The room is a rehearsal
        #[arg(long, hide = true)]
        rehearse: bool,
        /// Stand for a worker on another machine
        #[arg(long, hide = true)]
        deputy: bool,
    },
    /// Ask who would do something, why, and what it would cost; starts nothing
    Ask {
        /// What, in plain words
        #[arg(required = true)]
        text: Vec<String>,
        /// As a follow-up on a goal that has ended
        #[arg(long, value_name = "GOAL")]
        follows: Option<String>,
    },
    /// Submit a goal, wait, print the report
    Run(run::RunArgs),
    /// Run, check or write a workflow: a plan in a file, which no model wrote
    #[command(subcommand)]
    Workflow(workflow::WorkflowVerb),
    /// Submit one task, or a workflow, and print its id
    Submit(submit::SubmitArgs),
    /// Agents, tasks, goals, limits and money
    Status,
    /// One task or goal, with every attempt
    Show {
        /// A task (`marie/x`, or `x` when only one agent has it) or a goal (`g1`)
        id: String,
    },
    /// Wait until tasks or goals have ended
    Wait {
        /// Tasks or goals
        #[arg(required = true)]
        ids: Vec<String>,
        /// Give up after this long, such as 10m
        #[arg(long, value_parser = wait_text, value_name = "TIME")]
        timeout: Option<Duration>,
    },
    /// Start tasks again
    Retry(orders::RetryArgs),
    /// Let a silent attempt live longer
    Extend {
        /// The task
        id: String,
        /// How much longer, such as 10m
        #[arg(long, value_parser = wait_text, value_name = "TIME", default_value = "10m")]
        by: Duration,
    },
    /// Say how urgent tasks are that have not ended
    Priority {
        /// Tasks
        #[arg(required = true)]
        ids: Vec<String>,
        /// critical, urgent, high, normal, low, or 0 (first) to 9 (last)
        #[arg(value_parser = priority)]
        priority: Priority,
    },
    /// Throw tasks away that do not run, or files that were set aside
    Remove {
        /// Tasks, or paths as `podium status` shows them
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// Bring back what was thrown away
    Restore {
        /// Tasks, or paths as they were
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// End tasks or goals
    Cancel {
        /// Tasks or goals
        #[arg(required = true)]
        ids: Vec<String>,
    },
    /// A goal's plan as graph and list, and changes of it before it starts or while it runs
    Plan(plan::PlanArgs),
    /// Say yes to a goal's plan, or to what an agent asks for
    Approve {
        /// The goal (`g1`), or the request (`p1`) as `podium status` names it
        id: String,
        /// Allow that tool for the rest of the task, not only this once
        #[arg(long, conflicts_with = "ceiling")]
        always: bool,
        /// Start nothing more of it once it has cost so many dollars
        #[arg(long, value_name = "USD", value_parser = dollars)]
        ceiling: Option<MicroUsd>,
    },
    /// Answer what the orchestrator asks about a goal before it plans, or what an agent asks you
    Answer {
        /// The goal (`g1`), or the request (`p1`) as `podium status` names it
        id: String,
        /// In plain words; to an agent also the label or number of a choice, several as `1,3`; one argument per question
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// Say no to a goal's plan, leave its question unanswered, or deny what an agent asks for
    Deny {
        /// The goal (`g1`), or the request (`p1`) as `podium status` names it
        id: String,
    },
    /// Start nothing more on an agent, on an account, or of a task; a resume that was planned is taken back
    Pause {
        /// An agent, an account as `podium status` names it, or a task
        name: String,
    },
    /// Start again on an agent, on an account that is parked, or with a task that is paused
    Resume {
        /// An agent, an account as `podium status` names it, or a task
        name: String,
        /// When its limit clears, and not now
        #[arg(long)]
        when_clear: bool,
    },
    /// Say what a model group's calls may take per minute on each account; the server's own limits hold all the same
    Limit(limit::LimitArgs),
    /// Start an agent's workers anew, each when what it runs has ended
    Restart {
        /// The agent
        agent: String,
    },
    /// Log an agent's CLI in, in that agent's own home
    Auth {
        /// The agent
        agent: String,
    },
    /// Open the Claude CLI in an agent's own home, here: to log in, or to look round
    Attach {
        /// The agent
        agent: String,
    },
    /// Tokens and money, and what caching and cheaper models saved; needs no room
    Usage(usage::UsageArgs),
    /// What agents said
    Logs(logs::LogsArgs),
    /// Write down everything a room says, with logs and reports, for `podium replay`
    Record(replay::RecordArgs),
    /// Show a run that is over on the same screens, forwards and backwards
    Replay(replay::ReplayArgs),
    /// Print what a view shows, of now or of a replay's moment, as text or as an SVG picture
    Snapshot(replay::SnapshotArgs),
    /// Move the stage's whole queue to a NATS server, or home from one; no room may be open
    Migrate(migrate::MigrateArgs),
    /// What is ready and what is not, each with its remedy
    Doctor {
        /// Also list every setting and where it came from
        #[arg(long)]
        settings: bool,
        /// Look at this NATS server instead of the configured one
        #[arg(long, value_name = "URL")]
        queue: Option<String>,
    },
}

/// Who says yes to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Approve {
    /// A person
    Ask,
    /// Nobody, while it stays within the budget
    Auto,
    /// Nobody: only the plan is made
    Never,
}

fn wait_text(text: &str) -> Result<Duration, String> {
    parse_wait(text)
}

fn priority(text: &str) -> Result<Priority, String> {
    Priority::parse(text).ok_or_else(|| "critical, urgent, high, normal, low, or 0 (first) to 9 (last)".to_owned())
}

fn dollars(text: &str) -> Result<MicroUsd, String> {
    let amount: Option<f64> = text.trim_start_matches('$').parse().ok().filter(|n: &f64| n.is_finite() && *n > 0.0);
    amount.map(MicroUsd::from_dollars).ok_or_else(|| "dollars, such as 2.50".to_owned())
}

fn effort(text: &str) -> Result<Effort, String> {
    Effort::parse(text).ok_or_else(|| "low, medium or high".to_owned())
}

fn engine(text: &str) -> Result<EngineKind, String> {
    [EngineKind::Claude, EngineKind::Messages, EngineKind::Command]
        .into_iter()
        .find(|kind| kind.word() == text)
        .ok_or_else(|| "claude, messages or command".to_owned())
}

/// Everything a verb is given.
struct Call {
    out: Out,
    env: Env,
    flags: Flags,
}

impl Call {
    /// The configuration of the stage that is meant.
    fn config(&self) -> Result<Config, ConfigError> {
        Config::find(&self.env, &self.flags)
    }
}

/// Parses the arguments of this process, does what they say, and tells how it ended.
pub fn main() -> u8 {
    match parsed(std::env::args_os()) {
        // The screen is a child, so that somebody is left to give the terminal back.
        Ok(cli) if cli.takes_the_terminal() => parent::main(),
        Ok(cli) => run(cli) as u8,
        Err(code) => code,
    }
}

/// The hidden verb `podium __screen PID ARG…`: what [`main`] is without a parent, for the child of process PID.
pub fn screen(mut args: impl Iterator<Item = OsString>) -> u8 {
    let parent = args.next().and_then(|word| word.to_str()?.parse().ok());
    // Nothing else runs in this process yet, and its parent has one thread: only then does the death signal mean this.
    if let Err(error) = guardian::end_with(parent.unwrap_or_default()) {
        return fail(&Out::new(false, false), &anyhow::Error::from(error).context("could not open the screen")) as u8;
    }
    match parsed(std::iter::once(OsString::from("podium")).chain(args)) {
        Ok(cli) => run(cli) as u8,
        Err(code) => code,
    }
}

/// What these words say; otherwise it was said what is wrong with them, and this is the exit code.
fn parsed(words: impl Iterator<Item = OsString>) -> Result<Cli, u8> {
    Cli::try_parse_from(words).map_err(|error| {
        // Help and version arrive here too; clap knows which goes where.
        let _printed = error.print();
        u8::try_from(error.exit_code()).unwrap_or(Exit::Wrong as u8)
    })
}

impl Cli {
    /// Whether these arguments open the control room, here.
    fn takes_the_terminal(&self) -> bool {
        let opens = match &self.verb {
            None | Some(Verb::Replay(_)) => true,
            Some(Verb::Rehearse(args)) => args.has_screen(),
            Some(_) => false,
        };
        opens && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
    }
}

/// Does what the arguments say.
pub fn run(cli: Cli) -> Exit {
    let Cli { stage, json, room, ascii, queue, verb } = cli;
    let env = match Env::of_process() {
        Ok(env) => env,
        Err(error) => {
            let out = Out::new(json, false);
            return fail(&out, &anyhow::Error::from(error).context("could not find the current folder"));
        }
    };
    let out = Out::new(json, env.os("NO_COLOR").is_none());
    let are_ours = ascii || queue.is_some() || room.rehearse || room.pace.is_some() || room.seed.is_some();
    if verb.is_some() && are_ours {
        let trouble = Trouble::Wrong(
            "--rehearse, --pace, --seed, --queue and --ascii go after the verb, or without one".to_owned(),
        );
        return fail(&out, &trouble.into());
    }
    let mut call = Call { out, env, flags: Flags { stage, ..Flags::default() } };
    let ended = match verb {
        None => {
            room.apply(&mut call.flags);
            call.flags.queue = queue;
            room::open(&call, room::Opening { ascii, goal: None })
        }
        Some(verb) => dispatch(&mut call, verb),
    };
    match ended {
        Ok(exit) => exit,
        Err(error) => fail(&call.out, &error),
    }
}

impl RoomArgs {
    fn apply(&self, flags: &mut Flags) {
        flags.rehearse = self.rehearse;
        flags.pace = self.pace;
        flags.seed = self.seed;
    }
}

fn dispatch(call: &mut Call, verb: Verb) -> anyhow::Result<Exit> {
    match verb {
        Verb::Rehearse(args) => rehearse::rehearse(call, &args),
        Verb::Init { dir } => init::init(call, dir),
        Verb::Serve(args) => room::serve(call, &args),
        Verb::Stop { agent: None, drain } => client(room::stop(call, drain)),
        Verb::Stop { agent: Some(agent), drain } => client(orders::stop_agent(call, &agent, drain)),
        Verb::Start { agent } => client(orders::start_agent(call, &agent)),
        Verb::Worker { agent: Some(agent), invite: true, .. } => invite::invite(call, &agent),
        Verb::Worker { agent: Some(agent), slot, alive: true, .. } => room::alive(call, &agent, slot),
        Verb::Worker { revoke: Some(id), .. } => invite::revoke(call, &id),
        Verb::Worker { agent: None, .. } => invite::list(call),
        Verb::Worker { agent: Some(agent), slot, invitation, queue, engine, rehearse, deputy, .. } => {
            call.flags.queue = queue;
            call.flags.rehearse = rehearse;
            room::worker(call, &agent, slot, engine, invitation.as_deref(), deputy)
        }
        Verb::Ask { text, follows } => client(run::ask(call, &text, follows.as_deref())),
        Verb::Run(args) => client(run::run(call, &args)),
        Verb::Workflow(verb) => client(workflow::workflow(call, &verb)),
        Verb::Submit(args) => client(submit::submit(call, &args)),
        Verb::Status => client(status::status(call)),
        Verb::Show { id } => client(show::show(call, &id)),
        Verb::Wait { ids, timeout } => client(wait::wait(call, &ids, timeout)),
        Verb::Retry(args) => client(orders::retry(call, &args)),
        Verb::Extend { id, by } => client(orders::extend(call, &id, by)),
        Verb::Priority { ids, priority } => client(orders::prioritise(call, &ids, priority)),
        Verb::Remove { ids } => client(orders::remove(call, &ids)),
        Verb::Restore { ids } => client(orders::restore(call, &ids)),
        Verb::Cancel { ids } => client(orders::cancel(call, &ids)),
        Verb::Plan(args) => client(plan::plan(call, &args)),
        Verb::Approve { id, always, ceiling } => client(orders::approve(call, &id, always, ceiling)),
        Verb::Answer { id, text } => client(orders::answer(call, &id, &text)),
        Verb::Deny { id } => client(orders::deny(call, &id)),
        Verb::Restart { agent } => client(orders::restart(call, &agent)),
        Verb::Pause { name } => client(orders::pause(call, &name)),
        Verb::Resume { name, when_clear } => client(orders::resume(call, &name, when_clear)),
        Verb::Limit(args) => client(limit::limit(call, &args)),
        Verb::Auth { agent } => client(auth::auth(call, &agent)),
        Verb::Attach { agent } => block_on(auth::attach(call, &agent)),
        Verb::Usage(args) => usage::usage(call, &args),
        Verb::Logs(args) => client(logs::logs(call, &args)),
        Verb::Record(args) => block_on(replay::record(call, &args)),
        Verb::Replay(args) => replay::replay(call, &args),
        Verb::Snapshot(args) => replay::snapshot(call, &args),
        Verb::Migrate(args) => client(migrate::migrate(call, &args)),
        Verb::Doctor { settings, queue } => {
            call.flags.queue = queue;
            client(doctor::doctor(call, settings))
        }
    }
}

/// Runs something to its end.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Runs a client's verb to its end or to Ctrl+C.
fn client(verb: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            ended = verb => ended,
            _pressed = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        }
    })
}

/// Says what went wrong and finds the exit code for it.
fn fail(out: &Out, error: &anyhow::Error) -> Exit {
    let exit = if error.is::<ConfigError>() {
        Exit::Wrong
    } else if error.is::<link::ReadOnly>() {
        Exit::Refused
    } else if let Some(error) = error.downcast_ref::<AttachError>() {
        match error {
            AttachError::NoRoom
            | AttachError::Io { .. }
            | AttachError::Version { .. }
            | AttachError::Closed
            | AttachError::Silent { .. }
            | AttachError::Unreadable(_) => Exit::NoRoom,
        }
    } else {
        match error.downcast_ref::<Trouble>() {
            Some(Trouble::Wrong(_)) => Exit::Wrong,
            Some(Trouble::Refused(_)) => Exit::Refused,
            Some(Trouble::NoRoom(_)) => Exit::NoRoom,
            None => Exit::Failed,
        }
    };
    let mut message = format!("{error:#}");
    if matches!(error.downcast_ref(), Some(AttachError::NoRoom)) {
        message = format!("{message}; {}", link::HOW_TO_OPEN);
    }
    if out.is_json() {
        out.json(&json::Failure { error: message, exit: exit as u8 });
    } else {
        out.error(&message);
    }
    exit
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_and_argument_says_what_it_is_for() {
        for verb in Cli::command().get_subcommands() {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
            for arg in verb.get_arguments() {
                assert!(arg.get_help().is_some(), "{} {}", verb.get_name(), arg.get_id());
            }
        }
    }
}
