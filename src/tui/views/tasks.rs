//! The tasks as a table: what is wrong first, then what runs, what is next, what waits and why, what is over.

mod order;
mod rows;

use jiff::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

pub use rows::{Arranger, Group, Row, RowKey, Rows, Sort, TRASH, Table, word};

use super::{Scene, paragraph, plan, rows as draw_rows, window};
use crate::{
    model::{GoalPhase, Item, Removed},
    room::{Goal, State, Task, tasks::Phase},
    tui::{Action, Connection, glyph, layout::Pane, text, theme::Role},
};

/// How long it has run, or ran.
pub fn lasted(state: &State, task: &Task, now: Timestamp) -> Option<jiff::SignedDuration> {
    if let Some(held) = state.agents.holder(task.record.task()).and_then(|s| s.held.as_ref()) {
        return Some(now.duration_since(held.since));
    }
    let last = task.record.attempts.last()?;
    Some(last.ended_at.unwrap_or(now).duration_since(last.started_at))
}

/// One line on why it stands where it stands.
pub fn why(scene: &Scene<'_>, task: &Task) -> String {
    let why = match scene.state.why(task.record.task(), scene.now) {
        Some(why) if why.is_stalling() => format!("{why} · {}", scene.told("<extend> extends")),
        Some(why) => why.to_string(),
        None => String::new(),
    };
    match &task.record.outcome {
        Some(outcome) if outcome.foreign => format!("written by somebody else · {why}"),
        Some(outcome) if !outcome.artifacts.is_empty() => {
            format!("{} · {why}", text::many(outcome.artifacts.len(), "file"))
        }
        Some(_) | None => why,
    }
}

/// Widths of the columns; 0 leaves one out.
struct Columns {
    task: usize,
    agent: usize,
    state: usize,
    lasted: usize,
    tries: usize,
    cost: usize,
    why: usize,
}

impl Columns {
    fn of(width: usize, longest: usize) -> Self {
        let task = longest.clamp(8, if width >= 110 { 32 } else { 22 });
        let mut columns = Self {
            task,
            agent: if width >= 56 { 9 } else { 0 },
            state: if width >= 40 { 9 } else { 0 },
            lasted: if width >= 50 { 6 } else { 0 },
            tries: if width >= 100 { 4 } else { 0 },
            cost: if width >= 76 { 6 } else { 0 },
            why: 0,
        };
        let gaps = [columns.task, columns.agent, columns.state, columns.lasted, columns.tries, columns.cost];
        let used: usize = gaps.iter().filter(|w| **w > 0).map(|w| w + 1).sum();
        columns.why = width.saturating_sub(3 + used);
        columns
    }

    /// A row of something that is no task: its name takes the agent's column too.
    fn aside(&self, name: &str, state: &str, lasted: &str, why: &str) -> String {
        let gap = usize::from(self.agent > 0);
        let wide = Self { task: self.task + gap + self.agent, agent: 0, ..*self };
        wide.line([name, "", state, lasted, "", ""], why)
    }

    fn line(&self, cells: [&str; 6], why: &str) -> String {
        let [task, agent, state, lasted, tries, cost] = cells;
        let mut out = text::pad(task, self.task);
        for (cell, width) in [(agent, self.agent), (state, self.state)] {
            if width > 0 {
                out.push(' ');
                out.push_str(&text::pad(cell, width));
            }
        }
        for (cell, width) in [(lasted, self.lasted), (tries, self.tries), (cost, self.cost)] {
            if width > 0 {
                out.push(' ');
                out.push_str(&text::pad_left(cell, width));
            }
        }
        out.push_str("  ");
        out.push_str(&text::fit(why, self.why.saturating_sub(1)));
        out
    }
}

/// Draws the pane.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let table = scene.app.table();
    let all = scene.app.rows(scene.state);
    let right = counted(scene, &all, usize::from(area.width));
    let title = match scene.state.goals.current().filter(|_| table.filter.is_empty()) {
        _ if !table.filter.is_empty() => format!("Tasks holding \"{}\"", table.filter),
        Some(goal) => {
            // What is counted on the right must not be pushed out.
            let room = usize::from(area.width).saturating_sub(text::width(&right) + 9);
            let name = format!("Tasks ─ {} · {}", goal.id, text::one_line(&goal.text));
            if room < 24 { "Tasks".to_owned() } else { text::fit(&name, room) }
        }
        None => "Tasks".to_owned(),
    };
    let focused = scene.has_keys(Pane::Tasks);
    let inner = scene.frame(buffer, area, focused, &title, &right);
    if all.is_empty() {
        return draw_rows(buffer, inner, &empty(scene, usize::from(inner.width), usize::from(inner.height)));
    }
    let width = usize::from(inner.width);
    let selected = scene.app.selected_row(&all);
    let shown = window(all.len(), selected, usize::from(inner.height).saturating_sub(1));
    let rows = || all.from(shown.start).take(shown.len());
    let longest = rows()
        .map(|row| match row {
            Row::Task(task, _) => task.record.task().id.as_str().len(),
            // A path may also take the agent's column.
            Row::Rejected(_) | Row::Removed(_) | Row::Heading { .. } => 0,
        })
        .max()
        .unwrap_or(0);
    let columns = Columns::of(width, longest);
    let head = columns.line(["task", "agent", "state", "for", "try", "cost"], "why / doing");
    let mut lines = vec![Line::from(scene.span(format!("   {head}"), Role::Dim))];
    for (row, n) in rows().zip(shown.start..) {
        lines.push(line(scene, &row, &columns, n == selected, focused));
    }
    draw_rows(buffer, inner, &lines);
    footnote(scene, buffer, area, all.get(selected), columns.why.saturating_sub(1));
}

