use std::fs;

use super::*;

/// A stage in a temporary folder with this file.
fn stage(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let stage = dir.path().join("stage");
    fs::create_dir_all(&stage).unwrap();
    fs::write(stage.join(stage::FILE), text).unwrap();
    (dir, stage)
}

fn load(text: &str, vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let (dir, stage) = stage(text);
    Config::load(&stage, &Env::at(dir.path(), vars), &Flags::default())
}

/// The faults of a file, its folder cut away.
fn faults(text: &str) -> Vec<String> {
    match load(text, &[]) {
        Err(ConfigError::Invalid(faults)) => faults
            .iter()
            .map(|f| {
                let text = f.to_string();
                text.split_once("podium.toml:").map(|(_, rest)| rest.to_owned()).unwrap_or(text)
            })
            .collect(),
        other => panic!("{text:?} gave {other:?}"),
    }
}

#[test]
fn an_empty_file_is_valid_and_has_the_three_agents() {
    let config = load("", &[]).unwrap();
    let names: Vec<_> = config.agents().iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["marie", "anga", "fabien"]);
    assert_eq!((*config.max_running, *config.attempts, config.budget.goal.value), (6, 3, MicroUsd(10_000_000)));
    assert!(config.gateway.ip().is_loopback());
    assert!(
        config.agents().iter().all(|a| a.prompt.is_absolute() && a.workspace.is_absolute() && a.home.is_absolute())
    );
    assert!(config.listing().iter().skip(1).all(|(_, _, source)| *source == Source::Default));
}

#[test]
fn caps_are_dollars_or_off_and_tiers_are_the_models_of_who_names_none() {
    let text = "[budget]\ntask_usd = \"off\"\ngoal_usd = 3\nday_usd = 0\nat_cap = \"finish\"\n\
        [tiers]\ntop = \"fable\"\nsmall = \"claude-haiku-4-5\"\n\
        [agents.anga]\nmodel = \"top\"\nsubagent_model = \"inherit\"\n";
    let config = load(text, &[]).unwrap();
    let caps = Caps { task: None, goal: Some(MicroUsd(3_000_000)), day: None, at_cap: AtCap::Finish };
    assert_eq!(config.budget.caps(), caps);
    assert_eq!(*config.orchestrator.model, "fable");
    let models: Vec<_> = config.agents().into_iter().map(|a| (a.model, a.subagent_model)).collect();
    let small = Some("claude-haiku-4-5".to_owned());
    let of = |model: &str, small| (model.to_owned(), small);
    assert_eq!(models, [of("sonnet", small.clone()), of("fable", None), of("sonnet", small)]);
}

