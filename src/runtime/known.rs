//! What was learned of accounts and is kept for the next room: how their windows stood, and when that was said.
//!
//! Owns one file. Must not know what windows mean. Its one surprise: it is a memory and nothing more; nothing is decided by
//! it, so a disk that does not take it costs the next room only what it would have seen.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};

use super::record;
use crate::{
    model::{AccountName, limit::Windows},
    room::State,
};

/// Every window has begun anew by then.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(8 * 24);

/// Windows by account.
pub(super) type Known = BTreeMap<AccountName, Windows>;

fn path(stage: &Path) -> PathBuf {
    stage.join(".podium/accounts.json")
}

/// What a former room has kept that may still say something at `now`.
pub(super) fn read(stage: &Path, now: Timestamp) -> Known {
    let known = fs::read(path(stage)).ok().and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
    let mut known = known.unwrap_or_default();
    known.retain(|_, windows| windows.at.is_some_and(|at| now.duration_since(at) < FORGOTTEN));
    known
}

/// The file, and what stands in it.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    written: Known,
}

impl Kept {
    /// As it was read at the start.
    pub(super) fn new(stage: &Path, read: Known) -> Self {
        Self { path: path(stage), written: read }
    }

    /// Writes what has changed, if anything has.
    pub(super) fn keep(&mut self, state: &State) {
        let known = state.accounts.all_windows();
        if *known == self.written {
            return;
        }
        match record::replace(&self.path, known) {
            Ok(()) => self.written.clone_from(known),
            Err(error) => {
                tracing::debug!(%error, path = %self.path.display(), "what is known of accounts could not be kept");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{
            AccountSetup,
            limit::{Window, WindowStatus},
        },
        room::{Event, Opened, Stamped, tests::opened},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn windows(second: i64) -> Windows {
        let five_hour =
            Window { used: Some(580), resets_at: Some(at(second + 60)), status: Some(WindowStatus::Allowed) };
        Windows { five_hour: Some(five_hour), at: Some(at(second)), ..Windows::default() }
    }

    #[test]
    fn windows_come_back_with_their_age_until_they_say_nothing_any_more() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".podium")).unwrap();
        assert_eq!(read(dir.path(), at(0)), Known::new());
        let account: AccountName = "team".parse().unwrap();
        let said = Known::from([(account.clone(), windows(1_000))]);
        let mut state = State::default();
        let accounts = AccountSetup { windows: said.clone(), ..AccountSetup::default() };
        let opened = Opened { accounts, ..opened() };
        drop(state.update(Stamped { at: at(1_010), event: Event::Opened(Box::new(opened)) }));
        let mut kept = Kept::new(dir.path(), Known::new());
        kept.keep(&state);
        assert_eq!(read(dir.path(), at(2_000)), said);
        assert_eq!(read(dir.path(), at(1_000 + 8 * 86_400)), Known::new());
        // Nothing new is not written again.
        fs::remove_file(path(dir.path())).unwrap();
        kept.keep(&state);
        assert!(!path(dir.path()).exists());
        fs::write(path(dir.path()), "{").unwrap();
        assert_eq!(read(dir.path(), at(2_000)), Known::new());
    }
}
