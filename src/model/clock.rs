//! The wall clock as a value, so that a door never reads it by itself and a test can own it.
//!
//! Its one surprise: the time it tells goes on evenly even while somebody sets the machine's clock. Only a step of more
//! than a minute is followed, once, and [`Reading::shift`] says that it was.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};

/// For so long after the clock was set nothing expires: it may be set again.
pub const DOUBT: SignedDuration = SignedDuration::from_secs(60);

/// A handle that tells the time; made once by the runtime and passed into every door that needs it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Reading + Send + Sync>);

/// What a clock says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time.
    pub now: Timestamp,
    /// By how much it was set, in all, since the process began. A wait that began before a change of this ends that much
    /// later on the clock.
    pub shift: SignedDuration,
}

impl Clock {
    /// Wraps a source of time that nobody sets.
    pub fn new(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::reading(move || Reading { now: source(), shift: SignedDuration::ZERO })
    }

    /// Wraps a source of time that says when it was set.
    pub fn reading(source: impl Fn() -> Reading + Send + Sync + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// A clock that always says `at`.
    pub fn fixed(at: Timestamp) -> Self {
        Self::new(move || at)
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        self.read().now
    }

    /// The time now, and how far it was set.
    pub fn read(&self) -> Reading {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}
