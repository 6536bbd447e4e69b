//! One frame without a terminal: the same app, the same drawing, what it asks to read read at once.
//!
//! Its one surprise: whatever else it asks for, orders above all, is not granted; a picture changes nothing.

use std::{collections::VecDeque, path::Path};

use anyhow::Context as _;
use crossterm::event::KeyEvent;
use jiff::Timestamp;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};

use super::documents;
use crate::{
    logs::Stream,
    room::State,
    tui::{self, Action, App, Moment, Wish, keymap::Chord},
};

/// What is shown, and where from.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What there is.
    pub state: &'a State,
    /// The time of the picture.
    pub now: Timestamp,
    /// Where logs lie.
    pub logs: &'a Path,
    /// Where reports lie.
    pub stage: &'a Path,
    /// The place on a tape, where it is one.
    pub moment: Option<Moment>,
}

/// Wishes that are granted for one frame.
const MOST: usize = 64;

/// Draws a frame of this size, after these verbs and keys.
pub fn draw(
    subject: Subject<'_>,
    settings: tui::Settings,
    size: (u16, u16),
    verbs: &[Action],
    keys: &[Chord],
) -> anyhow::Result<Buffer> {
    let Subject { state, now, .. } = subject;
    let mut app = App::new(settings);
    app.resize(size.0, size.1);
    if let Some(moment) = subject.moment {
        app.at_moment(moment);
    }
    let wishes = app.observe(state);
    grant(&mut app, subject, wishes);
    for verb in verbs {
        let wishes = app.act(*verb, state);
        grant(&mut app, subject, wishes);
    }
    for key in keys {
        let wishes = app.key(KeyEvent::new(key.code, key.modifiers), state);
        grant(&mut app, subject, wishes);
    }
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).context("could not draw")?;
    terminal.draw(|frame| tui::draw(state, &app, now, frame)).context("could not draw")?;
    Ok(terminal.backend().buffer().clone())
}

fn grant(app: &mut App, subject: Subject<'_>, wishes: Vec<Wish>) {
    let mut wishes = VecDeque::from(wishes);
    for _ in 0..MOST {
        let Some(wish) = wishes.pop_front() else { return };
        match wish {
            Wish::ReadLog(Some(ask)) => {
                let mut stream = Stream::open(subject.logs, ask.reading);
                let part = stream.load(&ask.from, &|| false);
                app.log_read(ask.id, part, subject.state);
                wishes.extend(app.observe(subject.state));
            }
            Wish::Read(document) => {
                let read = documents::read(subject.stage, &document);
                app.document_read(&document, read.as_deref().map_err(String::as_str));
            }
            _ => {}
        }
    }
}

/// A frame as lines of text.
pub fn text(buffer: &Buffer) -> String {
    let mut out = String::new();
    for row in buffer.content.chunks(usize::from(buffer.area.width).max(1)) {
        let (mut line, mut skip) = (String::new(), 0);
        for cell in row {
            if skip > 0 {
                skip -= 1;
                continue;
            }
            line.push_str(cell.symbol());
            skip = tui::text::width(cell.symbol()).saturating_sub(1);
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
