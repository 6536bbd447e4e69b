//! `podium rehearse`: a throw-away stage with the stand-in, for seeing podium without a key.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::Args;

use super::{
    Call, Exit, Trouble, client,
    link::{self, Link},
    room::{self, Opening, ensure, gone},
    run::{finish, follow, submit},
};
use crate::{
    config::{Config, Flags},
    model::{Approval, Terms},
    room::Order,
};

/// `podium rehearse`.
#[derive(Debug, Args)]
pub(super) struct RehearseArgs {
    /// The goal, in plain words [default: a sample]
    goal: Vec<String>,
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
    let goal = if args.goal.is_empty() { link::SAMPLE_GOAL.to_owned() } else { args.goal.join(" ") };
    if goal.trim().is_empty() {
        return Err(Trouble::Wrong("the goal is empty".to_owned()).into());
    }
    let config = call.config()?;
    config.init().context("could not make the stage")?;
    if !args.headless {
        return room::open(call, Opening { ascii: args.ascii, goal: Some(goal) });
    }
    let ended = client(headless(call, &config, &goal));
    // Whatever happened, a room that was started for this is not left behind.
    client(close(&config))?;
    call.out.note(&format!("the stage is left in {}", stage.display()));
    ended
}

async fn headless(call: &Call, config: &Config, goal: &str) -> anyhow::Result<Exit> {
    let (mut link, _) = ensure(config, &call.flags).await?;
    let approval = Approval::Auto { ceiling: config.budget.caps().ceiling(None) };
    let id = submit(&mut link, goal, approval, Terms::default()).await?;
    let followed = follow(&call.out, &mut link, &id, false).await?;
    Ok(finish(&call.out, link.state(), &id, &followed))
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
