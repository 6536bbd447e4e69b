//! One file per view; each turns state into lines or draws them into its rectangle.
//!
//! Must not change anything: a view gets a [`Scene`] of borrowed things and a buffer.

pub mod acts;
pub mod agent;
pub mod agents;
pub mod attached;
pub mod document;
pub mod files;
pub mod find;
pub mod help;
mod helpers;
pub mod inbox;
pub mod leave;
pub mod limits;
pub mod log;
pub mod menu;
pub mod orchestrator;
pub mod palette;
pub mod permit;
pub mod plan;
mod question;
pub mod stage;
pub mod task;
pub mod tasks;

use std::ops::Range;

use jiff::Timestamp;
use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    symbols::border,
    text::{Line, Span},
    widgets::{Block, Clear, Widget},
};

use super::{
    Action, App, glyph,
    layout::Pane,
    text,
    theme::{Role, Theme},
};
use crate::room::State;

/// Everything a view may look at.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The room.
    pub state: &'a State,
    /// Eyes and hands.
    pub app: &'a App,
    /// The time of this frame.
    pub now: Timestamp,
    /// The colours.
    pub theme: &'a Theme,
}

/// A page of text in a window.
pub struct Page {
    /// Its heading.
    pub title: String,
    /// Its lines, wrapped.
    pub lines: Vec<Line<'static>>,
    /// The line that must be seen, where there is one under the hand.
    pub focus: Option<usize>,
    /// What the keys do here.
    pub keys: &'static str,
}

impl Scene<'_> {
    /// The key that does something now.
    pub fn key(&self, action: Action) -> &str {
        self.app.settings().keys.first(action)
    }

    /// A text of ours with the keys that do something now ([`super::keymap::Keys::told`]).
    pub fn told(&self, text: &str) -> String {
        self.app.settings().keys.told(text)
    }

    /// A style by role.
    pub fn style(&self, role: Role) -> Style {
        self.theme.style(role)
    }

    /// A piece of text by role.
    pub fn span(&self, text: impl Into<String>, role: Role) -> Span<'static> {
        Span::styled(text.into(), self.style(role))
    }

    /// `14:02` in the operator's zone.
    pub fn clock(&self, at: Timestamp) -> String {
        at.to_zoned(self.app.settings().zone.clone()).strftime("%H:%M").to_string()
    }

    /// `14:02:31` in the operator's zone.
    pub fn seconds(&self, at: Timestamp) -> String {
        at.to_zoned(self.app.settings().zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// Whether a pane has the keys.
    pub fn has_keys(&self, pane: Pane) -> bool {
        self.app.focus() == pane && !self.app.is_composing() && self.app.popups().is_empty()
    }

    /// Draws a frame and gives what is inside it.
    pub fn frame(&self, buffer: &mut Buffer, area: Rect, focused: bool, title: &str, right: &str) -> Rect {
        let style = self.style(if focused { Role::Focus } else { Role::Dim });
        let room = usize::from(area.width).saturating_sub(4);
        let title = text::fit(title, room);
        let left = room.saturating_sub(text::width(&title) + 2);
        let mut block = Block::bordered().border_set(border::PLAIN).border_style(style).title(Line::from(
            Span::styled(format!(" {title} "), self.style(if focused { Role::Focus } else { Role::Title })),
        ));
        if !right.is_empty() && text::width(right) <= left {
            block = block.title(Line::from(Span::styled(format!(" {right} "), self.style(Role::Dim))).right_aligned());
        }
        let inner = block.inner(area);
        block.render(area, buffer);
        inner
    }

    /// Draws a page in its window, no higher than it needs, from `scroll` or around its focus.
    pub fn page(&self, buffer: &mut Buffer, area: Rect, page: &Page, scroll: usize) {
        let wanted = u16::try_from(page.lines.len() + 4).unwrap_or(u16::MAX);
        let area = Rect { height: area.height.min(wanted), ..area };
        Clear.render(area, buffer);
        let height = usize::from(area.height.saturating_sub(4));
        let shown = if let Some(focus) = page.focus {
            window(page.lines.len(), focus, height)
        } else {
            let top = scroll.min(page.lines.len().saturating_sub(height));
            top..(top + height).min(page.lines.len())
        };
        let place = if page.lines.len() > height {
            format!("{}–{} of {}", shown.start + 1, shown.end, page.lines.len())
        } else {
            String::new()
        };
        let inner = self.frame(buffer, area, true, &page.title, &place);
        let Some(last) = inner.height.checked_sub(1) else { return };
        rows(buffer, Rect { height: last, ..inner }, page.lines.get(shown).unwrap_or_default());
        let told = self.app.settings().keys.retold(page.keys, self.app.places());
        let keys = text::hints(&told, usize::from(inner.width).saturating_sub(1));
        let keys = Line::from(self.span(format!(" {keys}"), Role::Dim));
        rows(buffer, Rect { y: inner.y + last, height: 1, ..inner }, &[keys]);
    }

    /// The mark before a row: under the hand or not.
    pub fn mark(&self, selected: bool) -> Span<'static> {
        if selected { self.span(glyph::SELECTED, Role::Focus) } else { Span::raw(" ") }
    }
}

/// Draws lines one below the other, cut at the right edge.
pub fn rows(buffer: &mut Buffer, area: Rect, lines: &[Line<'_>]) {
    let area = area.intersection(buffer.area);
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        buffer.set_line(area.x, y, line, area.width);
    }
}

/// The part of a list to draw so that `selected` is seen, in the middle where it can be.
pub fn window(len: usize, selected: usize, height: usize) -> Range<usize> {
    let top = selected.saturating_sub(height / 2).min(len.saturating_sub(height));
    top..(top + height).min(len)
}

/// Text wrapped into lines of one style, each with an indent.
pub fn paragraph(text: &str, columns: usize, indent: usize, style: Style) -> Vec<Line<'static>> {
    text::wrap(text, columns.saturating_sub(indent))
        .into_iter()
        .map(|line| Line::from(Span::styled(format!("{}{line}", " ".repeat(indent)), style)))
        .collect()
}
