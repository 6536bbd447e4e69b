//! A task's sub-agents, as a tree with what each has used.

use ratatui::text::Line;

use super::{
    Scene,
    task::{heading, usage},
};
use crate::{
    model::TaskRef,
    tui::{glyph, text, theme::Role},
};

/// Sub-agents shown; more are counted.
const SHOWN: usize = 24;

/// The tree, the newest attempt's first; nothing where there are none.
pub(super) fn tree(scene: &Scene<'_>, task: &TaskRef, columns: usize) -> Vec<Line<'static>> {
    let all = scene.state.money.helpers.tree(task);
    if all.is_empty() {
        return Vec::new();
    }
    let held = scene.state.agents.holder(task).and_then(|slot| slot.held.as_ref());
    let at_work = |id: &str| held.is_some_and(|held| held.activity.subagents.iter().any(|one| one.id == id));
    let mut lines = heading(scene, "Sub-agents").to_vec();
    for (depth, id, helper) in all.iter().take(SHOWN) {
        let works = at_work(id);
        let branch = format!("  {}{} ", "  ".repeat(*depth), if *depth == 0 { "•" } else { "└" });
        let name = if helper.name.is_empty() { format!("sub-agent {id}") } else { helper.name.clone() };
        let mut facts = vec![helper.spend.shown(), usage(&helper.spend.usage)];
        facts.retain(|fact| !fact.is_empty());
        let facts = format!("  {}  attempt {}", facts.join(" · "), helper.attempt);
        let room = columns.saturating_sub(text::width(&branch) + text::width(&facts) + 3);
        let (mark, role) =
            if works { (glyph::phase(crate::room::tasks::Phase::Running), Role::Running) } else { (" ", Role::Text) };
        lines.push(Line::from(vec![
            scene.span(branch, Role::Dim),
            scene.span(text::fit(&name, room.max(12)), role),
            scene.span(format!(" {mark}"), Role::Running),
            scene.span(text::fit(&facts, columns.saturating_sub(16)), Role::Dim),
        ]));
    }
    if all.len() > SHOWN {
        lines.push(Line::from(scene.span(format!("  and {} more", all.len() - SHOWN), Role::Dim)));
    }
    lines
}
