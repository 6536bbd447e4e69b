//! Mending what a crash left, as far as it concerns files. Idempotent, and cheap while little is open: it looks at
//! `.claimed/` and at temporaries, never at the inbox.

use std::{fs, path::Path};

use super::{
    attempts::{self, Attempts, Exit},
    disk::{self, Opened, Stamp, failed},
    owner::Owner,
    spec,
    store::Store,
};
use crate::{
    model::{EndState, Ending, TaskId, TaskRef, Verdict},
    queue::QueueError,
};

impl Store {
    /// Mends every agent's open tasks and says which ones changed. A task that cannot be mended does not keep the others
    /// from it; the first such error is returned at the end.
    pub(super) fn recover(&self) -> Result<Vec<TaskRef>, QueueError> {
        let mut mended = Vec::new();
        let mut trouble = None;
        for agent in &self.settings.agents {
            self.make_folders(agent)?;
            self.tidy_all(agent)?;
            self.sweep(&self.layout.within(agent, ".tmp"))?;
            self.sweep(&self.layout.results_temporary(agent))?;
            self.sweep(&self.layout.all_attempts(agent))?;
            if !self.settings.elsewhere.contains(agent) {
                self.forget_notes(agent)?;
            }
            for name in disk::text_names(&self.layout.within(agent, ".claimed"))? {
                let Some(id) = name.strip_suffix(".json").and_then(|stem| TaskId::new(stem).ok()) else { continue };
                let task = TaskRef::new(agent.clone(), id);
                let lock = self.lock(&task)?;
                let mut answer = self.recover_locked(&task);
                // What a file of ours said is gone for good; what it stood for is found by its absence.
                while let Some((path, sentence)) = answer.as_ref().err().and_then(attempts::damage) {
                    let name = path.file_name().unwrap_or_default().to_owned();
                    tracing::error!(%task, sentence, "set aside");
                    if self.reject(agent, path, &name, &format!("{task}: {sentence}"))?.is_none() {
                        break;
                    }
                    answer = self.recover_locked(&task).map(|_| true);
                }
                drop(lock);
                match answer {
                    Ok(true) => {
                        self.hub.touched(&task);
                        mended.push(task);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::error!(%task, %error, "could not recover");
                        trouble.get_or_insert(error);
                    }
                }
            }
        }
        if let Err(error) = self.prune() {
            tracing::error!(%error, "could not let go of old tasks");
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        mended.sort_unstable();
        Ok(mended)
    }

    /// Mends one taken task; says whether anything changed.
    pub(super) fn recover_locked(&self, task: &TaskRef) -> Result<bool, QueueError> {
        if let Some((outcome, _)) = self.result_of(task)? {
            disk::sync_folder(&self.layout.results(&task.agent))?;
            self.put_to_rest(task, outcome.state)?;
            return Ok(true);
        }
        let claimed = self.layout.claimed(task);
        self.one_name(task, &claimed)?;
        let Some((spec, _)) = self.spec_at(&claimed, task)? else { return Ok(false) };
        let known = attempts::load(&self.layout, task)?;
        if !known.current().is_some_and(|current| current.held)
            && let Some(sentence) = damaged(&claimed, task)?
        {
            self.end_damaged(task, &claimed, &known, &sentence)?;
            return Ok(true);
        }
        let Some(current) = known.current() else {
            // Taken and not started, or a retry cut short: it waits again.
            self.give_back(task)?;
            return Ok(true);
        };
        if current.held {
            return Ok(false);
        }
        let attempt = task.attempt(current.n);
        let (exit, lost) = match &current.exit {
            Some(Exit { outcome: Some(outcome), .. }) => {
                self.publish(outcome)?;
                return Ok(true);
            }
            // Either its turn comes, or it was the last one it may have and nobody lived to say so.
            Some(exit) => (exit.clone(), false),
            None => {
                let at = self.now() + self.backoff(&spec, &attempt, known.counted());
                (self.end_lost(&attempt, Some(at), spec.on_lost)?, true)
            }
        };
        if exit.asks {
            return Ok(lost);
        }
        let known = attempts::load(&self.layout, task)?;
        match exit.ending.verdict(known.counted(), self.allowed(&spec)) {
            Verdict::End(state) => {
                let outcome = self.outcome_without_attempt(task, &known, exit.ending, state)?;
                self.publish(&outcome)?;
                Ok(true)
            }
            Verdict::Retry | Verdict::Park(_) => Ok(lost),
        }
    }

    /// Ends a task whose file says nothing any more, unless the copy beside its newest attempt still does.
    fn end_damaged(&self, task: &TaskRef, claimed: &Path, known: &Attempts, why: &str) -> Result<(), QueueError> {
        tracing::error!(%task, why, "set aside");
        let name = claimed.file_name().unwrap_or_default().to_owned();
        drop(self.reject(&task.agent, claimed, &name, why)?);
        self.forget(claimed);
        let copy = self.layout.attempt(&task.attempt(known.last())).join("task.json");
        if let Opened::Whole { bytes, .. } =
            disk::open_regular(&copy, spec::LIMIT as u64).map_err(failed("read", &copy))?
            && spec::read(&bytes, &task.agent, task.id.as_str()).is_ok()
        {
            self.replace(task, claimed, &bytes)?;
            return disk::sync_folder(&self.layout.within(&task.agent, ".claimed"));
        }
        let ending = Ending::Malformed { message: why.to_owned() };
        let outcome = self.outcome_without_attempt(task, known, ending, EndState::Failed)?;
        self.publish(&outcome).map(drop)
    }

    /// Takes the inbox's name from a taken file that has both: a rename that the power cut in half.
    fn one_name(&self, task: &TaskRef, claimed: &Path) -> Result<(), QueueError> {
        let waiting = self.layout.waiting(task);
        let stamp = |path: &Path| Stamp::at(path).map_err(failed("look at", path));
        if let (Some(taken), Some(left)) = (stamp(claimed)?, stamp(&waiting)?)
            && taken.inode == left.inode
        {
            tracing::warn!(%task, "its file had two names");
            disk::absent_as_none(fs::remove_file(&waiting)).map_err(failed("remove", &waiting))?;
        }
        Ok(())
    }

    /// Removes what a dead process left half-written.
    fn sweep(&self, folder: &Path) -> Result<(), QueueError> {
        for name in disk::text_names(folder)? {
            let path = folder.join(&name);
            let Some(owner) = Owner::of_name(&name) else { continue };
            let attempt = name.starts_with(".new-");
            let ours = attempt || name.starts_with(".exit-") || !folder.ends_with(".attempts");
            if !ours || owner.lives() || (attempt && disk::is_held(&path.join("lease"))?) {
                continue;
            }
            let gone = if attempt { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            disk::absent_as_none(gone).map_err(failed("remove", &path))?;
            tracing::info!(path = self.layout.shown(&path), "removed what a dead process left half-written");
        }
        Ok(())
    }
}

/// What is wrong with a taken task's file, where it says nothing that could be run.
fn damaged(claimed: &Path, task: &TaskRef) -> Result<Option<String>, QueueError> {
    let Opened::Whole { bytes, .. } =
        disk::open_regular(claimed, spec::LIMIT as u64).map_err(failed("read", claimed))?
    else {
        return Ok(None);
    };
    let wrong = spec::read(&bytes, &task.agent, task.id.as_str()).is_err();
    Ok(wrong.then(|| format!("{}.json in .claimed is damaged ({} bytes).", task.id, bytes.len())))
}