/// How many rows there are, how they are arranged, and what is not among them; the least important goes first where
/// there is no room.
fn counted(scene: &Scene<'_>, all: &Rows<'_>, width: usize) -> String {
    let (tasks, table) = (&scene.state.tasks, scene.app.table());
    let mut parts = Vec::new();
    match (all.without_headings(), tasks.rejected_more) {
        (0, 0) => {}
        (rows, 0) => parts.push(rows.to_string()),
        (rows, more) => parts.push(format!("{rows} and {more} more files")),
    }
    if !parts.is_empty() {
        parts.push(format!("by {}", table.sort.word()));
        if let Some(group) = table.group.word() {
            parts.push(format!("in groups by {group}"));
        }
    }
    match scene.app.marked() {
        0 => {}
        n => parts.insert(0, format!("{n} marked")),
    }
    match tasks.past_len() {
        0 => {}
        older => parts.push(format!("{older} older: podium show ID")),
    }
    match tasks.trash.len() {
        0 => {}
        n => parts.push(format!("{n} in the trash: {}", scene.key(Action::Trash))),
    }
    text::whole(&parts, " · ", width.saturating_sub(24), false)
}

/// In the lower border: why the selected row stands where it stands, where its column was too narrow for that.
fn footnote(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, row: Option<Row<'_>>, shown: usize) {
    let why = match row {
        Some(Row::Task(task, _)) => why(scene, task),
        Some(Row::Rejected(file)) => file.reason.clone(),
        Some(Row::Removed(removed)) => removed.title.clone(),
        Some(Row::Heading { .. }) | None => return,
    };
    let room = usize::from(area.width).saturating_sub(6);
    if text::width(&text::one_line(&why)) <= shown || area.height < 4 {
        return;
    }
    let line = Line::from(scene.span(format!(" {} ", text::fit(&why, room)), Role::Text));
    buffer.set_line(area.x + 2, area.bottom() - 1, &line, area.width.saturating_sub(4));
}

fn line(scene: &Scene<'_>, row: &Row<'_>, columns: &Columns, selected: bool, focused: bool) -> Line<'static> {
    let (glyph, style, text) = match row {
        Row::Heading { name, rows, folded } => return heading(scene, name, *rows, *folded, selected, focused),
        Row::Rejected(file) => {
            let word = if file.moved { "rejected" } else { "foreign" };
            (glyph::REJECTED, scene.style(Role::Warn), columns.aside(&file.path, word, "", &file.reason))
        }
        Row::Removed(removed) => {
            let age = text::age(scene.now.duration_since(removed.at));
            (glyph::REMOVED, scene.style(Role::Dim), columns.aside(&thrown(removed), "trash", &age, &removed.title))
        }
        Row::Task(task, phase) => {
            let state = scene.state;
            let record = &task.record;
            let (agent, id) = (record.task().agent.as_str(), record.task().id.as_str());
            let lasted = lasted(state, task, scene.now).map_or_else(|| "—".to_owned(), text::elapsed);
            let allowed = record.spec.max_attempts.unwrap_or(state.tasks.attempts_allowed);
            let tries = match record.attempts.len() {
                0 => "—".to_owned(),
                n if allowed == 0 => n.to_string(),
                n => format!("{n}/{allowed}"),
            };
            let spent = state.spend_of_task(record.task());
            let cost = if spent.cost.is_zero() { "—".to_owned() } else { spent.shown() };
            let text = columns.line([id, agent, word(task, *phase), &lasted, &tries, &cost], &why(scene, task));
            if state.asks.of(record.task()).is_some() {
                (glyph::NEEDS, scene.style(Role::Warn), text)
            } else {
                (glyph::phase(*phase), scene.theme.phase(*phase), text)
            }
        }
    };
    let quiet = match row {
        Row::Task(_, Phase::Done | Phase::Dropped | Phase::Waiting | Phase::Paused) | Row::Removed(_) => Role::Dim,
        Row::Task(_, Phase::Asking | Phase::Failed | Phase::Running | Phase::Ready | Phase::Retrying)
        | Row::Rejected(_)
        | Row::Heading { .. } => Role::Text,
    };
    let marked = match row {
        Row::Task(task, _) => scene.app.is_marked(&Item::Task(task.record.task().clone())),
        Row::Rejected(file) => scene.app.is_marked(&Item::File(file.path.clone())),
        Row::Removed(_) | Row::Heading { .. } => false,
    };
    let line = Line::from(vec![
        scene.mark(selected),
        Span::styled(glyph, style),
        if marked { scene.span("*", Role::Accent) } else { Span::raw(" ") },
        scene.span(text, if selected { Role::Text } else { quiet }),
    ]);
    if selected && focused { line.patch_style(scene.style(Role::Selected)) } else { line }
}

