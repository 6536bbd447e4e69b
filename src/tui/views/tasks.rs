//! The tasks as a table: what is wrong first, then what runs, what is next, what waits and why, what is over.

use jiff::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Scene, paragraph, plan, rows, window};
use crate::{
    model::{GoalPhase, Rejected, TaskRef},
    room::{Goal, State, Task, tasks::Phase},
    tui::{glyph, layout::Pane, text, theme::Role},
};

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// A task and where it stands.
    Task(&'a Task, Phase),
    /// A file that is no task.
    Rejected(&'a Rejected),
}

/// Names a row across changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// A task.
    Task(TaskRef),
    /// A file that is no task, by path.
    Rejected(String),
}

impl Row<'_> {
    /// Its name across changes.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Task(task, _) => RowKey::Task(task.record.task().clone()),
            Self::Rejected(file) => RowKey::Rejected(file.path.clone()),
        }
    }

    /// Whether it is the row of this name.
    pub fn is(&self, key: &RowKey) -> bool {
        match (self, key) {
            (Self::Task(task, _), RowKey::Task(name)) => task.record.task() == name,
            (Self::Rejected(file), RowKey::Rejected(path)) => &file.path == path,
            (Self::Task(..), RowKey::Rejected(_)) | (Self::Rejected(_), RowKey::Task(_)) => false,
        }
    }
}

/// Every row in order; with a filter only those that hold its text, or whose state it names: `is:dead`.
pub fn all<'a>(state: &'a State, filter: &str) -> Vec<Row<'a>> {
    let filter = filter.to_lowercase();
    let is = filter.strip_prefix("is:").map(str::trim);
    let holds = |text: &str| is.is_none() && text.to_lowercase().contains(&filter);
    let mut sorted: Vec<_> = state
        .tasks
        .iter()
        .map(|task| (task, state.tasks.phase(task)))
        .filter(|(task, phase)| {
            filter.is_empty()
                || is == Some(word(task, *phase))
                || holds(&task.record.task().to_string())
                || holds(&task.record.spec.title)
                || holds(word(task, *phase))
        })
        .map(|(task, phase)| (order(task, phase), Row::Task(task, phase)))
        .collect();
    sorted.sort_by_key(|(key, _)| *key);
    let mut rows: Vec<Row<'a>> = sorted.into_iter().map(|(_, row)| row).collect();
    let failed = rows.iter().take_while(|r| matches!(r, Row::Task(_, Phase::Asking | Phase::Failed))).count();
    let files = state.tasks.rejected.values();
    let shown = |f: &&Rejected| {
        filter.is_empty() || is == Some("rejected") || holds(&f.path) || holds(&f.reason) || holds("rejected")
    };
    let files = files.filter(shown).map(Row::Rejected);
    rows.splice(failed..failed, files);
    rows
}

/// Failed and done tasks newest first, the others in the order they came.
fn order(task: &Task, phase: Phase) -> (Phase, i64) {
    let record = &task.record;
    let millis = |at: Timestamp| at.as_millisecond();
    let at = match phase {
        Phase::Failed | Phase::Done | Phase::Dropped => {
            -record.outcome.as_ref().map_or(i64::MAX, |o| millis(o.completed_at))
        }
        Phase::Running => record.attempts.last().map_or(millis(record.seen_at), |a| millis(a.started_at)),
        Phase::Asking | Phase::Ready | Phase::Waiting => millis(record.seen_at),
        Phase::Retrying => record.attempts.last().and_then(|a| a.ended_at).map_or(0, millis),
    };
    (phase, at)
}

/// Which row is under the hand: the chosen one where it still is, else the first that runs, else the first.
pub fn selected(rows: &[Row<'_>], chosen: Option<&RowKey>, last: usize) -> usize {
    match chosen {
        Some(key) => rows.iter().position(|r| r.is(key)).unwrap_or(last.min(rows.len().saturating_sub(1))),
        None => rows.iter().position(|r| matches!(r, Row::Task(_, Phase::Running))).unwrap_or(0),
    }
}

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
        Some(why) if why.is_stalling() => format!("{why} · e extends"),
        Some(why) => why.to_string(),
        None => String::new(),
    };
    match &task.record.outcome {
        Some(outcome) if !outcome.artifacts.is_empty() => {
            format!("{} · {why}", text::many(outcome.artifacts.len(), "file"))
        }
        Some(_) | None => why,
    }
}

