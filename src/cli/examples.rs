//! The six examples of `podium rehearse --example`, and their files.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::ValueEnum;

use super::workflow::Which;

/// An example; each ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Example {
    /// One task
    Single,
    /// A goal in words, which is planned
    Goal,
    /// Three tasks at the same time
    FanOut,
    /// Three tasks, one after the other
    Chain,
    /// A graph in which one task fails
    Mixed,
    /// One task for each row of a roster
    Roster,
}

/// The goal in words.
const GOAL: &str =
    "Plan a class for beginners, check the sign-up page for errors, then write a flyer that speaks of both.";

/// The folder of the files, in the stage.
const FOLDER: &str = "examples";

const FILES: [(&str, &str); 6] = [
    ("single.json", include_str!("../../assets/examples/single.json")),
    ("fan-out.json", include_str!("../../assets/examples/fan-out.json")),
    ("chain.json", include_str!("../../assets/examples/chain.json")),
    ("mixed.json", include_str!("../../assets/examples/mixed.json")),
    ("evaluation.json", include_str!("../../assets/examples/evaluation.json")),
    ("roster.csv", include_str!("../../assets/examples/roster.csv")),
];

/// What is run.
pub(super) enum Begin {
    /// A goal that is planned first.
    Goal(String),
    /// A workflow.
    Workflow(Which),
}

impl Example {
    /// Lays the files out in the stage, for looking at and for changing, and tells what is run.
    pub(super) fn lay_out(self, stage: &Path) -> anyhow::Result<Begin> {
        let folder = stage.join(FOLDER);
        fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
        for (name, text) in FILES {
            let path = folder.join(name);
            if !path.exists() {
                fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
            }
        }
        let workflow = |name: &str, roster: Option<&str>| {
            let roster = roster.map(|roster| folder.join(roster));
            Begin::Workflow(Which::file(&folder.join(name), roster.as_deref()))
        };
        Ok(match self {
            Self::Goal => Begin::Goal(GOAL.to_owned()),
            Self::Single => workflow("single.json", None),
            Self::FanOut => workflow("fan-out.json", None),
            Self::Chain => workflow("chain.json", None),
            Self::Mixed => workflow("mixed.json", None),
            Self::Roster => workflow("evaluation.json", Some("roster.csv")),
        })
    }
}
