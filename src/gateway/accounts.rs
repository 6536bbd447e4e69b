//! Accounts that are closed for a while, and what their servers said of their windows.
//!
//! Must not know model groups: a limit of a group is the limiter's. Its one surprise: each kind of limit is held apart,
//! with the server's last word on its end, and an account opens when the last of them has ended; so a late answer about
//! one window cannot lift what another limit still holds.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::model::limit::{Account, LimitKind, LimitNews, Windows};

/// Two words about one end that are further apart than this contradict each other.
const SAME: SignedDuration = SignedDuration::from_mins(1);

/// All accounts of which something was heard, by label.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<String, Book>);

#[derive(Debug, Default)]
struct Book {
    closed: BTreeMap<LimitKind, LimitNews>,
    windows: Option<Windows>,
}

impl Book {
    /// The limit that ends last.
    fn last(&self) -> Option<&LimitNews> {
        self.closed.values().max_by_key(|news| news.ends())
    }
}

impl Accounts {
    /// Why no call of this account may pass at `now`.
    pub(super) fn closed(&self, label: &str, now: Timestamp) -> Option<&LimitNews> {
        self.0.get(label)?.last().filter(|news| news.ends() > now)
    }

    /// Closes an account. Where the server had named another end before, the new one counts and is marked as a guess.
    pub(super) fn close(&mut self, news: &mut LimitNews) {
        let book = self.0.entry(news.account.clone()).or_default();
        if let Some(before) = book.closed.get(&news.kind).filter(|before| before.ends() > news.at)
            && let (Some(one), Some(other)) = (before.until, news.until)
        {
            news.estimated |= one.duration_since(other).abs() > SAME;
        }
        book.closed.insert(news.kind, news.clone());
    }

    /// Opens an account. Whether it was closed, or known to have been.
    pub(super) fn open(&mut self, label: &str) -> bool {
        self.0.get_mut(label).is_some_and(|book| !std::mem::take(&mut book.closed).is_empty())
    }

    /// A call that began at `began` was answered well: what had ended by then is over. Whether that is news.
    pub(super) fn worked(&mut self, label: &str, began: Timestamp) -> bool {
        let Some(book) = self.0.get_mut(label).filter(|book| !book.closed.is_empty()) else { return false };
        book.closed.retain(|_, news| news.ends() > began);
        book.closed.is_empty()
    }

    /// Takes over what the server says about a subscription.
    pub(super) fn learn(&mut self, label: &str, windows: Windows) {
        self.0.entry(label.to_owned()).or_default().windows = Some(windows);
    }

    /// Whether the server ever spoke of windows here.
    pub(super) fn is_subscription(&self, label: &str) -> bool {
        self.0.get(label).is_some_and(|book| book.windows.is_some())
    }

    /// All of them as of `now`.
    pub(super) fn all(&self, now: Timestamp) -> Vec<Account> {
        let account = |(label, book): (&String, &Book)| Account {
            label: label.clone(),
            windows: book.windows.clone(),
            closed: book.last().filter(|news| news.ends() > now).cloned(),
        };
        self.0.iter().map(account).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::{LimitSource, WindowName};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn news(kind: LimitKind, at_second: i64, until: Option<i64>) -> LimitNews {
        LimitNews {
            account: "marie".to_owned(),
            group: None,
            kind,
            until: until.map(at),
            estimated: false,
            source: LimitSource::Gateway,
            message: String::new(),
            at: at(at_second),
        }
    }

    const FIVE: LimitKind = LimitKind::Window(WindowName::FiveHour);

    #[test]
    fn an_account_opens_when_its_last_limit_has_ended() {
        let mut accounts = Accounts::default();
        assert!(accounts.closed("marie", at(0)).is_none());
        accounts.close(&mut news(LimitKind::TierCap, 0, Some(5_000)));
        // A late word about a lesser limit lifts nothing.
        accounts.close(&mut news(FIVE, 1, Some(100)));
        assert_eq!(accounts.closed("marie", at(200)).map(|n| n.kind), Some(LimitKind::TierCap));
        assert!(accounts.closed("", at(200)).is_none(), "another account goes on");
        assert!(accounts.closed("marie", at(5_000)).is_none());
        assert_eq!(accounts.all(at(6_000)).first().map(|a| a.closed.is_some()), Some(false));
    }

    #[test]
    fn an_end_that_moves_is_a_guess_and_the_last_word_counts() {
        let mut accounts = Accounts::default();
        let mut first = news(FIVE, 0, Some(1_000));
        accounts.close(&mut first);
        let mut same = news(FIVE, 10, Some(1_030));
        accounts.close(&mut same);
        assert!(!first.estimated && !same.estimated);
        let mut later = news(FIVE, 20, Some(9_000));
        accounts.close(&mut later);
        assert!(later.estimated);
        assert!(accounts.closed("marie", at(8_999)).is_some(), "never less safe than the server's last word");
        let mut earlier = news(FIVE, 30, Some(500));
        accounts.close(&mut earlier);
        assert!(earlier.estimated && accounts.closed("marie", at(600)).is_none());
        // Over long ago: another end is no contradiction.
        let mut anew = news(FIVE, 50_000, Some(60_000));
        accounts.close(&mut anew);
        assert!(!anew.estimated);
    }

    #[test]
    fn a_limit_without_an_end_is_looked_at_again_and_forgotten_when_a_call_worked() {
        let mut accounts = Accounts::default();
        let unpaid = news(LimitKind::Billing, 0, None);
        accounts.close(&mut unpaid.clone());
        assert!(accounts.closed("marie", at(299)).is_some());
        assert!(accounts.closed("marie", at(300)).is_none());
        // Its call had begun before the door was shut.
        assert!(!accounts.worked("marie", at(0)));
        assert!(accounts.worked("marie", at(301)) && !accounts.worked("marie", at(302)));
        accounts.close(&mut unpaid.clone());
        assert!(accounts.open("marie") && !accounts.open("marie"));
        assert!(accounts.closed("marie", at(1)).is_none());
    }
}