/// The state in a word.
pub fn word(task: &Task, phase: Phase) -> &'static str {
    match &task.record.outcome {
        Some(outcome) => outcome.state.word(),
        None => phase.word(),
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

    fn rejected(&self, path: &str, reason: &str) -> String {
        let gap = usize::from(self.agent > 0);
        let wide = Self { task: self.task + gap + self.agent, agent: 0, ..*self };
        wide.line([path, "", "rejected", "", "", ""], reason)
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
    let filter = scene.app.filter();
    let all = all(scene.state, filter);
    let title = if filter.is_empty() { "Tasks".to_owned() } else { format!("Tasks holding \"{filter}\"") };
    let older = match scene.state.tasks.past_len() {
        0 => String::new(),
        older => format!(" · {older} older: podium show ID"),
    };
    let count = match (all.len(), scene.state.tasks.rejected_more) {
        (0, _) => String::new(),
        (rows, 0) => format!("{rows} · by state{older}"),
        (rows, more) => format!("{rows} and {more} more files · by state{older}"),
    };
    let focused = scene.has_keys(Pane::Tasks);
    let inner = scene.frame(buffer, area, focused, &title, &count);
    if all.is_empty() {
        return rows(buffer, inner, &empty(scene, usize::from(inner.width), usize::from(inner.height)));
    }
    let width = usize::from(inner.width);
    let shown = window(all.len(), scene.app.selected_row(&all), usize::from(inner.height).saturating_sub(1));
    let longest = all
        .get(shown.clone())
        .unwrap_or_default()
        .iter()
        .map(|r| match r {
            Row::Task(task, _) => task.record.task().id.as_str().len(),
            // A path may also take the agent's column.
            Row::Rejected(_) => 0,
        })
        .max()
        .unwrap_or(0);
    let columns = Columns::of(width, longest);
    let head = columns.line(["task", "agent", "state", "for", "try", "cost"], "why / doing");
    let mut lines = vec![Line::from(scene.span(format!("   {head}"), Role::Dim))];
    let selected = scene.app.selected_row(&all);
    for (n, row) in all.iter().enumerate().skip(shown.start).take(shown.len()) {
        lines.push(line(scene, row, &columns, n == selected, focused));
    }
    rows(buffer, inner, &lines);
    footnote(scene, buffer, area, all.get(selected), columns.why.saturating_sub(1));
}

/// In the lower border: why the selected row stands where it stands, where its column was too narrow for that.
fn footnote(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, row: Option<&Row<'_>>, shown: usize) {
    let why = match row {
        Some(Row::Task(task, _)) => why(scene, task),
        Some(Row::Rejected(file)) => file.reason.clone(),
        None => return,
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
        Row::Rejected(file) => {
            let text = columns.rejected(&file.path, &file.reason);
            (glyph::REJECTED, scene.style(Role::Warn), text)
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
            (glyph::phase(*phase), scene.theme.phase(*phase), text)
        }
    };
    let quiet = match row {
        Row::Task(_, Phase::Done | Phase::Dropped | Phase::Waiting) => Role::Dim,
        Row::Task(_, Phase::Asking | Phase::Failed | Phase::Running | Phase::Ready | Phase::Retrying)
        | Row::Rejected(_) => Role::Text,
    };
    let line = Line::from(vec![
        scene.mark(selected),
        Span::styled(glyph, style),
        Span::raw(" "),
        scene.span(text, if selected { Role::Text } else { quiet }),
    ]);
    if selected && focused { line.patch_style(scene.style(Role::Selected)) } else { line }
}

fn empty(scene: &Scene<'_>, width: usize, height: usize) -> Vec<Line<'static>> {
    let state = scene.state;
    if !scene.app.filter().is_empty() {
        return paragraph("No task holds this text. esc shows all of them.", width, 1, scene.style(Role::Dim));
    }
    if let Some(goal) = state.goals.iter().find(|g| g.needs_approval()) {
        return plan::short(scene, &goal.id, width, height);
    }
    let planning = |g: &&Goal| match g.phase {
        GoalPhase::Planning { .. } => true,
        GoalPhase::AwaitingApproval
        | GoalPhase::Running
        | GoalPhase::Deciding
        | GoalPhase::Synthesising
        | GoalPhase::Ended { .. } => false,
    };
    if let Some(goal) = state.goals.iter().find(planning) {
        let text = format!("{} is being planned. The plan appears here; nothing runs before you approve it.", goal.id);
        return paragraph(&text, width, 1, scene.style(Role::Dim));
    }
    if state.opened_at.is_none() {
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
