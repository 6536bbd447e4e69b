//! A goal's plan: what would be done by whom and after what, before it is approved and while it runs.

mod chart;
mod lanes;
mod timeline;

use ratatui::text::{Line, Span};

pub use chart::{Row, place, root, rows};
use lanes::Window;
use timeline::Bars;

use super::{Page, Scene, orchestrator, paragraph, task::fact, tasks};
use crate::{
    model::{GoalId, Plan, PlanTask, Severity},
    orchestrator::plan::{Rules, cost},
    room::Goal,
    tui::{glyph, text, theme::Role},
};

/// The plan in so many rows: what does not fit is left out where it is least missed, and said to be.
pub fn short(scene: &Scene<'_>, id: &GoalId, columns: usize, rows: usize) -> Vec<Line<'static>> {
    let whole = written(scene, id, None, columns, true).lines;
    if whole.len() <= rows {
        return whole;
    }
    let mut lines = written(scene, id, None, columns, false).lines;
    if lines.len() > rows {
        let kept = rows.saturating_sub(1);
        let more = text::many(lines.len() - kept, "row");
        let text = format!(" … and {more} more: {}", scene.told("<plan> shows the whole plan"));
        lines.truncate(kept);
        lines.push(Line::from(scene.span(text, Role::Accent)));
    }
    lines
}

/// The page; the task under the hand, where there is one, shows its description.
pub fn page(scene: &Scene<'_>, id: &GoalId, selected: Option<usize>, columns: usize) -> Page {
    written(scene, id, selected, columns, true)
}

/// The page, with or without what the goal says and the plan is in short.
fn written(scene: &Scene<'_>, id: &GoalId, selected: Option<usize>, columns: usize, told: bool) -> Page {
    let title = format!("Plan of {id}");
    let Some(goal) = scene.state.goals.get(id) else {
        let lines = paragraph("There is no such goal.", columns, 1, scene.style(Role::Dim));
        return Page { title, lines, focus: None, keys: "esc back" };
    };
    let mut lines = if told { fact(scene, "goal", &goal.text, columns) } else { Vec::new() };
    let (sentence, role) = orchestrator::sentence(scene, goal);
    lines.push(Line::from(vec![
        scene.span(format!(" {}", text::pad("stands", 13)), Role::Dim),
        scene.span(sentence, role),
    ]));
    let keys = if goal.asks() {
        "a answer · d leave it unanswered · esc back"
    } else if goal.needs_approval() {
        "a approve · d deny · E edit · x leave out · $ up to a sum · A add · M merge · t timeline · z wide graph · ←→ fold · b what holds it · esc back"
    } else if goal.phase.is_over() {
        "enter open the task · o report · F follow up · t timeline · z wide graph · ←→ fold · f hide done · esc back"
    } else {
        "enter open the task · b what holds it · t timeline · z wide graph · ←→ fold · f hide done · E edit · A add · x leave out · c end the goal · esc back"
    };
    for question in goal.questions() {
        lines.extend(fact(scene, "asks", question, columns));
    }
    let Some(plan) = &goal.plan else {
        lines.push(Line::default());
        lines.extend(paragraph("No plan yet.", columns, 1, scene.style(Role::Dim)));
        return Page { title, lines, focus: None, keys };
    };
    if told {
        lines.extend(fact(scene, "in short", &plan.summary, columns));
    }
    let rules = scene.state.plan_rules(Some(goal));
    lines.extend(fact(scene, "size", &size(scene, goal, plan, &rules), columns));
    if told && !plan.synthesis.trim().is_empty() {
        lines.extend(fact(scene, "then", &plan.synthesis, columns));
    }
    for fault in &goal.faults {
        let (mark, role) = match fault.severity {
            Severity::Repair => (glyph::FAILED, Role::Warn),
            Severity::Ask => ("!", Role::Warn),
            Severity::Warn | Severity::Suggest => ("·", Role::Dim),
        };
        lines.extend(paragraph(&format!("{mark} {fault}"), columns, 1, scene.style(role)));
    }
    let view = scene.app.plan_view();
    let bars = Bars::of(scene, goal, plan).filter(|_| view.timeline);
    let shown = rows(scene.state, id, view);
    let over = if bars.is_some() { pace(scene, goal, plan) } else { "● is on the longest chain".to_owned() };
    lines.push(Line::default());
    let left_out = match plan.tasks.len() - shown.len() {
        0 => String::new(),
        n => format!(" · {n} not shown"),
    };
    lines.push(Line::from(vec![
        scene.span(" Tasks", Role::Title),
        scene.span(format!("  {}", text::fit(&format!("{over}{left_out}"), columns.saturating_sub(10))), Role::Dim),
    ]));
    let name = plan.tasks.iter().map(|t| text::width(&t.id)).max().unwrap_or(0).clamp(4, 24);
    let at = selected.map(|selected| place(&shown, selected));
    let wide = if view.wide { columns.saturating_sub(name + 8).max(lanes::WIDEST) } else { lanes::WIDEST };
    let window = shown.get(at.unwrap_or(0)).map(|row| Window::around(&row.lanes, wide));
    let mut focus = None;
    for (n, shown) in shown.iter().enumerate() {
        let Some(task) = plan.tasks.get(shown.task) else { continue };
        let here = at == Some(n);
        if here {
            focus = Some(lines.len());
        }
        if let Some(bars) = &bars {
            lines.push(over_time(scene, goal, task, shown, bars, here, name, columns));
            continue;
        }
        let cut = |lanes: &str| window.map(|window| window.cut(lanes)).unwrap_or_default();
        lines.push(row(scene, goal, task, shown, &cut(&shown.lanes.here), here, name, columns));
        if here && !view.wide {
            let below = format!("   {} ", cut(&shown.lanes.below));
            let room = columns.saturating_sub(text::width(&below) + 1);
            let mut said = paragraph(&how(task, &rules), room, 0, scene.style(Role::Text));
            said.extend(paragraph(&task.text(), room, 0, scene.style(Role::Dim)));
            for done in &task.done_when {
                said.extend(paragraph(&format!("done when {done}"), room, 0, scene.style(Role::Dim)));
            }
            lines.extend(said.into_iter().map(|mut line| {
                line.spans.insert(0, scene.span(below.clone(), Role::Dim));
                line
            }));
        }
    }
    if let Some(bars) = &bars {
        lines.push(bars.foot(scene, name + 5, columns.saturating_sub(name + 17)));
    }
    Page { title, lines, focus, keys }
}

/// How fast it went, or would go, and the most that is possible.
fn pace(scene: &Scene<'_>, goal: &Goal, plan: &Plan) -> String {
    if let Some(pays) = scene.state.pays(goal) {
        return pays.to_string();
    }
    match scene.state.estimate(plan) {
        Some(estimate) => format!("{estimate}, of at most {:.1}×", estimate.ceiling()),
        None => String::new(),
    }
}

/// Mark, style and word of a task in the queue; a point before it is there.
fn stands(scene: &Scene<'_>, goal: &Goal, task: &PlanTask) -> (&'static str, ratatui::style::Style, &'static str) {
    let known = task.reference(&goal.id).filter(|_| goal.published).and_then(|t| scene.state.tasks.find(&t));
    match known {
        Some(known) => {
            let phase = scene.state.tasks.phase(&known);
            (glyph::phase(phase), scene.theme.phase(phase), tasks::word(&known, phase))
        }
        None => ("·", scene.style(Role::Dim), ""),
    }
}

#[expect(clippy::too_many_arguments, reason = "one row of a table and its place")]
fn over_time(
    scene: &Scene<'_>,
    goal: &Goal,
    task: &PlanTask,
    shown: &Row,
    bars: &Bars,
    here: bool,
    name: usize,
    columns: usize,
) -> Line<'static> {
    let (mark, style, _) = stands(scene, goal, task);
    let mut spans = vec![
        scene.mark(here),
        Span::styled(mark, style),
        scene.span(format!(" {} ", text::pad(&task.id, name)), if here { Role::Title } else { Role::Text }),
        Span::raw(" "),
    ];
    spans.extend(bars.line(scene, shown, columns.saturating_sub(name + 17)));
    spans.push(scene.span(format!(" {}", text::pad(&task.worker, 9)), Role::Dim));
    Line::from(spans)
}

