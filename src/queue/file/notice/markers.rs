//! Markers that ask for something: told once, and removed where nobody knows their task.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Asked, Notice, inbox::SHORT_REST};
use crate::{
    model::{AgentName, TaskRef},
    queue::{
        Change,
        file::{
            disk::{self, Stamp},
            requests,
        },
    },
};

/// A marker of a task that nobody knows is removed after this long.
const FORLORN: Duration = Duration::from_mins(1);

impl Notice {
    /// Tells what markers ask for, each once. What nobody can be asked for is listed, and removed after a while.
    pub(super) fn list_requests(&mut self) {
        let store = Arc::clone(&self.store);
        for agent in &store.settings.agents {
            let folder = store.layout.requests(agent);
            let open = self.asked.iter().any(|((of, _), asked)| of == agent && !asked.told);
            if !self.has_changed(folder.clone()) && !open {
                continue;
            }
            let Some(names) = Self::noted(disk::text_names(&folder)) else { continue };
            let prefix = format!("{}/", store.layout.shown(&folder));
            self.asked.retain(|(of, name), _| of != agent || names.contains(name));
            self.unlist(|path| path.strip_prefix(&prefix).is_some_and(|name| !names.iter().any(|known| known == name)));
            for name in names {
                self.request(agent, name);
            }
        }
    }

    /// Looks at one marker.
    pub(super) fn request(&mut self, agent: &AgentName, name: String) {
        let path = self.store.layout.requests(agent).join(&name);
        let Ok(Some(stamp)) = Stamp::at(&path) else { return };
        let Some((id, request)) = requests::asked(&name) else {
            return self.leave(&path, "A request is named ID.cancel or ID.retry.".to_owned());
        };
        let task = TaskRef::new(agent.clone(), id);
        let now = Instant::now();
        let asked = self.asked.entry((agent.clone(), name)).or_insert(Asked { stamp, since: now, told: false });
        if asked.stamp != stamp {
            *asked = Asked { stamp, since: now, told: false };
        }
        if asked.told {
            return;
        }
        if self.said.get(&task).is_some() {
            asked.told = true;
            let shown = self.store.layout.shown(&path);
            self.unlist(|listed| listed == shown);
            self.say(Change::Requested { task, request });
        } else if now.duration_since(asked.since) < SHORT_REST {
            // Its task may just be arriving.
        } else if now.duration_since(asked.since) < FORLORN {
            self.leave(&path, format!("Nobody knows a task {task}; the request is removed after a minute."));
        } else {
            Self::noted(self.store.answered(&task, request));
        }
    }
}
