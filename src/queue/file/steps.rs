//! The steps of one task's life: claim, end of an attempt, end of the task, retry. Each holds the task's lock and
//! makes its system calls in the order that survives a crash between any two.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use sha2::{Digest, Sha256};

use super::{
    attempts::{self, Attempt, Attempts, EndDraft, Exit, FileLease, Start},
    derive::Place,
    disk::{self, Draft, Opened, Stamp, failed},
    layout::json,
    owner, results, spec,
    store::{Store, full_spec, modified},
};
use crate::{
    model::{
        AttemptRef, Changes, Dependency, EndState, Ending, OnLost, Outcome, Request, Spend, TaskRef, TaskSpec, Verdict,
    },
    queue::{Claim, Claimed, Finished, QueueError, Spawned},
};

/// What became of the try to take a waiting file.
enum Taken {
    Yes(Fresh),
    No(String),
}

/// A task file that has just left the inbox.
struct Fresh {
    file: File,
    bytes: Vec<u8>,
    stamp: Stamp,
    /// The copy of ours that takes its place, where it is somebody else's.
    copy: Option<Draft>,
}

/// Looks at a taken file, in milliseconds after the look before: whoever had it open still may write on.
const LOOKS: [u64; 5] = [0, 0, 2, 10, 50];

/// A taken file as soon as it is whole and two looks in a row agree; `before` is what it held when it was taken, whole.
#[expect(clippy::disallowed_methods, reason = "nothing tells when somebody else has written his last")]
fn steady(path: &Path, mut before: Vec<u8>, holds: impl Fn(&[u8]) -> bool) -> Result<Option<Fresh>, QueueError> {
    let mut is_whole = true;
    for wait in LOOKS {
        std::thread::sleep(Duration::from_millis(wait));
        let Opened::Whole { bytes, stamp, file } =
            disk::open_regular(path, spec::LIMIT as u64).map_err(failed("read", path))?
        else {
            return Ok(None);
        };
        if bytes != before {
            is_whole = holds(&bytes);
            before = bytes;
        } else if is_whole {
            return Ok(Some(Fresh { file, bytes, stamp, copy: None }));
        }
    }
    Ok(None)
}

/// Lower-case hex of the SHA-256 of `bytes`.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        for digit in [byte >> 4, byte & 15] {
            hex.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
        hex
    })
}

impl Store {
    /// Takes a task that waits or retries, and counts a new attempt.
    pub(super) fn claim(&self, task: &TaskRef) -> Result<Claimed<FileLease>, QueueError> {
        let lock = self.lock(task)?;
        let answer = self.claim_locked(task).inspect_err(|_| {
            // Taken and not started: it waits again, as recovery would have it.
            if attempts::load(&self.layout, task).is_ok_and(|known| known.current().is_none())
                && let Err(error) = self.give_back_taken(task)
            {
                tracing::warn!(%task, %error, "a task that could not be started stays taken");
            }
        });
        drop(lock);
        self.hub.touched(task);
        answer
    }

    /// Moves a task back to the inbox if it is taken.
    pub(super) fn give_back_taken(&self, task: &TaskRef) -> Result<(), QueueError> {
        let claimed = self.layout.claimed(task);
        if Stamp::at(&claimed).map_err(failed("look at", &claimed))?.is_some() && self.result_of(task)?.is_none() {
            self.give_back(task)?;
        }
        Ok(())
    }

