//! Colours by role: a view names what it means, the theme says how that looks.
//!
//! The one theme there is uses the terminal's own sixteen colours, so that it fits dark and light alike. Without colour
//! the roles differ by bold, dim and reverse; what they mean is always also in a glyph or a word.

use ratatui::style::{Color, Modifier, Style};

use crate::room::{Voice, tasks::Phase};

/// What a piece of the screen means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Plain text.
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
    /// The row under the hand.
    Selected,
    /// A heading.
    Title,
    /// A badge nobody should miss.
    Badge,
    /// A hit of the search.
    Hit,
}

/// How roles look.
#[derive(Debug, Clone, Copy)]
pub struct Theme {
    color: bool,
}

impl Theme {
    /// The default theme, or the one without colour.
    pub fn new(color: bool) -> Self {
        Self { color }
    }

    /// How a role looks.
    pub fn style(self, role: Role) -> Style {
        let (color, modifier) = match role {
            Role::Text => (None, Modifier::empty()),
            Role::Dim => (None, Modifier::DIM),
            Role::Running => (Some(Color::Green), Modifier::BOLD),
            Role::Ready => (Some(Color::Cyan), Modifier::empty()),
            Role::Good => (Some(Color::Green), Modifier::empty()),
            Role::Warn => (Some(Color::Yellow), Modifier::BOLD),
            Role::Bad => (Some(Color::Red), Modifier::BOLD),
            Role::Focus => (Some(Color::Cyan), Modifier::BOLD),
            Role::Accent => (Some(Color::Magenta), Modifier::empty()),
            Role::Selected => (None, Modifier::REVERSED),
            Role::Title => (None, Modifier::BOLD),
            Role::Badge => (Some(Color::Yellow), Modifier::BOLD.union(Modifier::REVERSED)),
            Role::Hit => (Some(Color::Yellow), Modifier::REVERSED),
        };
        let style = Style::new().add_modifier(modifier);
        match color {
            Some(color) if self.color => style.fg(color),
            Some(_) | None => style,
        }
    }

    /// How a task's state looks.
    pub fn phase(self, phase: Phase) -> Style {
        self.style(match phase {
            Phase::Failed => Role::Bad,
            Phase::Running => Role::Running,
            Phase::Ready => Role::Ready,
            Phase::Asking | Phase::Retrying => Role::Warn,
            Phase::Waiting | Phase::Dropped => Role::Dim,
            Phase::Done => Role::Good,
        })
    }

    /// How a voice in the orchestrator's pane looks.
    pub fn voice(self, voice: Voice) -> Style {
        self.style(match voice {
            Voice::You => Role::Accent,
            Voice::Plan => Role::Ready,
            Voice::Report => Role::Good,
            Voice::Room => Role::Dim,
        })
    }
}
