//! What must hold whatever happened to a life: every yes is true, each task has one result, and nothing is left over.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use podium::{
    model::{Ending, Standing, TaskRef},
    queue::{Claimed, Finished, Queue, file::FileQueue},
};

use super::life::{open, outcome};

/// Runs what is open to its end, as the next room would, and holds the stage against the diary.
pub(super) async fn holds(stage: &Path, diary: &[String]) -> Result<(), String> {
    let queue = open(stage).map_err(|error| format!("open: {error}"))?;
    queue.recover().await.map_err(|error| format!("recover: {error}"))?;
    let before = yeses(stage, &queue, diary).await;
    go_on(&queue).await?;
    before?;
    for record in list(&queue).await? {
        let task = record.task();
        let path = stage.join(format!("results/{}/{}.json", task.agent, task.id));
        if !path.is_file() || record.outcome.is_none() {
            return Err(format!("{task} has ended without a result"));
        }
        let numbers: Vec<u32> = record.attempts.iter().map(|attempt| attempt.n).collect();
        if numbers.windows(2).any(|pair| pair[0] + 1 != pair[1]) {
            return Err(format!("{task} has attempts {numbers:?}"));
        }
    }
    match leftovers(stage, true) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("left over: {left:?}")),
    }
}

async fn list(queue: &FileQueue) -> Result<Vec<podium::model::TaskRecord>, String> {
    queue.list().await.map_err(|error| format!("list: {error}"))
}

/// Ends every open task.
async fn go_on(queue: &FileQueue) -> Result<(), String> {
    for record in list(queue).await? {
        let task = record.task();
        if record.standing == Standing::Ended {
            continue;
        }
        match queue.claim(task).await.map_err(|error| format!("claim: {error}"))? {
            Claimed::Won(claim) => {
                let n = claim.n;
                let finished = queue.finish(claim.lease, outcome(task, n)).await;
                if finished.map_err(|error| format!("finish: {error}"))? != Finished::Committed {
                    return Err(format!("{task}: somebody else finished"));
                }
            }
            Claimed::Missed(why) => return Err(format!("{task} does not go on: {why}")),
        }
    }
    queue.recover().await.map(drop).map_err(|error| format!("recover again: {error}"))
}

/// Whether what the diary says is so, before anything goes on.
async fn yeses(stage: &Path, queue: &FileQueue, diary: &[String]) -> Result<(), String> {
    let mut started = BTreeSet::new();
    let mut finished: Option<(TaskRef, u32)> = None;
    for (at, line) in diary.iter().enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let no = |why: String| Err(format!("\"{line}\" is not so: {why}"));
        let (verb, Some(Ok(task))) = (words[0], words.get(1).map(|word| word.parse::<TaskRef>())) else { continue };
        let n = words.get(2).and_then(|n| n.parse::<u32>().ok()).unwrap_or_default();
        if !matches!(verb, "submitted" | "started" | "failed" | "finished" | "retried" | "ended") {
            continue;
        }
        let record = match queue.get(&task).await {
            Ok(record) => record,
            Err(error) => return no(error.to_string()),
        };
        let later = |verb: &str| diary[at..].iter().any(|line| *line == format!("{verb} {task}"));
        match verb {
            // The retry may have been cut short after its new words were written.
            "submitted" if !["first", "again"].contains(&&*record.spec.description) => {
                return no(format!("its text is {:?}", record.spec.description));
            }
            "retried" if record.spec.description != "again" => {
                return no(format!("its text is {:?}", record.spec.description));
            }
            "retried" if !diary[..at].iter().any(|line| line.starts_with(&format!("finished {task} "))) => {}
            "retried" if !stage.join(format!("results/marie/.superseded/{}.1.json", task.id)).is_file() => {
                return no("the old result is gone".to_owned());
            }
            "started" | "failed" if !record.attempts.iter().any(|a| a.n == n && a.started_at.as_second() > 0) => {
                return no("that attempt is not counted".to_owned());
            }
            "started" if !started.insert((task.clone(), n)) => return no("twice".to_owned()),
            "failed" => {
                let ending = record.attempts.iter().find(|a| a.n == n).and_then(|a| a.ending.as_ref());
                if !matches!(ending, Some(Ending::ExitCode { .. })) {
                    return no(format!("it ended by {ending:?}"));
                }
            }
            "ended" if record.outcome.as_ref().map(|o| o.state.word()) != Some("cancelled") => {
                return no(format!("{:?}", record.outcome));
            }
            "finished" if !later("retried") => {
                let known = record.outcome.as_ref().map(|o| (o.attempt, o.summary.clone()));
                // A retry that never answered may have been carried out all the same.
                let asked = diary[at..].iter().any(|line| line.starts_with("refused retry"))
                    || (diary.len() == at + 1 && task.id.as_str() == "a");
                let aside = stage.join(format!("results/marie/.superseded/{}.1.json", task.id)).is_file();
                if known != Some((n, format!("what attempt {n} found"))) && !(asked && aside) {
                    return no(format!("its result is {known:?}"));
                }
                finished = Some((task, n));
            }
            _ => {}
        }
    }
    if let Some((task, n)) = finished
        && diary.last().is_some_and(|line| line == "the end")
        && queue.get(&task).await.is_ok_and(|record| record.last_attempt() != n)
    {
        return Err(format!("{task} was run again after attempt {n}"));
    }
    Ok(())
}

/// What should not be on a stage whose work is done. With `all` also what only an open task may have.
pub(super) fn leftovers(stage: &Path, all: bool) -> Vec<PathBuf> {
    let names = |folder: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(stage.join(folder)).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    let hidden = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with('.');
    // What a living process is writing is its own business.
    let abandoned = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        let owner = name.rsplit('.').nth(1).and_then(|pid| pid.parse::<u32>().ok());
        !all || owner.is_none_or(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    let mut left = names("tasks/marie/.tmp");
    left.extend(names("results/marie/.tmp"));
    left.extend(names("tasks/marie/.attempts").into_iter().filter(hidden));
    left.retain(abandoned);
    if all {
        left.extend(names("tasks/marie/.claimed"));
        left.extend(names("tasks/marie/rejected"));
        left.extend(names("tasks/marie").into_iter().filter(|path| path.is_file()));
        left.extend(
            names("results/marie")
                .into_iter()
                .filter(|path| path.is_file() && path.extension().is_none_or(|extension| extension != "json")),
        );
    }
    left
}