    fn claim_locked(&self, task: &TaskRef) -> Result<Claimed<FileLease>, QueueError> {
        if let Some((outcome, _)) = self.result_of(task)? {
            return Ok(Claimed::Missed(format!("{task} has ended: {}", outcome.state.word())));
        }
        if let Some(short) = self.shortage(&task.agent)? {
            return Ok(Claimed::Missed(short.tight_sentence()));
        }
        let (mut file, mut fresh) = (None, None);
        match self.place(task, true)? {
            Place::Inbox(name) => {
                let waits = self.spec_at(&self.layout.inbox(&task.agent).join(&name), task)?;
                if let Some(at) = waits.and_then(|(spec, _)| spec.not_before).filter(|at| *at > self.now()) {
                    return Ok(Claimed::Missed(format!("{task} is not to start before {at}")));
                }
                match self.take(task, &name)? {
                    Taken::Yes(taken) => fresh = Some(taken),
                    Taken::No(why) => return Ok(Claimed::Missed(why)),
                }
                file = (name != json(&task.id)).then_some(name);
            }
            Place::Claimed => {}
            Place::Over(_) => return Ok(Claimed::Missed(format!("{task} has ended"))),
            Place::Nowhere => return Ok(Claimed::Missed(format!("{task} is not there"))),
        }
        let mut known = attempts::load(&self.layout, task)?;
        if let Some(current) = known.current() {
            if current.held {
                return Ok(Claimed::Missed(format!("attempt {} of {task} is running", current.n)));
            }
            if current.exit.as_ref().is_none_or(|exit| exit.outcome.is_some()) {
                self.recover_locked(task)?;
                if let Some((outcome, _)) = self.result_of(task)? {
                    return Ok(Claimed::Missed(format!("{task} has ended: {}", outcome.state.word())));
                }
                known = attempts::load(&self.layout, task)?;
            }
            if known.current().and_then(|a| a.exit.as_ref()).is_some_and(|exit| exit.asks) {
                return Ok(Claimed::Missed(format!("the last attempt of {task} was lost and a person has to decide")));
            }
        }
        let path = self.layout.claimed(task);
        // Until it is settled, whoever dropped it may write on: what was checked counts, and the copy says the same.
        let taken = match &fresh {
            Some(fresh) => Some((fresh.bytes.clone(), fresh.stamp)),
            None => self.bytes_at(&path)?,
        };
        let Some((bytes, stamp)) = taken else {
            return Ok(Claimed::Missed(format!("{task} is gone")));
        };
        let spec = full_spec(&bytes, &path, task);
        let expiry = spec.expires_at(modified(&stamp), !known.each.is_empty());
        if let Some((_, message)) = expiry.filter(|(at, _)| *at <= self.now()) {
            let missed = format!("{task} has expired: {message}");
            self.end_locked(task, Ending::Expired { message })?;
            return Ok(Claimed::Missed(missed));
        }
        let counted = known.counted();
        if counted >= self.allowed(&spec) {
            return Ok(Claimed::Missed(format!("{task} has used up its {counted} attempts")));
        }
        let resume = spec.resume.clone().filter(|session| !known.has_resumed(session));
        let earlier = known.each.iter().rev().find_map(|a| a.start.as_ref()?.file.clone());
        let start = Start {
            n: known.last() + 1,
            started_at: self.now(),
            pid: std::process::id(),
            boot_id: owner::boot_id(),
            task_sha256: sha256(&bytes),
            file: file.or(earlier),
            resumed: resume.clone(),
        };
        let settle = || fresh.map_or(Ok(()), |fresh| self.settle(task, fresh));
        let lease = attempts::begin(&self.layout, task, &start, &path, settle)?;
        let previous = known.each.last().and_then(previous);
        let prerequisites = self.prerequisites(&spec)?;
        Ok(Claimed::Won(Box::new(Claim { spec, n: start.n, counted, prerequisites, previous, resume, lease })))
    }

