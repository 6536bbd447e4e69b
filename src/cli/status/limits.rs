//! Accounts and buckets of `podium status`: what is left, who says so, and how old that is.

use jiff::Timestamp;

use super::super::out::Paint;
use crate::{
    model::{
        gateway::{Dimension, Level},
        limit::{OwnLimit, Window, Windows},
        text,
    },
    room::{State, why::span},
};

type Row = Vec<(Paint, String)>;

fn ago(at: Timestamp, now: Timestamp) -> String {
    format!("said {} ago", span(now.duration_since(at)))
}

/// Every account: who uses it, how it stands, and its windows.
pub(super) fn accounts(state: &State, now: Timestamp) -> Vec<Row> {
    let mut rows = Vec::new();
    for name in state.account_names() {
        let users: Vec<_> = state.users_of(&name).iter().map(ToString::to_string).collect();
        let credential = state.accounts.credential(&name);
        let parked = state.accounts.parked(&name);
        let (paint, how) = match parked {
            None => (Paint::Good, "open".to_owned()),
            Some(parked) => {
                let left = parked.until.filter(|until| *until > now).map(|until| span(until.duration_since(now)));
                let about = if parked.estimated { "about " } else { "" };
                let left = left.map_or_else(String::new, |left| format!(" for {about}{left}"));
                (Paint::Warn, format!("parked{left}: {}", text::first_line(parked.words(), 80)))
            }
        };
        rows.push(vec![
            (Paint::Bold, name.to_string()),
            (Paint::Plain, users.join(", ")),
            (Paint::Dim, credential.word().to_owned()),
            (paint, how),
            (Paint::Plain, state.accounts.windows(&name).map(|known| windows(known, now)).unwrap_or_default()),
        ]);
    }
    rows
}

/// `5 h 58 % ↻ in 38 min · 7 d 12 % ↻ in 3 d · said 2 min ago`.
fn windows(windows: &Windows, now: Timestamp) -> String {
    let window = |word: &str, window: Option<Window>| {
        let window = window?.at(now);
        let used = window.used.map_or_else(|| "?".to_owned(), |used| format!("{} %", used / 10));
        let resets = window.resets_at.map(|at| format!(" ↻ in {}", span(at.duration_since(now)))).unwrap_or_default();
        Some(format!("{word} {used}{resets}"))
    };
    let each = [window("5 h", windows.five_hour), window("7 d", windows.seven_day), windows.at.map(|at| ago(at, now))];
    each.into_iter().flatten().collect::<Vec<_>>().join(" · ")
}

/// Every bucket in use, and what was set for groups without one.
pub(super) fn buckets(state: &State, now: Timestamp) -> Vec<Row> {
    let used = state.levels.buckets.iter().map(|level| bucket(level, now));
    let in_use = |group: &str| state.levels.buckets.iter().any(|level| level.group.split(' ').next() == Some(group));
    let others =
        state.own_limits.iter().filter(|(group, _)| !in_use(group)).flat_map(|(group, own)| unused(group, own));
    used.chain(others).collect()
}

fn bucket(level: &Level, now: Timestamp) -> Row {
    let percent = (level.level.min(level.limit) * 100).checked_div(level.limit).unwrap_or_default();
    let paint = if percent < 10 { Paint::Warn } else { Paint::Plain };
    let source = match (level.own, level.learned) {
        (Some(own), _) if own == level.limit => "set by you",
        (Some(_), _) => "the server allows less than you set",
        (None, true) => "the server's limit",
        (None, false) => "~ the limit is a guess",
    };
    let said = level
        .server
        .map_or_else(|| "the server said nothing".to_owned(), |(left, at)| format!("{left} left {}", ago(at, now)));
    vec![
        (Paint::Plain, level.group.clone()),
        (Paint::Plain, level.dimension.word().to_owned()),
        (paint, format!("{percent} % left")),
        (Paint::Dim, format!("{} of {} per minute", level.level, level.limit)),
        (Paint::Dim, source.to_owned()),
        (Paint::Dim, said),
    ]
}

fn unused(group: &str, own: &OwnLimit) -> Vec<Row> {
    let each = [Dimension::Requests, Dimension::Input, Dimension::Output];
    let row = |dimension: Dimension| {
        let own = own.of(dimension)?;
        Some(vec![
            (Paint::Plain, group.to_owned()),
            (Paint::Plain, dimension.word().to_owned()),
            (Paint::Plain, "no call yet".to_owned()),
            (Paint::Dim, format!("at most {own} per minute")),
            (Paint::Dim, "set by you".to_owned()),
        ])
    };
    each.into_iter().filter_map(row).collect()
}
