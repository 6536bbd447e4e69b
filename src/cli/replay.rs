//! `podium record`, `podium replay` and `podium snapshot`: a run kept, shown again, and put into pictures.
//!
//! Its one surprise: a picture of a replay depends on the recording and the arguments alone, never on this machine's
//! files, clock, zone or terminal; so two machines draw the same bytes.

use std::{
    fs::{self, File},
    io::{BufWriter, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::{Call, Exit, Trouble, json, link, taste};
use crate::{
    attach::{
        client::dial,
        wire::{Hello, Tell},
    },
    config::{Config, Flags, stage::FILE},
    model::slip::nearest,
    room::State,
    runtime::{
        feed::Feed,
        picture::{self, Subject},
        replay::{Player, Tape, reel::Reel},
    },
    tui::{
        self, Action,
        action::{VERBS, Verb},
        keymap::Chord,
        taste::Depth,
        theme::Theme,
    },
};

/// The file of a recording, in its folder.
const RUN: &str = "run.jsonl";

/// `podium record`.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// A new folder for the recording
    dir: PathBuf,
}

/// `podium replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// A recording, or a stage or its journal [default: this stage]
    path: Option<PathBuf>,
    /// Begin there: so long after the beginning (90s, 5m), or a time
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
}

/// `podium snapshot`.
#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    /// As SVG, not as text
    #[arg(long)]
    svg: bool,
    /// What is shown: a verb such as tasks, plan, log, limits, help; again and again
    #[arg(long, value_name = "VERB")]
    view: Vec<String>,
    /// Keys that are pressed then, such as `j j enter`
    #[arg(long, value_name = "KEYS")]
    keys: Option<String>,
    /// Columns and rows
    #[arg(long, value_name = "WxH", default_value = "120x40")]
    size: String,
    /// The theme: terminal, dark, light, contrast, or one of yours
    #[arg(long, value_name = "NAME", default_value = "terminal")]
    theme: String,
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
    /// Of a recording, or of a stage's or journal's past
    #[arg(long, value_name = "PATH")]
    replay: Option<PathBuf>,
    /// The moment of it: so long after the beginning (90s, 5m), or a time [default: its end]
    #[arg(long, value_name = "TIME", requires = "replay")]
    at: Option<String>,
    /// Into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Writes down what a room says until it closes or somebody presses Ctrl+C.
pub(super) async fn record(call: &Call, args: &RecordArgs) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let dir = call.env.cwd.join(&args.dir);
    fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
    let path = dir.join(RUN);
    let file = File::options().write(true).create_new(true).open(&path);
    let mut out = BufWriter::new(file.with_context(|| format!("could not make {}", path.display()))?);
    let mut wire = dial(&config.stage, &Hello::Screen { version: env!("CARGO_PKG_VERSION").to_owned() }).await?;
    let began = link::clock().now();
    let (mut state, mut events) = (State::default(), 0_usize);
    call.out.note(&format!("recording into {}; Ctrl+C ends it", dir.display()));
    loop {
        let line = tokio::select! {
            line = wire.next() => line,
            _pressed = tokio::signal::ctrl_c() => None,
        };
        let Some(Ok(line)) = line else { break };
        match serde_json::from_str(&line).context("the room said something that is no line of ours")? {
            Tell::Snapshot(snapshot) => state = *snapshot,
            Tell::Tasks(piece) => state.add(piece),
            Tell::Whole => state.rebuild(),
            Tell::Event(event) => {
                drop(state.update(*event));
                events += 1;
            }
            Tell::Beat | Tell::Answer(..) => continue,
            Tell::Bye(why) => {
                if events == 0 && state.version.is_empty() {
                    return Err(Trouble::NoRoom(why).into());
                }
                break;
            }
        }
        // Each line at once: a recorder that is killed leaves all but the last.
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    let copied = keep(&config, &state, began, &dir)?;
    if call.out.is_json() {
        call.out.json(&json::Recorded { dir: dir.display().to_string(), events, files: copied });
        return Ok(Exit::Done);
    }
    call.out.line(&format!(
        "{events} events and {copied} logs and reports in {}; `podium replay {}` shows them",
        dir.display(),
        args.dir.display()
    ));
    Ok(Exit::Done)
}

