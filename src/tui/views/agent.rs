//! One agent: its processes, engine, model, what keeps it, and how its last attempts ended.

use ratatui::text::{Line, Span};

use super::{
    Page, Scene, agents, paragraph,
    task::{fact, heading, usage},
};
use crate::{
    model::{AgentName, Credential, Ending, EngineKind, Far, Permissions},
    room::{Process, why::span},
    tui::{glyph, text, theme::Role},
};

/// Endings shown.
const RECENT: usize = 12;

/// What holds its account, or nothing.
fn parked(scene: &Scene<'_>, name: &AgentName) -> String {
    let Some(parked) = scene.state.parked(name) else { return String::new() };
    let until = parked.until.map(|until| format!(", until {}", scene.clock(until))).unwrap_or_default();
    format!("{}{until}", parked.words())
}

/// Who does the work where it is done on another machine.
fn elsewhere(scene: &Scene<'_>, far: &Far) -> String {
    let load = far.load.map(|load| format!(" · load {}.{:02}", load / 100, load % 100)).unwrap_or_default();
    let offset = jiff::SignedDuration::from_millis(far.offset_ms);
    let clock = match far.offset_ms {
        -999..1_000 => String::new(),
        1_000.. => format!(" · its clock is {} ahead", span(offset)),
        _ => format!(" · its clock is {} behind", span(offset.abs())),
    };
    let heard = span(scene.now.duration_since(far.heard_at));
    format!("on {}: podium {}, pid {}{load}{clock} · last heard {heard} ago", far.host, far.version, far.pid)
}

