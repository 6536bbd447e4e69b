//! Tasks on their way in.
//!
//! Its one surprise: the file goes up first, under the hash of its content, so that a task which is there has its file.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    NatsQueue,
    bucket::Put,
    keys::Loaded,
    names,
    slot::{self, Live},
};
use crate::{
    model::{AgentName, TaskSpec},
    queue::{QueueError, Submitted},
};

/// Submissions of a batch that are on their way at once.
const AT_ONCE: usize = 64;

impl NatsQueue {
    /// Accepts one task.
    pub(super) async fn accept(&self, spec: &TaskSpec) -> Result<Submitted, QueueError> {
        self.accept_within(spec, None).await
    }

    /// Accepts one task; `room` = the batch has seen already that it fits.
    async fn accept_within(&self, spec: &TaskSpec, room: Option<()>) -> Result<Submitted, QueueError> {
        self.known(&spec.task.agent)?;
        let (_, sha256, is_cut) = slot::file(spec)?;
        let mut patience = self.patience();
        // Most names are new: then the one write says so, and nothing has to be read before it.
        let is_new =
            !is_cut && self.alarm().is_ok() && (room.is_some() || self.full(&spec.task.agent).await?.is_none());
        let mut unread = is_new.then(|| Loaded::unread(&spec.task));
        loop {
            let mut loaded = self.known_or_read(unread.take(), &spec.task).await?;
            if let Some(live) = &loaded.slot.live {
                let same = *live.task() == spec.task && live.spec == sha256;
                return Ok(if same { Submitted::Exists } else { Submitted::Conflict });
            }
            self.alarm()?;
            if room.is_none()
                && let Some(full) = self.full(&spec.task.agent).await?
            {
                return Ok(full);
            }
            self.put_spec(spec, &mut patience).await?;
            loaded.slot.live = Some(Live::new(spec.clone(), sha256.clone(), self.0.settings.clock.now()));
            loaded.slot.requests.clear();
            if let Put::Stored(_) = self.store(loaded, &mut patience).await? {
                return Ok(Submitted::New);
            }
        }
    }

    /// Whether no more of an agent's tasks may wait. What this process wrote is waited for only where it could matter.
    async fn full(&self, agent: &AgentName) -> Result<Option<Submitted>, QueueError> {
        let limit = self.0.settings.waiting_limit;
        let unheard = self.0.own.load(Ordering::Relaxed);
        if self.mirror().waiting_at_most(agent, unheard).is_some_and(|most| most < limit) {
            return Ok(None);
        }
        let waiting = self.waiting(agent).await?;
        Ok((waiting >= limit).then_some(Submitted::Full { waiting, limit }))
    }

    /// How many of an agent's tasks wait, all of this process's own counted.
    async fn waiting(&self, agent: &AgentName) -> Result<usize, QueueError> {
        Ok(self.own_mirror().await?.waiting(agent))
    }

    /// Accepts several, many at once. What is named twice, or may not fit, comes after the others, one by one.
    pub(super) async fn accept_many(&self, tasks: Vec<TaskSpec>) -> Result<Vec<Submitted>, QueueError> {
        let (mut room, mut seen) = (BTreeMap::new(), BTreeSet::new());
        let (mut first, mut later) = (Vec::new(), Vec::new());
        for (at, task) in tasks.into_iter().enumerate() {
            let agent = task.task.agent.clone();
            self.known(&agent)?;
            if !room.contains_key(&agent) {
                let left = self.0.settings.waiting_limit.saturating_sub(self.waiting(&agent).await?);
                room.insert(agent.clone(), left);
            }
            let fits = room.get_mut(&agent).is_some_and(|left: &mut usize| {
                let fits = *left > 0;
                *left = left.saturating_sub(1);
                fits
            });
            if seen.insert(names::task(&task.task)) && fits { first.push((at, task)) } else { later.push((at, task)) }
        }
        let one = |(at, task)| async move { Ok::<_, QueueError>((at, self.accept_within(&task, Some(())).await?)) };
        let mut answers: Vec<(usize, Submitted)> =
            stream::iter(first).map(one).buffer_unordered(AT_ONCE).try_collect().await?;
        for (at, task) in later {
            answers.push((at, self.accept(&task).await?));
        }
        answers.sort_by_key(|(at, _)| *at);
        Ok(answers.into_iter().map(|(_, answer)| answer).collect())
    }
}
