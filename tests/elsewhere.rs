//! A worker whose model calls go to the room's gateway as from another machine: the real binary at both ends, TLS between.

#![expect(clippy::panic, clippy::print_stderr, reason = "that is how a test speaks")]
#![expect(clippy::unwrap_used, reason = "a test's own set-up may fail loudly")]

#[expect(dead_code, reason = "tests/room.rs uses the rest")]
mod common;
#[path = "common/ports.rs"]
mod ports;

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use podium::{
    ledger::Rows,
    model::gateway::{Call, CallEnd, Caller},
    room::Process,
};
use serde_json::json;

use common::{Stage, assert_ended, cli::cli, eventually};

/// Anga alone, no second chance, and a listener for other machines.
fn stage() -> Stage {
    let free = ports::free_port();
    Stage::bare(&format!(
        "[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n[retry]\nattempts = 1\n[gateway]\nlisten = \"127.0.0.1:{free}\"\n\
         [agents.marie]\nslots = 0\n[agents.fabien]\nslots = 0\n"
    ))
}

fn lay_down(stage: &Stage, name: &str, line: &str, mode: u32) -> PathBuf {
    let path = stage.root.path().join(name);
    fs::write(&path, line).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Starts anga's worker before there is a room, so that it has the slot.
async fn start(stage: &mut Stage, invitation: &Path, engine: &str) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(stage.root.path().join("worker.log")).unwrap();
    let args = ["worker", "anga", "--rehearse", "--engine", engine, "--invitation", invitation.to_str().unwrap()];
    let mut command = stage.command(&args);
    let worker = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let pid = worker.id();
    let lock = stage.path.join(".podium/workers/anga-0.json");
    eventually("the worker to have its slot", || lock.exists().then_some(())).await;
    stage.serve().await;
    stage
        .until("the worker to be found", |state| {
            let slot = state.agents.get(&"anga".parse().unwrap())?.slots.first()?;
            matches!(slot.process, Process::Up { pid: up, .. } if up == pid).then_some(())
        })
        .await;
    worker
}

fn rows(stage: &Stage) -> Vec<Call> {
    Rows::new(stage.path.join(".podium/ledger")).read(jiff::Timestamp::UNIX_EPOCH).unwrap()
}

async fn works(engine: &str, mut stage: Stage) {
    let line = stage.run(&["worker", "anga", "--invite"]).exits(0).out;
    let invitation = lay_down(&stage, "anga.podium", &line, 0o600);
    stage.run(&["worker", "anga", "--alive"]).exits(1);
    let mut worker = start(&mut stage, &invitation, engine).await;
    stage.run(&["worker", "anga", "--alive"]).exits(0);
    let submitted = stage.run(&["submit", "--agent", "anga", "--id", "code", "Say what a mutex is."]);
    assert_eq!(submitted.exits(0).out.trim(), "anga/code");
    assert_ended(&stage.result("anga/code").await, "done", 1);
    let rows = eventually("rows in the room's ledger", || Some(rows(&stage)).filter(|rows| !rows.is_empty())).await;
    let attempt = "anga/code".parse::<podium::model::TaskRef>().unwrap().attempt(1);
    let whose = Caller::Worker { agent: "anga".parse().unwrap(), attempt: Some(attempt) };
    assert!(rows.iter().all(|row| row.caller == whose), "{rows:#?}");
    assert!(rows.iter().any(|row| row.end == CallEnd::Complete && row.cost.0 > 0), "{rows:#?}");
    let spent = stage.run(&["show", "anga/code", "--json"]).exits(0).json();
    assert_eq!(spent["agent"], "anga", "{spent:#}");

    // That they went this way shows when the way is closed.
    let invited = stage.run(&["worker", "--invited", "--json"]).exits(0).json();
    assert_eq!(invited["agent"], "anga", "{invited:#}");
    let id = invited["id"].as_str().unwrap().to_owned();
    stage.run(&["worker", "--revoke", &id]).exits(0);
    stage.run(&["worker", "--revoke", &id]).exits(2);
    stage.run(&["submit", "--agent", "anga", "--id", "again", "Say what a lock is."]).exits(0);
    let result = stage.result("anga/again").await;
    assert_eq!((&result["state"], &result["errors"][0]["class"]), (&json!("failed"), &json!("auth")), "{result:#}");
    let token = line.split_whitespace().last().unwrap();
    for folder in [stage.path.join("logs"), stage.path.join("results"), stage.path.join(".podium")] {
        assert_eq!(common::files_with(token, &folder), Vec::<PathBuf>::new());
    }
    stage.close().await;
    assert!(worker.wait().unwrap().success());
}

#[tokio::test]
async fn the_messages_engine_elsewhere_is_paid_for_in_the_rooms_ledger() {
    works("messages", stage()).await;
}

