//! Accounts: who is parked, until when and why, and how their windows stand.

use jiff::{SignedDuration, Timestamp};
use ratatui::text::Line;

use super::{Item, Row, countdown, fresh, gauge, moment};
use crate::{
    model::{
        AccountName,
        limit::{Window, Windows},
    },
    room::{Parked, Plan},
    tui::{glyph, text, theme::Role, views::Scene},
};

/// The windows that are known, with their lengths.
fn each(windows: &Windows) -> impl Iterator<Item = (&'static str, SignedDuration, Window)> {
    let five = windows.five_hour.map(|window| ("5 h", SignedDuration::from_hours(5), window));
    let seven = windows.seven_day.map(|window| ("7 d", SignedDuration::from_hours(7 * 24), window));
    five.into_iter().chain(seven)
}

/// How much of a window's time has passed: what may be used by now without running out before its end.
fn pace(length: SignedDuration, window: &Window, now: Timestamp) -> Option<f64> {
    let left = window.resets_at?.duration_since(now).as_secs_f64();
    Some((1.0 - left / length.as_secs_f64()).clamp(0.0, 1.0))
}

fn role(used: f64, pace: Option<f64>) -> Role {
    match used {
        used if used >= 0.95 => Role::Bad,
        used if used >= 0.8 || pace.is_some_and(|pace| used > pace + 0.05) => Role::Warn,
        _ => Role::Good,
    }
}

/// Every account, one after the other.
pub(super) fn wide(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let state = scene.state;
    let switch = match state.accounts.resume {
        crate::model::Resume::On => "on: work goes on by itself".to_owned(),
        crate::model::Resume::Ask => scene.told("ask: <pause> says yes"),
        crate::model::Resume::Off => scene.told("off: parked until <pause>"),
    };
    let mut page = vec![Row::plain(Line::from(vec![
        scene.span("Accounts", Role::Title),
        scene.span(format!("  when a limit clears, resume is {switch}"), Role::Dim),
    ]))];
    for note in &state.accounts.notes {
        let lines = crate::tui::views::paragraph(note, width.saturating_sub(1), 2, scene.style(Role::Warn));
        page.extend(lines.into_iter().map(Row::plain));
    }
    for name in state.account_names() {
        let parked = state.accounts.parked(&name);
        let mut lines = vec![head(scene, &name, parked)];
        if let Some(parked) = parked {
            let text = sentence(scene, &name, parked);
            lines.extend(crate::tui::views::paragraph(&text, width.saturating_sub(1), 2, scene.style(Role::Warn)));
        }
        if let Some(windows) = state.accounts.windows(&name) {
            lines.extend(each(windows).map(|(word, length, w)| bar(scene, (word, length, &w), windows.at, width)));
        }
        page.extend(lines.into_iter().map(|line| Row { item: Some(Item::Account(name.clone())), line }));
    }
    page
}

