use std::process::ExitCode;

use podium::engines;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let _installed = rustls::crypto::ring::default_provider().install_default();
    match args.next().as_ref().and_then(|verb| verb.to_str()) {
        Some("__exec") => engines::exec::main(args),
        Some("__script") => engines::script::main(args),
        Some("__messages") => engines::messages::main(args, podium::runtime::clock::system()),
        Some("serve") => {
            let stage = args.next().unwrap();
            let rt = tokio::runtime::Runtime::new().unwrap();
            rt.block_on(async {
                let env = podium::config::Env::of_process().unwrap();
                let flags = podium::config::Flags {
                    stage: Some(stage.into()),
                    rehearse: true,
                    pace: Some(0.1),
                    ..Default::default()
                };
                let config = podium::config::Config::find(&env, &flags).unwrap();
                config.init().unwrap();
                tracing_subscriber::fmt().with_env_filter("info").init();
                let settings = podium::runtime::open::room(&config, &env).unwrap();
                podium::runtime::serve::serve(settings, podium::runtime::clock::system()).await.unwrap();
            });
            ExitCode::SUCCESS
        }
        Some("worker") => {
            let args: Vec<String> = args.map(|a| a.into_string().unwrap()).collect();
            tracing_subscriber::fmt().with_env_filter("info").init();
            let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            rt.block_on(async {
                let env = podium::config::Env::of_process().unwrap();
                let flags =
                    podium::config::Flags { stage: Some(args[6].clone().into()), rehearse: true, ..Default::default() };
                let config = podium::config::Config::find(&env, &flags).unwrap();
                let slot = podium::model::SlotId { agent: args[0].parse().unwrap(), index: args[2].parse().unwrap() };
                let engine = match args[4].as_str() {
                    "claude" => podium::model::EngineKind::Claude,
                    "messages" => podium::model::EngineKind::Messages,
                    _ => podium::model::EngineKind::Command,
                };
                let lock = podium::supervisor::SlotLock::take(&config.stage, &slot).unwrap().unwrap();
                let (settings, queue) =
                    podium::runtime::open::worker(&config, &env, slot, Some(engine), podium::runtime::clock::system())
                        .unwrap();
                let f = podium::runtime::worker::run(settings, queue, lock).await.unwrap();
                println!("{f:?}");
            });
            ExitCode::SUCCESS
        }
        Some("screen") => {
            let stage: std::path::PathBuf = args.next().unwrap().into();
            let rt = tokio::runtime::Runtime::new().unwrap();
            rt.block_on(async {
                let link = podium::attach::client::Link::connect(&stage).await.unwrap();
                let leave = podium::runtime::screen::run(
                    link,
                    &stage,
                    podium::tui::Settings::default(),
                    podium::rehearsal::SAMPLE_GOAL,
                    podium::runtime::clock::system(),
                )
                .await
                .unwrap();
                println!("{leave:?}");
            });
            ExitCode::SUCCESS
        }
        Some("goal") => {
            let stage: std::path::PathBuf = args.next().unwrap().into();
            let text =
                args.next().map(|t| t.into_string().unwrap()).unwrap_or(podium::rehearsal::SAMPLE_GOAL.to_owned());
            let rt = tokio::runtime::Runtime::new().unwrap();
            rt.block_on(async {
                let mut link = podium::attach::client::Link::connect(&stage).await.unwrap();
                let a = link
                    .order(podium::room::Order::Goal {
                        text,
                        approval: podium::model::Approval::Auto { ceiling: podium::model::MicroUsd(10_000_000) },
                    })
                    .await
                    .unwrap();
                println!("{a:?}");
                let mut n = 0;
                loop {
                    link.next().await.unwrap();
                    while n < link.state().lines.len() {
                        let l = &link.state().lines[n];
                        println!("{} {:?} {}", l.at, l.voice, l.text);
                        n += 1;
                    }
                    if link.state().goals.iter().all(|g| g.phase.is_over()) {
                        break;
                    }
                }
                println!("{:?}", link.state().money.today);
            });
            ExitCode::SUCCESS
        }
        Some(_) | None => ExitCode::from(2),
    }
}
