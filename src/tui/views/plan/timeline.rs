//! A plan over time: when each attempt ran, or when each task would by the estimate, before anything has.

use jiff::{SignedDuration, Timestamp};
use ratatui::text::{Line, Span};

use super::chart::Row;
use crate::{
    model::{Ending, Plan, TaskRef},
    room::Goal,
    tui::{text, theme::Role, views::Scene},
};

/// One stretch of a bar.
struct Stretch {
    /// From its begin to its end, as shares of the whole.
    from: f64,
    to: f64,
    mark: &'static str,
    role: Role,
}

/// The bars of a goal: what was, or what is expected.
pub(super) struct Bars {
    /// Per task of the plan.
    each: Vec<Vec<Stretch>>,
    /// Below them: where they begin and end.
    pub(super) axis: (String, String),
}

impl Bars {
    /// `None` where there is nothing to go by.
    pub(super) fn of(scene: &Scene<'_>, goal: &Goal, plan: &Plan) -> Option<Self> {
        Self::ran(scene, goal, plan).or_else(|| Self::expected(scene, plan))
    }

    fn ran(scene: &Scene<'_>, goal: &Goal, plan: &Plan) -> Option<Self> {
        let found = |task: TaskRef| scene.state.tasks.find(&task).filter(|_| goal.published);
        let attempts: Vec<_> = plan
            .tasks
            .iter()
            .map(|task| task.reference(&goal.id).and_then(found).map(|t| t.record.attempts.clone()).unwrap_or_default())
            .collect();
        let end = |at: Option<Timestamp>| at.unwrap_or(scene.now);
        let first = attempts.iter().flatten().map(|a| a.started_at).min()?;
        let last = attempts.iter().flatten().map(|a| end(a.ended_at)).max()?;
        let whole = last.duration_since(first).as_secs_f64().max(1.0);
        let share = |at: Timestamp| at.duration_since(first).as_secs_f64() / whole;
        let each = attempts.iter().map(|attempts| {
            let stretch = |a: &crate::model::AttemptRecord| {
                let (mark, role) = match &a.ending {
                    None => ("▓", Role::Running),
                    Some(Ending::Done) => ("█", Role::Good),
                    Some(_) => ("▒", Role::Bad),
                };
                Stretch { from: share(a.started_at), to: share(end(a.ended_at)), mark, role }
            };
            attempts.iter().map(stretch).collect()
        });
        let took = text::elapsed(SignedDuration::from_secs_f64(whole));
        let axis = (scene.seconds(first), format!("{took} later {}", scene.seconds(last)));
        Some(Self { each: each.collect(), axis })
    }

    fn expected(scene: &Scene<'_>, plan: &Plan) -> Option<Self> {
        let paper = scene.state.on_paper(plan)?;
        let whole = paper.iter().map(|(start, takes)| start + takes).fold(0.0, f64::max);
        if whole <= 0.0 {
            return None;
        }
        let bar = |(start, takes): &(f64, f64)| {
            vec![Stretch { from: start / whole, to: (start + takes) / whole, mark: "░", role: Role::Ready }]
        };
        let unit = if scene.state.estimate(plan).is_some_and(|e| e.guessed) { "steps" } else { "min" };
        let axis = ("the start".to_owned(), format!("{whole:.0} {unit} later, as expected"));
        Some(Self { each: paper.iter().map(bar).collect(), axis })
    }

    /// The bar of a task, exactly so wide.
    pub(super) fn line(&self, scene: &Scene<'_>, row: &Row, columns: usize) -> Vec<Span<'static>> {
        let stretches = self.each.get(row.task).map(Vec::as_slice).unwrap_or_default();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the columns")]
        let cell = |share: f64| (share.clamp(0.0, 1.0) * columns as f64) as usize;
        let mut cells: Vec<Option<&Stretch>> = vec![None; columns];
        for stretch in stretches {
            // What was too short to see is seen all the same.
            let from = cell(stretch.from).min(columns.saturating_sub(1));
            let to = cell(stretch.to).max(from + 1).min(columns);
            cells.get_mut(from..to).into_iter().flatten().for_each(|cell| *cell = Some(stretch));
        }
        let mut spans = Vec::new();
        for group in cells.chunk_by(|a, b| a.map(|s| s.mark) == b.map(|s| s.mark)) {
            spans.push(match group.first().copied().flatten() {
                Some(stretch) => scene.span(stretch.mark.repeat(group.len()), stretch.role),
                None => scene.span("·".repeat(group.len()), Role::Dim),
            });
        }
        spans
    }

    /// The line below the bars.
    pub(super) fn foot(&self, scene: &Scene<'_>, margin: usize, columns: usize) -> Line<'static> {
        let (from, to) = (&self.axis.0, &self.axis.1);
        let gap = columns.saturating_sub(text::width(from) + text::width(to));
        let axis = format!("{}{from}{}{to}", " ".repeat(margin), " ".repeat(gap));
        Line::from(scene.span(axis, Role::Dim))
    }
}
