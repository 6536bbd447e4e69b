//! Home from the server: every parcel fetched, then all put in their places, then set aside there.
//!
//! Its one surprise: it may be another stage than the one it left, on another machine.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{AT_ONCE, Hands, Note, Phase, Report, engine, fit, is_free, look, out::say, refuse, some, written};
use crate::{
    config::Config,
    model::{Clock, TaskRecord, TaskRef},
    queue::{
        Queue as _,
        nats::moved::{Home, Kept, Move},
    },
    runtime::open,
};

/// Brings the queue that lies on the server of `[queue] url` into the stage's folders.
pub async fn home(config: &Config, dry_run: bool, clock: Clock) -> anyhow::Result<Report> {
    let stage = &config.stage;
    let engine = engine(config, clock.clone())?;
    let note = Note::read(stage)?;
    is_free(stage)?;
    let server = written(&config.queue.url);
    let mut report = Report::new(server.clone(), dry_run, fit(&engine).await?);
    if dry_run {
        let Some(queue) = look(&engine).await? else { return refuse(nothing(&server)) };
        let (there, _) = queue.the_move().await?;
        let it = whose(there, note.as_ref(), &server)?;
        let kept = of_move(queue.kept().await?, &it);
        report.given_up = note.as_ref().is_some_and(|note| note.phase == Phase::Sending);
        if !report.given_up && note.as_ref().is_none_or(|note| note.phase == Phase::Away) {
            fits(config, &open::reader(config, clock).list().await?, &kept)?;
        }
        report.tasks = kept.into_iter().map(|kept| (kept.task, kept.standing)).collect();
        return Ok(report);
    }
    let hands = Hands::take(config, engine.clone(), clock.clone()).await?;
    let done = async {
        let (there, revision) = hands.queue.the_move().await?;
        if let Some(note) = note.as_ref().filter(|note| note.phase == Phase::Sending) {
            give_up(&hands, note, there, revision).await?;
            Note::remove(stage)?;
            report.given_up = true;
            return Ok(report);
        }
        let mut it = whose(there, note.as_ref(), &server)?;
        let kept = of_move(hands.queue.kept().await?, &it);
        let mut note = note.unwrap_or_else(|| Note { id: it.id.clone(), server, phase: Phase::Away, at: clock.now() });
        if note.phase == Phase::SettingAside {
            let aside = stage.join(".podium").join("aside").join(&it.id);
            for Kept { task, .. } in &kept {
                hands.files.set_aside(task, aside.clone()).await?;
            }
            note.phase = Phase::Away;
        }
        if note.phase == Phase::Away {
            fits(config, &hands.files.list().await?, &kept)?;
            note.next(Phase::Coming, stage)?;
        }
        let coming = stage.join(".podium").join("coming");
        if note.phase == Phase::Coming {
            // Half of it may lie there from an earlier try.
            drop(tokio::fs::remove_dir_all(&coming).await);
            tokio::fs::create_dir_all(&coming).await?;
            let fetched = stream::iter(&kept).map(|kept| fetch(&hands, &coming, &kept.task)).buffer_unordered(AT_ONCE);
            let bytes: Vec<u64> = fetched.try_collect().await?;
            report.bytes = bytes.iter().sum();
            hands.files.sync().await?;
            note.next(Phase::Placing, stage)?;
        }
        if note.phase == Phase::Placing {
            // The oldest first: what was dropped first is taken first.
            for Kept { task, .. } in &kept {
                hands.files.put_in_place(task, place(&coming, task)).await?;
            }
            drop(tokio::fs::remove_dir_all(&coming).await);
            hands.files.sync().await?;
            note.next(Phase::Parting, stage)?;
        }
        let (_, revision) = hands.queue.the_move().await?;
        let at = it.home.as_ref().map_or_else(|| clock.now(), |home| home.at);
        it.home = Some(Home { host: engine.host.clone(), stage: stage.display().to_string(), at });
        say(&hands.queue, &it, revision).await?;
        for Kept { task, .. } in &kept {
            hands.queue.part_with(task, &it.id).await?;
        }
        Note::remove(stage)?;
        report.tasks = kept.into_iter().map(|kept| (kept.task, kept.standing)).collect();
        Ok::<_, anyhow::Error>(report)
    };
    let answer = done.await;
    hands.held.give_up().await;
    answer
}

