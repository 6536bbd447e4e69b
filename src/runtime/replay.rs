//! A run that is over, on the same screens: its events in their order, and a clock that goes where one likes.
//!
//! Owns the tape ([`Tape`]), the place on it ([`Player`]) and the logs as they were then ([`reel`]). Must not know how any
//! of it is shown. Its one surprise: a state is never stored with its time; it is made again from the beginning, or from a
//! copy kept on the way, so a replay cannot differ from what the room's own function made of the same events.

pub mod reel;
pub mod tape;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, sleep};

pub use tape::Tape;

use crate::{
    room::State,
    tui::{Moment, Turn},
};

/// Events between two copies of the state.
const APART: usize = 50;
/// Copies kept at most; a longer tape has them further apart.
const COPIES: usize = 16;
/// How often a playing tape moves on.
const TICK: Duration = Duration::from_millis(33);
/// What one seek passes over.
const SEEK: SignedDuration = SignedDuration::from_secs(10);
/// How slow and how fast a tape plays, as powers of two.
const SPEEDS: std::ops::RangeInclusive<i32> = -3..=8;

/// A place on a tape.
#[derive(Debug)]
pub struct Player {
    tape: Tape,
    /// Events that have happened here.
    at: usize,
    now: Timestamp,
    state: State,
    /// The state after so many events.
    copies: Vec<(usize, State)>,
    playing: Option<Instant>,
    speed: i32,
}

impl Player {
    /// At the beginning of a tape.
    pub fn new(tape: Tape) -> Self {
        let (now, state) = (tape.begin(), tape.start().clone());
        Self { tape, at: 0, now, state, copies: Vec::new(), playing: None, speed: 0 }
    }

    /// What there was.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The time here.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// What is said of the place.
    pub fn moment(&self) -> Moment {
        Moment {
            at: self.now,
            begin: self.tape.begin(),
            end: self.tape.end(),
            event: self.at,
            events: self.tape.events().len(),
            playing: self.playing.is_some(),
            speed: self.speed,
            decisions: self.tape.is_of_decisions(),
        }
    }

    /// Does what a key says. True when the place is an earlier one now.
    pub fn turn(&mut self, turn: Turn) -> bool {
        let before = (self.at, self.now);
        match turn {
            Turn::Play => {
                if self.playing.is_none() && self.now >= self.tape.end() {
                    self.seek(self.tape.begin());
                }
                self.playing = if self.playing.is_some() { None } else { Some(Instant::now()) };
            }
            Turn::StepOn => self.step(true),
            Turn::StepBack => self.step(false),
            Turn::SeekOn => self.seek(self.now.saturating_add(SEEK).unwrap_or(self.now)),
            Turn::SeekBack => self.seek(self.now.saturating_sub(SEEK).unwrap_or(self.now)),
            Turn::Start => self.seek(self.tape.begin()),
            Turn::End => self.seek(self.tape.end()),
            Turn::Faster => self.speed = (self.speed + 1).min(*SPEEDS.end()),
            Turn::Slower => self.speed = (self.speed - 1).max(*SPEEDS.start()),
        }
        if self.playing.is_some() {
            self.playing = Some(Instant::now());
        }
        (self.at, self.now) < before
    }

    fn step(&mut self, on: bool) {
        self.playing = None;
        let to = if on { (self.at + 1).min(self.tape.events().len()) } else { self.at.saturating_sub(1) };
        self.go(to);
        self.now = to.checked_sub(1).and_then(|last| self.tape.time(last)).unwrap_or(self.tape.begin());
    }

    /// To a moment: everything that had happened by then has happened.
    pub fn seek(&mut self, to: Timestamp) {
        self.now = to.clamp(self.tape.begin(), self.tape.end());
        self.go(self.tape.until(self.now));
    }

    /// To where so many events have happened.
    fn go(&mut self, to: usize) {
        if to < self.at {
            let copy = self.copies.iter().rev().find(|(at, _)| *at <= to);
            (self.at, self.state) = copy.cloned().unwrap_or_else(|| (0, self.tape.start().clone()));
        }
        let apart = APART.max(self.tape.events().len() / COPIES);
        while self.at < to {
            let Some(event) = self.tape.events().get(self.at) else { break };
            // A replay drops the effects, as every screen does.
            drop(self.state.update(event.clone()));
            self.at += 1;
            if self.at.is_multiple_of(apart) && self.copies.last().is_none_or(|(at, _)| *at < self.at) {
                self.copies.push((self.at, self.state.clone()));
            }
        }
    }

    /// Waits until the tape has moved on by itself.
    pub async fn plays(&mut self) {
        let Some(since) = self.playing else { return std::future::pending().await };
        sleep(TICK).await;
        let passed = since.elapsed();
        self.playing = Some(since + passed);
        let passed = SignedDuration::try_from(passed.mul_f64(2_f64.powi(self.speed))).unwrap_or_default();
        self.seek(self.now.saturating_add(passed).unwrap_or(self.now));
        if self.now >= self.tape.end() {
            self.playing = None;
        }
    }
}

#[cfg(test)]
mod tests;
