//! The stage: the header, the panes of the layout, the hint line.

use std::fmt::Write;

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{self as views, Scene, agents, limits, log, orchestrator, rows, tasks};
use crate::{
    model::budget::Payer,
    room::{Leaving, why::span},
    tui::{
        Connection,
        action::{self, Action, VERBS, Verb},
        attached::Attached,
        glyph,
        layout::{self, Layout, Pane, WIDE},
        replay, text,
        theme::Role,
    },
};

/// What the hint line names while the log has the keys, besides help and leave.
const READING: [Action; 11] = [
    Action::FocusNext,
    Action::Search,
    Action::SearchAll,
    Action::Follow,
    Action::Kinds,
    Action::Broaden,
    Action::Range,
    Action::Copy,
    Action::Pager,
    Action::Wrap,
    Action::Raw,
];

/// Draws the stage and says where the terminal's cursor belongs.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, layout: &Layout) -> Option<(u16, u16)> {
    header(scene, buffer, layout.header, layout.all);
    if let Some(area) = layout.agents_strip {
        agents::strip(scene, buffer, area);
    }
    if let Some(area) = layout.limits_strip {
        limits::strip(scene, buffer, area);
    }
    for pane in Pane::ALL {
        let Some(area) = layout.pane(pane) else { continue };
        match pane {
            Pane::Agents => agents::draw(scene, buffer, area),
            Pane::Tasks => tasks::draw(scene, buffer, area),
            Pane::Limits => limits::draw(scene, buffer, area),
            Pane::Log => log::draw(scene, buffer, area),
            Pane::Orchestrator => {
                let below = if layout.all { layout.ask.height + layout.composer.height } else { 0 };
                orchestrator::draw(scene, buffer, area, below);
            }
        }
    }
    if let Some(line) = orchestrator::status(scene, usize::from(layout.ask.width))
        && layout.ask.height > 0
    {
        rows(buffer, layout.ask, &[line]);
    }
    let cursor = orchestrator::composer(scene, buffer, layout.composer);
    hint(scene, buffer, layout.hint, layout.all);
    cursor
}

/// Draws an agent's own CLI where the panes are otherwise.
pub fn attached(scene: &Scene<'_>, buffer: &mut Buffer, attached: &Attached) -> Option<(u16, u16)> {
    let Rect { width, height, .. } = buffer.area;
    header(scene, buffer, Rect::new(0, 0, width, 1), width >= WIDE.0);
    hint(scene, buffer, Rect::new(0, height.saturating_sub(1), width, 1), false);
    let area = layout::between((width, height));
    views::attached::draw(scene, buffer, area, attached)
}