/// The page.
pub fn page(scene: &Scene<'_>, name: &AgentName, login: Option<&Result<String, String>>, columns: usize) -> Page {
    let keys =
        "p pause or go on · d drain · x stop · s start · R restart · o its prompt · L its CLI · 4 log · esc back";
    let Some(agent) = scene.state.agents.get(name) else {
        let lines = paragraph("There is no such agent.", columns, 1, scene.style(Role::Dim));
        return Page { title: name.to_string(), lines, focus: None, keys };
    };
    let settings = &agent.settings;
    let mut lines = vec![Line::from(vec![
        scene.span(
            format!(" {} {}", glyph::agent(scene.state, agent), scene.state.word(agent)),
            agents::role(scene, agent),
        ),
        scene.span(format!("  {}", text::fit(&settings.role, columns.saturating_sub(18))), Role::Text),
    ])];
    if let Some((why, role)) = agents::hindrance(scene, agent) {
        lines.extend(paragraph(&why, columns, 1, scene.style(role)));
    }
    lines.extend(heading(scene, "Processes"));
    for slot in &agent.slots {
        let process = match &slot.process {
            Process::Off => "not running".to_owned(),
            Process::Starting { pid: Some(pid), since } if settings.elsewhere => {
                let lasted = text::elapsed(scene.now.duration_since(*since));
                format!("pid {pid}, no worker elsewhere for {lasted}")
            }
            Process::Starting { pid: Some(pid), since } => {
                format!("pid {pid}, starting for {}", text::elapsed(scene.now.duration_since(*since)))
            }
            Process::Starting { pid: None, .. } => "starting".to_owned(),
            Process::Up { pid, since } => {
                format!("pid {pid}, up for {}", text::elapsed(scene.now.duration_since(*since)))
            }
            Process::Backoff { until, why } => {
                format!("ended ({why}), starts again in {}", span(until.duration_since(scene.now)))
            }
            Process::Leaving { pid } => format!("pid {pid}, leaving"),
        };
        lines.extend(fact(scene, &slot.id.to_string(), &process, columns));
        if let Some(far) = &slot.far {
            lines.extend(fact(scene, "", &elsewhere(scene, far), columns));
        }
        if let Some(held) = &slot.held {
            let what = if held.cancelling { "being ended" } else { held.activity.doing.as_str() };
            let child = held.pid.map(|pid| format!(" · process {pid}")).unwrap_or_default();
            let lasted = text::elapsed(scene.now.duration_since(held.since));
            lines.extend(fact(scene, "", &format!("{} {lasted}{child} · {what}", held.task.id), columns));
        }
    }
    lines.extend(heading(scene, "Settings in force"));
    let engine = match settings.engine {
        EngineKind::Command => format!("command: {}", settings.command.join(" ")),
        EngineKind::Auto | EngineKind::Claude | EngineKind::Messages => settings.engine.word().to_owned(),
    };
    let permissions = match settings.permissions {
        Permissions::ReadOnly => "read-only",
        Permissions::Standard => "standard: writes and runs commands in its workspace",
        Permissions::Ask => "ask: reads; you are asked for everything else",
        Permissions::Full => "full: everything, unasked",
    };
    // There is no more between them, and that must not be taken for granted either way.
    let apart = "none by podium: it reaches what the account of its worker reaches, within what it may do; home, session \
                 and environment are its own";
    // What this machine's file says of them is not in force there.
    let there =
        "engine, model, rights, time, prompt and folder are those of podium.toml on the machine that it works on";
    for (name, value, is_of_worker) in [
        ("elsewhere", if settings.elsewhere { there.to_owned() } else { String::new() }, false),
        ("engine", engine, true),
        ("model", settings.model.clone(), true),
        ("may do", permissions.to_owned(), true),
        ("sandbox", apart.to_owned(), false),
        ("time allowed", span(jiff::SignedDuration::try_from(settings.timeout).unwrap_or_default()), true),
        ("account", scene.state.accounts.of(name).to_string(), false),
        ("limit", parked(scene, name), false),
        ("prompt", settings.prompt.display().to_string(), true),
        ("works in", settings.workspace.display().to_string(), true),
    ] {
        let in_force = !is_of_worker || !settings.elsewhere;
        if in_force && !value.is_empty() {
            lines.extend(fact(scene, name, &value, columns));
        }
    }
    let account = scene.state.accounts.of(name);
    let (words, role) = match (scene.state.accounts.credential(&account), login) {
        (Credential::Key, _) => ("not needed: its calls go through podium, which puts a key on".to_owned(), Role::Text),
        (Credential::Login | Credential::Own, Some(Ok(words))) => (words.clone(), Role::Text),
        (Credential::Login | Credential::Own, Some(Err(words))) => (words.clone(), Role::Bad),
        (Credential::Login | Credential::Own, None) => ("not looked at here".to_owned(), Role::Dim),
    };
    for line in fact(scene, "login", &words, columns) {
        lines.push(line.patch_style(scene.style(role)));
    }
    if let Some(spend) = scene.state.money.agents.get(name) {
        let text = format!(
            "{} in {} · {}",
            spend.shown(),
            text::many(usize::try_from(spend.calls).unwrap_or(0), "call"),
            usage(&spend.usage)
        );
        lines.extend(fact(scene, "today", &text, columns));
    }
    lines.extend(heading(scene, "Last endings"));
    let mut endings: Vec<_> = scene
        .state
        .tasks
        .of(name)
        .flat_map(|t| t.record.attempts.iter().map(move |a| (t, a)))
        .filter_map(|(t, a)| Some((a.ended_at?, t, a)))
        .collect();
    endings.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
    if endings.is_empty() {
        lines.extend(paragraph("none yet", columns, 2, scene.style(Role::Dim)));
    }
    for (at, task, attempt) in endings.into_iter().take(RECENT) {
        let ending = attempt.ending.as_ref().map_or_else(String::new, Ending::sentence);
        let (mark, role) = match &attempt.ending {
            Some(Ending::Done) => ("✓", Role::Good),
            Some(Ending::Cancelled) | None => ("×", Role::Dim),
            Some(_) => (glyph::FAILED, Role::Bad),
        };
        lines.push(Line::from(vec![
            scene.span(format!("  {mark} "), role),
            Span::raw(format!("{}  {} ", scene.seconds(at), text::pad(task.record.task().id.as_str(), 24))),
            scene.span(text::fit(&ending, columns.saturating_sub(40)), Role::Dim),
        ]));
    }
    Page { title: format!("Agent {name}"), lines, focus: None, keys }
}
