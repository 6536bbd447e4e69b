//! One task: what it is, why it stands where it stands, every attempt, what came of it.

use ratatui::text::{Line, Span};

use super::{Page, Scene, helpers, paragraph, tasks};
use crate::{
    model::{Ending, TaskRef, Usage},
    room::tasks::Phase,
    tui::{glyph, text, theme::Role},
};

/// A heading within a page.
pub fn heading(scene: &Scene<'_>, text: &str) -> [Line<'static>; 2] {
    [Line::default(), Line::from(scene.span(format!(" {text}"), Role::Title))]
}

/// A name and a value, the value wrapped beside it.
pub fn fact(scene: &Scene<'_>, name: &str, value: &str, columns: usize) -> Vec<Line<'static>> {
    let margin = 14;
    text::wrap(value, columns.saturating_sub(margin + 1))
        .into_iter()
        .enumerate()
        .map(|(n, row)| {
            let head = if n == 0 { name } else { "" };
            Line::from(vec![
                scene.span(format!(" {}", text::pad(head, margin - 1)), Role::Dim),
                scene.span(row, Role::Text),
            ])
        })
        .collect()
}

/// `12.3k in (81% cached), 1.2k out`, or nothing.
pub fn usage(usage: &Usage) -> String {
    if usage.total() == 0 {
        return String::new();
    }
    let input = usage.total() - usage.output_tokens;
    let cached = usage.cache_hit_rate().filter(|r| *r > 0.0).map(|r| format!(" ({:.0}% cached)", r * 100.0));
    format!("{} in{}, {} out", text::tokens(input), cached.unwrap_or_default(), text::tokens(usage.output_tokens))
}

/// The first of many names.
fn names(tasks: &[TaskRef]) -> String {
    const SHOWN: usize = 12;
    let more = if tasks.len() > SHOWN { format!(" and {} more", tasks.len() - SHOWN) } else { String::new() };
    let first: Vec<&str> = tasks.iter().take(SHOWN).map(|task| task.id.as_str()).collect();
    format!("{}{more}", first.join(", "))
}

/// The page.
pub fn page(scene: &Scene<'_>, name: &TaskRef, columns: usize) -> Page {
    let keys = "r retry · R how · c cancel · o files · b what holds it · P pause · 4 log · x remove · y copy the result · ↑↓ scroll · esc back";
    let Some(task) = scene.state.tasks.find(name) else {
        let gone = paragraph("This task is gone: its file was taken away.", columns, 1, scene.style(Role::Dim));
        return Page { title: name.to_string(), lines: gone, focus: None, keys };
    };
    let (record, phase) = (&task.record, scene.state.tasks.phase(&task));
    let spec = &record.spec;
    let lasted =
        tasks::lasted(scene.state, &task, scene.now).map(|t| format!("  {}", text::elapsed(t))).unwrap_or_default();
    let mut lines = vec![Line::from(vec![
        Span::styled(format!(" {} {}", glyph::phase(phase), tasks::word(&task, phase)), scene.theme.phase(phase)),
        scene.span(lasted, Role::Dim),
        scene.span(format!("  {}", text::fit(&spec.title, columns.saturating_sub(24))), Role::Title),
    ])];
    let why = tasks::why(scene, &task);
    if record.outcome.is_none() {
        lines.extend(fact(scene, "why / doing", &why, columns));
    }
    if let Some(held) = scene.state.agents.holder(name).and_then(|s| s.held.as_ref()) {
        let activity = &held.activity;
        let mut parts = Vec::new();
        if let Some(pid) = held.pid {
            parts.push(format!("process {pid}"));
        }
        if activity.rss_bytes > 0 {
            parts.push(format!("cpu {:.0}%, {}", activity.cpu_percent, text::bytes(activity.rss_bytes)));
        }
        parts.push(format!("log {}", text::bytes(activity.log_bytes)));
        lines.extend(fact(scene, "now", &parts.join(" · "), columns));
    }
    for (name, other) in [("retry of", spec.retry_of.as_ref()), ("retried as", scene.state.tasks.retried_as(name))] {
        if let Some(other) = other {
            lines.extend(fact(scene, name, &other.to_string(), columns));
        }
    }
    if let Some(goal) = &spec.goal {
        lines.extend(fact(scene, "goal", goal.as_str(), columns));
    }
    if !spec.dependencies.is_empty() {
        let after = spec.dependencies.iter().map(|dependency| {
            let found = scene.state.tasks.resolve(name, dependency).and_then(|t| scene.state.tasks.find(&t));
            let stands = found.map_or("not submitted", |t| tasks::word(&t, scene.state.tasks.phase(&t)));
            format!("{dependency} ({stands})")
        });
        lines.extend(fact(scene, "after", &after.collect::<Vec<_>>().join(", "), columns));
    }
    let waiting = scene.state.tasks.waits_for(name);
    if !waiting.is_empty() {
        lines.extend(fact(scene, "before", &names(&waiting), columns));
    }
    let spent = scene.state.spend_of_task(name);
    lines.extend(fact(scene, "priority", scene.state.tasks.priority(spec).word(), columns));
    lines.extend(fact(scene, "cost", &format!("{} {}", spent.shown(), usage(&spent.usage)), columns));

    if let Some(outcome) = &record.outcome {
        lines.extend(heading(scene, "Result"));
        if outcome.ending != Ending::Done {
            lines.extend(paragraph(&outcome.ending.sentence(), columns, 2, scene.style(Role::Bad)));
        }
        if phase == Phase::Failed {
            lines.extend(paragraph(outcome.ending.remedy(), columns, 2, scene.style(Role::Dim)));
        }
        if !outcome.summary.is_empty() && outcome.summary != outcome.ending.sentence() {
            lines.extend(paragraph(&outcome.summary, columns, 2, scene.style(Role::Text)));
        }
        for finding in &outcome.findings {
            lines.extend(paragraph(&format!("· {finding}"), columns, 2, scene.style(Role::Text)));
        }
        for file in &outcome.artifacts {
            let line = format!("  {}  {}", text::fit(&file.path, columns.saturating_sub(14)), text::bytes(file.bytes));
            lines.push(Line::from(scene.span(line, Role::Accent)));
        }
        if outcome.foreign {
            lines.extend(paragraph("written by somebody else, not by podium", columns, 2, scene.style(Role::Dim)));
        }
    }

    lines.extend(helpers::tree(scene, name, columns));

    lines.extend(heading(scene, "Attempts"));
    if record.attempts.is_empty() {
        lines.extend(paragraph("none yet", columns, 2, scene.style(Role::Dim)));
    }
    for attempt in record.attempts.iter().rev() {
        let lasted = attempt.ended_at.unwrap_or(scene.now).duration_since(attempt.started_at);
        let ending = attempt.ending.as_ref().map_or_else(|| "running".to_owned(), Ending::sentence);
        let role = match &attempt.ending {
            None => Role::Running,
            Some(Ending::Done) => Role::Good,
            Some(Ending::Cancelled) => Role::Dim,
            Some(_) => Role::Bad,
        };
        lines.push(Line::from(vec![
            Span::raw(format!(
                "  {}  {}  {:>7}  ",
                attempt.n,
                scene.seconds(attempt.started_at),
                text::elapsed(lasted)
            )),
            scene.span(text::fit(&ending, columns.saturating_sub(26)), role),
        ]));
        let mut small = vec![attempt.spend.shown(), usage(&attempt.spend.usage), attempt.log.clone()];
        small.retain(|s| !s.is_empty());
        lines.push(Line::from(
            scene.span(format!("     {}", text::fit(&small.join(" · "), columns.saturating_sub(6))), Role::Dim),
        ));
    }

    lines.extend(heading(scene, "What is to be done"));
    lines.extend(paragraph(&spec.description, columns, 2, scene.style(Role::Text)));
    if let Some(file) = &record.file {
        lines.extend(fact(scene, "file", &format!("tasks/{}/{file}", name.agent), columns));
    }
    Page { title: name.to_string(), lines, focus: None, keys }
}