fn header(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, glyphs: bool) {
    let state = scene.state;
    let width = usize::from(area.width);
    let counts = state.tasks.counts();
    let needs = scene.app.unsnoozed(state, state.now).count();
    // The right side first: it is what must never be pushed out.
    let mut right: Vec<Span<'static>> = Vec::new();
    let mut count = |n: usize, word: &str, role: Role, always: bool| {
        if n > 0 || (always && width >= 100) {
            right.push(scene.span(format!("{n} {word}  "), if n > 0 { role } else { Role::Dim }));
        }
    };
    count(needs, if needs == 1 { "needs you" } else { "need you" }, Role::Warn, false);
    let dead = state.tasks.dead().len();
    count(counts.failed.saturating_sub(dead), "failed", Role::Bad, false);
    count(dead, "dead", Role::Bad, false);
    count(counts.running, "running", Role::Running, true);
    count(counts.ready, "ready", Role::Ready, true);
    count(counts.waiting, "waiting", Role::Text, true);
    count(counts.done, "done", Role::Good, true);
    count(state.tasks.unread, "being read", Role::Dim, false);
    let mut money = state.money.today.shown();
    if let Some(cap) = state.budgets.caps.day.filter(|_| width >= 90) {
        // Writing into a string cannot fail.
        let _ok = write!(money, " / {cap}");
    }
    let over = state.reached(&Payer::Day).is_some();
    right.push(scene.span(money, if over { Role::Bad } else { Role::Text }));
    right.push(scene.span(format!("  {} ", scene.clock(scene.now)), Role::Title));

    let mut left = vec![scene.span(" podium ", Role::Title)];
    let name = if state.name.is_empty() { "…" } else { &state.name };
    left.push(scene.span(format!(" {} ", text::fit(name, 24)), Role::Accent));
    if state.rehearsal {
        left.push(scene.span(" REHEARSAL ", Role::Badge));
        left.push(Span::raw(" "));
    }
    if scene.app.moment().is_some() {
        left.push(scene.span(" REPLAY ", Role::Badge));
        left.push(Span::raw(" "));
    }
    if state.offline.is_some() {
        left.push(scene.span(" READ-ONLY ", Role::Badge));
        left.push(Span::raw(" "));
    }
    if let Some(whose) = scene.app.whose() {
        left.push(scene.span(format!(" ON {} ", text::fit(&text::one_line(&whose.host), 16)), Role::Badge));
        left.push(Span::raw(" "));
    }
    if *scene.app.link() == Connection::Opening {
        left.push(scene.span(" OPENING ", Role::Badge));
        left.push(Span::raw(" "));
    }
    match state.leaving {
        Leaving::No => {}
        Leaving::Draining => left.push(scene.span(" CLOSING when idle ", Role::Badge)),
        Leaving::Stopping => left.push(scene.span(" CLOSING ", Role::Badge)),
    }
    let wide = |spans: &[Span<'_>]| spans.iter().map(|s| text::width(&s.content)).sum::<usize>();
    let agents: Vec<_> = if glyphs { state.agents.iter().take(6).collect() } else { Vec::new() };
    let marks: Vec<_> = agents
        .into_iter()
        .flat_map(|agent| {
            let mark = scene.span(format!(" {}", glyph::agent(state, agent)), agents::role(scene, agent));
            [mark, scene.span(format!(" {} ", text::fit(agent.name().as_str(), 10)), Role::Text)]
        })
        .collect();
    if wide(&left) + wide(&marks) + wide(&right) < width {
        left.extend(marks);
    }
    // What is left out first: counts from the right, then the stage's name; never the badge, the money and the time.
    while wide(&right) + wide(&left) > width && right.len() > 2 {
        right.remove(right.len() - 3);
    }
    if wide(&right) + wide(&left) > width && left.len() > 2 {
        left.remove(1);
    }
    let gap = width.saturating_sub(wide(&right) + wide(&left));
    left.push(Span::raw(" ".repeat(gap)));
    left.extend(right);
    rows(buffer, area, &[Line::from(left)]);
}

fn hint(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, all: bool) {
    let width = usize::from(area.width);
    if let Some((prompt, query)) = scene.app.searching() {
        let line = Line::from(vec![
            scene.span(format!(" {prompt}"), Role::Focus),
            scene.span(text::fit(query, width.saturating_sub(40)), Role::Text),
            scene.span("▌", Role::Focus),
            scene.span(format!("  {}enter search · esc back", scene.app.search_count()), Role::Dim),
        ]);
        return rows(buffer, area, &[line]);
    }
    if let Connection::Silent { since, pid } = scene.app.link() {
        let age = span(scene.now.duration_since(*since));
        let text = format!(" {} control room {pid} not responding for {age}; what is shown is as old", glyph::FAILED);
        return rows(buffer, area, &[Line::from(scene.span(text::pad(&text, width), Role::Badge))]);
    }
    if let Connection::Lost { since, why } = scene.app.link() {
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let text =
            format!(" {} no word from the room since {}{why}: trying again", glyph::FAILED, scene.seconds(*since));
        return rows(buffer, area, &[Line::from(scene.span(text::pad(&text, width), Role::Badge))]);
    }
    if let Connection::Left { since, address } = scene.app.link() {
        let since = scene.seconds(*since);
        let text = format!(" {} the room has left: `podium` opens one here (no word since {since})", glyph::FAILED);
        let text = format!("{text}; nobody acts on {address}");
        return rows(buffer, area, &[Line::from(scene.span(text::pad(&text, width), Role::Badge))]);
    }
    if let Some(message) = scene.app.message() {
        let (mark, role) = if message.bad { (glyph::FAILED, Role::Bad) } else { ("✓", Role::Good) };
        return rows(
            buffer,
            area,
            &[Line::from(scene.span(text::fit(&format!(" {mark} {}", message.text), width), role))],
        );
    }
    if let Some((done, left)) = scene.app.undo(scene.now) {
        let end = format!(" · {} undoes ({left} s)", scene.key(Action::Undo));
        let text = format!(" ✓ {}{end}", text::fit(done, width.saturating_sub(text::width(&end) + 3)));
        return rows(buffer, area, &[Line::from(scene.span(text, Role::Good))]);
    }
    if let Some(attached) = scene.app.attached() {
        let keys = [Action::CloseAttached, Action::AttachedUp].map(|action| scene.key(action));
        let text = format!(" {}'s own CLI · {} closes it · {} looks back", attached.agent(), keys[0], keys[1]);
        return rows(buffer, area, &[Line::from(scene.span(text::fit(&text, width), Role::Accent))]);
    }
    if let Some(moment) = scene.app.moment() {
        return replay::draw(scene, buffer, area, moment);
    }
    if !scene.app.popups().is_empty() {
        return;
    }
    if scene.app.is_composing() && scene.app.editing().is_none() && scene.app.composer().text().starts_with('@') {
        let names: Vec<_> = scene.state.agents.iter().map(|a| format!("@{}", a.name())).collect();
        let text = text::fit(&format!(" one task for one agent: {}", names.join(" ")), width);
        return rows(buffer, area, &[Line::from(scene.span(text, Role::Ready))]);
    }
    let mut spans = Vec::new();
    let mut used = 0;
    if let Some(editing) = scene.app.editing() {
        let text = format!(" {}: ", text::fit(&editing.name(), 36));
        used += text::width(&text);
        spans.push(scene.span(text, Role::Ready));
    }
    if let Some(whose) = scene.app.whose() {
        let stage = text::fit_end(&text::one_line(&whose.stage), width / 4);
        let text = format!(" {stage} on {}  ", text::fit(&text::one_line(&whose.host), 16));
        used += text::width(&text);
        spans.push(scene.span(text, Role::Ready));
    }
    if let Some(why) = &scene.state.tasks.space {
        let text = format!(" ! {}  ", text::fit(why, 80));
        used += text::width(&text);
        spans.push(scene.span(text, Role::Warn));
    } else if let Some(why) = scene.state.server.as_ref().and_then(|server| server.brief(|at| scene.clock(at))) {
        let text = format!(" ! {}  ", text::fit(&why, 40));
        used += text::width(&text);
        spans.push(scene.span(text, Role::Warn));
    } else if let Some(why) = &scene.state.tasks.polling {
        let text = format!(" ~ looking for files now and then: {}  ", text::fit(why, 40));
        used += text::width(&text);
        spans.push(scene.span(text, Role::Warn));
    }
    let hints: Vec<(&str, &str)> = if scene.app.is_composing() && scene.app.editing().is_some() {
        vec![("enter", "take this text"), ("alt-enter", "new line"), ("esc", "give it up"), ("ctrl-c", "leave")]
    } else if scene.app.is_composing() {
        vec![
            ("enter", "send"),
            ("alt-enter", "new line"),
            ("↑", "sent before"),
            ("tab", "pane"),
            ("esc", "back"),
            ("ctrl-c", "leave"),
        ]
    } else {
        let mut verbs: Vec<&Verb> = VERBS.iter().filter(|v| v.hint).collect();
        if scene.has_keys(Pane::Log) {
            let ends = verbs.split_off(verbs.len().saturating_sub(2));
            verbs = READING.iter().filter_map(|action| action::of(*action)).chain(ends).collect();
        } else if !all && let Some(log) = action::of(Action::LogView) {
            // Where one pane is shown at a time, the way to the log is worth more than the rarer verbs.
            verbs.retain(|v| !matches!(v.action, Action::Pause | Action::Retry));
            verbs.insert(2, log);
        }
        verbs.into_iter().map(|v| (scene.key(v.action), v.name)).collect()
    };
    // The last two, help and leave, stay when the line is short.
    let size = |(key, name): &(&str, &str)| text::width(key) + text::width(name) + 3;
    let last: usize = hints.iter().rev().take(2).map(size).sum();
    let n = hints.len();
    for (at, hint) in hints.iter().enumerate() {
        let wide = size(hint);
        let keep = at + 2 >= n;
        // The blank after the last one may fall off the edge.
        if used + wide + if keep { 0 } else { last } > width + 1 {
            continue;
        }
        used += wide;
        spans.push(scene.span(format!(" {}", hint.0), Role::Accent));
        spans.push(scene.span(format!(" {} ", hint.1), Role::Dim));
    }
    rows(buffer, area, &[Line::from(spans)]);
}
