//! `podium migrate`: a stage's whole queue to a NATS server, and home.

use std::collections::BTreeMap;

use clap::Args;

use super::{
    Call, Exit, Trouble, json, link,
    out::{Out, Paint},
};
use crate::{
    config::{Setting, Source},
    queue::nats::Unfit,
    runtime::migrate::{Note, Refused, Report, UnsafeServer, home, out, written},
};

/// Names that are printed.
const NAMES: usize = 20;

/// `podium migrate`.
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    /// Where the stage's queue goes: `nats://host:4222`, or `files` for this stage's folders
    #[arg(long, value_name = "URL|files")]
    to: String,
    /// The server that it comes home from [default: where it went, else `[queue] url`]
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Say what would be moved; change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn migrate(call: &mut Call, args: &MigrateArgs) -> anyhow::Result<Exit> {
    let comes_home = args.to == "files";
    if args.from.is_some() && !comes_home {
        return Err(Trouble::Wrong("--from says where a queue comes home from; it goes with --to files".into()).into());
    }
    call.flags.queue = if comes_home { args.from.clone() } else { Some(args.to.clone()) };
    let mut config = call.config()?;
    if comes_home
        && args.from.is_none()
        && let Some(note) = Note::read(&config.stage)?
        && written(&config.queue.url) != note.server
    {
        config.queue.url = Setting { value: note.server, source: Source::Default };
    }
    if *config.queue.url == "file:" {
        let which =
            if comes_home { "name the server with --from, or in [queue] url" } else { "--to wants nats://host:4222" };
        return Err(Trouble::Wrong(which.to_owned()).into());
    }
    if !config.stage.is_dir() {
        return Err(Trouble::Wrong(format!("there is no stage at {}", config.stage.display())).into());
    }
    let moved = if comes_home {
        Box::pin(home(&config, args.dry_run, link::clock())).await
    } else {
        Box::pin(out(&config, args.dry_run, link::clock())).await
    };
    match moved {
        Ok(report) => {
            if call.out.is_json() {
                call.out.json(&json::Migrated::new(&report, comes_home));
            } else {
                print(&call.out, &report, comes_home);
            }
            Ok(Exit::Done)
        }
        Err(error) if error.is::<Refused>() || link::is_taken(&error) => {
            Err(Trouble::Refused(format!("{error:#}")).into())
        }
        Err(error) if error.is::<Unfit>() || error.is::<UnsafeServer>() => {
            Err(Trouble::Wrong(format!("{error:#}")).into())
        }
        Err(error) => Err(error.context("the queue is not moved yet; the same command goes on with it")),
    }
}

/// How many stand where, in words.
pub(super) fn counts(report: &Report) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (_, standing) in &report.tasks {
        *counts.entry(json::standing_word(standing)).or_default() += 1;
    }
    counts
}

fn print(out: &Out, report: &Report, comes_home: bool) {
    let server = &report.server;
    if let Some(warning) = &report.warning {
        out.note(&format!("{server}: {warning}"));
    }
    if report.given_up {
        let done = if report.dry_run { "would be given up" } else { "is given up" };
        out.line(&format!("the move to {server} that was cut short {done}; nothing had left the folders"));
        return;
    }
    let counts: Vec<String> = counts(report).into_iter().map(|(word, n)| format!("{n} {word}")).collect();
    let counts = if counts.is_empty() { "no tasks".to_owned() } else { counts.join(", ") };
    let verb = if report.dry_run { "would move" } else { "moved" };
    let way = if comes_home { format!("from {server} into the folders") } else { format!("to {server}") };
    out.line(&format!("{verb} {} tasks {way}: {counts}", report.tasks.len()));
    for (task, standing) in report.tasks.iter().take(NAMES) {
        out.line(&format!("  {task} {}", out.paint(Paint::Dim, json::standing_word(standing))));
    }
    let more = report.tasks.len().saturating_sub(NAMES);
    if more > 0 {
        out.line(&format!("  and {more} more; --json names them all"));
    }
    if report.before > 0 && !comes_home {
        out.note(&format!("{} of them were there from an earlier try", report.before));
    }
    if let Some(aside) = &report.aside {
        out.note(&format!("what was here lies in {}; `podium migrate --to files` brings it home", aside.display()));
    }
}
