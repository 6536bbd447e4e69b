//! `podium wait`: until tasks or goals have ended.

use std::time::Duration;

use super::{
    Call, Exit,
    ids::{self, Named},
    json,
    link::{self, Link},
};
use crate::{
    model::{EndState, GoalEnd, GoalPhase},
    room::State,
};

pub(super) async fn wait(call: &Call, ids: &[String], timeout: Option<Duration>) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let mut link = link::connect(&config).await?;
    // A file that was dropped a moment ago is on its way into the picture.
    let known = |state: &State| ids.iter().all(|id| ids::find(state, id).is_ok());
    let _late = limit(Some(NEWS), seen(&mut link, known)).await;
    let named = ids.iter().map(|id| ids::find(link.state(), id)).collect::<Result<Vec<_>, _>>()?;
    let all = async {
        loop {
            let ended: Vec<Option<bool>> = named.iter().map(|n| ended_well(link.state(), n)).collect();
            if ended.iter().all(Option::is_some) {
                return anyhow::Ok(ended.into_iter().flatten().all(|good| good));
            }
            link.next().await?;
        }
    };
    let Some(good) = limit(timeout, all).await else {
        call.out.note("not ended in the time given; the work goes on");
        if call.out.is_json() {
            call.out.json(&json::Failure { error: "timed out".to_owned(), exit: Exit::TimedOut as u8 });
        }
        return Ok(Exit::TimedOut);
    };
    let good = good?;
    for name in &named {
        let (id, word) = match name {
            Named::Goal(goal) => (
                goal.to_string(),
                link.state().goals.get(goal).map(|g| g.phase.word().replace(' ', "_")).unwrap_or_default(),
            ),
            Named::Task(task) => (
                task.to_string(),
                link.state().tasks.find(task).map(|t| json::task_state(link.state(), &t)).unwrap_or_default(),
            ),
        };
        if call.out.is_json() {
            call.out.json_line(&serde_json::json!({ "id": id, "state": word }));
        } else {
            call.out.line(&format!("{id} {}", word.replace('_', " ")));
        }
    }
    Ok(if good { Exit::Done } else { Exit::Failed })
}

/// Runs to the end, or `None` when the time is over.
pub(super) async fn limit<T>(timeout: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match timeout {
        Some(timeout) => tokio::time::timeout(timeout, work).await.ok(),
        None => Some(work.await),
    }
}

/// How long an id that nobody knows may take to become known.
const NEWS: Duration = Duration::from_secs(1);

/// How long the room's picture may lag behind its answer.
const LAG: Duration = Duration::from_secs(5);

/// Waits until the room's picture shows what an order has done, so that the next call of a script finds it there.
pub(super) async fn seen(link: &mut Link, shows: impl Fn(&State) -> bool) {
    let _late = limit(Some(LAG), async {
        while !shows(link.state()) {
            if link.next().await.is_err() {
                break;
            }
        }
    })
    .await;
}

/// Whether it ended well; `None` while it has not ended. What is gone from the picture ended badly: somebody withdrew it.
fn ended_well(state: &State, named: &Named) -> Option<bool> {
    match named {
        Named::Task(task) if state.tasks.knows(task) => state.tasks.end_state(task).map(|end| end == EndState::Done),
        Named::Task(_) => Some(false),
        Named::Goal(goal) => match state.goals.get(goal).map(|g| &g.phase) {
            Some(GoalPhase::Ended { end, .. }) => Some(*end == GoalEnd::Done),
            Some(
                GoalPhase::Planning { .. }
                | GoalPhase::Asking { .. }
                | GoalPhase::AwaitingApproval
                | GoalPhase::Running
                | GoalPhase::Deciding
                | GoalPhase::Synthesising,
            ) => None,
            None => Some(false),
        },
    }
}
