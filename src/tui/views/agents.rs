//! The agents: who is up, who does what, what keeps the others.

use std::fmt::Write;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Scene, rows, window};
use crate::{
    room::{
        Agent, Process, Why,
        pulse::STEPS,
        why::{Shut, span},
    },
    tui::{Action, glyph, layout::Pane, text, theme::Role},
};

/// Rows an agent takes.
pub const ROWS: usize = 3;

/// How an agent's word looks.
pub fn role(scene: &Scene<'_>, agent: &Agent) -> Role {
    match scene.state.word(agent) {
        "running" => Role::Running,
        "idle" => Role::Good,
        "not ready" => Role::Bad,
        "parked" | "paused" | "restarting" | "draining" | "stopping" => Role::Warn,
        _ => Role::Dim,
    }
}

/// What keeps an agent from working, in a sentence, or nothing.
pub fn hindrance(scene: &Scene<'_>, agent: &Agent) -> Option<(String, Role)> {
    if let Some(trouble) = &agent.trouble {
        return Some((trouble.clone(), Role::Bad));
    }
    if agent.halted.is_some() {
        let words = match scene.state.word(agent) {
            "draining" => "finishes what runs and claims nothing more",
            "stopping" => "its workers are being ended",
            _ => "you stopped it",
        };
        return Some((format!("{words}; {} on its page starts it", scene.key(Action::StartAgent)), Role::Warn));
    }
    if let Some(why) = scene.state.cut_off(agent) {
        return Some((why, Role::Bad));
    }
    if let Some(shut) = scene.state.shut(agent.name(), scene.now) {
        return Some((shut_text(scene, agent, &shut), Role::Warn));
    }
    if agent.paused {
        return Some((format!("starts nothing more; {} lets it go on", scene.key(Action::Pause)), Role::Warn));
    }
    agent.slots.iter().find_map(|s| match &s.process {
        Process::Backoff { until, why } => {
            Some((format!("worker ended ({why}), again in {}", span(until.duration_since(scene.now))), Role::Warn))
        }
        Process::Off | Process::Starting { .. } | Process::Up { .. } | Process::Leaving { .. } => None,
    })
}

/// The same with the time by the operator's clock.
fn shut_text(scene: &Scene<'_>, agent: &Agent, shut: &Shut) -> String {
    let until = scene.state.parked(agent.name()).and_then(|parked| parked.until);
    match (until, shut.left) {
        (Some(until), Some(left)) if left > jiff::SignedDuration::ZERO => {
            let about = if shut.about { "about " } else { "" };
            let then = if shut.then.is_empty() { String::new() } else { format!("; {}", shut.then) };
            format!("{} until {about}{} ({}){then}", shut.words, scene.clock(until), span(left))
        }
        _ => shut.to_string().trim_start_matches(": ").to_owned(),
    }
}

/// Draws the pane.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let agents: Vec<_> = scene.state.agents.iter().collect();
    let running = scene.state.agents.running();
    let right =
        if agents.is_empty() { String::new() } else { format!("{running} of {}", scene.state.agents.max_running) };
    let inner = scene.frame(buffer, area, scene.has_keys(Pane::Agents), "Agents", &right);
    if agents.is_empty() {
        let text = "No agents yet: the room has not opened its stage.";
        return rows(buffer, inner, &super::paragraph(text, usize::from(inner.width), 1, scene.style(Role::Dim)));
    }
    let selected = scene.app.selected_agent(scene.state);
    let shown = window(agents.len(), selected, (usize::from(inner.height) / ROWS).max(1));
    let mut lines = Vec::new();
    for (n, agent) in agents.iter().enumerate().skip(shown.start).take(shown.len()) {
        lines.extend(card(scene, agent, n == selected, usize::from(inner.width)));
    }
    rows(buffer, inner, &lines);
}