/// Copies the logs of what ran meanwhile, and the reports.
fn keep(config: &Config, state: &State, began: Timestamp, dir: &Path) -> anyhow::Result<usize> {
    let attempts = state.tasks.iter().flat_map(|task| &task.record.attempts);
    let ran = attempts.filter(|attempt| attempt.ended_at.is_none_or(|ended| ended >= began));
    let mut files: Vec<PathBuf> = Vec::new();
    for attempt in ran {
        files.push(PathBuf::from(&attempt.log));
        files.push(Path::new(&attempt.log).with_extension("times"));
    }
    files.extend(state.goals.iter().filter_map(|goal| goal.report.as_ref().map(PathBuf::from)));
    let mut copied = 0;
    for file in files {
        let (from, to) = (config.stage.join(&file), dir.join(&file));
        if !from.is_file() {
            continue;
        }
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        fs::copy(&from, &to).with_context(|| format!("could not copy {}", from.display()))?;
        copied += usize::from(file.extension().is_none_or(|end| end != "times"));
    }
    Ok(copied)
}

/// `podium replay`.
pub(super) fn replay(call: &Call, args: &ReplayArgs) -> anyhow::Result<Exit> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        let text = "a replay needs a terminal; `podium snapshot --replay` prints one moment".to_owned();
        return Err(Trouble::Wrong(text).into());
    }
    let (tape, root) = super::block_on(find(call, args.path.as_deref()))?;
    let mut player = Player::new(tape);
    if let Some(at) = &args.at {
        player.seek(moment(at, &player)?);
    }
    let reel = Reel::open(&root).context("could not make a folder for the logs")?;
    reel.until(player.now()).context("could not copy the logs")?;
    let setup = link::Setup {
        stage: root,
        settings: tui::Settings { zone: TimeZone::UTC, ..taste::settings(&call.env, args.ascii)? },
        ..link::Setup::default()
    };
    let left = link::screen(setup, async { Ok(Feed::Tape(Box::new(player), reel).into()) })?;
    Ok(if left.is_some() { Exit::Done } else { Exit::Interrupted })
}

/// `podium snapshot`.
pub(super) fn snapshot(call: &Call, args: &SnapshotArgs) -> anyhow::Result<Exit> {
    let size = size(&args.size)?;
    let verbs = args.view.iter().map(|name| verb(name)).collect::<Result<Vec<_>, _>>()?;
    let keys = args.keys.as_deref().unwrap_or_default().split_whitespace();
    let keys = keys.map(key).collect::<Result<Vec<_>, _>>()?;
    let mut slips = Vec::new();
    let theme = taste::theme(call.env.config_dir.as_deref(), &args.theme, Depth::True, &mut slips);
    let names = tui::theme::BUILT_IN.map(|(name, _)| name).join(", ");
    let theme: Theme =
        theme.ok_or_else(|| Trouble::Wrong(format!("there is no theme {}; there are {names}", args.theme)))?;
    if let Some(slip) = slips.first() {
        call.out.note(&slip.to_string());
    }
    let settings = tui::Settings { ascii: args.ascii, theme, zone: TimeZone::UTC, ..tui::Settings::default() };
    let frame = if let Some(path) = &args.replay {
        let (tape, root) = super::block_on(find(call, Some(path)))?;
        let mut player = Player::new(tape);
        let at = args.at.as_deref().map(|at| moment(at, &player)).transpose()?;
        player.seek(at.unwrap_or(Timestamp::MAX));
        let reel = Reel::open(&root).context("could not make a folder for the logs")?;
        reel.until(player.now()).context("could not copy the logs")?;
        let (now, moment) = (player.now(), Some(player.moment()));
        let subject = Subject { state: player.state(), now, logs: reel.path(), stage: &root, moment };
        picture::draw(subject, settings, size, &verbs, &keys)?
    } else {
        let config = call.config()?;
        let picture = super::block_on(link::look(&config, &call.env))?;
        let settings = tui::Settings { zone: TimeZone::system(), ..settings };
        let (state, now) = (picture.state(), link::clock().now());
        let subject = Subject { state, now, logs: &config.stage, stage: &config.stage, moment: None };
        picture::draw(subject, settings, size, &verbs, &keys)?
    };
    let title = format!("podium: {}", if args.view.is_empty() { "the stage".to_owned() } else { args.view.join(", ") });
    let text = if args.svg { tui::svg::svg(&frame, &title) } else { picture::text(&frame) };
    if call.out.is_json() && args.output.is_none() {
        call.out.json(&json::Snapshot { columns: size.0, rows: size.1, svg: args.svg, picture: text });
        return Ok(Exit::Done);
    }
    match &args.output {
        Some(file) => {
            let file = call.env.cwd.join(file);
            fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
        }
        None => call.out.line(text.trim_end_matches('\n')),
    }
    Ok(Exit::Done)
}

