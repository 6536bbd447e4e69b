//! The roles from the command line: `podium`, `podium serve`, `podium stop`, `podium worker`.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use clap::Args;
use tokio::time::{Instant, sleep};

use super::{
    Call, Exit, RoomArgs, Trouble, client,
    ids::known_agent,
    json,
    link::{self, Left, Link, Met},
    taste,
};
use crate::{
    attach::AttachError,
    config::{Config, Flags},
    gateway::{Closed, Invitation},
    model::{AgentName, EngineKind, SlotId},
    queue::{
        file::{FileQueue, Unfit},
        nats::{self, shown},
    },
    room::{Answer, Order},
    runtime::{feed::Feed, serve::Guardian},
    supervisor,
    tui::{self, Leave},
};

/// `podium serve`.
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    #[command(flatten)]
    room: RoomArgs,
    /// Run in the background
    #[arg(long)]
    detach: bool,
    /// Leave the caller's session; what `--detach` starts
    #[arg(long, hide = true, conflicts_with = "detach")]
    background: bool,
    /// Be the core of the room whose guardian this is; what the guardian starts
    #[arg(long, hide = true, conflicts_with = "detach", value_name = "PID")]
    core: Option<u32>,
    /// A child of the guardian that is none of the room's
    #[arg(long, hide = true, requires = "core", value_name = "PID")]
    stranger: Vec<i32>,
}

/// How the control room is opened.
pub(super) struct Opening {
    pub(super) ascii: bool,
    pub(super) goal: Option<String>,
}

/// How long a room may take to open.
const OPENING: Duration = Duration::from_secs(20);

/// How long a room may take from closing its socket to its end.
const LEAVING: Duration = Duration::from_secs(20);

/// `podium`: the screen, and a room if there is none.
pub(super) fn open(call: &Call, opening: Opening) -> anyhow::Result<Exit> {
    use io::IsTerminal;
    let config = call.config()?;
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(
            Trouble::Wrong("the control room needs a terminal; try `podium status` or `podium --help`".into()).into()
        );
    }
    let attention = tui::Attention {
        bell: *config.attention.bell,
        desktop: tui::Desktop::parse(&config.attention.desktop).unwrap_or_default(),
        quiet: *config.attention.quiet,
    };
    let setup = link::Setup {
        stage: config.stage.clone(),
        settings: tui::Settings { attention, ..taste::settings(&call.env, opening.ascii)? },
        composed: opening.goal,
        keeps: true,
        homes: homes(call, &config),
        queue: Some(link::reader(&config)),
        templates: call.env.config_dir.as_ref().map(|folder| folder.join("templates")),
    };
    let left = if link::read_only(&config).is_some() {
        link::screen(setup, link::shown(&config, &call.env))?
    } else {
        open_room(call, &config, setup)?
    };
    let Some(Left { leave, whose, is_over }) = left else { return Ok(Exit::Interrupted) };
    match whose {
        Some(whose) => {
            let now = if is_over { "it has left" } else { "it goes on" };
            call.out.note(&format!("this was {whose}; {now}"));
        }
        None if leave == Leave::Detach && link::read_only(&config).is_none() => {
            call.out.note("the room and its agents go on; `podium` shows them again, `podium stop` ends them");
        }
        None => {}
    }
    Ok(Exit::Done)
}

/// Where each agent's own CLI is at home.
fn homes(call: &Call, config: &Config) -> BTreeMap<AgentName, link::Home> {
    let program = config.find_claude(&call.env).ok_or_else(|| super::auth::no_cli(config));
    let home = |name: &AgentName| link::Home { program: program.clone(), folder: config.home(name.as_str()) };
    config.enabled().map(|agent| (agent.name.clone(), home(&agent.name))).collect()
}

/// The screen on a stage that a room may write to.
fn open_room(call: &Call, config: &Config, setup: link::Setup) -> anyhow::Result<Option<Left>> {
    prepare(config)?;
    let connect = async {
        if let Some(link) = there(config).await? {
            if call.flags.rehearse {
                return Err(Trouble::Wrong(
                    "a room is running on this stage; --rehearse is for a new one (`podium stop` first)".into(),
                )
                .into());
            }
            if let Some(queue) = &call.flags.queue
                && link.state().server.as_ref().is_none_or(|server| server.address != shown(queue))
            {
                return Err(Trouble::Wrong(
                    "a room is running on this stage, and not over that server (`podium stop` first)".into(),
                )
                .into());
            }
            return Ok(Feed::room(link).into());
        }
        let feed = Feed::Opening(Box::new(link::before(config, &call.env)));
        // The screen is drawn while the room's process starts.
        let (config, flags) = (config.clone(), call.flags.clone());
        let opening = async move { Box::pin(opened(&config, &flags)).await };
        Ok(link::Shown { opening: Some(Box::pin(opening)), ..feed.into() })
    };
    link::screen(setup, connect)
}