/// What the whole plan takes, in one line.
fn size(scene: &Scene<'_>, goal: &Goal, plan: &Plan, rules: &Rules) -> String {
    let totals = cost::totals(plan, rules);
    let mut facts = vec![text::many(plan.tasks.len(), "task")];
    facts.extend(totals.minutes.map(|minutes| format!("{minutes} min of work")));
    facts.extend(scene.state.estimate(plan).filter(|e| !e.guessed).map(|estimate| estimate.to_string()));
    facts.extend(totals.tokens.map(|tokens| format!("{} tokens", cost::tokens_text(tokens))));
    facts.extend(totals.usd.map(|usd| format!("{} without a cache", cost::usd_text(usd))));
    if plan.revision > 1 {
        facts.push(format!("revision {}", plan.revision));
    }
    let by = if plan.model.is_empty() { "planning cost".to_owned() } else { format!("planned by {} for", plan.model) };
    facts.push(format!("{by} {}", goal.planning_cost()));
    facts.join(" · ")
}

/// What one task runs on and takes.
fn how(task: &PlanTask, rules: &Rules) -> String {
    let mut facts = vec![format!("on {}", rules.model_of(task))];
    facts.extend(task.effort.map(|effort| format!("{} effort", effort.word())));
    facts.extend(task.estimates.minutes.map(|minutes| format!("{minutes} min")));
    facts.extend(task.estimates.tokens.map(|tokens| format!("{} tokens", cost::tokens_text(tokens))));
    facts.extend(cost::usd(task, rules).map(|usd| format!("{} without a cache", cost::usd_text(usd))));
    facts.extend(task.priority.map(|priority| format!("priority {}", priority.0)));
    facts.extend(task.timeout.map(|seconds| format!("{seconds} s allowed")));
    if task.review {
        facts.push("reviewed".to_owned());
    }
    facts.join(" · ")
}

