//! The screen: eyes and hands of the operator.
//!
//! Owns [`App`] (focus, selection, scrolling, popups, the composer), [`draw()`] and the terminal's modes. Must not know
//! files, sockets or processes: what a key asks of the world goes back as a [`Wish`]. Its one surprise: a draw borrows
//! state and app and writes nothing back, so everything that depends on sizes is worked out from the last resize by one
//! function that keys and drawing share ([`layout`]).

pub mod action;
pub mod app;
pub mod attached;
pub mod composer;
pub mod draw;
pub mod find;
pub mod glyph;
pub mod keymap;
pub mod layout;
pub mod log;
pub mod popup;
pub mod replay;
pub mod svg;
pub mod taste;
pub mod terminal;
pub mod text;
pub mod theme;
pub mod views;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scripts;
#[cfg(test)]
mod tests;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

pub use action::Action;
pub use app::App;
pub use draw::draw;
pub use find::Search;
pub use keymap::Keys;
pub use log::{Ask, Kind};
pub use popup::Document;
pub use replay::{Moment, Turn};
pub use theme::Theme;

use crate::{
    model::{
        AgentName, Quiet, TaskRef,
        log::{LogHit, LogRange},
    },
    room::Order,
};

/// How the screen looks; nothing here changes what it does.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only ASCII reaches the terminal.
    pub ascii: bool,
    /// How roles look.
    pub theme: Theme,
    /// Which keys do what.
    pub keys: Keys,
    /// The mouse works from the start.
    pub mouse: bool,
    /// The operator's time zone.
    pub zone: TimeZone,
    /// What is said first: what the terminal lacks, what is wrong in the operator's files.
    pub words: Vec<String>,
    /// How the operator is called.
    pub attention: Attention,
}

/// How the operator is called when something waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attention {
    /// The terminal's bell rings.
    pub bell: bool,
    /// The terminal shows a word on the desktop.
    pub desktop: Desktop,
    /// When nobody is called.
    pub quiet: Option<Quiet>,
}

impl Default for Attention {
    fn default() -> Self {
        Self { bell: true, desktop: Desktop::Off, quiet: None }
    }
}

/// In which words the terminal is asked for a word on the desktop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Desktop {
    /// Not at all.
    #[default]
    Off,
    /// OSC 9, as many terminals understand it.
    Osc9,
    /// OSC 777, as foot and urxvt understand it.
    Osc777,
}

impl Desktop {
    /// Reads `off`, `osc9` or `osc777`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "off" => Some(Self::Off),
            "osc9" => Some(Self::Osc9),
            "osc777" => Some(Self::Osc777),
            _ => None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ascii: false,
            theme: Theme::default(),
            keys: Keys::default(),
            mouse: false,
            zone: TimeZone::UTC,
            words: Vec::new(),
            attention: Attention::default(),
        }
    }
}

/// How the screen is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// The screen closes, room and agents go on.
    Detach,
    /// The room ends what runs and closes too.
    StopEverything,
}

/// What the operator's hands ask of the world.
#[derive(Debug, Clone, PartialEq)]
pub enum Wish {
    /// Give this order to the room; [`App::answered`] is told what came of it.
    Order(Order),
    /// Close the screen.
    Quit(Leave),
    /// Read this part of a log, and go on as it grows where it reaches its end; whatever was read before is of no interest
    /// any more. [`App::log_read`] is told. `None`: read nothing.
    ReadLog(Option<Ask>),
    /// Search through logs; the search before ends. [`App::found`] is told. `None`: only end it.
    Search(Option<Search>),
    /// Read the lines around this one; [`App::beside_read`] is told.
    Beside(Box<LogHit>),
    /// Copy these lines into a file and into the clipboard; [`App::copied`] is told.
    CopyLog(LogRange),
    /// Show these lines in a program that gets the terminal for as long as it runs.
    OpenLog(LogRange, Guest),
    /// Let the operator change this text in a program that gets the terminal; [`App::text_edited`] is told.
    EditText(String),
    /// Read this file; [`App::document_read`] is told.
    Read(Document),
    /// Put this into the clipboard (OSC 52).
    Copy(String),
    /// Read the entries of this folder of the stage; [`App::folder_read`] is told.
    List(String),
    /// Read the templates of goals; [`App::templates_read`] is told.
    ReadTemplates,
    /// Read the whole text of this task; [`App::task_read`] is told.
    ReadTask(TaskRef),
    /// Look at the login in this agent's home; [`App::login_read`] is told.
    ReadLogin(AgentName),
    /// Open this agent's own CLI in its home, in a pane; [`App::attached_to`] is told.
    Attach(AgentName),
    /// Type this into the CLI.
    Type(Vec<u8>),
    /// End the CLI; [`App::attached_ended`] is told.
    Detach,
    /// Move the tape of a run that is over; [`App::at_moment`] is told.
    Turn(Turn),
    /// Clear the terminal and draw everything.
    Redraw,
    /// Let the terminal report the mouse, or not.
    Mouse(bool),
}

/// A program of the operator's that gets the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Guest {
    /// `$PAGER`.
    Pager,
    /// `$EDITOR`.
    Editor,
}

/// Whether the room is heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// It has not answered yet; what is on screen is what the configuration says.
    Opening,
    /// Events arrive as they happen.
    Connected,
    /// The connection holds and the room says nothing, as when its process is stopped.
    Silent {
        /// Since when.
        since: Timestamp,
        /// Its process id.
        pid: u32,
    },
    /// What is on screen is as old as this.
    Lost {
        /// Since when.
        since: Timestamp,
        /// Why, as far as it is known.
        why: String,
    },
    /// The same, and the room has given up the server over which it was shown.
    Left {
        /// Since when.
        since: Timestamp,
        /// The server.
        address: String,
    },
}
