//! The orchestrator: what was asked, planned and reported, what waits for a yes, and the line for the next goal.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
    widgets::Widget,
};

use super::{Scene, rows};
use crate::{
    model::{EndState, GoalEnd, GoalPhase},
    room::{Goal, Voice},
    tui::{Action, glyph, layout::Pane, text, theme::Role},
};

/// Draws the lines; `framed` where the composer lies inside the frame too.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, below: u16) {
    let goals = scene.state.goals.iter().count();
    let right = if goals == 0 { String::new() } else { text::many(goals, "goal") };
    let focused = scene.has_keys(Pane::Orchestrator) || (scene.app.is_composing() && below > 0);
    let inner = scene.frame(buffer, area, focused, "Orchestrator", &right);
    let inner = Rect { height: inner.height.saturating_sub(below), ..inner };
    let width = usize::from(inner.width);
    let height = usize::from(inner.height);
    rows(buffer, inner, &spoken(scene, width, height));
}

fn spoken(scene: &Scene<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    if scene.state.lines.is_empty() {
        let text =
            "Say what you want done. The plan is shown before anything runs or costs more than the planning itself.";
        return super::paragraph(text, width, 1, scene.style(Role::Dim));
    }
    let chosen = scene.app.selected_line(scene.state);
    let focused = scene.has_keys(Pane::Orchestrator);
    // From the newest back, until the pane is full and what is chosen has been reached.
    let mut blocks: Vec<Vec<Line<'static>>> = Vec::new();
    let mut seen = 0;
    for (n, line) in scene.state.lines.iter().enumerate().rev() {
        let selected = focused && chosen == Some(n);
        let margin = 14;
        let mut wrapped = text::wrap(&line.text, width.saturating_sub(margin));
        let limit = if height > 12 { 12 } else { 2 };
        if wrapped.len() > limit {
            wrapped.truncate(limit);
            if let Some(last) = wrapped.last_mut() {
                *last = text::fit(&format!("{last} …"), width.saturating_sub(margin));
            }
        }
        let voice = match line.voice {
            Voice::You => "you",
            Voice::Plan => "plan",
            Voice::Report => "report",
            Voice::Room => "room",
        };
        let text_role = if line.voice == Voice::Room { Role::Dim } else { Role::Text };
        let block: Vec<_> = wrapped
            .into_iter()
            .enumerate()
            .map(|(row, text)| {
                let head = if row == 0 { scene.clock(line.at) } else { String::new() };
                let voice = if row == 0 { voice } else { "" };
                let line = Line::from(vec![
                    scene.mark(selected),
                    scene.span(text::pad(&head, 6), Role::Dim),
                    Span::styled(text::pad(voice, 7), scene.theme.voice(line.voice)),
                    scene.span(text, text_role),
                ]);
                if selected { line.patch_style(scene.style(Role::Selected)) } else { line }
            })
            .collect();
        seen += block.len();
        blocks.push(block);
        if seen >= height && chosen.is_none_or(|chosen| !focused || chosen >= n) {
            break;
        }
    }
    let newest = chosen.is_none_or(|c| !focused || c + 1 == scene.state.lines.len());
    let mut lines: Vec<_> = blocks.into_iter().rev().flatten().collect();
    if newest || lines.len() <= height {
        lines.drain(..lines.len().saturating_sub(height));
    } else {
        lines.truncate(height);
    }
    lines
}

