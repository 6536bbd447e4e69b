//! What the real CLI asks for on another machine is answered in the room, as if it ran there; so are its sub-agents and its
//! silence seen.

use super::*;

/// Marie is the real CLI on another machine, must ask, and calls the room's gateway.
async fn asking(room: &str, lease: Duration) -> Option<(Scene, Worker)> {
    let cli = cli()?;
    let mut scene = super::calls::invited("marie", "claude", "permissions = \"ask\"\n", room, lease).await?;
    scene.far.env.insert("CLAUDE_COMMAND".to_owned(), cli);
    let worker = scene.worker(&["--invitation", super::calls::INVITATION]);
    Some((scene, worker))
}

/// What waits for an answer, once something does that is not this.
async fn asked(scene: &Scene, former: &Value) -> Value {
    let end = tokio::time::Instant::now() + Duration::from_mins(1);
    loop {
        let asks = scene.room.run(&["status", "--json"]).json()["asks"].clone();
        if let Some(first) = asks.get(0).filter(|first| first["id"] != *former) {
            return first.clone();
        }
        assert!(tokio::time::Instant::now() < end, "nothing is asked for: {:#}", scene.room.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn task(scene: &Scene, id: &str, words: &str) {
    scene.room.run(&["submit", "--agent", scene.agent, "--id", id, words]).exits(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_elsewhere_is_allowed_and_denied_in_the_room_also_after_its_deputy_or_core_was_killed() {
    let Some((scene, _worker)) = asking("", LEASE).await else { return };
    for (id, verb) in [("yes", "approve"), ("no", "deny")] {
        task(&scene, id, "Plan a junior class.");
        let ask = asked(&scene, &Value::Null).await;
        assert_eq!((&ask["task"], &ask["tool"]), (&json!(scene.task(id)), &json!("Write")), "{ask:#}");
        // Whoever comes after hears of it again.
        let ask = if verb == "approve" {
            let deputy = scene.room.worker("marie").await;
            kill(deputy);
            scene.room.worker_but("marie", deputy).await;
            asked(&scene, &ask["id"]).await
        } else {
            let core = scene.room.core();
            kill(core);
            eventually("the next core", || Some(scene.room.core()).filter(|next| *next != core)).await;
            asked(&scene, &Value::Null).await
        };
        scene.room.run(&[verb, ask["id"].as_str().unwrap()]).exits(0);
        assert_ended(&scene.result(id).await, "done", 1);
        let made = files_named(&scene.far.path.join("workspaces"), &format!("{id}.md"));
        assert_eq!(!made.is_empty(), verb == "approve", "{made:?}");
    }
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_answers_elsewhere_is_denied_in_time() {
    let Some((scene, _worker)) = asking("[room]\nask_timeout = \"3s\"\n", LEASE).await else { return };
    task(&scene, "late", "Plan a junior class.");
    assert_ended(&scene.result("late").await, "done", 1);
    assert!(files_named(&scene.far.path.join("workspaces"), "late.md").is_empty());
    let answers = scene.room.status()["answers"].clone();
    assert_eq!((&answers[0]["by"], &answers[0]["task"]), (&json!("nobody"), &json!("marie/late")), "{answers:#}");
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_given_while_the_server_is_away_is_heard_when_it_is_back() {
    let Some((mut scene, _worker)) = asking("", Duration::from_mins(1)).await else { return };
    task(&scene, "yes", "Plan a junior class.");
    let ask = asked(&scene, &Value::Null).await;
    scene.server.kill();
    // So long that worker and deputy have given each other up.
    eventually("silence", || scene.deputy_said("it has said nothing for 10 s").then_some(())).await;
    scene.says("its deputy has said nothing for 10 s").await;
    scene.room.run(&["approve", ask["id"].as_str().unwrap()]).exits(0);
    scene.server.up();
    assert_ended(&scene.result("yes").await, "done", 1);
    assert_eq!(files_named(&scene.far.path.join("workspaces"), "yes.md").len(), 1);
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sub_agent_elsewhere_is_seen_at_work_and_named_where_it_asks() {
    let Some((scene, _worker)) = asking("", LEASE).await else { return };
    task(&scene, "two", "Plan a junior class. [[rehearse:subagent-acts]]");
    let (mut seen, mut former) = (Vec::new(), Value::Null);
    while seen.last().is_none_or(|(tool, _)| tool != "Write") {
        let ask = asked(&scene, &former).await;
        if ask["tool"] == "Bash" {
            scene.slot("the sub-agent", |slot| slot.held.as_ref()?.activity.subagents.first().map(drop)).await;
        }
        seen.push((ask["tool"].as_str().unwrap().to_owned(), ask["subagent"].as_str().map(str::to_owned)));
        scene.room.run(&["approve", ask["id"].as_str().unwrap()]).exits(0);
        former = ask["id"].clone();
    }
    assert_ended(&scene.result("two").await, "done", 1);
    assert!(seen.contains(&("Bash".to_owned(), Some("general-purpose: Second look".to_owned()))), "{seen:?}");
    scene.room.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_elsewhere_that_is_silent_is_warned_of_extended_and_ended() {
    let Some(mut scene) = Scene::new().await else { return };
    scene.configure("attempts = 3", "attempts = 1");
    let config = fs::read_to_string(scene.there("podium.toml")).unwrap();
    fs::write(scene.there("podium.toml"), config.replace("[agents.anga]\n", "[agents.anga]\nstall = \"6s\"\n"))
        .unwrap();
    scene.room.serve().await;
    let _worker = scene.worker(&[]);
    scene.far.steps("t", &["--print", "one", "--sleep", "60"]);
    scene.submit("t");
    let at = scene.slot("the countdown", |slot| slot.held.as_ref()?.activity.stalls_at).await;
    let left = at.duration_since(clock().now()).as_secs_f64();
    assert!((-1.0..7.0).contains(&left), "{left}");
    scene.room.run(&["extend", "anga/t", "--by", "5s"]).exits(0);
    scene
        .slot("the countdown to begin later", |slot| slot.held.as_ref()?.activity.stalls_at.filter(|new| *new > at))
        .await;
    let result = scene.result("t").await;
    assert!(result.to_string().contains("stalled"), "{result:#}");
    scene.room.close().await;
}

/// Files of this name below a folder.
fn files_named(folder: &Path, name: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|file| file == name) {
                found.push(path);
            }
        }
    }
    found
}