/// The room of the server that this stage names, where another one acts on it; else a new room of the stage.
async fn opened(config: &Config, flags: &Flags) -> anyhow::Result<Met> {
    // A rehearsal is asked for here.
    let is_looked_for = !flags.rehearse;
    if is_looked_for && let Some(met) = Box::pin(link::elsewhere(config)).await? {
        return Ok(met);
    }
    match Begun::start(config, flags)?.answers().await {
        Ok(link) => Ok(Met::here(link, &config.stage)),
        // Somebody was faster, or did not hear us at first.
        Err(error) if is_looked_for && matches!(error.downcast_ref(), Some(Trouble::Refused(_))) => {
            Box::pin(link::elsewhere(config)).await?.ok_or(error)
        }
        Err(error) => Err(error),
    }
}

/// `podium serve`.
pub(super) fn serve(call: &mut Call, args: &ServeArgs) -> anyhow::Result<Exit> {
    args.room.apply(&mut call.flags);
    let config = call.config()?;
    prepare(&config)?;
    if let Some(pid) = args.core {
        let guardian = Guardian { pid, strangers: args.stranger.clone() };
        return role(link::core(&config, &call.env, guardian));
    }
    if !args.detach {
        if args.background {
            // A group leader cannot leave its session, and then has one of its own already.
            let _left = rustix::process::setsid();
        }
        return match link::serve(&config) {
            Ok(code) => Ok(Exit::passed_on(code)),
            Err(error) => role(Err::<(), _>(error)),
        };
    }
    let out = call.out.clone();
    let flags = call.flags.clone();
    client(async move {
        let (link, is_new) = ensure(&config, &flags).await?;
        let state = link.state();
        if out.is_json() {
            out.json(&json::Serving { stage: config.stage.display().to_string(), pid: state.pid, started: is_new });
        } else {
            let word = if is_new { "is open" } else { "was open already" };
            out.line(&format!("the room {word} (process {}); `podium stop` ends it", state.pid));
        }
        Ok(Exit::Done)
    })
}

/// `podium stop`.
pub(super) async fn stop(call: &Call, drain: bool) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let Some(mut link) = there(&config).await? else {
        call.out.note("no room is running on this stage");
        if call.out.is_json() {
            call.out.json(&json::Done { text: "no room is running".to_owned(), ids: Vec::new() });
        }
        return Ok(Exit::Done);
    };
    match link.order(Order::Stop { drain }).await {
        Ok(Answer::Done { text, .. }) => call.out.note(&text),
        Ok(Answer::Refused { reason }) => return Err(Trouble::Refused(reason).into()),
        // It may be gone before its answer arrives; that is what was asked for.
        Err(AttachError::Closed) => {}
        Err(error) => return Err(error.into()),
    }
    gone(link).await?;
    if call.out.is_json() {
        call.out.json(&json::Done { text: "the room is closed".to_owned(), ids: Vec::new() });
    } else {
        call.out.line("the room is closed");
    }
    Ok(Exit::Done)
}

/// Waits until the room at the other end has closed its socket and its process has ended.
pub(super) async fn gone(mut link: Link) -> anyhow::Result<()> {
    loop {
        match link.next().await {
            Ok(_news) => {}
            Err(AttachError::Closed) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let pid = link.state().pid;
    match tokio::time::timeout(LEAVING, supervisor::gone(pid)).await {
        Ok(gone) => gone.with_context(|| format!("could not watch the room's process {pid} end")),
        Err(_elapsed) => anyhow::bail!("the room has closed its socket and its process {pid} still runs"),
    }
}

/// `podium worker`.
pub(super) fn worker(
    call: &Call,
    agent: &str,
    slot: u32,
    engine: Option<EngineKind>,
    invitation: Option<&Path>,
    deputy: bool,
) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let known: Vec<_> = config.enabled().map(|a| a.name.clone()).collect();
    let agent = known_agent(&known, agent)?;
    let slots = config.enabled().find(|a| a.name == agent).map_or(0, |a| *a.slots);
    if slot >= slots {
        return Err(
            Trouble::Wrong(format!("{agent} has {slots} slots, counted from 0; there is no slot {slot}")).into()
        );
    }
    let invitation = match invitation.map(Invitation::read).transpose() {
        Ok(Some(invitation)) if invitation.agent != agent => {
            let whose = &invitation.agent;
            return Err(Trouble::Wrong(format!("the invitation is for {whose}, and this worker is {agent}'s")).into());
        }
        Ok(invitation) => invitation,
        Err(error) => return Err(Trouble::Wrong(format!("could not {error}")).into()),
    };
    prepare(&config)?;
    role(link::worker(&config, &call.env, agent, slot, engine, invitation, deputy))
}

/// `podium worker --alive`: for whoever watches a container from outside.
pub(super) fn alive(call: &Call, agent: &str, slot: u32) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let known: Vec<_> = config.agents.iter().map(|a| a.name.clone()).collect();
    let slot = SlotId { agent: known_agent(&known, agent)?, index: slot };
    let record = supervisor::find(&config.stage, &slot).context("could not look for the worker")?;
    if call.out.is_json() {
        call.out.json(&json::Alive { slot: slot.to_string(), pid: record.as_ref().map(|record| record.pid) });
    }
    Ok(if record.is_some() { Exit::Done } else { Exit::Failed })
}

