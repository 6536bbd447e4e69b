//! The attention hook: a program that is told, once for what happens at once, and never holds anything up.

use super::*;

#[tokio::test]
async fn many_failures_at_once_are_told_once_with_json_and_a_hook_that_fails_holds_nothing_up() {
    let mut stage = Stage::scripted("");
    let told = stage.path.join("told");
    let hook = stage.path.join("hook.sh");
    // It fails each time; the room goes on.
    fs::write(
        &hook,
        format!("cat >> {}\necho \"$ANTHROPIC_API_KEY\" >> {}.key\nexit 3\n", told.display(), told.display()),
    )
    .unwrap();
    let toml = fs::read_to_string(stage.path.join("podium.toml")).unwrap();
    let attention = format!("[retry]\nattempts = 1\n[attention]\nhook = {}\n", json!(["sh", hook]));
    fs::write(stage.path.join("podium.toml"), format!("{attention}{toml}")).unwrap();
    stage.env.insert("ANTHROPIC_API_KEY".to_owned(), KEY.into());
    stage.serve().await;
    for n in 0..12 {
        let task = format!("{}/bad-{n}", ["marie", "anga", "fabien"][n % 3]);
        stage.submit(&task, &["--exit", "4"], &[]);
    }
    stage.until("all have failed", |s| (s.tasks.counts().failed == 12).then_some(())).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    let lines = loop {
        let text = fs::read_to_string(&told).unwrap_or_default();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let new: u64 = lines.iter().map(|line| line["new"].as_u64().unwrap()).sum();
        if new == 12 {
            break lines;
        }
        assert!(tokio::time::Instant::now() < end, "{lines:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // They take some seconds to fail on a busy machine, and may fall into two or three.
    assert!(lines.len() <= 4, "{lines:#?}");
    let first = &lines[0];
    assert_eq!((&first["event"], &first["needs"][0]["kind"]), (&json!("needs_you"), &json!("failed")), "{first:#}");
    assert!(first["text"].as_str().is_some_and(|text| text.contains("failed")), "{first:#}");
    assert_eq!(fs::read_to_string(stage.path.join("told.key")).unwrap().trim(), "", "no key for the hook");
    stage.close().await;
}