/// The tape that is meant, and the folder with its logs and reports.
async fn find(call: &Call, path: Option<&Path>) -> anyhow::Result<(Tape, PathBuf)> {
    let Some(path) = path else {
        let config = call.config()?;
        return Ok((Tape::of_stage(&config, link::clock()).await?, config.stage));
    };
    let path = call.env.cwd.join(path);
    if !path.exists() {
        return Err(Trouble::Wrong(format!("there is no {}", path.display())).into());
    }
    if path.join(RUN).is_file() {
        return Ok((Tape::recorded(&path.join(RUN))?, path));
    }
    // A stage, or something in its private folder.
    let private = path.parent().filter(|parent| parent.file_name().is_some_and(|name| name == ".podium"));
    let stage = if path.is_dir() { Some(path.as_path()) } else { private.and_then(Path::parent) };
    if let Some(stage) = stage {
        if !stage.join(FILE).is_file() && !stage.join(".podium").is_dir() {
            let text = format!("{} is no recording (it has no {RUN}) and no stage", stage.display());
            return Err(Trouble::Wrong(text).into());
        }
        let config = Config::load(stage, &call.env, &Flags::default())?;
        return Ok((Tape::of_stage(&config, link::clock()).await?, config.stage));
    }
    let root = path.parent().unwrap_or(&path).to_owned();
    Ok((Tape::recorded(&path)?, root))
}

/// A moment of a tape: so long after its beginning, or a time.
fn moment(text: &str, player: &Player) -> Result<Timestamp, Trouble> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let after: Option<SignedDuration> = text.parse().ok();
    let at = after.and_then(|after| player.moment().begin.checked_add(after).ok());
    at.ok_or_else(|| Trouble::Wrong(format!("{text} is no moment: write 90s, 5m, or 2026-11-28T14:02:00Z")))
}

fn size(text: &str) -> Result<(u16, u16), Trouble> {
    let size = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    let size = size.filter(|(width, height)| (1..=1_000).contains(width) && (1..=1_000).contains(height));
    size.ok_or_else(|| Trouble::Wrong(format!("{text} is no size: write 120x40")))
}

fn verb(name: &str) -> Result<Action, Trouble> {
    if let Some(verb) = VERBS.iter().find(|verb| verb.id() == name) {
        return Ok(verb.action);
    }
    let known: Vec<_> = VERBS.iter().map(Verb::id).collect();
    let meant = nearest(name, &known).map(|meant| format!("; did you mean {meant}?")).unwrap_or_default();
    Err(Trouble::Wrong(format!("there is no verb {name}{meant}")))
}

fn key(text: &str) -> Result<Chord, Trouble> {
    Chord::parse(text).ok_or_else(|| Trouble::Wrong(format!("{text} is no key")))
}
