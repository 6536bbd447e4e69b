//! The NATS server that tasks wait on, where they do.

use super::{Check, Level, check};
use crate::{
    config::Config,
    queue::nats::{
        Unfit,
        check::{Durable, look},
    },
};

/// What is known of the server, in the order in which one would put it right.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let Some(address) = config.queue.server(&config.stage) else { return Vec::new() };
    let (report, trouble) = match look(&address).await {
        Ok(seen) => seen,
        Err(unfit) => return vec![unfit_check(&unfit)],
    };
    let (level, remedy) = match &report.durable {
        Durable::Verified if report.current < report.copies => {
            (Level::Warn, Some("start the servers that are missing, and let them catch up"))
        }
        Durable::Verified if report.copies == 1 => {
            (Level::Ok, Some("three servers keep working when one is lost: [queue] replicas = 3"))
        }
        Durable::Verified => (Level::Ok, None),
        Durable::Unverified(_) => {
            (Level::Warn, Some("name the servers' monitoring in [queue] monitor, and see docs/queue-nats.md"))
        }
        Durable::Unsafe(_) => {
            (Level::Fail, Some("set sync_interval: always in the server's jetstream block and restart it"))
        }
    };
    let mut checks = vec![check(level, "queue", report.sentence(), remedy)];
    match trouble {
        None => {}
        Some(missing @ Unfit::Missing(_)) => checks.push(check(Level::Warn, "queue", missing.to_string(), None)),
        Some(unfit) => checks.push(unfit_check(&unfit)),
    }
    checks
}

fn unfit_check(unfit: &Unfit) -> Check {
    let remedy = match unfit {
        Unfit::Url(_) | Unfit::File(_) => Some("mend [queue] in podium.toml, PODIUM_QUEUE or --queue"),
        Unfit::Credentials(_) => Some("name the right file in [queue] credentials or PODIUM_QUEUE_CREDENTIALS"),
        Unfit::Unreachable(..) => Some("start the server, or mend its address"),
        Unfit::Old(..) | Unfit::Forgetful(_) => Some("docs/queue-nats.md says what a server must do"),
        Unfit::Missing(_) | Unfit::Different(..) | Unfit::Unmade(..) => None,
    };
    check(Level::Fail, "queue", unfit.to_string(), remedy)
}
