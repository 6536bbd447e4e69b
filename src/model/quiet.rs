//! Hours in which nobody is called.

use std::fmt;

use jiff::{Timestamp, civil::Time, tz::TimeZone};

/// From when to when nobody is called, by the clock on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quiet {
    /// From.
    pub from: Time,
    /// To; before `from`, it is that of the next day.
    pub to: Time,
}

impl Quiet {
    /// Reads `22:00-07:00`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "two times of day such as \"22:00-07:00\"".to_owned();
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_e| wrong());
        Ok(Self { from: time(from)?, to: time(to)? })
    }

    /// Whether it is quiet then.
    pub fn holds(self, at: Timestamp, zone: &TimeZone) -> bool {
        let now = at.to_zoned(zone.clone()).time();
        if self.from <= self.to { self.from <= now && now < self.to } else { self.from <= now || now < self.to }
    }
}

impl fmt::Display for Quiet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: Time| format!("{:02}:{:02}", time.hour(), time.minute());
        write!(f, "{}-{}", time(self.from), time(self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_hours_may_go_over_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let holds = |quiet: &str, at| Quiet::parse(quiet).unwrap().holds(at, &TimeZone::UTC);
        for (time, night, day) in [
            ("2026-11-22T21:59:59Z", false, false),
            ("2026-11-22T22:00:00Z", true, false),
            ("2026-11-23T06:59:00Z", true, false),
            ("2026-11-23T07:00:00Z", false, false),
            ("2026-11-23T12:30:00Z", false, true),
        ] {
            assert_eq!((holds("22:00-07:00", at(time)), holds("12:00-13:00", at(time))), (night, day), "{time}");
        }
        assert!(Quiet::parse("22-7").is_err() && Quiet::parse("25:00-07:00").is_err());
        assert_eq!(Quiet::parse(" 22:00 - 07:05").unwrap().to_string(), "22:00-07:05");
    }
}