    /// Moves a waiting file out of the inbox; its content is checked before and after. What was taken is to be settled.
    fn take(&self, task: &TaskRef, name: &str) -> Result<Taken, QueueError> {
        let from = self.layout.inbox(&task.agent).join(name);
        let to = self.layout.claimed(task);
        let Opened::Whole { bytes, .. } =
            disk::open_regular(&from, spec::LIMIT as u64).map_err(failed("read", &from))?
        else {
            return Ok(Taken::No(format!("{task} is no longer there")));
        };
        let stem = name.strip_suffix(".json").unwrap_or(name);
        let holds = |bytes: &[u8]| spec::read(bytes, &task.agent, stem).is_ok_and(|spec| spec.task == *task);
        if !holds(&bytes) {
            return Ok(Taken::No(format!("{} no longer holds {task}", self.layout.shown(&from))));
        }
        match disk::rename_new(&from, &to) {
            Ok(true) => {}
            Ok(false) => return Ok(Taken::No(format!("{task} is already claimed"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Taken::No(format!("{task} is no longer there")));
            }
            Err(error) => return Err(failed("claim", &from)(error)),
        }
        let Some(mut fresh) = steady(&to, bytes, holds)? else {
            drop(self.reject(&task.agent, &to, name.as_ref(), "The file changed while it was being read.")?);
            return Ok(Taken::No(format!("the file of {task} changed while it was being read")));
        };
        // Whoever dropped it may have it open still, or a link to it, and may not have synced it: a copy of ours takes its
        // place. What we wrote ourselves came by a rename and has no other writer.
        if !Self::is_own(task, &fresh.bytes) {
            fresh.copy = Some(self.copy(task, &fresh.bytes)?);
        }
        Ok(Taken::Yes(fresh))
    }

    /// Makes a taken file ours alone, and durable where it is.
    fn settle(&self, task: &TaskRef, fresh: Fresh) -> Result<(), QueueError> {
        let path = self.layout.claimed(task);
        if let Some(copy) = fresh.copy {
            copy.replace(&path)?;
        } else if let Err(error) = fresh.file.sync_all() {
            // What was read may never reach the disk from there.
            tracing::warn!(path = %path.display(), %error, "could not be synced and is written anew");
            self.replace(task, &path, &fresh.bytes)?;
        }
        disk::sync_folder(&self.layout.within(&task.agent, ".claimed"))?;
        disk::sync_folder(&self.layout.inbox(&task.agent))
    }

    /// Results on disk of what a task depends on, in its order.
    pub(super) fn prerequisites(&self, spec: &TaskSpec) -> Result<Vec<Outcome>, QueueError> {
        let mut found = Vec::with_capacity(spec.dependencies.len());
        for dependency in &spec.dependencies {
            for agent in self.candidates(spec, dependency) {
                let task = TaskRef::new(agent.clone(), dependency.id.clone());
                if let Some(outcome) = self.full_result_of(&task)? {
                    found.push(outcome);
                    break;
                }
            }
        }
        Ok(found)
    }

    /// The agents a dependency may belong to: the one it names, else the task's own first.
    fn candidates<'a>(&'a self, spec: &'a TaskSpec, dependency: &'a Dependency) -> Vec<&'a crate::model::AgentName> {
        if let Some(agent) = &dependency.agent {
            return vec![agent];
        }
        let own = &spec.task.agent;
        std::iter::once(own).chain(self.settings.agents.iter().filter(|agent| *agent != own)).collect()
    }

    /// Notes the child of a held attempt.
    pub(super) fn spawned(&self, attempt: &AttemptRef, spawned: &Spawned) -> Result<(), QueueError> {
        attempts::spawned(&self.layout, attempt, spawned)?;
        self.hub.touched(&attempt.task);
        Ok(())
    }

    /// Ends a held attempt and its task. May be asked again after an error, for as long as the lease is held.
    pub(super) fn finish(&self, lease: &FileLease, outcome: &Outcome) -> Result<Finished, QueueError> {
        let lock = self.lock(&lease.attempt.task)?;
        let answer = self.finish_locked(lease, outcome.clone());
        drop(lock);
        answer
    }

    fn finish_locked(&self, lease: &FileLease, mut outcome: Outcome) -> Result<Finished, QueueError> {
        let attempt = &lease.attempt;
        let task = &attempt.task;
        let known = attempts::load(&self.layout, task)?;
        outcome.task = task.clone();
        outcome.attempt = attempt.n;
        let own = Spend::of(outcome.usage, outcome.cost, outcome.cost_source);
        add_up(&mut outcome, &known, attempt.n);
        let exit = Exit {
            ending: outcome.ending.clone(),
            spend: own,
            ended_at: outcome.completed_at,
            not_before: None,
            asks: false,
            outcome: Some(outcome.clone()),
        };
        // All three are on their way to the disk before one is waited for. The record goes first: a disk that has no room
        // for the result may have it for that, and then the work is not lost with this process.
        let record = EndDraft::begin(&self.layout, attempt, &exit)?;
        let result = self.draft(&outcome);
        attempts::sync_logs(&lease.folder);
        let first = record.record()?;
        // Where a newer attempt is there, or this one was said to be lost, ours is kept beside and theirs counts.
        let is_ours = first || self.recorded(attempt, &outcome)?;
        if is_ours && known.last() == attempt.n {
            return self.publish_draft(result?, &outcome);
        }
        if !is_ours {
            attempts::write(&self.layout, task, &self.layout.attempt(attempt).join("late.json"), &exit)?;
        }
        Ok(Finished::AlreadyCommitted)
    }

    /// Whether an attempt's record is this very outcome: written by us, and cut short by an error after that.
    fn recorded(&self, attempt: &AttemptRef, outcome: &Outcome) -> Result<bool, QueueError> {
        let known = attempts::load(&self.layout, &attempt.task)?;
        let exit = known.each.iter().find(|one| one.n == attempt.n).and_then(|one| one.exit.as_ref());
        Ok(exit.and_then(|exit| exit.outcome.as_ref()) == Some(outcome))
    }

    /// Publishes a result and moves the task's file to where it rests.
    pub(super) fn publish(&self, outcome: &Outcome) -> Result<Finished, QueueError> {
        self.publish_draft(self.draft(outcome)?, outcome)
    }

    /// Begins to write a result.
    fn draft(&self, outcome: &Outcome) -> Result<Draft, QueueError> {
        let task = &outcome.task;
        let name = owner::temporary(task.id.as_str());
        let temporary = self.layout.results_temporary(&task.agent).join(name);
        let begin = || Draft::begin(temporary.clone(), results::write(outcome), false);
        begin().or_else(|error| match error {
            // Somebody tidied `results/` away; the folder is ours to make again.
            QueueError::Io { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
                self.make_folders(&task.agent)?;
                begin()
            }
            other => Err(other),
        })
    }

    fn publish_draft(&self, draft: Draft, outcome: &Outcome) -> Result<Finished, QueueError> {
        let task = &outcome.task;
        let first = draft.publish(&self.layout.result(task))?;
        let answer = if first { Finished::Committed } else { Finished::AlreadyCommitted };
        disk::sync_folder(&self.layout.results(&task.agent))?;
        self.put_to_rest(task, outcome.state)?;
        Ok(answer)
    }

    /// Moves a finished task's file out of `.claimed/`; recovery does it again if this is cut short.
    pub(super) fn put_to_rest(&self, task: &TaskRef, state: EndState) -> Result<(), QueueError> {
        let to = if state == EndState::Dead {
            self.layout.dead(task)
        } else {
            let day = self.now().to_zoned(TimeZone::UTC).date().to_string();
            let folder = self.layout.all_done(&task.agent).join(day);
            disk::make_folder(&folder, true)?;
            folder.join(json(&task.id))
        };
        let from = self.layout.claimed(task);
        self.forget(&from);
        match fs::rename(&from, &to) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("move", &from)(error)),
        }
    }

    /// Ends a held attempt but not its task. May be asked again, as `finish`.
    pub(super) fn fail(
        &self,
        lease: &FileLease,
        ending: Ending,
        spend: Spend,
        not_before: Timestamp,
    ) -> Result<(), QueueError> {
        attempts::sync_logs(&lease.folder);
        let lock = self.lock(&lease.attempt.task)?;
        let task = &lease.attempt.task;
        let spec = self.spec_at(&self.layout.claimed(task), task)?;
        let on_lost = spec.map(|(spec, _)| spec.on_lost).unwrap_or_default();
        let asks = matches!(ending, Ending::Lost { .. }) && on_lost == OnLost::Ask;
        let not_before = Some(not_before).filter(|_| !asks);
        let exit = Exit { ending, spend, ended_at: self.now(), not_before, asks, outcome: None };
        let answer = attempts::end(&self.layout, &lease.attempt, &exit);
        drop(lock);
        answer.map(drop)
    }

    /// Ends a task that has no attempt running.
    pub(super) fn end(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        let lock = self.lock(task)?;
        let answer = self.end_locked(task, ending);
        drop(lock);
        self.hub.touched(task);
        answer
    }

    fn end_locked(&self, task: &TaskRef, ending: Ending) -> Result<Finished, QueueError> {
        if self.result_of(task)?.is_some() {
            return Ok(Finished::AlreadyCommitted);
        }
        match self.place(task, true)? {
            Place::Inbox(name) => match self.take(task, &name)? {
                Taken::Yes(fresh) => self.settle(task, fresh)?,
                Taken::No(state) => return Err(QueueError::State { task: task.clone(), state }),
            },
            Place::Claimed => {}
            Place::Over(_) => return Ok(Finished::AlreadyCommitted),
            Place::Nowhere => return Err(QueueError::Unknown(task.clone())),
        }
        let known = attempts::load(&self.layout, task)?;
        if let Some(current) = known.current() {
            if current.held {
                let state = format!("running (attempt {})", current.n);
                return Err(QueueError::State { task: task.clone(), state });
            }
            // A worker that died after its attempt was over: what it found counts, not what is wanted now.
            if let Some(outcome) = current.exit.as_ref().and_then(|exit| exit.outcome.clone()) {
                self.publish(&outcome)?;
                return Ok(Finished::AlreadyCommitted);
            }
            if current.exit.is_none() {
                self.end_lost(&task.attempt(current.n), None, OnLost::Retry)?;
            }
        }
        let counted = known.counted().max(1);
        let state = match ending.verdict(counted, counted) {
            Verdict::End(state) => state,
            Verdict::Retry | Verdict::Park(_) => EndState::Failed,
        };
        self.publish(&self.outcome_without_attempt(task, &known, ending, state)?)
    }

    /// The result of a task that no attempt brought to its end.
    pub(super) fn outcome_without_attempt(
        &self,
        task: &TaskRef,
        known: &Attempts,
        ending: Ending,
        state: EndState,
    ) -> Result<Outcome, QueueError> {
        let spec = self.full_spec_at(&self.layout.claimed(task), task)?.map(|(spec, _)| spec);
        let mut outcome = Outcome {
            attempt: known.last(),
            session_id: known.each.last().and_then(Attempt::session),
            goal: spec.and_then(|spec| spec.goal),
            ..Outcome::plain(task.clone(), state, ending, self.now())
        };
        add_up(&mut outcome, known, u32::MAX);
        Ok(outcome)
    }

    /// Records that an attempt's holder vanished; the next may start at `not_before`, or a person is asked.
    pub(super) fn end_lost(
        &self,
        attempt: &AttemptRef,
        not_before: Option<Timestamp>,
        on_lost: OnLost,
    ) -> Result<Exit, QueueError> {
        let asks = on_lost == OnLost::Ask;
        let message = format!("the worker of attempt {} vanished", attempt.n);
        let exit = Exit {
            ending: Ending::Lost { message },
            spend: Spend::default(),
            ended_at: self.now(),
            not_before: not_before.filter(|_| !asks),
            asks,
            outcome: None,
        };
        attempts::end(&self.layout, attempt, &exit)?;
        Ok(exit)
    }

    /// Brings a task that has ended, or waits for its next attempt, back to the inbox with a fresh budget.
    pub(super) fn retry(&self, task: &TaskRef, changes: &Changes) -> Result<(), QueueError> {
        let lock = self.lock(task)?;
        let answer = self.retry_locked(task, changes);
        drop(lock);
        self.hub.touched(task);
        answer
    }

    fn retry_locked(&self, task: &TaskRef, changes: &Changes) -> Result<(), QueueError> {
        let known = attempts::load(&self.layout, task)?;
        let claimed = self.layout.claimed(task);
        let refuse = |state: String| Err(QueueError::State { task: task.clone(), state });
        if let Some(current) = known.current().filter(|current| current.held) {
            return refuse(format!("running (attempt {})", current.n));
        }
        let place = self.place(task, true)?;
        let ended = self.result_of(task)?.is_some();
        match &place {
            Place::Inbox(_) if !ended => return refuse("waiting already".into()),
            Place::Nowhere if !ended && known.each.is_empty() => return Err(QueueError::Unknown(task.clone())),
            Place::Inbox(_) | Place::Nowhere | Place::Claimed | Place::Over(_) => {}
        }
        if let Some(current) = known.current().filter(|current| current.exit.is_none()) {
            self.end_lost(&task.attempt(current.n), None, OnLost::Retry)?;
        }
        // History first: from here on nobody publishes the old attempts again, wherever this is cut short.
        if known.last() > known.settled {
            attempts::settle(&self.layout, task, known.last())?;
        }
        match &place {
            Place::Claimed => {}
            Place::Over(path) => {
                fs::rename(path, &claimed).map_err(failed("move", path))?;
            }
            Place::Inbox(name) => {
                let path = self.layout.inbox(&task.agent).join(name);
                fs::rename(&path, &claimed).map_err(failed("move", &path))?;
            }
            Place::Nowhere => {
                let copy = self.layout.attempt(&task.attempt(known.last())).join("task.json");
                let Some(bytes) = disk::absent_as_none(fs::read(&copy)).map_err(failed("read", &copy))? else {
                    return refuse("ended, and its file is gone".into());
                };
                self.replace(task, &claimed, &bytes)?;
            }
        }
        if !changes.is_empty() {
            let spec = self.full_spec_at(&claimed, task)?.map(|(spec, _)| spec);
            let mut spec = spec.ok_or_else(|| QueueError::Unknown(task.clone()))?;
            changes.apply(&mut spec, known.each.iter().rev().find_map(Attempt::session));
            self.replace(task, &claimed, &spec::write(&spec)?)?;
        }
        disk::sync_folder(&self.layout.within(&task.agent, ".claimed"))?;
        self.supersede(task)?;
        // Whoever asked for it has it now, and what was asked of the life before is over.
        self.answered(task, Request::Retry)?;
        self.answered(task, Request::Cancel)?;
        self.give_back(task)
    }

    /// Writes our own copy of a task file over the taken one.
    pub(super) fn replace(&self, task: &TaskRef, path: &Path, bytes: &[u8]) -> Result<(), QueueError> {
        self.copy(task, bytes)?.replace(path)
    }

    /// Begins to write our own copy of a task file.
    fn copy(&self, task: &TaskRef, bytes: &[u8]) -> Result<Draft, QueueError> {
        Draft::begin(self.temporary(task), bytes.to_vec(), false)
    }

    /// Moves every result of the task aside.
    fn supersede(&self, task: &TaskRef) -> Result<(), QueueError> {
        let folder = self.layout.superseded(&task.agent);
        for name in results::names(&task.id) {
            let from = self.layout.results(&task.agent).join(&name);
            if !self.is_result_of(task, &name)? {
                continue;
            }
            for k in 1_u32.. {
                let to = folder.join(format!("{}.{k}.json", task.id));
                if disk::rename_new(&from, &to).map_err(failed("move", &from))? {
                    break;
                }
            }
        }
        disk::sync_folder(&self.layout.results(&task.agent))
    }

    /// Moves a taken task back to the inbox. Where somebody else's file has its name it stays taken, and may be claimed
    /// from there.
    pub(super) fn give_back(&self, task: &TaskRef) -> Result<(), QueueError> {
        let from = self.layout.claimed(task);
        disk::rename_new(&from, &self.layout.waiting(task)).map_err(failed("move", &from))?;
        disk::sync_folder(&self.layout.inbox(&task.agent))?;
        // Without this a file system may keep the old name beside the new one when the power goes (btrfs does).
        disk::sync_folder(&self.layout.within(&task.agent, ".claimed"))
    }
}

/// Adds what the attempts before `n` used, and puts in when the first one started.
fn add_up(outcome: &mut Outcome, known: &Attempts, n: u32) {
    let before = known.spent_before(n);
    outcome.usage += before.usage;
    outcome.cost += before.cost;
    if let Some(first) = known.first_start() {
        outcome.started_at = first;
    }
}

/// How the attempt before ended, and its session.
pub(super) fn previous(attempt: &Attempt) -> Option<(Ending, Option<String>)> {
    let exit = attempt.exit.as_ref()?;
    Some((exit.ending.clone(), attempt.session()))
}