/// What was thrown away, by its name.
pub fn thrown(removed: &Removed) -> String {
    match &removed.item {
        Item::Task(task) => task.to_string(),
        Item::File(path) => path.clone(),
    }
}

fn heading(scene: &Scene<'_>, name: &str, rows: usize, folded: bool, selected: bool, focused: bool) -> Line<'static> {
    let mark = if folded { glyph::FOLDED } else { glyph::OPEN };
    // A goal is better known by its words than by its number.
    let goal = scene.state.goals.iter().find(|goal| goal.id.as_str() == name);
    let words = goal.map(|goal| format!("  {}", text::fit(&goal.text, 60))).unwrap_or_default();
    let line = Line::from(vec![
        scene.mark(selected),
        scene.span(format!("{mark} {name}"), Role::Title),
        scene.span(format!("  {rows}"), Role::Dim),
        scene.span(words, Role::Dim),
    ]);
    if selected && focused { line.patch_style(scene.style(Role::Selected)) } else { line }
}

fn empty(scene: &Scene<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    let state = scene.state;
    if !scene.app.table().filter.is_empty() {
        return paragraph("No task holds this text. esc shows all of them.", width, 1, scene.style(Role::Dim));
    }
    if let Some(goal) = state.goals.iter().find(|g| g.needs_approval() || g.asks()) {
        return plan::short(scene, &goal.id, width, height);
    }
    let planning = |g: &&Goal| match g.phase {
        GoalPhase::Planning { .. } => true,
        GoalPhase::AwaitingApproval
        | GoalPhase::Asking { .. }
        | GoalPhase::Running
        | GoalPhase::Deciding
        | GoalPhase::Synthesising
        | GoalPhase::Ended { .. } => false,
    };
    if let Some(goal) = state.goals.iter().find(planning) {
        let text = format!("{} is being planned. The plan appears here; nothing runs before you approve it.", goal.id);
        return paragraph(&text, width, 1, scene.style(Role::Dim));
    }
    if state.opened_at.is_none() || *scene.app.link() == Connection::Opening {
        return paragraph("The room has not answered yet.", width, 1, scene.style(Role::Dim));
    }
    let agent = state.agents.iter().next().map_or("marie", |a| a.name().as_str()).to_owned();
    let mut lines = vec![Line::default()];
    let mut troubles: Vec<(String, &str)> = Vec::new();
    for agent in state.agents.iter() {
        if let Some(trouble) = &agent.trouble {
            match troubles.iter_mut().find(|(_, known)| known == trouble) {
                Some((names, _)) => names.extend([", ", agent.name().as_str()]),
                None => troubles.push((agent.name().to_string(), trouble)),
            }
        }
    }
    for (names, trouble) in troubles {
        let text = format!("{} {names} cannot work: {trouble}", glyph::FAILED);
        lines.extend(paragraph(&text, width.saturating_sub(1), 2, scene.style(Role::Bad)));
    }
    if lines.len() > 1 {
        lines.push(Line::default());
    }
    lines.extend([Line::from(scene.span("  Nothing to do yet.", Role::Title)), Line::default()]);
    for (key, what) in [
        ("g", "write a goal; its plan is shown before anything runs".to_owned()),
        ("@name …", format!("written in the same place: one task for one agent, as in @{agent}")),
        ("a file", format!("{}/tasks/{agent}/name.json starts by itself", state.stage.display())),
        ("?", "every key, explained".to_owned()),
    ] {
        for (n, row) in text::wrap(&what, width.saturating_sub(15)).into_iter().enumerate() {
            let key = if n == 0 { key } else { "" };
            lines.push(Line::from(vec![scene.span(format!("  {}", text::pad(key, 11)), Role::Accent), Span::raw(row)]));
        }
    }
    lines
}