fn card(scene: &Scene<'_>, agent: &Agent, selected: bool, width: usize) -> [Line<'static>; 3] {
    let name_style = if selected && scene.has_keys(Pane::Agents) { Role::Selected } else { Role::Title };
    let role = role(scene, agent);
    let share = format!("{}/{}", agent.running(), agent.slots.len());
    let name = width.saturating_sub(3 + 12 + share.len() + 1);
    let head = Line::from(vec![
        scene.mark(selected),
        scene.span(glyph::agent(scene.state, agent), role),
        Span::raw(" "),
        scene.span(text::pad(agent.name().as_str(), name), name_style),
        scene.span(text::pad(scene.state.word(agent), 12), role),
        scene.span(share, Role::Dim),
    ]);
    let room = width.saturating_sub(4);
    let below = |text: &str, role: Role| Line::from(scene.span(format!("   {}", text::fit(text, room)), role));
    let tasks: Vec<_> = agent.slots.iter().filter_map(|s| s.held.as_ref()).collect();
    if let Some(first) = tasks.first() {
        let lasted = text::elapsed(scene.now.duration_since(first.since));
        let more = if tasks.len() > 1 { format!(" +{}", tasks.len() - 1) } else { String::new() };
        let lasted = match room {
            0..22 => lasted,
            22..34 => format!("{lasted} {}", glyph::spark(&first.pulse.at(scene.now), 4)),
            _ => format!("{lasted} {}", glyph::spark(&first.pulse.at(scene.now), STEPS)),
        };
        let wide = text::width(&lasted) + 1;
        let name = room.saturating_sub(more.len() + wide);
        let task = format!("{}{more}", text::fit(first.task.id.as_str(), name));
        let doing = format!("{} {lasted}", text::pad(&task, room.saturating_sub(wide)));
        let stalling = tasks.iter().find_map(|held| scene.state.why(&held.task, scene.now).filter(Why::is_stalling));
        let stale = scene.state.stale_since(agent).map(|since| span(scene.now.duration_since(since)));
        let third = match stalling {
            None if let Some(ago) = stale => below(&format!("as of {ago} ago: the NATS server is away"), Role::Warn),
            Some(why) => below(&format!("{why} · {} extends", scene.key(Action::Extend)), Role::Warn),
            None => below(&facts(scene, agent), Role::Dim),
        };
        return [head, below(&doing, Role::Text), third];
    }
    let Some((why, role)) = hindrance(scene, agent) else {
        return [head, below(&idle(scene, agent), Role::Dim), below(&facts(scene, agent), Role::Dim)];
    };
    // A remedy is worth the third row too: it may say what to type.
    let wrapped = text::wrap(&why, room);
    let first = wrapped.first().map(String::as_str).unwrap_or_default();
    let rest = wrapped.get(1..).unwrap_or_default().join(" ");
    let third = if rest.is_empty() { below(&facts(scene, agent), Role::Dim) } else { below(&rest, role) };
    [head, below(first, role), third]
}

fn idle(scene: &Scene<'_>, agent: &Agent) -> String {
    let waits = scene.state.tasks.of(agent.name()).any(|task| task.record.outcome.is_none());
    match scene.state.word(agent) {
        "idle" if waits => "waits for other tasks".to_owned(),
        "idle" => "nothing to do".to_owned(),
        "starting" => "its worker is starting".to_owned(),
        "away" => "its worker elsewhere is away".to_owned(),
        _ => "its worker is not running".to_owned(),
    }
}

fn facts(scene: &Scene<'_>, agent: &Agent) -> String {
    let spent = scene.state.money.agents.get(agent.name()).copied().unwrap_or_default().shown();
    let model = if agent.settings.model.is_empty() { agent.settings.engine.word() } else { &agent.settings.model };
    let mut out = format!("{model} · {spent}");
    let held: Vec<_> = agent.slots.iter().filter_map(|s| s.held.as_ref()).collect();
    // Writing into a string cannot fail.
    let helpers: usize = held.iter().map(|h| h.activity.subagents.len()).sum();
    if helpers > 0 {
        let _ok = write!(out, "  +{helpers} sub");
    }
    let memory: u64 = held.iter().map(|h| h.activity.rss_bytes).sum();
    if memory > 0 {
        let cpu: f32 = held.iter().map(|h| h.activity.cpu_percent).sum();
        let _ok = write!(out, "  cpu {cpu:.0}%  {}", text::bytes(memory));
    }
    out
}

/// One line of all agents, for a small screen.
pub fn strip(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let mut spans = Vec::new();
    let n = scene.state.agents.iter().count().max(1);
    let room = (usize::from(area.width) / n).saturating_sub(2);
    for agent in scene.state.agents.iter() {
        let doing = agent.slots.iter().find_map(|s| s.held.as_ref()).map(|h| h.task.id.as_str());
        let word = doing.unwrap_or_else(|| scene.state.word(agent));
        let name = text::fit(agent.name().as_str(), room.saturating_sub(3).min(16));
        let rest = room.saturating_sub(text::width(&name) + 4);
        spans.push(scene.span(format!(" {} ", glyph::agent(scene.state, agent)), role(scene, agent)));
        spans.push(scene.span(name, Role::Title));
        spans.push(scene.span(format!(" {}", text::fit(word, rest)), Role::Dim));
    }
    if spans.is_empty() {
        spans.push(scene.span(" no agents yet", Role::Dim));
    }
    rows(buffer, area, &[Line::from(spans)]);
}