#[tokio::test]
async fn the_cli_elsewhere_needs_no_trust_store_and_is_paid_for_in_the_rooms_ledger() {
    let Some(cli) = cli() else { return };
    let mut stage = stage();
    stage.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    works("claude", stage).await;
}

#[tokio::test]
async fn an_invitation_that_cannot_be_used_is_one_sentence_and_exit_2() {
    let mut stage = stage();
    let line = stage.run(&["worker", "anga", "--invite"]).exits(0).out;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, address, pin, token] = words[..] else { panic!("{line}") };
    let refused = |name: &str, line: &str, mode: u32, agent: &str| {
        let path = lay_down(&stage, name, line, mode);
        let ran =
            stage.run(&["worker", agent, "--rehearse", "--engine", "messages", "--invitation", path.to_str().unwrap()]);
        let said = ran.exits(2).err;
        said.lines().last().unwrap_or_default().to_owned()
    };
    assert!(refused("open", &line, 0o644, "anga").contains("others may read it (mode 644)"));
    let plain = line.replace("tls://", "http://");
    assert!(refused("plain", &plain, 0o600, "anga").contains("tls:// only, never in plain text"));
    let whose = line.replace("anga tls", "marie tls");
    assert!(refused("whose", &whose, 0o600, "anga").contains("the invitation is for marie"));
    assert!(refused("empty", "", 0o600, "anga").contains("this is no invitation"));
    let none = stage.run(&["worker", "anga", "--invitation", "/does/not/exist"]).exits(2).err;
    assert!(none.contains("/does/not/exist"), "{none}");

    // What only the room can tell: it has another certificate, or does not know the token. Its own worker has the slot
    // already, so these call from a stage of their own.
    stage.serve().await;
    let away = self::stage();
    let refused = |line: String| {
        let path = lay_down(&away, "away", &line, 0o600);
        away.run(&["worker", "anga", "--rehearse", "--engine", "messages", "--invitation", path.to_str().unwrap()])
            .exits(2)
            .err
    };
    let strange = refused(format!("anga {address} sha256:{} {token}", "00".repeat(32)));
    assert!(strange.contains("shows another certificate"), "{strange}");
    let unknown = refused(format!("anga {address} {pin} {token}0"));
    assert!(unknown.contains("does not know this invitation"), "{unknown}");
    assert!(!format!("{strange}{unknown}").contains(token));
    stage.close().await;
}

#[test]
fn a_plain_address_that_others_can_reach_is_refused_and_so_is_an_invitation_to_nowhere() {
    for (toml, part) in [
        ("[room]\ngateway = \"0.0.0.0:7443\"\n", "here calls are plain: only loopback is allowed"),
        ("[gateway]\nlisten = \"http://0.0.0.0:7443\"\n", "always encrypted"),
    ] {
        let stage = Stage::bare(toml);
        let said = stage.run(&["serve"]).exits(2).err;
        assert!(said.contains(part), "{said}");
    }
    let said = Stage::bare("").run(&["worker", "anga", "--invite"]).exits(2).err;
    assert!(said.contains("[gateway] listen"), "{said}");
    let open = Stage::bare("[gateway]\nlisten = \"0.0.0.0:7443\"\n");
    let said = open.run(&["worker", "anga", "--invite"]).exits(2).err;
    assert!(said.contains("[gateway] address"), "{said}");
    let named = Stage::bare("[gateway]\nlisten = \"0.0.0.0:7443\"\naddress = \"studio.example:7443\"\n");
    let said = named.run(&["worker", "anga", "--invite", "--json"]).exits(0).json();
    assert_eq!(said["address"], "studio.example:7443");
    assert!(said["line"].as_str().unwrap().starts_with("anga tls://studio.example:7443 sha256:"), "{said:#}");
    let checks = named.run(&["doctor", "--json"]).json();
    let found = checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "workers elsewhere").unwrap();
    assert!(found["found"].as_str().unwrap().contains("invited: 1"), "{found:#}");
    named.run(&["worker", "nobody", "--invite"]).exits(2);
}

#[tokio::test]
async fn a_room_that_starts_no_workers_waits_for_them_and_leaves_without_them() {
    let mut stage =
        Stage::bare("[room]\nstart_workers = false\n[upstream]\nurl = \"rehearsal:\"\n[rehearsal]\npace = 0\n");
    let room = stage.run(&["serve", "--detach"]).exits(0);
    assert!(room.out.contains("is open"), "{room:?}");
    stage.run(&["worker", "anga", "--alive"]).exits(1);
    stage.run(&["submit", "--agent", "anga", "--id", "code", "Say what a mutex is."]).exits(0);
    let worker = stage.command(&["worker", "anga", "--rehearse", "--engine", "messages"]).stderr(Stdio::null()).spawn();
    let mut worker = worker.unwrap();
    assert_ended(&stage.result("anga/code").await, "done", 1);
    // One of three has come; all are let go.
    stage.run(&["stop"]).exits(0);
    assert!(worker.wait().unwrap().success());
    stage.left().await;
}