#[expect(clippy::too_many_arguments, reason = "one row of a table and its place")]
fn row(
    scene: &Scene<'_>,
    goal: &Goal,
    task: &PlanTask,
    shown: &Row,
    lanes: &str,
    here: bool,
    name: usize,
    columns: usize,
) -> Line<'static> {
    let (mark, style, state) = stands(scene, goal, task);
    let minutes = task.estimates.minutes.map_or_else(String::new, |range| format!("{range} min"));
    let mut after =
        if task.dependencies.is_empty() { String::new() } else { format!("  after {}", task.dependencies.join(", ")) };
    if shown.behind > 0 {
        after = format!("  {} {} behind it{after}", glyph::FOLDED, shown.behind);
    }
    let state = if state.is_empty() { String::new() } else { format!("  {state}") };
    if scene.app.plan_view().wide {
        let line = Line::from(vec![
            scene.mark(here),
            Span::styled(mark, style),
            Span::raw(" "),
            scene.span(format!("{lanes} "), Role::Dim),
            scene.span(text::fit(&task.id, columns.saturating_sub(text::width(lanes) + 5)), Role::Text),
        ]);
        return if here { line.patch_style(scene.style(Role::Title)) } else { line };
    }
    let lanes = format!("{lanes} ");
    let head = format!("{} {} {:>7}  ", text::pad(&task.id, name), text::pad(&task.worker, 9), minutes);
    let used = 3 + text::width(&lanes) + text::width(&head) + text::width(&state);
    let room = columns.saturating_sub(used + 1);
    let after_room = text::width(&after).min(room / 2);
    let title = text::fit(&task.title, room.saturating_sub(after_room));
    let line = Line::from(vec![
        scene.mark(here),
        Span::styled(mark, style),
        Span::raw(" "),
        scene.span(lanes, Role::Dim),
        scene.span(head, if here { Role::Title } else { Role::Text }),
        scene.span(title, Role::Text),
        scene.span(text::fit(&after, after_room), Role::Dim),
        Span::styled(state, style),
    ]);
    if here { line.patch_style(scene.style(Role::Title)) } else { line }
}
