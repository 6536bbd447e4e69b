//! `podium rehearse`: a throw-away stage with the stand-in, for seeing podium without a key.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;

use super::{
    Call, Exit, Trouble, client,
    examples::{Begin, Example},
    link::{self, Link},
    room::{self, Opening, ensure, gone},
    run::{How, see_through, submit},
    workflow::{self, Which},
};
use crate::{
    config::{Config, Flags},
    room::Order,
};

/// `podium rehearse`.
#[derive(Debug, Args)]
pub(super) struct RehearseArgs {
    /// The goal, in plain words [default: a sample]
    goal: Vec<String>,
    /// Run one of the six examples; its files are laid out in the stage's examples/
    #[arg(long, value_enum, value_name = "NAME", conflicts_with = "goal")]
    example: Option<Example>,
    /// Run the goal without a screen and print the report
    #[arg(long)]
    headless: bool,
    /// 1 = made for watching, 0 = as fast as it can [default: 1, headless 0]
    #[arg(long, value_name = "N")]
    pace: Option<f64>,
    /// The same seed and goal play the same way
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Make the stage here [default: a new folder for temporary files]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Draw with ASCII only
    #[arg(long)]
    ascii: bool,
}

impl RehearseArgs {
    /// Whether it is watched, on a screen.
    pub(super) fn has_screen(&self) -> bool {
        !self.headless
    }
}

/// The stage's file: a rehearsal for as long as it exists.
const FILE: &str = "# A rehearsal: every model call goes to the built-in stand-in. Nothing here costs anything.\n\
    [upstream]\nurl = \"rehearsal:\"\n";

pub(super) fn rehearse(call: &mut Call, args: &RehearseArgs) -> anyhow::Result<Exit> {
    let stage = stage(call, args)?;
    call.flags = Flags {
        stage: Some(stage.clone()),
        pace: args.pace.or(args.headless.then_some(0.0)),
        seed: args.seed,
        ..Flags::default()
    };
    let begin = match args.example {
        Some(example) => example.lay_out(&stage)?,
        None if args.goal.is_empty() => Begin::Goal(link::SAMPLE_GOAL.to_owned()),
        None => Begin::Goal(args.goal.join(" ")),
    };
    if matches!(&begin, Begin::Goal(goal) if goal.trim().is_empty()) {
        return Err(Trouble::Wrong("the goal is empty".to_owned()).into());
    }
    let config = call.config()?;
    config.init().context("could not make the stage")?;
    if !args.headless {
        let goal = match begin {
            Begin::Goal(goal) => Some(goal),
            Begin::Workflow(which) => {
                client(submitted(call, &config, &which))?;
                None
            }
        };
        return room::open(call, Opening { ascii: args.ascii, goal });
    }
    let ended = client(headless(call, &config, begin));
    // Whatever happened, a room that was started for this is not left behind.
    client(close(&config))?;
    call.out.note(&format!("the stage is left in {}", stage.display()));
    ended
}

/// Opens the room and puts a workflow before whoever will look at the screen.
async fn submitted(call: &Call, config: &Config, which: &Which) -> anyhow::Result<Exit> {
    let (link, _) = ensure(config, &call.flags).await?;
    drop(link);
    workflow::start(call, config, which, &How::for_screen()).await?;
    Ok(Exit::Done)
}

async fn headless(call: &Call, config: &Config, begin: Begin) -> anyhow::Result<Exit> {
    let (mut link, _) = ensure(config, &call.flags).await?;
    let how = How::unattended();
    let goal = match begin {
        Begin::Goal(text) => {
            let order = Order::Goal { text, approval: how.approval(call, config), terms: how.terms() };
            submit(&mut link, order).await?
        }
        Begin::Workflow(which) => {
            let (again, goal) = workflow::start(call, config, &which, &how).await?;
            link = again;
            goal
        }
    };
    see_through(call, &mut link, &goal, &how).await
}

/// Stops the room and waits until it is gone.
async fn close(config: &Config) -> anyhow::Result<Exit> {
    if let Ok(mut link) = Link::connect(&config.stage).await {
        // It may be gone before its answer arrives.
        let _answer = link.order(Order::Stop { drain: false }).await;
        gone(link).await?;
    }
    Ok(Exit::Done)
}

/// Makes the folder and its file; an existing stage is taken only when it is a rehearsal itself.
fn stage(call: &Call, args: &RehearseArgs) -> anyhow::Result<PathBuf> {
    let stage = match args.keep.as_ref().or(call.flags.stage.as_ref()) {
        Some(dir) => {
            let dir = call.env.cwd.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("could not make {}", dir.display()))?;
            fs::canonicalize(&dir)?
        }
        None => tempfile::Builder::new().prefix("podium-rehearsal-").tempdir()?.keep(),
    };
    let file = stage.join(crate::config::stage::FILE);
    if file.exists() {
        if !Config::load(&stage, &call.env, &Flags::default())?.is_rehearsal() {
            let message = format!("{} is a real stage; rehearse in another folder", stage.display());
            return Err(Trouble::Wrong(message).into());
        }
    } else {
        fs::write(&file, FILE).with_context(|| format!("could not write {}", file.display()))?;
    }
    Ok(stage)
}
