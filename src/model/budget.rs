//! Budgets: what a task, a goal and a day may cost, and the sentence that says when one is used up.
//!
//! Owns caps and that sentence, which goes out as a refusal of the gateway and is read again from what an engine says
//! about it. Must not know who counts. Its one surprise: a cap of nothing is no cap.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Ending, GoalId, MicroUsd, TaskRef};

/// What has a budget.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Payer {
    /// All calls of one day, UTC.
    Day,
    /// A goal: the orchestrator's calls for it and those of its tasks.
    Goal(GoalId),
    /// A task, all its attempts.
    Task(TaskRef),
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day => f.write_str("day"),
            Self::Goal(goal) => write!(f, "goal {goal}"),
            Self::Task(task) => write!(f, "task {task}"),
        }
    }
}

impl FromStr for Payer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("{text:?} has no budget");
        match text.split_once(' ') {
            None if text == "day" => Ok(Self::Day),
            Some(("goal", goal)) => goal.parse().map(Self::Goal).map_err(|_e| none()),
            Some(("task", task)) => task.parse().map(Self::Task).map_err(|_e| none()),
            None | Some(_) => Err(none()),
        }
    }
}

impl Serialize for Payer {
    fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
        sink.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Payer {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        String::deserialize(source)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What becomes of attempts that run when a budget is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtCap {
    /// They are ended, and their calls are refused: the cap holds.
    #[default]
    End,
    /// They may finish; only nothing more is started.
    Finish,
}

impl AtCap {
    /// The word in `podium.toml`.
    pub fn word(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Finish => "finish",
        }
    }
}

/// The caps in force where a task or goal has none of its own; `None` = without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caps {
    /// Of a task.
    pub task: Option<MicroUsd>,
    /// Of a goal.
    pub goal: Option<MicroUsd>,
    /// Of a day.
    pub day: Option<MicroUsd>,
    /// What happens at 100 %.
    pub at_cap: AtCap,
}

impl Caps {
    /// The share of a cap, in percent, at which a person is warned.
    pub const WARN_AT: i64 = 80;

    /// Up to where a plan of a goal with this cap may be approved by itself.
    pub fn ceiling(&self, own: Option<MicroUsd>) -> MicroUsd {
        Self::or(own, self.goal).unwrap_or(MicroUsd(i64::MAX))
    }

    /// A cap of one's own, else the usual one.
    pub fn or(own: Option<MicroUsd>, usual: Option<MicroUsd>) -> Option<MicroUsd> {
        own.or(usual).filter(|cap| cap.0 > 0)
    }
}

/// Reads dollars, or `off` for no cap.
pub fn parse_cap(text: &str) -> Result<MicroUsd, String> {
    if text.trim() == "off" {
        return Ok(MicroUsd(0));
    }
    let dollars = text.trim().trim_start_matches('$').parse::<f64>().ok();
    dollars.and_then(cap).ok_or_else(|| format!("`{text}` is no amount from 0 to 1000000 dollars, nor \"off\""))
}

/// Dollars as a cap; `None` where nobody can mean that much.
pub fn cap(dollars: f64) -> Option<MicroUsd> {
    (dollars.is_finite() && (0.0..=1e6).contains(&dollars)).then(|| MicroUsd::from_dollars(dollars))
}

/// A budget that is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// Whose.
    pub payer: Payer,
    /// What was spent.
    pub spent: MicroUsd,
    /// The cap.
    pub cap: MicroUsd,
    /// What the next call may cost, where there is a little left.
    #[serde(default)]
    pub next: Option<MicroUsd>,
}

/// Opens the sentence in a refusal of the gateway.
const OURS: &str = "podium: ";
const DAY: &str = "the day's budget is used up";
const OTHER: &str = "the budget of ";

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { payer, spent, cap, next } = self;
        match payer {
            Payer::Day => f.write_str(DAY)?,
            Payer::Goal(_) | Payer::Task(_) => write!(f, "{OTHER}{payer} is used up")?,
        }
        write!(f, ": {} of {}", spent.exact(), cap.exact())?;
        if let Some(next) = next.filter(|_| spent < cap) {
            write!(f, ", and the next call may cost {}", next.exact())?;
        }
        match payer {
            Payer::Day => f.write_str("; it clears at 00:00 UTC"),
            Payer::Goal(_) | Payer::Task(_) => Ok(()),
        }
    }
}