fn head(scene: &Scene<'_>, name: &AccountName, parked: Option<&Parked>) -> Line<'static> {
    let users: Vec<_> = scene.state.users_of(name).iter().map(ToString::to_string).collect();
    let credential = scene.state.accounts.credential(name);
    let about = if credential.is_observed() { "~ " } else { "" };
    let (mark, word, role) = match parked {
        Some(parked) => {
            let since = text::age(scene.now.duration_since(parked.since));
            (glyph::PARKED, format!("parked for {since}"), Role::Warn)
        }
        None => ("●", "open".to_owned(), Role::Good),
    };
    Line::from(vec![
        scene.span(format!("{mark} "), role),
        scene.span(text::pad(name.as_str(), 20), Role::Title),
        scene.span(format!(" {}", text::pad(&word, 19)), role),
        scene.span(format!(" {about}{}", text::pad(credential.word(), 8)), Role::Dim),
        scene.span(text::fit(&users.join(", "), 24), Role::Text),
    ])
}

/// What holds it, until when, and what follows.
fn sentence(scene: &Scene<'_>, name: &AccountName, parked: &Parked) -> String {
    let mut parts = vec![parked.words().to_owned()];
    let now = scene.now;
    match parked.until {
        Some(until) if until > now => {
            let about = if parked.estimated { "about " } else { "" };
            let moved = parked
                .said
                .map(|said| format!(" (the server now says {}, said {})", moment(scene, until), moment(scene, said)));
            let (at, left) = (moment(scene, until), countdown(scene, until));
            parts.push(format!("until {about}{at}, in {left}{}", moved.unwrap_or_default()));
            let then = match parked.plan(scene.state.accounts.resume) {
                Plan::GoesOn => "then work goes on by itself; <pause> takes that back",
                Plan::Asks => "then you are asked; <pause> plans that it goes on",
                Plan::Stays => "then it waits for you; <pause> plans that it goes on",
            };
            parts.push(scene.told(then));
        }
        Some(until) => {
            let then = scene.told("<pause> lets work go on");
            parts.push(format!("cleared at {}; {then}", moment(scene, until)));
        }
        None => parts.push(scene.state.mending(name, parked)),
    }
    if let Some(task) = parked.task.as_ref().filter(|_| parked.kind.is_some()) {
        parts.push(format!("met by {task}"));
    }
    parts.push(format!("heard {} ago", text::age(now.duration_since(parked.heard))));
    parts.join(" · ")
}

fn bar(
    scene: &Scene<'_>,
    (word, length, window): (&str, SignedDuration, &Window),
    at: Option<Timestamp>,
    width: usize,
) -> Line<'static> {
    let roomy = width >= 90;
    let cells = if roomy { 20 } else { 12 };
    let pace = pace(length, window, scene.now);
    let known = window.at(scene.now);
    let mut spans = vec![scene.span(format!("  {word}  "), Role::Dim)];
    if let Some(used) = known.used.map(|used| f64::from(used) / 1000.0) {
        let role = role(used, pace);
        spans.push(scene.span(gauge(used, 0.0, pace, cells), role));
        spans.push(scene.span(format!(" {:>3.0}%", used * 100.0), role));
        let word = match (pace, roomy) {
            (Some(pace), true) if used > pace + 0.05 => "ahead of pace",
            (Some(pace), false) if used > pace + 0.05 => "ahead",
            (Some(_), true) => "within pace",
            (Some(_), false) => "within",
            (None, _) => "",
        };
        let columns = if roomy { 13 } else { 6 };
        spans.push(scene.span(format!("  {}", text::pad(word, columns)), Role::Dim));
    } else {
        let word = if known == *window { "nothing said of its use" } else { "began anew, nothing said since" };
        spans.push(scene.span(text::pad(word, cells + if roomy { 20 } else { 13 }), Role::Dim));
    }
    if let Some(resets) = known.resets_at {
        let left = format!("  ↻ {} in {}", moment(scene, resets), countdown(scene, resets));
        spans.push(scene.span(left, Role::Text));
    }
    if let Some(at) = at {
        let said = if roomy { "said " } else { "" };
        let age = text::age(scene.now.duration_since(at));
        spans.push(scene.span(format!("  {said}{age} ago"), fresh(scene, at)));
    }
    Line::from(spans)
}

/// The parked accounts in few columns.
pub(super) fn parked(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let mut page = Vec::new();
    for (name, parked) in scene.state.accounts.all_parked() {
        let what = text::fit(&format!("{name}: {}", parked.words()), width.saturating_sub(3));
        let then = match (parked.until, parked.plan(scene.state.accounts.resume)) {
            (Some(until), plan) if until > scene.now => {
                let about = if parked.estimated { "~" } else { "" };
                let then = match plan {
                    Plan::GoesOn => "goes on",
                    Plan::Asks => "asks",
                    Plan::Stays => "stays",
                };
                format!("{about}{}, in {}, then {then}", moment(scene, until), countdown(scene, until))
            }
            (Some(_), _) => scene.told("cleared: <pause> lets work go on"),
            (None, _) => "waits for you".to_owned(),
        };
        let lines = [
            Line::from(scene.span(format!("{} {what}", glyph::PARKED), Role::Warn)),
            Line::from(scene.span(format!("  {}", text::fit(&then, width.saturating_sub(3))), Role::Warn)),
        ];
        page.extend(lines.map(|line| Row { item: Some(Item::Account(name.clone())), line }));
    }
    page
}

/// The windows in few columns; the account is named only where there are several.
pub(super) fn windows(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let known: Vec<_> =
        scene.state.account_names().into_iter().filter(|name| scene.state.accounts.windows(name).is_some()).collect();
    let mut rows = Vec::new();
    for name in &known {
        let Some(windows) = scene.state.accounts.windows(name) else { continue };
        let mut lines = Vec::new();
        if known.len() > 1 {
            lines.push(Line::from(scene.span(text::fit(name.as_str(), width), Role::Dim)));
        }
        for (word, length, window) in each(windows) {
            let window = window.at(scene.now);
            let passed = pace(length, &window, scene.now);
            let used = window.used.map(|used| f64::from(used) / 1000.0);
            let role = used.map_or(Role::Dim, |used| role(used, passed));
            let left = window.resets_at.map(|at| format!(" ↻ {}", countdown(scene, at)));
            let cells = width.saturating_sub(1 + 5 + 5 + 11);
            lines.push(Line::from(vec![
                scene.span(format!("{word}  "), Role::Dim),
                scene.span(gauge(used.unwrap_or_default(), 0.0, passed, cells), role),
                scene.span(used.map_or_else(|| "   ?".to_owned(), |used| format!("{:>4.0}%", used * 100.0)), role),
                scene.span(text::fit(&left.unwrap_or_default(), 11), Role::Dim),
            ]));
        }
        rows.extend(lines.into_iter().map(|line| Row { item: Some(Item::Account(name.clone())), line }));
    }
    rows
}
