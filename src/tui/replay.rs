//! A run that is over, on screen: the place on its tape, and the keys that move it.

use jiff::Timestamp;
use ratatui::{buffer::Buffer, layout::Rect, text::Line};

use super::{
    Action, App, glyph, text,
    theme::Role,
    views::{Scene, rows},
};

/// What a key does with the tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Let it play, or hold it.
    Play,
    /// One event on.
    StepOn,
    /// One event back.
    StepBack,
    /// Ten seconds on.
    SeekOn,
    /// Ten seconds back.
    SeekBack,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// To its beginning.
    Start,
    /// To its end.
    End,
}

/// A place on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time there.
    pub at: Timestamp,
    /// When the tape begins.
    pub begin: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// Events that have happened there.
    pub event: usize,
    /// Events of the tape.
    pub events: usize,
    /// Whether it moves by itself.
    pub playing: bool,
    /// How fast, as a power of two.
    pub speed: i32,
    /// It was put together from decisions, files and the ledger, and knows of no processes.
    pub decisions: bool,
}

impl App {
    /// What is shown is this moment of a run that is over.
    pub fn at_moment(&mut self, moment: Moment) {
        self.moment = Some(moment);
    }

    /// The moment that is shown, of a run that is over.
    pub fn moment(&self) -> Option<&Moment> {
        self.moment.as_ref()
    }
}

/// What a verb does with the tape; `None` where it is no matter of the tape.
pub(super) fn turn(action: Action) -> Option<Turn> {
    Some(match action {
        Action::Play => Turn::Play,
        Action::StepOn => Turn::StepOn,
        Action::StepBack => Turn::StepBack,
        Action::SeekOn => Turn::SeekOn,
        Action::SeekBack => Turn::SeekBack,
        Action::Faster => Turn::Faster,
        Action::Slower => Turn::Slower,
        Action::TapeStart => Turn::Start,
        Action::TapeEnd => Turn::End,
        _ => return None,
    })
}

/// Draws the tape in the place of the hints.
pub(super) fn draw(scene: &Scene<'_>, buffer: &mut Buffer, area: Rect, moment: &Moment) {
    let mark = if moment.playing { glyph::phase(crate::room::tasks::Phase::Running) } else { glyph::PAUSED };
    let speed = match moment.speed {
        0 => "1×".to_owned(),
        fast @ 1.. => format!("{}×", 1_u32 << fast.min(16)),
        slow => format!("1/{}×", 1_u32 << slow.unsigned_abs().min(16)),
    };
    let passed = moment.at.duration_since(moment.begin);
    let whole = moment.end.duration_since(moment.begin);
    let share = if whole.is_zero() { 1.0 } else { passed.as_secs_f64() / whole.as_secs_f64() };
    let width = usize::from(area.width);
    let mut spans = vec![
        scene.span(format!(" {mark} {speed} "), Role::Badge),
        scene.span(format!(" {} UTC ", scene.seconds(moment.at)), Role::Title),
        scene.span(glyph::gauge(share, (width / 8).clamp(6, 24)), Role::Accent),
        scene.span(format!(" {} of {}", text::elapsed(passed), text::elapsed(whole)), Role::Text),
        scene.span(format!("  event {} of {} ", moment.event, moment.events), Role::Dim),
    ];
    let pair = |a, b| format!("{}{}", scene.key(a), scene.key(b));
    let both = |a, b| format!("{} {}", scene.key(a), scene.key(b));
    let hints = [
        (scene.key(Action::Play).to_owned(), if moment.playing { "hold" } else { "play" }),
        (both(Action::SeekBack, Action::SeekOn), "10 s"),
        (pair(Action::StepBack, Action::StepOn), "event"),
        (pair(Action::Slower, Action::Faster), "speed"),
        (both(Action::TapeStart, Action::TapeEnd), "ends"),
        (scene.key(Action::Help).to_owned(), "help"),
        (scene.key(Action::Leave).to_owned(), "leave"),
    ];
    let mut used: usize = spans.iter().map(|span| text::width(&span.content)).sum();
    for (key, word) in hints {
        used += text::width(&key) + word.len() + 3;
        if used > width {
            break;
        }
        spans.push(scene.span(format!(" {key}"), Role::Accent));
        spans.push(scene.span(format!(" {word} "), Role::Dim));
    }
    rows(buffer, area, &[Line::from(spans)]);
}
