//! Where a screen's picture comes from: a room, one that is being opened, or a tape.
//!
//! Its one surprise: a tape is never lost, never silent, and refuses every order by itself.

use std::{path::Path, time::Duration};

use jiff::Timestamp;

use super::replay::{Player, reel::Reel};
use crate::{
    attach::{
        AttachError,
        client::{Link, News},
    },
    model::Clock,
    room::{Order, State},
    tui::{Moment, Turn},
};

/// What a screen is drawn from.
#[derive(Debug)]
pub enum Feed {
    /// A room that is being opened, as the configuration says it: nothing is heard of it here.
    Opening(Box<State>),
    /// A room that runs, or the files of a stage that looks like one.
    Room(Box<Link>),
    /// A run that is over, and its logs as they were.
    Tape(Box<Player>, Reel),
}

impl Feed {
    pub(super) fn state(&self) -> &State {
        match self {
            Self::Opening(state) => state,
            Self::Room(link) => link.state(),
            Self::Tape(player, _) => player.state(),
        }
    }

    /// The time of the picture.
    pub(super) fn now(&self, clock: &Clock) -> Timestamp {
        match self {
            Self::Opening(_) | Self::Room(_) => clock.now(),
            Self::Tape(player, _) => player.now(),
        }
    }

    /// The folder that files are read from.
    pub(super) fn folder<'a>(&'a self, stage: &'a Path) -> &'a Path {
        match self {
            Self::Opening(_) | Self::Room(_) => stage,
            Self::Tape(_, reel) => reel.path(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<News, AttachError> {
        match self {
            Self::Opening(_) => std::future::pending().await,
            Self::Room(link) => link.next().await,
            Self::Tape(player, reel) => {
                player.plays().await;
                // Logs that cannot be copied stay as they are; the picture goes on.
                let _short = reel.until(player.now());
                Ok(News::Changed)
            }
        }
    }

    pub(super) fn silent_for(&self) -> Duration {
        match self {
            Self::Room(link) => link.silent_for(),
            Self::Opening(_) | Self::Tape(..) => Duration::ZERO,
        }
    }

    pub(super) async fn send(&mut self, order: Order) -> Result<u64, AttachError> {
        match self {
            Self::Room(link) => link.send(order).await,
            // The screen keeps orders until there is a room, and refuses them while it shows a tape.
            Self::Opening(_) | Self::Tape(..) => Err(AttachError::Closed),
        }
    }

    /// Takes the place of a room that was lost.
    pub fn room(mut link: Link) -> Self {
        link.be_patient();
        Self::Room(Box::new(link))
    }

    /// Moves the tape; true where the folder of the logs is another one now.
    pub(super) fn turn(&mut self, turn: Turn) -> std::io::Result<bool> {
        let Self::Tape(player, reel) = self else { return Ok(false) };
        let back = player.turn(turn);
        if back {
            *reel = reel.rewound()?;
        }
        reel.until(player.now())?;
        Ok(back)
    }

    pub(super) fn moment(&self) -> Option<Moment> {
        match self {
            Self::Opening(_) | Self::Room(_) => None,
            Self::Tape(player, _) => Some(player.moment()),
        }
    }
}
