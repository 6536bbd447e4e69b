//! Buckets: level, what is held by calls in flight, what the server says and how old that is, and what waits.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Item, Row, fresh, gauge};
use crate::{
    model::{
        AgentName,
        gateway::{Level, Waiting},
        limit::LimitNews,
    },
    tui::{
        glyph, text,
        theme::Role,
        views::{Scene, rows},
    },
};

fn share(level: &Level) -> f64 {
    if level.limit == 0 { 0.0 } else { (level.level as f64 / level.limit as f64).clamp(0.0, 1.0) }
}

fn held(level: &Level) -> f64 {
    if level.limit == 0 { 0.0 } else { level.reserved as f64 / level.limit as f64 }
}

fn role(share: f64) -> Role {
    match share {
        s if s < 0.10 => Role::Bad,
        s if s < 0.25 => Role::Warn,
        _ => Role::Good,
    }
}

/// Where a level comes from: how old the server's word is, or that it is our own guess.
fn source(scene: &Scene<'_>, level: &Level) -> (String, Role) {
    match (&level.server, level.learned) {
        (Some((_, at)), _) => (text::age(scene.now.duration_since(*at)).replace(' ', ""), fresh(scene, *at)),
        (None, true) => ("known".to_owned(), Role::Dim),
        (None, false) if level.own.is_some() => ("set".to_owned(), Role::Dim),
        (None, false) => ("~guess".to_owned(), Role::Dim),
    }
}

fn silent(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let text = "No model call yet: the limits are learned from the first answers.";
    super::super::paragraph(text, width.saturating_sub(1), 0, scene.style(Role::Dim))
        .into_iter()
        .map(Row::plain)
        .collect()
}

/// In few columns.
pub(super) fn narrow(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let levels = &scene.state.levels;
    if levels.buckets.is_empty() {
        return silent(scene, width);
    }
    let mut page = Vec::new();
    let mut group = "";
    for level in &levels.buckets {
        let name = if group == level.group { "" } else { level.group.as_str() };
        group = &level.group;
        let share = share(level);
        let (said, age) = source(scene, level);
        let cells = width.saturating_sub(1 + 6 + 1 + 8 + 1 + 5 + 1 + 6);
        let line = Line::from(vec![
            scene.span(format!("{} ", text::pad(name, 6)), Role::Title),
            scene.span(format!("{} ", text::pad(level.dimension.word(), 8)), Role::Text),
            scene.span(gauge(share, held(level), None, cells), role(share)),
            scene.span(format!("{:>4.0}%", share * 100.0), role(share)),
            scene.span(format!(" {}", text::fit(&said, 6)), age),
        ]);
        page.push(Row { item: Some(Item::Group(level.group.clone())), line });
    }
    page.extend(traffic(scene).map(|spans| Row::plain(Line::from(spans))));
    page
}

/// With everything that is known of each.
pub(super) fn wide(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let levels = &scene.state.levels;
    let mut page = vec![Row::plain(Line::from(vec![
        scene.span("Buckets", Role::Title),
        scene.span("   per minute  left                   of     held  server said", Role::Dim),
    ]))];
    if levels.buckets.is_empty() {
        page.extend(silent(scene, width));
        page.extend(unused(scene));
        return page;
    }
    let mut group = "";
    for level in &levels.buckets {
        let name = if group == level.group { "" } else { level.group.as_str() };
        group = &level.group;
        let share = share(level);
        let (server, age) = match &level.server {
            Some((left, at)) => (
                format!("{}, {} ago", text::tokens(*left), text::age(scene.now.duration_since(*at))),
                fresh(scene, *at),
            ),
            None => ("nothing".to_owned(), Role::Dim),
        };
        let limit = if is_shrunk(level) && width >= 90 {
            format!("; {} at once", text::tokens(level.burst))
        } else {
            let said = match (level.own.is_some(), level.learned, width >= 90) {
                (true, _, true) => "; <= is set by you",
                (true, _, false) | (false, true, _) => "",
                (false, false, true) => "; ~ the limit is a guess",
                (false, false, false) => "; ~ guess",
            };
            said.to_owned()
        };
        let line = Line::from(vec![
            scene.span(format!("{} ", text::pad(name, 9)), Role::Title),
            Span::raw(format!("{} ", text::pad(level.dimension.word(), 11))),
            scene.span(gauge(share, held(level), None, 10), role(share)),
            Span::raw(format!(
                " {:>7} {:>8} {:>8}  ",
                text::tokens(level.level),
                limit_shown(level),
                text::tokens(level.reserved)
            )),
            scene.span(text::fit(&format!("{server}{limit}"), width.saturating_sub(60)), age),
        ]);
        page.push(Row { item: Some(Item::Group(level.group.clone())), line });
    }
    page.extend(unused(scene));
    if width < 90 {
        page.extend(shrunk(scene).map(Row::plain));
    }
    page.extend(holds(scene).into_iter().map(Row::plain));
    page.extend(flow(scene).into_iter().map(Row::plain));
    page
}

