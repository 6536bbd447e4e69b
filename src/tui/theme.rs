//! Colours by role: a view names what it means, the theme says how that looks.
//!
//! Themes are data ([`super::taste`] reads them); four are built in. Without colour the roles differ by bold, dim and
//! reverse; what they mean is always also in a glyph or a word.

use ratatui::{
    buffer::Buffer,
    style::{Color, Style},
};

use super::taste::{Depth, shown, theme};
use crate::{
    model::slip::Slip,
    room::{Voice, tasks::Phase},
};

/// What a piece of the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Plain text, and the ground of the whole screen.
    Text,
    /// Of less weight.
    Dim,
    /// At work.
    Running,
    /// May start.
    Ready,
    /// Ended well.
    Good,
    /// Wants a look.
    Warn,
    /// Is wrong.
    Bad,
    /// Where the keys go.
    Focus,
    /// Names and keys.
    Accent,
    /// The row under the hand: its ground and its manner; its inks are those of what it says.
    Selected,
    /// A heading.
    Title,
    /// A badge nobody should miss.
    Badge,
    /// A hit of the search.
    Hit,
}

impl Role {
    /// All, each with its name in a theme.
    pub const ALL: [(Self, &'static str); 13] = [
        (Self::Text, "text"),
        (Self::Dim, "dim"),
        (Self::Running, "running"),
        (Self::Ready, "ready"),
        (Self::Good, "good"),
        (Self::Warn, "warn"),
        (Self::Bad, "bad"),
        (Self::Focus, "focus"),
        (Self::Accent, "accent"),
        (Self::Selected, "selected"),
        (Self::Title, "title"),
        (Self::Badge, "badge"),
        (Self::Hit, "hit"),
    ];
}

/// The themes that are built in, by name; the first is the default.
pub const BUILT_IN: [(&str, &str); 4] = [
    ("terminal", include_str!("../../assets/themes/terminal.toml")),
    ("dark", include_str!("../../assets/themes/dark.toml")),
    ("light", include_str!("../../assets/themes/light.toml")),
    ("contrast", include_str!("../../assets/themes/contrast.toml")),
];

/// How roles look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Theme {
    styles: [Style; Role::ALL.len()],
    depth: Depth,
}

impl Default for Theme {
    fn default() -> Self {
        Self::built_in("terminal", Depth::Sixteen).unwrap_or_else(Self::bare)
    }
}

impl Theme {
    /// Every role as plain text: what a theme is built on.
    pub(super) fn bare() -> Self {
        Self { styles: [Style::new(); Role::ALL.len()], depth: Depth::Sixteen }
    }

    /// The default without its colours.
    pub fn plain() -> Self {
        let mut theme = Self { depth: Depth::None, ..Self::default() };
        for style in &mut theme.styles {
            (style.fg, style.bg) = (None, None);
        }
        theme
    }

    /// A theme that is built in, for a terminal of this many colours.
    pub fn built_in(name: &str, depth: Depth) -> Option<Self> {
        let text = BUILT_IN.iter().find(|(known, _)| *known == name)?.1;
        if depth == Depth::None {
            return Some(Self::plain());
        }
        let mut theme = Self { depth, ..Self::bare() };
        // A test reads all of them without a slip.
        let _slips = theme::read(name, text, depth, &mut theme);
        Some(theme)
    }

    /// A theme of the operator's; what is wrong in it is as in the theme that it is built on.
    pub fn read(file: &str, text: &str, depth: Depth) -> (Self, Vec<Slip>) {
        let mut theme = Self { depth, ..Self::default() };
        let slips = theme::read(file, text, depth, &mut theme);
        if depth == Depth::None { (Self::plain(), slips) } else { (theme, slips) }
    }

    /// How a role looks. The ground of text is the screen's ([`Theme::ground`]): a row under the hand has its own.
    pub fn style(&self, role: Role) -> Style {
        let style = self.written(role);
        if role == Role::Text { Style { bg: None, ..style } } else { style }
    }

    /// A colour that somebody else has chosen, as this terminal can show it.
    pub fn shown(&self, color: Color) -> Color {
        if self.depth == Depth::None { Color::Reset } else { shown(color, self.depth) }
    }

    /// A role as the theme says it.
    pub(super) fn written(&self, role: Role) -> Style {
        self.styles.get(role as usize).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, role: Role, style: Style) {
        if let Some(place) = self.styles.get_mut(role as usize) {
            *place = style;
        }
    }

    /// Gives every cell that has no colour of its own the theme's ground and ink.
    pub fn ground(&self, buffer: &mut Buffer) {
        let Style { fg, bg, .. } = self.written(Role::Text);
        for cell in &mut buffer.content {
            if let Some(fg) = fg.filter(|_| cell.fg == Color::Reset) {
                cell.fg = fg;
            }
            if let Some(bg) = bg.filter(|_| cell.bg == Color::Reset) {
                cell.bg = bg;
            }
        }
    }

    /// How a task's state looks.
    pub fn phase(&self, phase: Phase) -> Style {
        self.style(match phase {
            Phase::Failed => Role::Bad,
            Phase::Running => Role::Running,
            Phase::Ready => Role::Ready,
            Phase::Asking | Phase::Retrying | Phase::Paused => Role::Warn,
            Phase::Waiting | Phase::Dropped => Role::Dim,
            Phase::Done => Role::Good,
        })
    }

    /// How a voice in the orchestrator's pane looks.
    pub fn voice(&self, voice: Voice) -> Style {
        self.style(match voice {
            Voice::You => Role::Accent,
            Voice::Plan => Role::Ready,
            Voice::Report => Role::Good,
            Voice::Room => Role::Dim,
        })
    }
}