/// Makes the stage's folders, on a disk that can keep them.
fn prepare(config: &Config) -> anyhow::Result<()> {
    FileQueue::fits(&config.stage).map_err(|unfit| Trouble::Wrong(unfit.to_string()))?;
    config.prepare().context("could not prepare the stage").map(drop)
}

/// Connects to the room of a stage, and starts one in the background when there is none; true when it was started.
pub(super) async fn ensure(config: &Config, flags: &Flags) -> anyhow::Result<(Link, bool)> {
    match there(config).await? {
        Some(link) => Ok((link, false)),
        None => Ok((Begun::start(config, flags)?.answers().await?, true)),
    }
}

/// The room of a stage, where one is open. One that is just opening, or closing, is waited for.
async fn there(config: &Config) -> anyhow::Result<Option<Link>> {
    answer_of(&config.stage, || Ok(link::is_held(&config.stage))).await
}

/// The room of a stage, called for as long as it `may_answer`, and no longer than a room takes to open.
async fn answer_of(stage: &Path, mut may_answer: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<Option<Link>> {
    let begun = Instant::now();
    loop {
        match Link::connect(stage).await {
            Ok(link) => return Ok(Some(link)),
            Err(AttachError::NoRoom) if begun.elapsed() < OPENING && may_answer()? => {}
            Err(AttachError::NoRoom) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        sleep(again(begun.elapsed())).await;
    }
}

/// When a room that does not answer yet is called again: soon at first, most are open in a moment.
fn again(waited: Duration) -> Duration {
    (waited / 16).clamp(Duration::from_millis(1), Duration::from_millis(200))
}

/// A room in the background that has been started and has not answered yet.
struct Begun {
    stage: PathBuf,
    child: std::process::Child,
    log: PathBuf,
    /// How long its log was before.
    begin: u64,
}

impl Begun {
    fn start(config: &Config, flags: &Flags) -> anyhow::Result<Self> {
        let logs = config.layout().logs();
        fs::create_dir_all(&logs).with_context(|| format!("could not make {}", logs.display()))?;
        let log = logs.join("room.log");
        let (child, begin) = start(&config.stage, flags, &log)?;
        Ok(Self { stage: config.stage.clone(), child, log, begin })
    }

    /// Waits for its first answer.
    async fn answers(mut self) -> anyhow::Result<Link> {
        let may_answer = || match self.child.try_wait()? {
            // Somebody may have been faster: then that room is as good.
            Some(status) if !link::is_held(&self.stage) => {
                if status.code() == Some(i32::from(Exit::Refused as u8)) {
                    let said = tail(&self.log, self.begin);
                    let reason = said.lines().last().unwrap_or_default().trim_start_matches("podium: ");
                    return Err(Trouble::Refused(reason.to_owned()).into());
                }
                anyhow::bail!("the room did not open ({status}):\n{}", tail(&self.log, self.begin));
            }
            Some(_) | None => Ok(true),
        };
        let answer = answer_of(&self.stage, may_answer).await?;
        answer.with_context(|| format!("the room did not open in {} s; see {}", OPENING.as_secs(), self.log.display()))
    }
}

/// Starts `podium serve` in a session of its own; also tells how long its log was before.
fn start(stage: &Path, flags: &Flags, log: &Path) -> anyhow::Result<(std::process::Child, u64)> {
    let own = std::env::current_exe().context("could not find podium's own program")?;
    let file = OpenOptions::new().create(true).append(true).open(log);
    let file: File = file.with_context(|| format!("could not open {}", log.display()))?;
    let begin = file.metadata().map_or(0, |m| m.len());
    let mut command = Command::new(own);
    command.arg("serve").arg("--background").arg("--stage").arg(stage);
    if flags.rehearse {
        command.arg("--rehearse");
    }
    if let Some(pace) = flags.pace {
        command.arg("--pace").arg(pace.to_string());
    }
    if let Some(seed) = flags.seed {
        command.arg("--seed").arg(seed.to_string());
    }
    if let Some(queue) = &flags.queue {
        // Its deputies read it there too.
        command.env("PODIUM_QUEUE", queue);
    }
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).current_dir(stage);
    Ok((command.spawn().context("could not start the room")?, begin))
}

/// What was added to a log, its last lines.
fn tail(log: &PathBuf, begin: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let added = bytes.get(usize::try_from(begin).unwrap_or_default()..).unwrap_or_default();
    let text = String::from_utf8_lossy(added);
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
}

/// How a role ended, as an exit code.
fn role<T>(ended: anyhow::Result<T>) -> anyhow::Result<Exit> {
    match ended {
        Ok(_) => Ok(Exit::Done),
        Err(error) if link::is_taken(&error) => Err(Trouble::Refused(format!("{error:#}")).into()),
        Err(error) if error.is::<nats::Unfit>() => Err(Trouble::Wrong(format!("{error:#}")).into()),
        Err(error) if error.is::<Unfit>() || error.is::<Closed>() => Err(Trouble::Wrong(format!("{error:#}")).into()),
        Err(error) => Err(error),
    }
}
