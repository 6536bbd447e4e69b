//! What is looked at before a result counts: files, programs, JSON, and a reviewer.

use podium::model::DoneWhen;

use super::*;

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn command(argv: &[&str]) -> DoneWhen {
    DoneWhen::Command { argv: argv.iter().map(|word| (*word).to_owned()).collect() }
}

fn file(path: &str) -> DoneWhen {
    DoneWhen::File { path: path.to_owned() }
}

fn checks(done_when: Vec<DoneWhen>) -> Checks {
    Checks { done_when, review: false }
}

/// Leaves a page and some JSON, and says so.
const WORK: &str = "cat >/dev/null; echo page > page.html; echo '{\"questions\": 10}' > quiz.json; echo Written.";

impl Scene {
    /// The task's end, tried as often as it is.
    async fn ends(&mut self, checks: &Checks) -> (Vec<Ending>, Outcome) {
        let mut failed = Vec::new();
        loop {
            let report = self.until(|report| match report {
                Report::Failed { ending, .. } => Some(Err(ending)),
                Report::Ended { outcome, .. } => Some(Ok(*outcome)),
                _ => None,
            });
            match report.await {
                Ok(outcome) => return (failed, outcome),
                Err(ending) => {
                    failed.push(ending);
                    self.order(Order::Assign { task: task(), checks: Box::new(checks.clone()), may_spend: None }).await;
                }
            }
        }
    }
}

#[tokio::test]
async fn what_holds_is_said_and_files_are_kept_as_they_were() {
    let schema = serde_json::json!({"type": "object", "required": ["questions"]});
    let checks = checks(vec![
        "it reads well".into(),
        file("page.html"),
        // The agent's environment and workspace, and nothing of ours.
        command(&[
            "/bin/sh",
            "-c",
            "test -s page.html && test -z \"$ANTHROPIC_API_KEY$CARGO\" && test -n \"$PODIUM_TASK_ID\"",
        ]),
        DoneWhen::Json { path: "quiz.json".into(), schema },
    ]);
    let mut scene = scene_with(shell(WORK), checks.clone(), |_, _| {}).await;
    let (failed, outcome) = scene.ends(&checks).await;
    assert_eq!((failed, outcome.state), (Vec::new(), EndState::Done), "{outcome:?}");
    assert!(
        outcome.findings.contains(&"podium looked: 3 of the plan's checks hold".to_owned()),
        "{:?}",
        outcome.findings
    );
    let page = outcome.artifacts.iter().find(|a| a.path.ends_with("page.html")).unwrap();
    fs::write(scene.stage.path().join(&page.path), "something else").unwrap();
    assert_eq!(fs::read_to_string(scene.stage.path().join(page.kept.as_ref().unwrap())).unwrap(), "page\n");
}

#[tokio::test]
async fn what_does_not_hold_is_tried_once_more_and_then_has_failed_with_the_name_of_the_check() {
    let cases: [(DoneWhen, &str); 6] = [
        (file("absent.html"), "not done: the file absent.html is there and not empty: there is no such file"),
        (file("../../secret"), "not done: the file ../../secret is there and not empty: it leads out of the workspace"),
        (file("link"), "not done: the file link is there and not empty: it leads out of the workspace"),
        (command(&["/bin/sh", "-c", "echo no tests >&2; exit 3"]), "exits 0: exit 3: no tests"),
        // One word, and no shell that would take it apart.
        (
            command(&["touch made; exit 0"]),
            "could not start touch made; exit 0: No such file or directory (os error 2)",
        ),
        (
            DoneWhen::Json { path: "quiz.json".into(), schema: serde_json::json!({"required": ["answers"]}) },
            "\"answers\" is a required property",
        ),
    ];
    for (probe, wanted) in cases {
        let checks = checks(vec![probe]);
        let work = format!("ln -sf /etc/passwd link; {WORK}");
        let mut scene = scene_with(shell(&work), checks.clone(), |settings, _| {
            fs::write(settings.stage.join("secret"), "x").unwrap();
        })
        .await;
        let (failed, outcome) = scene.ends(&checks).await;
        assert!(matches!(failed[..], [Ending::Unproven { .. }]), "{failed:?}");
        assert_eq!((outcome.state, outcome.attempt), (EndState::Failed, 2));
        assert!(outcome.summary.contains(wanted), "{} … {wanted}", outcome.summary);
        let log = fs::read_to_string(scene.stage.path().join("logs/t.2.log")).unwrap();
        assert!(log.starts_with("podium: once more with more effort, because it was not done: "), "{log}");
        assert!(!scene.stage.path().join("workspaces/coding/made").exists());
    }
}