/// The limit in force; one that an operator has set says so.
fn limit_shown(level: &Level) -> String {
    let set = if level.own == Some(level.limit) { "<=" } else { "" };
    format!("{set}{}", text::tokens(level.limit))
}

/// Whether the server was seen to allow less at once than a minute's worth.
fn is_shrunk(level: &Level) -> bool {
    (1..level.limit).contains(&level.burst)
}

/// The same in words, for a screen that has no columns for it: the tightest of each group.
fn shrunk(scene: &Scene<'_>) -> impl Iterator<Item = Line<'static>> {
    let mut groups: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for level in scene.state.levels.buckets.iter().filter(|level| is_shrunk(level)) {
        let percent = level.burst * 100 / level.limit;
        let tightest = groups.entry(&level.group).or_insert(percent);
        *tightest = percent.min(*tightest);
    }
    groups.into_iter().map(|(group, percent)| {
        let text = format!("  {group}: {percent}% of a minute's worth at once, learned from the server");
        Line::from(scene.span(text, Role::Dim))
    })
}

/// What was set for groups of which no call was made yet.
fn unused(scene: &Scene<'_>) -> Vec<Row> {
    let in_use =
        |group: &str| scene.state.levels.buckets.iter().any(|level| level.group.split(' ').next() == Some(group));
    let line = |(group, own): (&String, &crate::model::limit::OwnLimit)| Row {
        item: Some(Item::Group(group.clone())),
        line: Line::from(scene.span(format!("  {group}: at most {own}, set by you; no call yet"), Role::Dim)),
    };
    scene.state.own_limits.iter().filter(|(group, _)| !in_use(group)).map(line).collect()
}

/// What holds a model group back for a while, with its end, and who waits for it.
fn holds(scene: &Scene<'_>) -> Vec<Line<'static>> {
    let open = |news: &&LimitNews| !news.kind.closes_account() && news.ends() > scene.now;
    let line = |news: &LimitNews| {
        let group = news.group.as_deref().unwrap_or("all models");
        let about = if news.estimated || news.until.is_none() { "about " } else { "" };
        let (left, ago) = (super::countdown(scene, news.ends()), scene.now.duration_since(news.at));
        let text = format!("  {group}: {}, {about}{left} more · said {} ago", news.kind.words(), text::age(ago));
        Line::from(scene.span(text, Role::Warn))
    };
    let blocked = |level: &Level| {
        let cause = level.cause?;
        let left = level.blocked_until.filter(|until| *until > scene.now);
        let left = left.map(|until| format!(", {} more", super::countdown(scene, until))).unwrap_or_default();
        let text = format!("  {} {}: {}{left}", level.group, level.dimension.word(), cause.words());
        Some(Line::from(scene.span(text, Role::Warn)))
    };
    let waits = |waiting: &Waiting| {
        let who = waiting.agent.as_ref().map_or("the orchestrator", AgentName::as_str);
        let calls = text::many(usize::try_from(waiting.calls).unwrap_or(usize::MAX), "call");
        let since = text::age(scene.now.duration_since(waiting.since));
        let text = format!("  {who} waits for {}: {calls}, the first for {since}", waiting.group);
        Line::from(scene.span(text, Role::Warn))
    };
    let levels = &scene.state.levels;
    let held = scene.state.limits.iter().filter(open).map(line);
    held.chain(levels.buckets.iter().filter_map(blocked)).chain(levels.waiting.iter().map(waits)).collect()
}

/// What is on its way, waits, or was turned away lately; in words.
fn flow(scene: &Scene<'_>) -> Vec<Line<'static>> {
    let levels = &scene.state.levels;
    let mark = |bad: bool, role: Role| if bad { role } else { Role::Dim };
    let waits = text::many(usize::try_from(levels.queued).unwrap_or(usize::MAX), "call");
    let mut lines = vec![Line::from(vec![
        scene.span(format!("{} in flight · ", levels.in_flight), Role::Text),
        scene.span(format!("{waits} waiting · "), mark(levels.queued > 0, Role::Warn)),
        scene.span("in the last minute ", Role::Dim),
        scene.span(format!("{} of 429", levels.throttled), mark(levels.throttled > 0, Role::Bad)),
        scene.span(format!(", {} of 529", levels.overloaded), mark(levels.overloaded > 0, Role::Bad)),
    ])];
    let told = [429, 529].map(|status| scene.state.accounts.refused(status, scene.now));
    if told != [0, 0] {
        let text = format!("told by engines in the last minute: {} of 429, {} of 529", told[0], told[1]);
        lines.push(Line::from(scene.span(text, Role::Bad)));
    }
    lines
}

/// What is on its way, waits, or was turned away; nothing while all is quiet.
fn traffic(scene: &Scene<'_>) -> Option<Vec<Span<'static>>> {
    let levels = &scene.state.levels;
    let mut parts = Vec::new();
    let mut part = |n: usize, word: &str, role: Role| {
        if n > 0 {
            let gap = if parts.is_empty() { "" } else { " " };
            parts.push(scene.span(format!("{gap}{n} {word}"), role));
        }
    };
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    part(count(levels.in_flight), "in flight", Role::Text);
    part(count(levels.queued), "waits", Role::Warn);
    part(count(levels.throttled), "throttled", Role::Bad);
    part(count(levels.overloaded), "overloaded", Role::Bad);
    part(scene.state.accounts.refused(429, scene.now), "told of 429", Role::Bad);
    part(scene.state.accounts.refused(529, scene.now), "told of 529", Role::Bad);
    (!parts.is_empty()).then_some(parts)
}

/// One line of the tightest limits, for a small screen; an account that is parked comes first. What has no room is left out
/// whole, the least important first.
pub fn strip(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    // As they stand beside each other, each with its weight: the lightest is the last to go.
    let mut parts: Vec<(usize, Vec<Span<'static>>)> = Vec::new();
    for (name, parked) in scene.state.accounts.all_parked().take(1) {
        let until = parked.until.filter(|until| *until > scene.now).map(|until| super::countdown(scene, until));
        let left = until.map_or_else(|| " waits for you".to_owned(), |left| format!(" {left}"));
        let name = format!(" {} {}", glyph::PARKED, text::fit(name.as_str(), 20));
        parts.push((0, vec![scene.span(name, Role::Warn), scene.span(left, Role::Warn)]));
    }
    let mut tight: Vec<_> = scene.state.levels.buckets.iter().collect();
    tight.sort_by(|a, b| share(a).total_cmp(&share(b)));
    for (level, weight) in tight.into_iter().zip([1, 3]) {
        let share = share(level);
        parts.push((
            weight,
            vec![
                scene.span(format!(" {} {} ", text::fit(&level.group, 10), level.dimension.word()), Role::Dim),
                scene.span(glyph::gauge(share, 6), role(share)),
                scene.span(format!(" {:.0}%", share * 100.0), role(share)),
            ],
        ));
    }
    if parts.is_empty() {
        parts.push((0, vec![scene.span(" limits: no model call yet", Role::Dim)]));
    }
    if let Some(rate) = scene.state.money.today.usage.cache_hit_rate() {
        parts.push((4, vec![scene.span(format!(" · cache {:.0}%", rate * 100.0), Role::Dim)]));
    }
    if let Some(traffic) = traffic(scene) {
        parts.push((2, std::iter::once(scene.span(" · ", Role::Dim)).chain(traffic).collect()));
    }
    let fits = |parts: &[(usize, Vec<Span<'static>>)]| {
        let columns: usize = parts.iter().flat_map(|(_, part)| part).map(Span::width).sum();
        columns <= usize::from(area.width)
    };
    while parts.len() > 1 && !fits(&parts) {
        let heaviest = parts.iter().enumerate().max_by_key(|(_, (weight, _))| *weight).map(|(at, _)| at);
        parts.remove(heaviest.unwrap_or_default());
    }
    rows(buffer, area, &[parts.into_iter().flat_map(|(_, part)| part).collect::<Vec<_>>().into()]);
}
