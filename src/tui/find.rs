//! A search through logs as the screen holds it: what was asked, what has been found so far, which of it is looked at.
//!
//! Must not know files: it asks by [`Search`] and is told. Its one surprise: hits come in the order in which threads find
//! them and are kept in the order of their time; the one that is looked at is known by its place, not by its number.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::model::{
    LogPlace, LogScope,
    log::{LogHit, LogSum, TimedLine},
};

/// What is searched for, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Search {
    /// Its number: findings of an older one are of no interest any more.
    pub id: u64,
    /// In which logs.
    pub scope: LogScope,
    /// The expression. Small letters find capitals too, as long as there are no capitals in it.
    pub pattern: String,
}

/// A search and its findings.
#[derive(Debug, Default)]
pub struct Finder {
    id: u64,
    pattern: String,
    wrong: Option<String>,
    hits: Vec<LogHit>,
    /// The hit that is looked at.
    at: Option<LogPlace>,
    read: u64,
    sum: Option<LogSum>,
    /// The first hit is gone to when it comes.
    goes: bool,
    beside: Option<Beside>,
}

/// The lines around a hit.
#[derive(Debug)]
struct Beside {
    place: LogPlace,
    lines: Vec<TimedLine>,
    here: usize,
}

impl Finder {
    /// Searches from now on; nothing where the pattern is empty or wrong. Also what matches, to be marked.
    pub fn search(&mut self, scope: LogScope, pattern: &str) -> (Option<Search>, Option<Regex>) {
        *self = Self { id: self.id + 1, pattern: pattern.to_owned(), ..Self::default() };
        if pattern.is_empty() {
            return (None, None);
        }
        let small = !pattern.chars().any(char::is_uppercase);
        match RegexBuilder::new(pattern).case_insensitive(small).size_limit(1 << 20).build() {
            Ok(regex) => (Some(Search { id: self.id, scope, pattern: pattern.to_owned() }), Some(regex)),
            Err(why) => {
                let why = why.to_string();
                self.wrong = Some(why.lines().last().unwrap_or_default().trim().to_owned());
                (None, None)
            }
        }
    }

    /// Takes findings; true when the first one is to be gone to now.
    pub fn found(&mut self, id: u64, hits: Vec<LogHit>) -> bool {
        if id != self.id || hits.is_empty() {
            return false;
        }
        self.hits.extend(hits);
        self.hits.sort_by(|a, b| (a.at, &a.log.path, a.offset, a.nth).cmp(&(b.at, &b.log.path, b.offset, b.nth)));
        std::mem::take(&mut self.goes)
    }

    /// So many bytes have been searched.
    pub fn read(&mut self, id: u64, bytes: u64) {
        if id == self.id {
            self.read = self.read.max(bytes);
        }
    }

    /// The search has ended; true when somebody waits for a hit that will not come.
    pub fn ended(&mut self, id: u64, sum: LogSum) -> bool {
        if id != self.id {
            return false;
        }
        self.sum = Some(sum);
        std::mem::take(&mut self.goes)
    }

    /// Whether there is something to search for.
    pub fn is_on(&self) -> bool {
        !self.pattern.is_empty()
    }

    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// What is wrong with the pattern.
    pub fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// What has been found, in the order of time.
    pub fn hits(&self) -> &[LogHit] {
        &self.hits
    }

    /// Bytes that have been searched.
    pub fn bytes(&self) -> u64 {
        self.sum.map_or(self.read, |sum| sum.bytes)
    }

    /// What the search has done, once it has ended.
    pub fn sum(&self) -> Option<LogSum> {
        self.sum
    }

    /// Which hit is looked at, from 1; 0 for none.
    pub fn at(&self) -> usize {
        self.index().map_or(0, |at| at + 1)
    }

    fn index(&self) -> Option<usize> {
        let at = self.at.as_ref()?;
        self.hits.iter().position(|hit| hit.log.path == at.path && hit.offset == at.offset && hit.nth == at.nth)
    }

    /// Looks at a hit.
    pub fn look_at(&mut self, hit: &LogHit) {
        self.at = Some(hit.place());
    }

    /// The hit to look at first: the last one before `place`, else the newest. `None` where nothing was found, and then the
    /// first that is found is gone to.
    pub fn first(&mut self, place: Option<&LogPlace>) -> Option<LogHit> {
        let before = |place: &LogPlace| {
            self.hits.iter().rev().find(|hit| hit.log.path == place.path && hit.offset <= place.offset)
        };
        let first = place.and_then(before).or(self.hits.last()).cloned();
        self.goes = first.is_none() && self.sum.is_none();
        first
    }

    /// The hit after the one that is looked at, or before it, going round at the ends.
    pub fn next(&self, forward: bool) -> Option<LogHit> {
        let n = self.hits.len();
        let next = match (self.index(), forward) {
            (Some(at), true) => (at + 1) % n,
            (Some(at), false) => (at + n - 1) % n,
            (None, _) => n.checked_sub(1)?,
        };
        self.hits.get(next).cloned()
    }

    /// Takes the lines around a hit.
    pub fn set_beside(&mut self, place: LogPlace, lines: Vec<TimedLine>, here: usize) {
        self.beside = Some(Beside { place, lines, here });
    }

    /// The lines around a hit, and which of them it is; `None` until they have been read.
    pub fn beside(&self, hit: &LogHit) -> Option<(&[TimedLine], usize)> {
        let beside = self.beside.as_ref().filter(|beside| beside.place == hit.place())?;
        Some((&beside.lines, beside.here))
    }

    /// `3 of 412`, `412 so far`, `5000 and more`.
    pub fn count(&self) -> String {
        let n = self.hits.len();
        match (self.at(), self.sum) {
            (0, None) => format!("{n} so far"),
            (0, Some(sum)) if sum.cut => format!("{n} and more"),
            (0, Some(_)) => format!("{n} found"),
            (at, Some(sum)) if !sum.cut => format!("{at} of {n}"),
            (at, _) => format!("{at} of {n}+"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{LogId, log::Kind};

    pub(crate) fn hit(path: &str, offset: u64) -> LogHit {
        let log =
            LogId { agent: "marie".parse().unwrap(), task: Some("a".into()), attempt: Some(1), path: path.into() };
        LogHit {
            log: Arc::new(log),
            at: None,
            kind: Kind::Text,
            nested: false,
            offset,
            nth: 0,
            text: format!("hit {offset}"),
        }
    }

    #[test]
    fn hits_come_in_any_order_and_are_gone_through_in_theirs() {
        let mut finder = Finder::default();
        let (asked, marked) = finder.search(LogScope::All, "hit");
        let id = asked.unwrap().id;
        assert!(marked.unwrap().is_match("a Hit"));
        assert_eq!(finder.first(None), None);
        assert!(finder.found(id, vec![hit("b", 7), hit("a", 9)]), "somebody waits for it");
        assert!(!finder.found(id, vec![hit("a", 1)]));
        assert!(!finder.found(id - 1, vec![hit("z", 1)]), "what an older search finds is dropped");
        finder.look_at(&hit("a", 9));
        assert_eq!(finder.count(), "2 of 3+");
        finder.ended(id, LogSum { hits: 3, ..LogSum::default() });
        assert_eq!(finder.next(true).unwrap().log.path, "b");
        finder.look_at(&hit("b", 7));
        assert_eq!((finder.next(true).unwrap().offset, finder.count()), (1, "3 of 3".to_owned()));
        finder.look_at(&hit("a", 1));
        assert_eq!(finder.next(false).unwrap().log.path, "b");
        assert!(finder.search(LogScope::All, "(").0.is_none() && finder.wrong().is_some());
    }
}
