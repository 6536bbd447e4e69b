//! What a server's refusal means, for whom, and until when.
//!
//! Owns the words that gateway, engines, room and screen share about limits. Must not know HTTP or queues. Its one
//! surprise: seven answers that look alike mean seven things, and each has its own right move ([`LimitKind::remedy`]);
//! they are told apart in one place, [`meaning`].

mod meaning;
mod own;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

pub use meaning::{Meaning, Refusal, meaning};
pub use own::{FAMILIES, OwnLimit, group};

/// What kind of limit was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// The rate of a model group; the server said for how long.
    Rate,
    /// The server, or one model on it, is overloaded.
    Overloaded,
    /// The server slows down for a moment and does not say for how long; no quota.
    Throttle,
    /// A window of a subscription is used up.
    Window(WindowName),
    /// The monthly cap of the account's tier is reached.
    TierCap,
    /// The cap that the account's owner has set is reached.
    OwnCap,
    /// Nobody pays: no credit, or the payment failed.
    Billing,
    /// The key or the login is not accepted.
    Auth,
    /// The key may not do this; another model or another account might.
    Forbidden,
}

/// The right answer to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// No call of this account and model group before the end.
    HoldGroup,
    /// Fewer calls of this model group at once, more again as they succeed.
    FewerAtOnce,
    /// A short wait for this model group, longer each time.
    BackOff,
    /// No call of this account before the end, whatever the model.
    ParkAccount,
    /// No call of this account before a person has seen to it; looked at again from time to time.
    StopAccount,
    /// Not asked again; nothing else is held back.
    NeverRetry,
}

impl LimitKind {
    /// What is to be done about it.
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Rate => Remedy::HoldGroup,
            Self::Overloaded => Remedy::FewerAtOnce,
            Self::Throttle => Remedy::BackOff,
            Self::Window(_) | Self::TierCap | Self::OwnCap => Remedy::ParkAccount,
            Self::Billing | Self::Auth => Remedy::StopAccount,
            Self::Forbidden => Remedy::NeverRetry,
        }
    }

    /// Whether it closes a whole account and not one model group.
    pub fn closes_account(self) -> bool {
        matches!(self.remedy(), Remedy::ParkAccount | Remedy::StopAccount)
    }

    /// The words for a person.
    pub fn words(self) -> &'static str {
        match self {
            Self::Rate => "rate limit",
            Self::Overloaded => "overloaded",
            Self::Throttle => "slowed down",
            Self::Window(WindowName::FiveHour) => "five-hour limit used up",
            Self::Window(WindowName::SevenDay) => "weekly limit used up",
            Self::Window(WindowName::Other) => "plan limit used up",
            Self::TierCap => "monthly cap of the account's tier reached",
            Self::OwnCap => "own cap of the account reached",
            Self::Billing => "no credit",
            Self::Auth => "key or login not accepted",
            Self::Forbidden => "not permitted",
        }
    }
}

/// Which window of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowName {
    /// Five hours.
    FiveHour,
    /// Seven days, all models.
    SevenDay,
    /// Another one, such as seven days of one model.
    Other,
}

impl WindowName {
    /// Reads a server's or an engine's name for it.
    pub fn read(name: &str) -> Self {
        match name {
            "five_hour" | "5h" => Self::FiveHour,
            "seven_day" | "7d" => Self::SevenDay,
            _ => Self::Other,
        }
    }
}

/// How a window stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowStatus {
    /// Calls pass.
    Allowed,
    /// Calls pass, and it will not last.
    Warning,
    /// Calls are refused.
    Rejected,
}

impl WindowStatus {
    /// Reads a server's or an engine's word for it.
    pub fn read(word: &str) -> Option<Self> {
        match word {
            "allowed" => Some(Self::Allowed),
            "allowed_warning" => Some(Self::Warning),
            "rejected" => Some(Self::Rejected),
            _ => None,
        }
    }
}

/// One window of a subscription at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Window {
    /// How much is used, in thousandths; more than 1,000 is possible.
    pub used: Option<u32>,
    /// When it begins anew.
    pub resets_at: Option<Timestamp>,
    /// How it stands.
    pub status: Option<WindowStatus>,
}

impl Window {
    /// As it stands at `now`: of one that has begun anew since it was told of nothing is known.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Self {
        if self.resets_at.is_some_and(|resets_at| resets_at <= now) { Self::default() } else { self }
    }

    /// Reads a utilisation between 0 and 1 as thousandths; what is no such number is not known.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked and bounded one line above")]
    pub fn thousandths(utilization: f64) -> Option<u32> {
        (utilization.is_finite() && utilization >= 0.0).then(|| (utilization.min(1_000.0) * 1_000.0).round() as u32)
    }
}

/// What a subscription allows, as its server or its engine last said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Windows {
    /// How the account stands as a whole.
    pub status: Option<WindowStatus>,
    /// The window that `status` and `resets_at` are about.
    pub claim: Option<WindowName>,
    /// When that window begins anew.
    pub resets_at: Option<Timestamp>,
    /// The five hours.
    pub five_hour: Option<Window>,
    /// The seven days.
    pub seven_day: Option<Window>,
    /// When this was said.
    pub at: Option<Timestamp>,
}

/// Who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitSource {
    /// The gateway, from the server's own answer.
    Gateway,
    /// An engine, from its stream.
    Engine,
}

/// An account met a limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitNews {
    /// Which account: the credential's label, empty for the usual one.
    pub account: String,
    /// The model group, where the limit is about one.
    pub group: Option<String>,
    /// What was met.
    pub kind: LimitKind,
    /// When it ends, where that is known.
    pub until: Option<Timestamp>,
    /// The end is a guess: the server named none, one that has passed, several, or another one before.
    #[serde(default)]
    pub estimated: bool,
    /// Who says so.
    pub source: LimitSource,
    /// What was said, cleaned and short.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

impl LimitNews {
    /// When a limit without a named end is looked at again.
    pub const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

    /// When calls may pass again: at the end, or where none is known, to see whether they do.
    pub fn ends(&self) -> Timestamp {
        self.until.unwrap_or_else(|| self.at.saturating_add(Self::LOOK_AGAIN).unwrap_or(self.at))
    }
}

/// An account as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The credential's label, empty for the usual one.
    pub label: String,
    /// Its windows, if it is a subscription.
    pub windows: Option<Windows>,
    /// Why no call of it passes, and until when.
    pub closed: Option<LimitNews>,
}