impl Reached {
    /// What an engine is told that asks all the same.
    pub fn refusal(&self) -> String {
        format!("{OURS}{self}")
    }

    /// How an attempt ends because of it.
    pub fn ending(&self) -> Ending {
        let message = self.to_string();
        match self.payer {
            Payer::Day => Ending::DayBudget { message },
            Payer::Goal(_) | Payer::Task(_) => Ending::Budget { message },
        }
    }

    /// The ending of an engine that repeats what it was told, among words of its own.
    pub fn ending_in(said: &str) -> Option<Ending> {
        let (_, told) = said.split_once(OURS)?;
        let message = told.split(['"', '\n', '\\']).next().unwrap_or_default().trim().to_owned();
        if message.starts_with(DAY) {
            Some(Ending::DayBudget { message })
        } else if message.starts_with(OTHER) && message.contains(" is used up") {
            Some(Ending::Budget { message })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(payer: &str, spent: i64, next: Option<i64>) -> Reached {
        Reached {
            payer: payer.parse().unwrap(),
            spent: MicroUsd(spent),
            cap: MicroUsd(2_000_000),
            next: next.map(MicroUsd),
        }
    }

    #[test]
    fn a_used_up_budget_says_whose_how_much_and_when_it_clears() {
        let said = |payer, spent, next| reached(payer, spent, next).to_string();
        assert_eq!(
            said("day", 2_010_000, Some(9)),
            "the day's budget is used up: $2.01 of $2.00; it clears at 00:00 UTC"
        );
        assert_eq!(
            said("task marie/x", 1_950_000, Some(80_000)),
            "the budget of task marie/x is used up: $1.95 of $2.00, and the next call may cost $0.08"
        );
        assert_eq!(said("goal g1", 2_013_449, None), "the budget of goal g1 is used up: $2.0134 of $2.00");
        assert_eq!(said("goal g1", 2_000_000, None), "the budget of goal g1 is used up: $2.00 of $2.00");
    }

    #[test]
    fn what_an_engine_repeats_of_a_refusal_is_the_ending_that_was_meant() {
        for payer in ["day", "goal g1", "task marie/x"] {
            let reached = reached(payer, 1_950_000, Some(80_000));
            let said = [
                format!("API Error: 429 {}", serde_json::json!({"error": {"message": reached.refusal()}})),
                format!("API Error: {}", reached.refusal()),
                format!("{}\nand more", reached.refusal()),
            ];
            for said in said {
                assert_eq!(Reached::ending_in(&said), Some(reached.ending()), "{said}");
            }
        }
        for other in ["podium: no", "the day's budget is used up", "API Error: 429 podium's own limit is used up"] {
            assert_eq!(Reached::ending_in(other), None, "{other}");
        }
    }

    #[test]
    fn a_cap_is_dollars_or_off_and_nothing_else() {
        assert_eq!(parse_cap("0.5"), Ok(MicroUsd(500_000)));
        assert_eq!(parse_cap("$2"), Ok(MicroUsd(2_000_000)));
        assert_eq!((parse_cap("off"), parse_cap("0")), (Ok(MicroUsd(0)), Ok(MicroUsd(0))));
        for bad in ["-1", "nan", "inf", "2e9", "two", ""] {
            assert!(parse_cap(bad).is_err(), "{bad}");
        }
        assert_eq!(Caps::or(Some(MicroUsd(0)), Some(MicroUsd(5))), None);
        assert_eq!(Caps::or(None, Some(MicroUsd(5))), Some(MicroUsd(5)));
        assert_eq!(Caps::or(Some(MicroUsd(3)), Some(MicroUsd(5))), Some(MicroUsd(3)));
    }
}
