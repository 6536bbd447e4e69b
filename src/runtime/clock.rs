//! The one place that reads the wall clock.

use crate::model::Clock;

/// The system's clock.
pub fn system() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "everybody else is handed this clock")]
    Clock::new(jiff::Timestamp::now)
}
