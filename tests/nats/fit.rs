//! Which servers are used, which are refused, and what is said of them.

use assert_cmd::Command;
use podium::queue::nats::check::Durable;

use super::*;

async fn refused(server: &Nats) -> Unfit {
    let stage = tempfile::tempdir().unwrap();
    NatsQueue::open(settings(server.address(), stage.path())).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_debian_12_s_server_is_refused_with_a_sentence_that_says_why_and_what_to_install() {
    let Some(program) = servers::old_server() else { return };
    // It cannot even be told to sync.
    let server = Nats::with(&program, &Wanted { sync: false, ..Wanted::default() });
    let unfit = refused(&server).await;
    let Unfit::Old(_, version) = &unfit else { panic!("{unfit:?}") };
    assert_eq!(version, "2.9.10");
    let said = unfit.to_string();
    assert!(said.contains("can lose tasks that it has acknowledged"), "{said}");
    assert!(said.contains("install nats-server 2.10.27 or later, for example Debian 13's"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_what_a_server_promises_is_read_and_not_believed() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let (_stage, queue) = open(&server).await;
    let report = queue.check().await;
    assert_eq!((&report.durable, report.copies, report.version.as_str()), (&Durable::Verified, 1, "2.10.27"));
    assert_eq!(report.warning(), None);
    let stage = tempfile::tempdir().unwrap();
    let blind = Address { monitor: Vec::new(), ..server.address() };
    let queue = NatsQueue::open(settings(blind, stage.path())).await.unwrap();
    let warning = queue.check().await.warning().unwrap();
    assert!(warning.starts_with("durability not verified: "), "{warning}");
    // Another server's monitoring says nothing of this one.
    let other = Nats::start(&program);
    let astray = Address { monitor: vec![other.monitor()], ..server.address() };
    let queue = NatsQueue::open(settings(astray, stage.path())).await.unwrap();
    assert!(matches!(queue.check().await.durable, Durable::Unverified(_)));
    let lazy = Nats::with(&program, &Wanted { sync: false, ..Wanted::default() });
    let (_lazy, queue) = open(&lazy).await;
    let Durable::Unsafe(why) = queue.check().await.durable else { panic!() };
    assert!(why.contains("sync_interval: always"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_wrong_credentials_a_wrong_address_and_a_server_that_keeps_nothing_are_one_sentence_each() {
    let Some(program) = servers::server() else { return };
    let locked = Wanted { more: "authorization { user: room, password: sesame }".into(), ..Wanted::default() };
    let locked = Nats::with(&program, &locked);
    let unfit = refused(&locked).await;
    assert_eq!(unfit, Unfit::Credentials(format!("127.0.0.1:{}", locked.port)));
    let stage = tempfile::tempdir().unwrap();
    let with = |url: String| settings(Address { url, ..Address::default() }, stage.path());
    let wrong = NatsQueue::open(with(format!("nats://room:guess@127.0.0.1:{}", locked.port))).await.unwrap_err();
    assert!(matches!(wrong, Unfit::Credentials(_)), "{wrong:?}");
    assert!(!wrong.to_string().contains("guess"), "{wrong}");
    let right = format!("nats://room:sesame@127.0.0.1:{}", locked.port);
    assert!(!format!("{:?}", NatsQueue::open(with(right)).await.unwrap()).contains("sesame"));
    let nobody = NatsQueue::open(with(format!("nats://127.0.0.1:{}", servers::free_port()))).await.unwrap_err();
    assert!(matches!(nobody, Unfit::Unreachable(..)), "{nobody:?}");
    let nonsense = NatsQueue::open(with("nats://:::".into())).await.unwrap_err();
    assert!(matches!(nonsense, Unfit::Url(_)), "{nonsense:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f13_a_bucket_that_would_forget_is_refused_and_a_worker_makes_none() {
    use async_nats::jetstream::stream::{Config, StorageType};
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let stage = tempfile::tempdir().unwrap();
    let worker = Settings { makes: false, ..settings(server.address(), stage.path()) };
    let unfit = NatsQueue::open(worker.clone()).await.unwrap_err();
    assert!(matches!(&unfit, Unfit::Missing(name) if name == "KV_podium-leases"), "{unfit:?}");
    let context = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let forgetful = Config {
        name: "KV_podium-tasks".into(),
        subjects: vec!["$KV.podium-tasks.>".into()],
        max_messages_per_subject: 1,
        storage: StorageType::Memory,
        ..Config::default()
    };
    context.create_stream(forgetful).await.unwrap();
    let unfit = refused(&server).await;
    let Unfit::Different(bucket, has, must) = &unfit else { panic!("{unfit:?}") };
    assert_eq!((bucket.as_str(), has.as_str(), must.as_str()), ("KV_podium-tasks", "storage Memory", "File"));
    context.delete_stream("KV_podium-tasks").await.unwrap();
    let (_stage, _queue) = open(&server).await;
    NatsQueue::open(worker).await.unwrap();
}

/// What the operator sees.
#[tokio::test(flavor = "multi_thread")]
async fn f13_doctor_tells_what_a_server_is_good_for() {
    let Some(program) = servers::server() else { return };
    let server = Nats::start(&program);
    let root = tempfile::tempdir().unwrap();
    let stage = root.path().join("stage");
    std::fs::create_dir(&stage).unwrap();
    std::fs::write(stage.join("podium.toml"), format!("[queue]\nmonitor = [\"{}\"]\n", server.monitor())).unwrap();
    let doctor = |url: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_podium"))
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", root.path())
            .args(["doctor", "--json", "--queue", url, "--stage"])
            .arg(&stage)
            .output()
            .unwrap();
        let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let checks = checks["checks"].as_array().unwrap().clone();
        let of_queue = checks.into_iter().filter(|check| check["name"] == "queue");
        of_queue.map(|check| (check["level"].to_string(), check["found"].to_string())).collect::<Vec<_>>()
    };
    let seen = doctor(&server.url());
    assert!(seen[0].1.contains("each write is synced before it is acknowledged"), "{seen:?}");
    assert!(seen[1].1.contains("open the room once"), "{seen:?}");
    let (_stage, _queue) = open(&server).await;
    let seen = doctor(&server.url());
    assert_eq!((seen.len(), seen[0].0.as_str()), (1, "\"ok\""), "{seen:?}");
    let Some(old) = servers::old_server() else { return };
    let old = Nats::with(&old, &Wanted { sync: false, ..Wanted::default() });
    let seen = doctor(&old.url());
    assert_eq!(seen[0].0, "\"fail\"");
    assert!(seen[0].1.contains("is 2.9.10"), "{seen:?}");
}