#[tokio::test]
async fn a_program_that_does_not_end_obeys_a_cancel_and_leaves_nothing() {
    let checks = checks(vec![command(&["/bin/sh", "-c", "sleep 611 & exec sleep 612"])]);
    let mut scene = scene_with(shell(WORK), checks.clone(), |_, _| {}).await;
    scene
        .until(|report| match report {
            Report::Active { activity, .. } if activity.doing.starts_with("looks whether") => Some(()),
            _ => None,
        })
        .await;
    scene.order(Order::Cancel { attempt: task().attempt(1) }).await;
    let (_, outcome) = scene.ends(&checks).await;
    assert_eq!(outcome.state, EndState::Cancelled);
    let left = tree::table().into_iter().filter(|p| {
        let line = fs::read_to_string(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        !p.zombie && (line.contains("611") || line.contains("612")) && line.contains("sleep")
    });
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn a_read_only_agent_starts_no_programs_and_the_result_says_so() {
    let checks = checks(vec![command(&["touch", "made"])]);
    let mut scene = scene_with(shell(WORK), checks.clone(), |settings, _| {
        settings.agent.permissions = Permissions::ReadOnly;
    })
    .await;
    let (_, outcome) = scene.ends(&checks).await;
    assert_eq!(outcome.state, EndState::Done);
    assert!(
        outcome.findings.iter().any(|f| f.contains("a read-only agent starts no programs")),
        "{:?}",
        outcome.findings
    );
    assert!(!scene.stage.path().join("workspaces/coding/made").exists());
}

#[tokio::test]
async fn a_reviewer_says_no_once_and_then_yes_and_is_paid_for() {
    let clock = Clock::new(now);
    let listen = "127.0.0.1:0".parse().unwrap();
    let settings = podium::rehearsal::Settings { seed: 7, pace: 0.0, listen, clock };
    let stand_in = podium::rehearsal::StandIn::start(settings).await.unwrap();
    let gateway = podium::engines::Gateway { url: stand_in.url(), token: "token".to_owned().into() };
    let checks = Checks { done_when: vec!["it reads well".into()], review: true };
    let mut scene = scene_with(shell(WORK), checks.clone(), |settings, spec| {
        settings.gateway = Some(gateway);
        settings.agent.model = "haiku".into();
        spec.description = "Write a page. [[rehearse:reject*1]]".into();
    })
    .await;
    let (failed, outcome) = scene.ends(&checks).await;
    let message = "the reviewer: the rehearsal was asked to reject this".to_owned();
    assert_eq!(failed, [Ending::Unproven { message }]);
    assert_eq!((outcome.state, outcome.attempt), (EndState::Done, 2), "{outcome:?}");
    assert!(outcome.findings.contains(&"a reviewer has accepted it".to_owned()));
    assert!(outcome.usage.total() > 0, "the review's tokens are the task's");

    drop(scene);
    let mut alone = scene_with(shell(WORK), checks.clone(), |_, _| {}).await;
    let (_, outcome) = alone.ends(&checks).await;
    assert!(
        outcome.findings.iter().any(|f| f.starts_with("not reviewed, though the plan asks for it")),
        "never in silence"
    );
}