/// What waits for a word, and the keys for it: the words get the room that the keys leave.
fn asking(scene: &Scene<'_>, words: &str, keys: &[(Action, &str)], width: usize) -> Line<'static> {
    let mut told = Vec::new();
    for (n, (action, what)) in keys.iter().enumerate() {
        let before = if n == 0 { "  " } else { " · " };
        told.push(scene.span(before, Role::Text));
        told.push(scene.span(scene.key(*action).to_owned(), Role::Accent));
        told.push(scene.span(format!(" {what}"), Role::Text));
    }
    let wide: usize = told.iter().map(|span| text::width(&span.content)).sum();
    let mut line = vec![scene.span(text::fit(words, width.saturating_sub(wide + 1)), Role::Badge)];
    line.extend(told);
    Line::from(line)
}

/// How the goal stands that matters most: one line, or nothing. A key is named whole or not at all.
pub fn status(scene: &Scene<'_>, width: usize) -> Option<Line<'static>> {
    let state = scene.state;
    if let Some(open) = state.asks.open().first() {
        let more = match state.asks.open().len() {
            1 => String::new(),
            n => format!(" ({} more wait)", n - 1),
        };
        let text = format!(" {} {} {}{more}", glyph::NEEDS, open.attempt.task, open.ask.words());
        return Some(asking(scene, &text, &[(Action::NextNeed, "look"), (Action::Inbox, "inbox")], width));
    }
    if let Some(goal) = state.goals.iter().find(|g| g.asks()) {
        let text = format!(" {} {} asks: {} ", glyph::NEEDS, goal.id, goal.questions().join(" "));
        return Some(asking(scene, &text, &[(Action::Approve, "answer"), (Action::Deny, "leave it")], width));
    }
    let waiting = state.goals.iter().filter(|g| g.needs_approval()).count();
    if let Some(goal) = state.goals.iter().find(|g| g.needs_approval()) {
        let plan = goal.plan.as_ref();
        let agents: std::collections::BTreeSet<_> = plan.iter().flat_map(|p| &p.tasks).map(|t| &t.worker).collect();
        let tasks = text::many(plan.map_or(0, |p| p.tasks.len()), "task");
        let more = if waiting > 1 { format!(" ({} more wait)", waiting - 1) } else { String::new() };
        let text =
            format!(" {} plan for {}: {tasks} on {}{more} ", glyph::NEEDS, goal.id, text::many(agents.len(), "agent"));
        return Some(Line::from(vec![
            scene.span(text, Role::Badge),
            scene.span(format!("  {}", scene.key(Action::Approve)), Role::Accent),
            scene.span(" approve · ", Role::Text),
            scene.span(scene.key(Action::PlanView), Role::Accent),
            scene.span(" look · ", Role::Text),
            scene.span(scene.key(Action::Deny), Role::Accent),
            scene.span(" deny", Role::Text),
        ]));
    }
    let Some(goal) = state.goals.current() else {
        let trouble = state.goals.orchestrator.trouble.as_ref()?;
        let text = format!(" {} goals cannot be planned: {}", glyph::FAILED, text::one_line(trouble));
        return Some(Line::from(scene.span(text, Role::Bad)));
    };
    let (text, role) = sentence(scene, goal);
    if goal.report.is_none() {
        return Some(Line::from(scene.span(text::fit(&format!(" {text}"), width), role)));
    }
    let end = if text::width(&text) + 22 <= width { " reads the report" } else { " report" };
    Some(Line::from(vec![
        scene.span(text::fit(&format!(" {text}"), width.saturating_sub(text::width(end) + 5)), role),
        scene.span(" — ", Role::Dim),
        scene.span(scene.key(Action::Report), Role::Accent),
        scene.span(end, Role::Text),
    ]))
}

/// How a goal stands, in a sentence.
pub fn sentence(scene: &Scene<'_>, goal: &Goal) -> (String, Role) {
    let since = |at| text::elapsed(scene.now.duration_since(at));
    match &goal.phase {
        GoalPhase::Planning { round } => {
            let again = if *round > 1 { ", the first plan had faults" } else { "" };
            (format!("{} is being planned{again} · {}", goal.id, since(goal.submitted_at)), Role::Running)
        }
        GoalPhase::Asking { .. } => (format!("{} waits for your answer", goal.id), Role::Warn),
        GoalPhase::AwaitingApproval => (format!("{} waits for your yes", goal.id), Role::Warn),
        GoalPhase::Deciding => {
            let then = scene.told("<approve> plans anew what is missing, <deny> writes the report");
            (format!("{} failed in part: {then}", goal.id), Role::Warn)
        }
        GoalPhase::Running => {
            let ended = goal.tasks.iter().filter_map(|t| scene.state.tasks.end_state(t));
            let (mut done, mut bad) = (0, 0);
            for end in ended {
                if end == EndState::Done { done += 1 } else { bad += 1 }
            }
            let bad = if bad > 0 { format!(", {bad} not well") } else { String::new() };
            let spent = Some(scene.state.spend_of(goal))
                .filter(|spend| !spend.cost.is_zero())
                .map(|spend| format!(" · {}", spend.shown()))
                .unwrap_or_default();
            let time = goal.approved_at.map(since).unwrap_or_default();
            (
                format!("{} runs · {done} of {} tasks done{bad} · {time}{spent}", goal.id, goal.tasks.len()),
                Role::Running,
            )
        }
        GoalPhase::Synthesising => {
            (format!("{}: all tasks have ended, the report is being written", goal.id), Role::Running)
        }
        GoalPhase::Ended { end, note } => {
            let (glyph, role) = match end {
                GoalEnd::Done => ("✓", Role::Good),
                GoalEnd::Partial | GoalEnd::Failed => (glyph::FAILED, Role::Bad),
                GoalEnd::Cancelled | GoalEnd::Planned => ("×", Role::Dim),
            };
            (format!("{glyph} {} {}: {note}", goal.id, goal.phase.word()), role)
        }
    }
}

/// Draws the composer and says where the terminal's cursor belongs.
pub fn composer(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) -> Option<(u16, u16)> {
    let area = area.intersection(buffer.area);
    if area.width < 8 || area.height == 0 {
        return None;
    }
    let composing = scene.app.is_composing() && scene.app.popups().is_empty();
    let prompt = if composing { Role::Focus } else { Role::Dim };
    buffer.set_span(area.x, area.y, &scene.span(" › ", prompt), 3);
    let inner = Rect { x: area.x + 3, width: area.width - 4, ..area };
    let composer = scene.app.composer();
    if composer.is_empty() && !composing {
        let text = text::fit(&format!("{} writes a goal", scene.key(Action::Compose)), usize::from(inner.width));
        buffer.set_span(inner.x, inner.y, &scene.span(text, Role::Dim), inner.width);
        return None;
    }
    if composer.is_empty() && composer.area().lines().len() == 1 && composer.text().is_empty() {
        let text =
            text::fit("what do you want done?   enter sends · alt-enter new line · esc back", usize::from(inner.width));
        buffer.set_span(inner.x, inner.y, &scene.span(text, Role::Dim), inner.width);
        return Some((inner.x, inner.y));
    }
    composer.area().render(inner, buffer);
    if !composing {
        return None;
    }
    let cursor = composer.area().screen_cursor();
    let (top, left) = composer.area().scroll_offset();
    let x = inner.x.saturating_add(u16::try_from(cursor.col).unwrap_or(u16::MAX).saturating_sub(left));
    let y = inner.y.saturating_add(u16::try_from(cursor.row).unwrap_or(u16::MAX).saturating_sub(top));
    Some((x.min(inner.right().saturating_sub(1)), y.min(inner.bottom().saturating_sub(1))))
}
