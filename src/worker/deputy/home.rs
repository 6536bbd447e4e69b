//! What comes home of an attempt elsewhere: its log as it grows, then the whole of it with its times, its files, its result.
//!
//! Owns how it is written here. Must not know how it was followed. Its one surprise: moments that the other machine told are
//! put on this machine's clock, as far apart as the two were when the worker was last heard.

use std::{
    fmt::Write as _,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use tokio::{
    fs::{self, OpenOptions},
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};

use super::{
    Deputy,
    bring::{Came, Course, Left},
};
use crate::{
    attach::far::{LOG_AT, LOG_OF},
    model::{AttemptRef, EndState, GoalId, Outcome, Report, TaskRecord},
    queue::{Claim, Lease as _, Queue as _, QueueError, file::FileLease, nats::TIMES},
    worker::commit::{After, after},
};

/// The most bytes of files that are brought home of one attempt.
const HOME: u64 = 256 * 1024 * 1024;
/// How often a server that does not answer is asked for what lies there.
const ASKED: u32 = 4;

impl Deputy {
    /// A moment of the other machine on this one's clock.
    pub(super) fn here(&self, at: Timestamp) -> Timestamp {
        at.checked_sub(SignedDuration::from_millis(self.offset_ms)).unwrap_or(at)
    }

    /// The other way round.
    pub(super) fn there(&self, at: Timestamp) -> Timestamp {
        at.checked_add(SignedDuration::from_millis(self.offset_ms)).unwrap_or(at)
    }

    /// Puts a piece of log where it belongs; says how much is there, where a piece before this one was lost.
    pub(super) async fn append(
        &self,
        claim: &Claim<FileLease>,
        attempt: &AttemptRef,
        message: &async_nats::Message,
    ) -> Option<u64> {
        let header = |name: &str| message.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
        let at = header(LOG_AT)?.parse::<u64>().ok()?;
        if header(LOG_OF)? != attempt.n.to_string() {
            return None;
        }
        let write = async {
            let mut file = OpenOptions::new().write(true).open(claim.lease.folder().join("out.log")).await?;
            let length = file.metadata().await?.len();
            if at > length {
                return Ok::<_, io::Error>(Some(length));
            }
            file.seek(io::SeekFrom::Start(at)).await?;
            file.write_all(&message.payload).await?;
            file.flush().await?;
            if at + message.payload.len() as u64 > length {
                let times = OpenOptions::new().create(true).append(true).open(self.times_of(attempt)).await;
                let now = self.settings.clock.now().as_millisecond();
                times?.write_all(format!("{length} {now}\n").as_bytes()).await?;
            }
            Ok(None)
        };
        write.await.unwrap_or_else(|error| {
            tracing::debug!(%attempt, %error, "the log is shown in part until it has ended");
            None
        })
    }

    /// Where the times of an attempt's log lie.
    fn times_of(&self, attempt: &AttemptRef) -> PathBuf {
        self.settings.stage.join(attempt.log()).with_extension("times")
    }

    /// Brings logs and files home.
    pub(super) async fn fetch(
        &mut self,
        claim: &Claim<FileLease>,
        course: &mut Course,
        came: &mut Came,
    ) -> Result<(), Left> {
        let (attempt, folder) = (claim.lease.attempt(), &claim.lease.folder());
        let n = came.outcome.as_ref().map_or(attempt.n, |outcome| outcome.attempt);
        for log in ["out.log", "err.log"] {
            let down = folder.join(format!(".{log}"));
            match self.carry(claim, course, (n, log), &down).await? {
                // Into the same file, which is shown under another name too, and only where it is another: somebody reads it.
                Ok(Some(_)) => {
                    if let Err(error) = put_in_place(down.clone(), folder.join(log)).await {
                        tracing::error!(%attempt, %error, "a log could not be written");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%attempt, log, %error, "a log stays elsewhere"),
            }
            drop(fs::remove_file(&down).await);
        }
        self.fetch_times(claim, course, n).await?;
        let Some(outcome) = &mut came.outcome else { return Ok(()) };
        (outcome.started_at, outcome.completed_at) = (self.here(outcome.started_at), self.here(outcome.completed_at));
        let whose = claim.spec.goal.as_ref().map_or("tasks", GoalId::as_str);
        let place = format!(".podium/runs/{whose}");
        let mut left = HOME;
        for artifact in &mut outcome.artifacts {
            artifact.kept = None;
            let is_hash = artifact.sha256.len() == 64 && artifact.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            if !is_hash || artifact.bytes > left {
                continue;
            }
            left -= artifact.bytes;
            let (name, target) = (format!("files/{}", artifact.path), self.settings.stage.join(&place));
            let down = target.join(format!(".copy-{}", artifact.sha256));
            if fs::create_dir_all(&target).await.is_err() {
                continue;
            }
            // What is not what it says is not kept.
            let carried = self.carry(claim, course, (n, &name), &down).await?;
            let same = matches!(carried, Ok(Some(hash)) if hash == artifact.sha256);
            if same && fs::rename(&down, target.join(&artifact.sha256)).await.is_ok() {
                artifact.kept = Some(format!("{place}/{}", artifact.sha256));
            } else {
                drop(fs::remove_file(&down).await);
            }
        }
        Ok(())
    }

    /// The times at which the worker saw its log grow, in place of when that was heard here.
    async fn fetch_times(&mut self, claim: &Claim<FileLease>, course: &mut Course, n: u32) -> Result<(), Left> {
        let (attempt, down) = (claim.lease.attempt(), claim.lease.folder().join(".out.times"));
        if let Ok(Some(_)) = self.carry(claim, course, (n, TIMES), &down).await?
            && let Ok(told) = fs::read_to_string(&down).await
        {
            let mut times = String::with_capacity(told.len());
            let marks = told.lines().filter_map(|line| line.split_once(' '));
            for (offset, at) in
                marks.filter_map(|(offset, at)| Some((offset.parse::<u64>().ok()?, at.parse::<i64>().ok()?)))
            {
                // Writing to a string cannot fail.
                let _infallible = writeln!(times, "{offset} {}", at.saturating_sub(self.offset_ms));
            }
            let written = async {
                fs::write(&down, times).await?;
                fs::rename(&down, self.times_of(attempt)).await
            };
            if let Err(error) = written.await {
                tracing::warn!(%attempt, %error, "the times of a log could not be written");
            }
        }
        drop(fs::remove_file(&down).await);
        Ok(())
    }

    /// Brings a file of attempt `n` down; a server that is away for a moment is asked again.
    async fn carry(
        &mut self,
        claim: &Claim<FileLease>,
        course: &mut Course,
        (n, name): (u32, &str),
        to: &Path,
    ) -> Result<Result<Option<String>, QueueError>, Left> {
        let (engine, task) = (self.engine.clone(), &claim.lease.attempt().task);
        let mut asked = 1;
        loop {
            match self.ask(claim, course, Box::pin(engine.fetch(task, n, name, to))).await? {
                Err(QueueError::Unreachable(why)) if asked < ASKED => {
                    tracing::warn!(%task, name, why, "the NATS server is asked again");
                    asked += 1;
                }
                other => return Ok(other),
            }
        }
    }

    /// Publishes it in the room's own queue; false where that could not be.
    pub(super) async fn publish(&mut self, claim: Claim<FileLease>, attempt: &AttemptRef, came: Came) -> bool {
        let now = self.settings.clock.now();
        let Came { ending, spend, outcome, .. } = came;
        let Claim { spec, counted, lease, previous, .. } = claim;
        let before = previous.as_ref().map(|(ending, _)| ending);
        match after(&self.settings.retries, &spec, attempt, &ending, (counted, before), now) {
            After::End(state) => {
                let plain = || Outcome {
                    cost: spend.cost,
                    ..Outcome::plain(spec.task.clone(), EndState::Failed, ending.clone(), now)
                };
                let mut outcome = outcome.map_or_else(plain, |outcome| *outcome);
                (outcome.task, outcome.goal, outcome.state, outcome.ending) = (spec.task, spec.goal, state, ending);
                outcome.attempt = attempt.n;
                let clipped = Box::new(outcome.clone().clipped(TaskRecord::TEXT_LIMIT));
                match self.files.finish(lease, outcome).await {
                    Ok(_) => self.post.send(Report::Ended { outcome: clipped, spend }),
                    Err(error) => {
                        tracing::error!(%attempt, %error, "the attempt's end could not be written");
                        return false;
                    }
                }
            }
            After::Again(not_before) => {
                if let Err(error) = self.files.fail(lease, ending.clone(), spend, not_before).await {
                    tracing::error!(%attempt, %error, "the attempt's end could not be written");
                    return false;
                }
                self.post.send(Report::Failed { attempt: attempt.clone(), ending, spend, not_before, at: now });
            }
        }
        true
    }
}

/// Makes `to` what `from` is, in its place; where it is that already nothing is touched.
async fn put_in_place(from: PathBuf, to: PathBuf) -> io::Result<()> {
    let work = move || if is_same(&from, &to)? { Ok(()) } else { std::fs::copy(&from, &to).map(drop) };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn is_same(one: &Path, two: &Path) -> io::Result<bool> {
    let (mut one, mut two) = (std::fs::File::open(one)?, std::fs::File::open(two)?);
    if one.metadata()?.len() != two.metadata()?.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let n = one.read(&mut a)?;
        let (Some(a), Some(b)) = (a.get(..n), b.get_mut(..n)) else { return Ok(false) };
        match two.read_exact(b) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if a != b {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}
