//! Limits and money: what is left before somebody has to wait, who waits already, and what it has cost.
//!
//! Owns the order of the parts and what is under the hand. Each part is a list of rows, and a row may belong to an account
//! or to a model group that keys act on. Its one surprise: the small panel of the stage is the same list, made for fewer
//! columns and with what holds somebody up first.

mod accounts;
mod buckets;
mod money;
mod server;

use jiff::{SignedDuration, Timestamp};
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    text::{Line, Span},
};

use super::{Scene, rows, window};
use crate::{
    model::AccountName,
    tui::{layout::Pane, theme::Role},
};

pub use buckets::strip;

/// From here on there is room for whole sentences.
const WIDE: usize = 70;

/// What somebody said longer ago than this is shown with less weight.
const STALE: SignedDuration = SignedDuration::from_secs(30);

/// What keys act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An account.
    Account(AccountName),
    /// The buckets of a model group.
    Group(String),
}

/// One line of the pane.
pub struct Row {
    /// What it belongs to.
    pub item: Option<Item>,
    /// What it says; the first column is the hand's.
    line: Line<'static>,
}

impl Row {
    fn plain(line: Line<'static>) -> Self {
        Self { item: None, line }
    }
}

/// Everything there is to say in so many columns.
pub fn page(scene: &Scene<'_>, width: usize) -> Vec<Row> {
    let mut page = Vec::new();
    let is_shut = scene.state.server.as_ref().is_some_and(|server| server.shut().is_some());
    let server = || server::wide(scene, width).into_iter().map(Row::plain);
    if width >= WIDE {
        if is_shut {
            page.extend(server());
            page.push(Row::plain(Line::default()));
        }
        page.extend(accounts::wide(scene, width));
        page.push(Row::plain(Line::default()));
        page.extend(buckets::wide(scene, width));
        page.push(Row::plain(Line::default()));
        page.extend(money::wide(scene, width).into_iter().map(Row::plain));
        if !is_shut {
            page.extend(server());
        }
    } else {
        page.extend(accounts::parked(scene, width));
        page.extend(server::narrow(scene, width).into_iter().map(Row::plain));
        page.extend(buckets::narrow(scene, width));
        page.extend(accounts::windows(scene, width));
        page.extend(money::narrow(scene, width).into_iter().map(Row::plain));
    }
    page
}

/// What is under the hand: what the row belongs to, else the row before it.
pub fn item(rows: &[Row], at: usize) -> Option<&Item> {
    rows.get(..=at.min(rows.len().checked_sub(1)?))?.iter().rev().find_map(|row| row.item.as_ref())
}

/// Draws the pane.
pub fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect) {
    let keys = scene.has_keys(Pane::Limits);
    let width = usize::from(area.width.saturating_sub(2));
    let page = page(scene, width);
    let height = usize::from(area.height.saturating_sub(2));
    let at = scene.app.limits_row().min(page.len().saturating_sub(1));
    let shown = window(page.len(), at, height);
    let right = if page.len() > height && keys {
        format!("{}–{} of {}", shown.start + 1, shown.end, page.len())
    } else {
        "what is left".to_owned()
    };
    let inner = scene.frame(buffer, area, keys, "Limits · money", &right);
    let hand = |n: usize, row: &Row| {
        let mut line = row.line.clone();
        if keys && n == at {
            line.spans.insert(0, scene.mark(true));
        } else {
            line.spans.insert(0, Span::raw(" "));
        }
        line
    };
    let lines: Vec<_> =
        page.iter().enumerate().skip(shown.start).take(shown.len()).map(|(n, row)| hand(n, row)).collect();
    rows(buffer, inner, &lines);
}

/// A gauge of `cells` cells: `full` of it, then `held` of it that others have a claim on, and a mark.
fn gauge(full: f64, held: f64, mark: Option<f64>, cells: usize) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the number of cells")]
    let of = |share: f64| (share.clamp(0.0, 1.0) * cells as f64).round() as usize;
    let (free, end) = (of(full - held), of(full));
    let mark = mark.map(|mark| of(mark).min(cells.saturating_sub(1)));
    let cell = |n: usize| match n {
        n if mark == Some(n) => '│',
        n if n < free => '█',
        n if n < end => '▒',
        _ => '░',
    };
    (0..cells).map(cell).collect()
}

/// A time that is still to come: `2 d 3 h`, `1:38:12`, `0:42`.
fn countdown(scene: &Scene<'_>, until: Timestamp) -> String {
    let left = until.duration_since(scene.now);
    match left.as_hours() {
        ..48 => crate::tui::text::elapsed(left),
        hours => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// A time of today by its hour, another day's with its date too.
fn moment(scene: &Scene<'_>, at: Timestamp) -> String {
    let zone = &scene.app.settings().zone;
    let (at, now) = (at.to_zoned(zone.clone()), scene.now.to_zoned(zone.clone()));
    let format = if at.date() == now.date() { "%H:%M" } else { "%d %b %H:%M" };
    at.strftime(format).to_string()
}

/// How a word looks that was said at `at`.
fn fresh(scene: &Scene<'_>, at: Timestamp) -> Role {
    if scene.now.duration_since(at) > STALE { Role::Dim } else { Role::Text }
}
