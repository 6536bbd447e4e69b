//! Model calls of work elsewhere: through the room's encrypted gateway, into the room's ledger, against the room's budgets.

use std::os::unix::fs::PermissionsExt as _;

use podium::{
    ledger::Rows,
    model::gateway::{Call, CallEnd, Caller},
};

use super::*;

/// Where the other machine has its invitation, from its stage on.
pub(super) const INVITATION: &str = "../agent.podium";

/// An open room with a gateway for other machines, and a machine that was invited; its engine is this.
pub(super) async fn invited(
    name: &'static str,
    engine: &str,
    agent: &str,
    room: &str,
    lease: Duration,
) -> Option<Scene> {
    let free = servers::free_port();
    let room = format!(
        "{room}[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n[gateway]\nlisten = \"127.0.0.1:{free}\"\n"
    );
    let mut scene = Scene::with(name, &room, lease).await?;
    let config = format!("{}[agents.{name}]\nengine = \"{engine}\"\n{agent}", scene.queue);
    fs::write(scene.there("podium.toml"), config).unwrap();
    let line = scene.room.run(&["worker", name, "--invite"]).exits(0).out;
    let path = scene.there(INVITATION);
    fs::write(&path, line).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    scene.room.serve().await;
    Some(scene)
}

fn rows(stage: &Stage) -> Vec<Call> {
    Rows::new(stage.path.join(".podium/ledger")).read(Timestamp::UNIX_EPOCH).unwrap_or_default()
}

/// A task elsewhere is paid for here, also across the death of its deputy.
async fn is_paid_for_in_the_room(scene: Scene) {
    let _worker = scene.worker(&["--invitation", INVITATION]);
    scene.room.run(&["submit", "--agent", "anga", "--id", "code", "Say what a mutex is."]).exits(0);
    assert_ended(&scene.result("code").await, "done", 1);
    let found =
        eventually("rows in the room's ledger", || Some(rows(&scene.room)).filter(|rows| !rows.is_empty())).await;
    let attempt = "anga/code".parse::<TaskRef>().unwrap().attempt(1);
    let whose = Caller::Worker { agent: "anga".parse().unwrap(), attempt: Some(attempt) };
    assert!(found.iter().all(|row| row.caller == whose), "{found:#?}");
    assert!(found.iter().any(|row| row.end == CallEnd::Complete && row.cost.0 > 0), "{found:#?}");
    assert_eq!(rows(&scene.far), Vec::new(), "nothing is paid for twice");
    let cost: i64 = found.iter().map(|row| row.cost.0).sum();
    scene.room.until("the room to count it", |state| (state.money.today.cost.0 == cost).then_some(())).await;
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_the_messages_engine_elsewhere_are_the_room_s() {
    let Some(scene) = invited("anga", "messages", "", "", LEASE).await else { return };
    is_paid_for_in_the_room(scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_the_real_cli_elsewhere_are_the_room_s() {
    let Some(cli) = cli() else { return };
    let Some(mut scene) = invited("anga", "claude", "", "", LEASE).await else { return };
    scene.far.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    is_paid_for_in_the_room(scene).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_room_s_budget_ends_work_elsewhere() {
    let Some(scene) = invited("anga", "messages", "", "[budget]\ntask_usd = 0.000001\n", LEASE).await else { return };
    let _worker = scene.worker(&["--invitation", INVITATION]);
    scene.room.run(&["submit", "--agent", "anga", "--id", "dear", "Say what a mutex is."]).exits(0);
    let result = scene.result("dear").await;
    assert_eq!((&result["state"], &result["ending"]["kind"]), (&json!("failed"), &json!("budget")), "{result:#}");
    scene.room.close().await;
}