#[test]
fn own_prices_win_by_whole_rows_and_a_fault_in_them_starts_nothing() {
    let root = tempfile::tempdir().unwrap();
    let stage = root.path().join("stage");
    std::fs::create_dir_all(&stage).unwrap();
    let env = Env::at(root.path(), &[]);
    let folder = env.config_dir.clone().unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    let row = |id: &str, price: &str| {
        format!(
            "[[model]]\nid = \"{id}\"\neffective_from = \"2026-08-01\"\nsource = \"us\"\ninput = {price}\noutput = 1\n\
             write_5m = 1\nwrite_1h = 1\nread = 1\n"
        )
    };
    std::fs::write(folder.join("prices.toml"), row("a", "3") + &row("b", "3")).unwrap();
    std::fs::write(stage.join("prices.toml"), row("b", "7")).unwrap();
    let config = Config::load(&stage, &env, &Flags::default()).unwrap();
    assert_eq!(config.prices.source.to_string(), "the stage's prices.toml");
    let usage = crate::model::Usage { input_tokens: 1, ..crate::model::Usage::default() };
    let at = "2026-11-22T12:00:00Z".parse().unwrap();
    let cost = |model| config.prices.cost(model, &usage, &crate::model::Modifiers::default(), at).cost.0;
    assert_eq!((cost("a"), cost("b"), cost("opus")), (3, 7, 4));
    for (text, expected) in [
        (row("b", "-7"), ":5:9: input: -7 is not a price from 0 to 1000000 dollars"),
        (row("b", "7").replace("input", "inptu"), ":5:1: unknown key `inptu`; known are id, aliases"),
        (row("b", "7").replace("read = 1\n", ""), "missing field `read`"),
    ] {
        std::fs::write(stage.join("prices.toml"), text).unwrap();
        let fault = Config::load(&stage, &env, &Flags::default()).unwrap_err().to_string();
        assert!(fault.contains("prices.toml") && fault.contains(expected), "{fault}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    let found = faults("# a stage\n[agents.marie]\nmodel = \"opus\"\n  promt = \"x.md\"\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("4:3: unknown key `promt` in [agents.marie]; known are role, engine"), "{found:?}");
    assert!(found[0].ends_with("did you mean `prompt`?"), "{found:?}");
    let found = faults("[romo]\ngateway = \"127.0.0.1:0\"\n");
    assert!(
        found[0].starts_with("1:2: unknown section [romo];") && found[0].ends_with("did you mean `room`?"),
        "{found:?}"
    );
    let found = faults("colour = 1\n");
    assert!(found[0].starts_with("1:1: unknown key `colour`;") && !found[0].contains("did you mean"), "{found:?}");
}

#[test]
fn what_cannot_be_is_named_with_its_place_and_its_bounds() {
    let table = [
        ("[room]\nmax_running = 0\n", "2:15: room.max_running: 0 is outside 1 to 64"),
        ("[room]\nmax_running = -3\n", "2:15: max_running in [room]: invalid value"),
        ("[room]\ngateway = \"0.0.0.0:80\"\n", "2:11: gateway in [room]: \"0.0.0.0:80\" can be reached from outside"),
        (
            "[gateway]\nlisten = \"http://0.0.0.0:80\"\n",
            "2:10: listen in [gateway]: http:// is not said here: this listener is always encrypted",
        ),
        ("[gateway]\nlisten = \"0.0.0.0:0\"\n", "2:10: listen in [gateway]: workers elsewhere must find it again"),
        ("[gateway]\nlisten = \"7443\"\n", "2:10: listen in [gateway]: \"7443\" is no address"),
        ("[gateway]\naddress = \"0.0.0.0:7443\"\n", "2:11: address in [gateway]: \"0.0.0.0:7443\" is no such thing"),
        ("[room]\norphan_grace = \"90\"\n", "2:16: orphan_grace in [room]: `90` has no unit"),
        ("[room]\norphan_grace = 90\n", "2:16: orphan_grace in [room]: invalid type: integer `90`"),
        ("[room]\norphan_grace = \"2h\"\n", "2:16: room.orphan_grace: 7200 s is outside 0 s to 3600 s"),
        ("[agents.marie]\nstall = 10\n", "2:9: stall in [agents.marie]: `10` has no unit"),
        ("[agents.marie]\nstall = \"49h\"\n", "2:9: agents.marie.stall: 176400 s is outside 1 s to 86400 s"),
        ("[agents.marie]\ntimeout = \"-1m\"\n", "2:11: timeout in [agents.marie]: `-1m` is negative"),
        ("[agents.marie]\nslots = 99\n", "2:9: agents.marie.slots: 99 is outside 0 to 16"),
        ("[agents.Marie]\n", "1:9: [agents.Marie]: the id has M at position 0"),
        ("[agents.goals]\n", "1:9: [agents.goals]: the name goals is podium's own"),
        ("[agents.\"../x\"]\n", "1:9: [agents.../x]: the id has . at position 0"),
        ("[agents.painter]\nengine = \"command\"\n", "2:10: agents.painter.engine: engine = \"command\" needs command"),
        ("[orchestrator]\nengine = \"command\"\n", "2:10: orchestrator.engine: the orchestrator needs a model"),
        ("[retry]\nbackoff = []\n", "2:11: retry.backoff: the list is empty"),
        ("[budget]\nday_usd = -1.0\n", "2:11: day_usd in [budget]: -1 is outside 0 to 1000000"),
        ("[budget]\nday_usd = nan\n", "2:11: day_usd in [budget]: NaN is outside 0 to 1000000"),
        (
            "[budget]\ntask_usd = \"much\"\n",
            "2:12: task_usd in [budget]: `much` is no amount from 0 to 1000000 dollars",
        ),
        ("[budget]\nat_cap = \"stop\"\n", "2:10: at_cap = \"stop\" in [budget] is none of end, finish"),
        ("[tiers]\ntop = \"middle\"\n", "2:7: tiers.top: a tier is made of a model"),
        ("[rehearsal]\npace = -1.0\n", "2:8: rehearsal.pace: -1 is outside 0 to 100"),
        ("[queue]\nurl = \"redis:\"\n", "2:7: queue.url: \"file:\", or \"nats://host:4222\""),
        ("[queue]\nurl = \"nats://me:secret@host\"\n", "2:7: queue.url: the address holds a user"),
        ("[queue]\nmonitor = [\"host:8222\"]\n", "2:11: queue.monitor: `host:8222` is no address"),
        ("[upstream]\nurl = \"http://example.org\"\n", "2:7: upstream.url: plain http"),
        ("[upstream]\nurl = \"https://me:secret@example.org\"\n", "2:7: upstream.url: the address holds a user"),
        ("[limits.sonnet]\nrequests_per_minute = 0\n", "2:23: limits.sonnet.requests_per_minute: 0 is outside 1"),
        ("[room\n", "1:6: "),
        ("[room]\nmax_running = 1\nmax_running = 2\n", "3:1: "),
    ];
    for (text, expected) in table {
        let found = faults(text);
        assert!(found[0].starts_with(expected), "{text:?}: {found:?}");
    }
}

#[test]
fn how_long_an_agent_may_be_silent_is_a_time_or_never() {
    let minutes = |n| Some(Duration::from_mins(n));
    for (text, expected) in
        [("", minutes(10)), ("\"90m\"", minutes(90)), ("\"off\"", None), ("0", None), ("\"0s\"", None)]
    {
        let key = if text.is_empty() { String::new() } else { format!("stall = {text}\n") };
        let (dir, stage) = stage(&format!("[agents.marie]\n{key}"));
        let config = Config::load(&stage, &Env::at(dir.path(), &[]), &Flags::default()).unwrap();
        assert_eq!(*config.agents[0].stall, expected, "{text}");
    }
}

#[test]
fn an_unknown_word_is_answered_with_the_known_ones() {
    let found = faults("[agents.marie]\nengine = \"cluade\"\n");
    let expected = "2:10: engine = \"cluade\" in [agents.marie] is none of auto, claude, messages, command; \
                    did you mean `claude`?";
    assert_eq!(found, [expected]);
}

#[test]
fn every_fault_of_a_file_is_told_at_once() {
    assert_eq!(faults("[room]\nmax_running = 0\n[retry]\nattempts = 0\n[agents.marie]\nslots = 17\n").len(), 3);
}

#[test]
fn a_key_pasted_into_the_file_is_refused_and_not_repeated() {
    for text in ["[upstream]\napi_key = \"sk-ant-secret\"\n", "[upstream]\napi_key_env = \"sk-ant-secret\"\n"] {
        let found = faults(text);
        assert!(!found[0].contains("secret"), "{found:?}");
    }
    assert!(faults("[upstream]\napi_key = \"x\"\n")[0].ends_with("did you mean `api_key_env`?"));
}

#[test]
fn flag_wins_over_environment_over_stage_over_user_over_default_and_says_so() {
    let (dir, stage) = stage("[agents.marie]\ntimeout = \"5m\"\nmodel = \"opus\"\n[retry]\nattempts = 4\n");
    let user = dir.path().join("config/podium");
    fs::create_dir_all(&user).unwrap();
    fs::write(
        user.join(stage::FILE),
        "[room]\nmax_running = 2\n[agents.marie]\nmodel = \"haiku\"\nslots = 2\n[agents.painter]\n",
    )
    .unwrap();
    let env = Env::at(dir.path(), &[("TASK_TIMEOUT", "90"), ("MAX_RETRIES", "1")]);
    let flags = Flags { rehearse: true, pace: Some(0.0), ..Flags::default() };
    let config = Config::load(&stage, &env, &flags).unwrap();
    let marie = &config.agents[0];
    assert_eq!((*marie.timeout, &marie.timeout.source), (Duration::from_secs(90), &Source::Env("TASK_TIMEOUT".into())));
    assert_eq!((marie.model.as_str(), &marie.model.source), ("opus", &Source::Stage(3)));
    assert_eq!((*marie.slots, &marie.slots.source), (2, &Source::User(5)));
    assert_eq!((*config.max_running, &config.max_running.source), (2, &Source::User(2)));
    assert_eq!(*config.attempts, 2);
    assert_eq!((*config.pace, &config.pace.source), (0.0, &Source::Flag("--pace")));
    assert!(config.is_rehearsal());
    assert_eq!(config.agents.last().unwrap().name.as_str(), "painter");
}

#[test]
fn a_wrong_variable_is_named() {
    for (name, value) in [("TASK_TIMEOUT", "soon"), ("TASK_TIMEOUT", "0"), ("MAX_RETRIES", "-1")] {
        let error = load("", &[(name, value)]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("environment {name}: ")), "{error}");
    }
}

#[test]
fn a_default_agent_can_be_turned_off_and_others_added() {
    let config =
        load("[agents.fabien]\nslots = 0\n[agents.painter]\nengine = \"command\"\ncommand = [\"sh\"]\n", &[]).unwrap();
    let names: Vec<_> = config.agents().iter().map(|a| a.name.to_string()).collect();
    assert_eq!(names, ["marie", "anga", "painter"]);
}

#[test]
fn an_agents_own_key_comes_before_the_common_one_and_no_debug_shows_either() {
    let vars = [("MARIE_API_KEY", "secret-marie"), ("ANTHROPIC_API_KEY", "secret-all")];
    let config = load("", &vars).unwrap();
    let [marie, anga] = ["marie", "anga"].map(|n| AgentName::new(n).unwrap());
    assert_eq!(config.key_for(&marie).unwrap().variable, "MARIE_API_KEY");
    assert_eq!(config.key_for(&anga).unwrap().variable, "ANTHROPIC_API_KEY");
    assert_eq!(config.orchestrator_key().unwrap().variable, "ANTHROPIC_API_KEY");
    let env = Env::at(Path::new("/"), &vars);
    let shown = format!("{config:?} {env:?} {:?}", config.listing());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn the_sample_with_every_key_uncommented_is_valid_and_says_the_defaults() {
    let bare = load(SAMPLE, &[]).unwrap();
    let plain = load("", &[]).unwrap();
    let values = |c: &Config| c.listing().into_iter().skip(1).map(|(k, v, _)| (k, v)).collect::<Vec<_>>();
    assert_eq!(values(&bare), values(&plain));
    let full = SAMPLE
        .lines()
        .map(|line| {
            let open = line.strip_prefix("# ").unwrap_or(line);
            let is_key = open.starts_with('[') || open.split_once(" = ").is_some_and(|(k, _)| !k.contains(' '));
            if is_key { open } else { line }
        })
        .collect::<Vec<_>>()
        .join("\n");
    let full = load(&full, &[]).unwrap();
    let others: Vec<_> = values(&full).into_iter().filter(|(k, _)| !k.starts_with("limits.sonnet")).collect();
    assert_eq!(others, values(&plain));
    // Nothing of the sample is left out: every key of marie and of the sections came from the file.
    let from_file = full.listing().iter().filter(|(_, _, source)| matches!(source, Source::Stage(_))).count();
    assert!(from_file >= 27, "{from_file}");
}

#[test]
fn a_file_that_is_not_utf8_is_named_with_the_place() {
    let (dir, stage) = stage("");
    fs::write(stage.join(stage::FILE), b"[room]\n# \xff\n").unwrap();
    let error = Config::load(&stage, &Env::at(dir.path(), &[]), &Flags::default()).unwrap_err().to_string();
    assert!(error.contains("podium.toml:2:3: the file is not UTF-8"), "{error}");
}

#[test]
fn making_a_stage_twice_makes_nothing_the_second_time_and_overwrites_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let stage = dir.path().join("new/stage");
    let env = Env::at(dir.path(), &[]);
    let config = Config::load(&stage, &env, &Flags::default()).unwrap();
    let first = config.init().unwrap();
    assert!(first.made.contains(&"podium.toml".to_owned()) && first.made.contains(&"tasks/marie/".to_owned()));
    let private = fs::metadata(stage.join(".podium")).unwrap().permissions().mode();
    assert_eq!(private & 0o777, 0o700);
    fs::write(stage.join("prompts/ANGA.md"), "mine").unwrap();
    let again = Config::load(&stage, &env, &Flags::default()).unwrap().init().unwrap();
    assert_eq!(again.made, Vec::<String>::new());
    assert_eq!(fs::read_to_string(stage.join("prompts/ANGA.md")).unwrap(), "mine");
}

#[test]
fn a_stage_without_prompts_uses_the_built_in_ones_and_its_own_come_first() {
    let (dir, stage) = stage("[agents.painter]\n");
    let env = Env::at(dir.path(), &[("ANTHROPIC_API_KEY", "k")]);
    let config = Config::load(&stage, &env, &Flags::default()).unwrap();
    config.prepare().unwrap();
    let anga = |c: &Config| c.agents().remove(1).prompt;
    assert_eq!(fs::read_to_string(anga(&config)).unwrap(), prompts::ALL[2].1);
    fs::create_dir_all(stage.join("prompts")).unwrap();
    fs::write(stage.join("prompts/ANGA.md"), "mine").unwrap();
    assert_eq!(anga(&config), stage.join("prompts/ANGA.md"));
    let resolved = config.resolved(&env);
    assert_eq!(resolved[3].trouble.as_deref(), Some("its prompt prompts/PAINTER.md is missing; write it"));
    assert_eq!((resolved[1].settings.engine, &resolved[1].trouble), (EngineKind::Messages, &None));
}