fn nothing(server: &str) -> String {
    format!("no stage's queue lies on {server}; `podium migrate --to {server}` puts one there")
}

/// The move that is to come home here, if it may.
fn whose(there: Option<Move>, note: Option<&Note>, server: &str) -> anyhow::Result<Move> {
    let Some(it) = there else { return refuse(nothing(server)) };
    if let Some(note) = note.filter(|note| note.id != it.id) {
        return refuse(format!(
            "another queue lies on {server} than the one that left here: {} on {}, since {:.0}; move it home first \
             (this stage's note names {})",
            it.stage, it.host, it.at, note.server
        ));
    }
    if let Some(home) = it.home.as_ref().filter(|_| note.is_none_or(|note| note.phase != Phase::Parting)) {
        let aside = note.map(|note| format!("; what was here lies in .podium/aside/{}", note.id)).unwrap_or_default();
        return refuse(format!(
            "the queue of {} on {} was brought home to {} on {} at {:.0}{aside}",
            it.stage, it.host, home.stage, home.host, home.at
        ));
    }
    if !it.whole && note.is_none_or(|note| note.phase != Phase::Sending) {
        return refuse(format!(
            "the move of {} on {} to {server} was cut short; finish it there with `podium migrate --to {server}`",
            it.stage, it.host
        ));
    }
    Ok(it)
}

fn of_move(kept: Vec<Kept>, it: &Move) -> Vec<Kept> {
    kept.into_iter().filter(|kept| kept.by.as_ref() == Some(&it.id)).collect()
}

/// Refuses what would lie in the way here.
fn fits(config: &Config, known: &[TaskRecord], kept: &[Kept]) -> anyhow::Result<()> {
    let agents: Vec<_> = config.agents().into_iter().map(|agent| agent.name).collect();
    if let Some(strange) = kept.iter().find(|kept| !agents.contains(&kept.task.agent)) {
        let agent = &strange.task.agent;
        return refuse(format!(
            "this stage has no agent {agent}, whose task {} is to come; name it in podium.toml",
            strange.task
        ));
    }
    let there: BTreeSet<&TaskRef> = known.iter().map(TaskRecord::task).collect();
    let twice: Vec<TaskRef> = kept.iter().map(|kept| &kept.task).filter(|task| there.contains(task)).cloned().collect();
    if twice.is_empty() {
        return Ok(());
    }
    refuse(format!("this stage has tasks of the same names already: {}; remove or rename them first", some(&twice)))
}

/// Takes back from the server what a move had sent that was cut short; nothing has left the folders.
async fn give_up(hands: &Hands, note: &Note, there: Option<Move>, revision: u64) -> anyhow::Result<()> {
    for kept in hands.queue.kept().await? {
        if kept.by.as_ref() == Some(&note.id) {
            hands.queue.forget_moved(&kept.task, &note.id).await?;
        }
    }
    if there.is_some_and(|it| it.id == note.id) {
        hands.queue.forget_move(revision).await?;
    }
    Ok(())
}

fn place(coming: &Path, task: &TaskRef) -> PathBuf {
    coming.join(task.agent.as_str()).join(task.id.as_str())
}

/// Fetches one parcel and unpacks it; its bytes.
async fn fetch(hands: &Hands, coming: &Path, task: &TaskRef) -> anyhow::Result<u64> {
    let parcel = coming.join(format!(".parcel-{}-{}", task.agent, task.id));
    hands.queue.fetch_parcel(task, &parcel).await?;
    let bytes = tokio::fs::metadata(&parcel).await?.len();
    let into = place(coming, task);
    tokio::fs::create_dir_all(&into).await?;
    hands.files.unpack(task, parcel.clone(), into).await?;
    tokio::fs::remove_file(&parcel).await?;
    Ok(bytes)
}
