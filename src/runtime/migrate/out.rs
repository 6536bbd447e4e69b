//! To the server: every task sent, then set aside here.
//!
//! Its one surprise: nothing here is touched before all of it is there and said to be.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{AT_ONCE, Hands, Note, Phase, Refused, Report, engine, fit, is_free, look, refuse, some, written};
use crate::{
    config::Config,
    model::{Clock, Standing, TaskRecord, TaskRef},
    queue::{
        Queue as _,
        nats::{
            NatsQueue,
            moved::{Coming, Kept, Move},
        },
    },
    runtime::open,
};

/// Moves the stage's queue to the server of `[queue] url`.
pub async fn out(config: &Config, dry_run: bool, clock: Clock) -> anyhow::Result<Report> {
    let (stage, server) = (&config.stage, written(&config.queue.url));
    let engine = engine(config, clock.clone())?;
    let note = Note::read(stage)?;
    match &note {
        Some(note) if note.phase == Phase::Away => {
            return refuse(format!(
                "the queue of {} lies on {} already, since {:.0}",
                stage.display(),
                note.server,
                note.at
            ));
        }
        Some(note) if !matches!(note.phase, Phase::Sending | Phase::SettingAside) => {
            return refuse(format!(
                "the queue of {} is being brought home from {}; `podium migrate --to files` goes on with it",
                stage.display(),
                note.server
            ));
        }
        Some(note) if note.server != server => {
            let other = &note.server;
            return refuse(format!(
                "a move to {other} was cut short; finish it with `podium migrate --to {other}` first"
            ));
        }
        Some(_) | None => {}
    }
    is_free(stage)?;
    let mut report = Report::new(server.clone(), dry_run, fit(&engine).await?);
    let id = note.as_ref().map(|note| note.id.clone());
    if dry_run {
        let records = at_rest(open::reader(config, clock).list().await?)?;
        if let Some(queue) = look(&engine).await? {
            report.before = free_for(&queue, id.as_deref()).await?.len();
        }
        report.tasks = standing(&records);
        return Ok(report);
    }
    let hands = Hands::take(config, engine.clone(), clock.clone()).await?;
    let id = match id {
        Some(id) => id,
        None => crate::attach::far::name()?,
    };
    let mut note = match note {
        Some(note) => note,
        None => Note { id: id.clone(), server, phase: Phase::Sending, at: clock.now() },
    };
    let done = async {
        let before = free_for(&hands.queue, Some(&id)).await?;
        report.before = before.len();
        if note.phase == Phase::Sending {
            let records = at_rest(hands.files.list().await?)?;
            note.write(stage)?;
            let (there, revision) = hands.queue.the_move().await?;
            let mut it = there.filter(|it| it.id == id).unwrap_or_else(|| Move {
                id: id.clone(),
                host: engine.host.clone(),
                stage: stage.display().to_string(),
                at: clock.now(),
                whole: false,
                home: None,
            });
            say(&hands.queue, &it, revision).await?;
            let before: BTreeSet<&TaskRef> = before.iter().map(|kept| &kept.task).collect();
            let new = records.iter().filter(|record| !before.contains(record.task()));
            let sent =
                stream::iter(new.cloned()).map(|record| send(config, &hands, &id, record)).buffer_unordered(AT_ONCE);
            let sent: Vec<(usize, u64)> = sent.try_collect().await?;
            report.files = sent.iter().map(|(files, _)| files).sum();
            report.bytes = sent.iter().map(|(_, bytes)| bytes).sum();
            let (_, revision) = hands.queue.the_move().await?;
            it.whole = true;
            say(&hands.queue, &it, revision).await?;
            note.next(Phase::SettingAside, stage)?;
        }
        let kept = free_for(&hands.queue, Some(&id)).await?;
        let aside = stage.join(".podium").join("aside").join(&id);
        for Kept { task, .. } in &kept {
            hands.files.set_aside(task, aside.clone()).await?;
        }
        hands.files.sync().await?;
        note.at = clock.now();
        note.next(Phase::Away, stage)?;
        report.tasks = kept.into_iter().map(|kept| (kept.task, kept.standing)).collect();
        report.aside = Some(aside);
        Ok::<_, anyhow::Error>(report)
    };
    let answer = done.await;
    hands.held.give_up().await;
    answer
}

/// The tasks of a queue of which nothing runs.
fn at_rest(records: Vec<TaskRecord>) -> anyhow::Result<Vec<TaskRecord>> {
    let runs = records.iter().find_map(|record| match record.standing {
        Standing::Running { attempt } => Some((record.task(), attempt)),
        Standing::Waiting
        | Standing::Claimed
        | Standing::Retrying { .. }
        | Standing::Asking { .. }
        | Standing::Ended => None,
    });
    match runs {
        Some((task, attempt)) => refuse(format!("attempt {attempt} of {task} runs; let it end, or end it, first")),
        None => Ok(records),
    }
}

fn standing(records: &[TaskRecord]) -> Vec<(TaskRef, Standing)> {
    records.iter().map(|record| (record.task().clone(), record.standing.clone())).collect()
}

/// What lies on the server of this very move; anything else there is in the way.
pub(super) async fn free_for(queue: &NatsQueue, id: Option<&str>) -> anyhow::Result<Vec<Kept>> {
    if let (Some(it), _) = queue.the_move().await?
        && it.home.is_none()
        && Some(it.id.as_str()) != id
    {
        return refuse(format!(
            "the queue of {} on {} lies on that server since {:.0}; bring it home first, or give each an account of the server",
            it.stage, it.host, it.at
        ));
    }
    let (ours, others): (Vec<Kept>, Vec<Kept>) =
        queue.kept().await?.into_iter().partition(|kept| id.is_some() && kept.by.as_deref() == id);
    if others.is_empty() {
        return Ok(ours);
    }
    let names: Vec<TaskRef> = others.into_iter().map(|kept| kept.task).collect();
    refuse(format!(
        "a room has left {} on that server; open it there once, which takes them back, or use another account of the server",
        some(&names)
    ))
}

pub(super) async fn say(queue: &NatsQueue, it: &Move, revision: u64) -> anyhow::Result<()> {
    if queue.note_move(it, revision).await? {
        return Ok(());
    }
    Err(Refused("somebody else moves a queue on that server at this very moment".to_owned()).into())
}

/// Sends one task; how many files and bytes it had.
async fn send(config: &Config, hands: &Hands, id: &str, record: TaskRecord) -> anyhow::Result<(usize, u64)> {
    let task = record.task().clone();
    let parcel = config.stage.join(".podium").join(format!("parcel-{}-{}", task.agent, task.id));
    let Some(packed) = hands.files.pack(&task, parcel.clone()).await? else {
        // An older program's archive holds it; that stays where it is.
        return Ok((0, 0));
    };
    // The file of a task of which only the result is left.
    let spec = match hands.files.spec(&task).await {
        Ok(spec) => spec,
        Err(_) => record.spec.clone(),
    };
    let outcome = hands.files.result(&task).await?.or_else(|| record.outcome.clone());
    let coming = Coming { spec, record, outcome, settled: packed.settled, parcel: &parcel };
    let sent = hands.queue.keep_moved(id, coming).await;
    drop(tokio::fs::remove_file(&parcel).await);
    sent?;
    Ok((packed.files, packed.bytes))
}
