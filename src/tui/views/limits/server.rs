//! The NATS server: whose it is, since when it is away, and what of its promises was not seen.
//!
//! Its one surprise: in few columns it is silent where all is well.

use ratatui::text::Line;

use crate::tui::{
    text,
    theme::Role,
    views::{Scene, paragraph},
};

/// With whole sentences.
pub(super) fn wide(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(server) = &scene.state.server else { return Vec::new() };
    let mut said: Vec<(String, Role)> = server.shut().map(|why| (why, Role::Bad)).into_iter().collect();
    said.extend(server.warning.clone().map(|warning| (warning, Role::Warn)));
    if said.is_empty() {
        said.push(("this room's; each write is synced before it is acknowledged".to_owned(), Role::Good));
    }
    let mut lines = vec![Line::from(vec![
        scene.span("NATS server", Role::Title),
        scene.span(format!("  {}", server.address), Role::Dim),
    ])];
    for (words, role) in said {
        lines.extend(paragraph(&words, width.saturating_sub(1), 2, scene.style(role)));
    }
    lines
}

/// In few columns.
pub(super) fn narrow(scene: &Scene<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(server) = &scene.state.server else { return Vec::new() };
    let shut = server.brief(|at| scene.clock(at)).map(|why| (why, Role::Bad));
    let warning = server.warning.as_ref().map(|warning| {
        let first = warning.split(':').next().unwrap_or(warning);
        (format!("NATS: {first}"), Role::Warn)
    });
    let line = |(words, role): (String, Role)| Line::from(scene.span(text::fit(&words, width.saturating_sub(1)), role));
    shut.into_iter().chain(warning).map(line).collect()
}
