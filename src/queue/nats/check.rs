//! Whether the engine keeps what it says that it keeps: looked at when a queue is opened, and by `podium doctor`.
//!
//! Owns what is believed of a server. Its one surprise: that it syncs each write before it says yes can only be read from its
//! monitoring; where that cannot be reached, nothing is refused, but the screen says that durability is not verified.

use std::{collections::BTreeSet, time::Duration};

use async_nats::Client;
use serde::Deserialize;

use super::{
    Address, Unfit,
    bucket::Bucket,
    server::{self, shown},
};

/// How long a monitoring address may take to answer.
const ANSWER: Duration = Duration::from_secs(3);

/// What was seen of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Where it is, without what is secret.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Copies of each task, and how many of them are current.
    pub copies: usize,
    /// How many of them have heard of the newest write.
    pub current: usize,
    /// Whether each write is on the disk before it is acknowledged.
    pub durable: Durable,
}

/// Whether each write is on the disk before it is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Durable {
    /// Every server with a copy says so.
    Verified,
    /// It was not seen; why.
    Unverified(String),
    /// A server says that it does not.
    Unsafe(String),
}

impl Report {
    /// What a person should know, if anything.
    pub fn warning(&self) -> Option<String> {
        match &self.durable {
            Durable::Unsafe(why) => Some(why.clone()),
            Durable::Unverified(why) => Some(format!("durability not verified: {why}")),
            Durable::Verified if self.current < self.copies => {
                Some(format!("only {} of {} copies are current", self.current, self.copies))
            }
            Durable::Verified => None,
        }
    }

    /// All of it in one line.
    pub fn sentence(&self) -> String {
        let copies = match self.copies {
            1 => "single copy".to_owned(),
            copies => format!("{} of {copies} copies current", self.current),
        };
        let durable = match &self.durable {
            Durable::Verified => "each write is synced before it is acknowledged".to_owned(),
            Durable::Unverified(why) => format!("durability not verified: {why}"),
            Durable::Unsafe(why) => why.clone(),
        };
        format!("nats-server {} at {}: {copies}; {durable}", self.version, self.address)
    }
}

/// What `/varz` says, as far as we ask.
#[derive(Debug, Deserialize)]
struct Varz {
    server_id: String,
    #[serde(default)]
    jetstream: Jetstream,
}

#[derive(Debug, Default, Deserialize)]
struct Jetstream {
    #[serde(default)]
    config: Option<Storage>,
}

#[derive(Debug, Deserialize)]
struct Storage {
    #[serde(default)]
    sync_always: bool,
}

/// Looks at a server without opening a queue on it, and at what the room made there: what is not as it must be.
pub async fn look(address: &Address) -> Result<(Report, Option<Unfit>), Unfit> {
    let client = server::connect(address, "doctor").await?;
    let replicas = server::replicas(address, &client);
    let (tasks, trouble) = match server::buckets(&server::context(client.clone()), None).await {
        Ok(buckets) => (Some(buckets.tasks), None),
        Err(unfit) => (None, Some(unfit)),
    };
    Ok((report(address, &client, replicas, tasks.as_ref()).await, trouble))
}

/// Looks at everything that can be seen from here.
pub(super) async fn report(address: &Address, client: &Client, replicas: usize, tasks: Option<&Bucket>) -> Report {
    let (mut copies, mut current) = (replicas, 1);
    if let Some(tasks) = tasks
        && let Ok(info) = tasks.info().await
    {
        copies = info.config.num_replicas;
        current = 1 + info.cluster.map_or(0, |cluster| cluster.replicas.iter().filter(|peer| peer.current).count());
    }
    let info = client.server_info();
    Report {
        address: shown(&address.url),
        version: info.version,
        copies,
        current,
        durable: durable(address, &info.server_id, copies).await,
    }
}

/// Asks the monitoring of as many servers as there are copies.
async fn durable(address: &Address, own: &str, copies: usize) -> Durable {
    if address.monitor.is_empty() {
        return Durable::Unverified("no monitoring address is named ([queue] monitor = [\"http://host:8222\"])".into());
    }
    let mut seen = BTreeSet::new();
    for url in &address.monitor {
        let varz = match varz(url).await {
            Ok(varz) => varz,
            Err(why) => return Durable::Unverified(format!("{url} {why}")),
        };
        let Some(storage) = varz.jetstream.config else {
            return Durable::Unverified(format!("{url} does not say how it stores"));
        };
        if !storage.sync_always {
            return Durable::Unsafe(format!(
                "the server of {url} acknowledges before it writes to the disk: a power cut takes tasks away. \
                 Set sync_interval: always in its jetstream block"
            ));
        }
        seen.insert(varz.server_id);
    }
    if seen.len() < copies {
        return Durable::Unverified(format!("{} of {copies} servers were asked", seen.len()));
    }
    // With one copy it must be the very server that we talk to.
    if copies == 1 && seen.len() == 1 && !seen.contains(own) {
        return Durable::Unverified("the monitoring address is another server's".into());
    }
    Durable::Verified
}

async fn varz(url: &str) -> Result<Varz, String> {
    let wrong = |error: reqwest::Error| format!("does not answer: {}", super::bucket::cause(&error));
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error means that somebody else was faster, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build().map_err(wrong)?;
    let answer = client.get(format!("{}/varz", url.trim_end_matches('/'))).send().await.map_err(wrong)?;
    answer.error_for_status().map_err(wrong)?.json().await.map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(durable: Durable, copies: usize, current: usize) -> Report {
        Report { address: "host:4222".into(), version: "2.10.27".into(), copies, current, durable }
    }

    #[test]
    fn what_was_not_seen_is_said_and_what_is_well_is_not() {
        assert_eq!(report(Durable::Verified, 3, 3).warning(), None);
        assert_eq!(report(Durable::Verified, 3, 2).warning().as_deref(), Some("only 2 of 3 copies are current"));
        let unseen = report(Durable::Unverified("nobody asked".into()), 1, 1);
        assert_eq!(unseen.warning().as_deref(), Some("durability not verified: nobody asked"));
        assert_eq!(
            unseen.sentence(),
            "nats-server 2.10.27 at host:4222: single copy; durability not verified: nobody asked"
        );
    }
}
