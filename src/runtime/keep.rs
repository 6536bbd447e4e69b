//! What a screen keeps of its stage: `.podium/screen/`, one file for its shape, one for the draft, one for what was sent.
//!
//! Owns those files. Must not know what they are good for. Its one surprise: a draft is on disk a moment after the key, by
//! a thread of its own that writes the newest and skips what has been overtaken, so that a screen that is killed loses
//! nothing and keys never wait for a disk.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
};

use crate::tui::{App, app::Habits};

/// Texts that are read of what was sent.
const SENT: usize = 100;
/// Bytes of a file that are read; ours are never larger.
const LONGEST: u64 = 8 << 20;

enum Word {
    Habits(Habits),
    Draft(String),
    Sent(String),
}

/// Keeps up with an [`App`].
pub(super) struct Keeper {
    habits: Habits,
    draft: String,
    sent: Option<String>,
    words: Option<Sender<Word>>,
    writing: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Reads what a former screen has kept, tells the app, and keeps what it does from now on.
    pub(super) fn open(stage: &Path, app: &mut App) -> Self {
        let folder = stage.join(".podium/screen");
        let text = |name: &str| read(&folder.join(name)).unwrap_or_default();
        let habits = serde_json::from_str(&text("layout.json")).unwrap_or_default();
        let sent = text("sent.jsonl");
        let lines: Vec<_> = sent.lines().rev().take(SENT).filter_map(|line| serde_json::from_str(line).ok()).collect();
        app.take_up(habits, &text("draft.txt"), lines.into_iter().rev().collect());
        let (words, heard) = channel();
        // Without the thread nothing is kept, as on a stage that cannot be written to; the screen works.
        let writing = std::thread::Builder::new().name("keep".to_owned()).spawn(move || write(&folder, &heard)).ok();
        Self {
            habits: app.habits(),
            draft: app.draft(),
            sent: app.composer().sent().last().cloned(),
            words: Some(words).filter(|_| writing.is_some()),
            writing,
        }
    }

    /// Writes down what has changed.
    pub(super) fn look(&mut self, app: &App) {
        let (habits, draft, sent) = (app.habits(), app.draft(), app.composer().sent().last());
        if self.sent.as_ref() != sent {
            self.sent = sent.cloned();
            self.say(self.sent.clone().map(Word::Sent));
        }
        if self.draft != draft {
            self.draft.clone_from(&draft);
            self.say(Some(Word::Draft(draft)));
        }
        if self.habits != habits {
            self.habits.clone_from(&habits);
            self.say(Some(Word::Habits(habits)));
        }
    }

    fn say(&self, word: Option<Word>) {
        if let (Some(words), Some(word)) = (&self.words, word) {
            // The thread ends after this does.
            let _gone = words.send(word);
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.words = None;
        if let Some(writing) = self.writing.take() {
            let _ended = writing.join();
        }
    }
}

fn read(path: &Path) -> Option<String> {
    let size = fs::metadata(path).ok()?.len();
    fs::read_to_string(path).ok().filter(|_| size <= LONGEST)
}

fn write(folder: &Path, heard: &Receiver<Word>) {
    while let Ok(first) = heard.recv() {
        let (mut habits, mut draft) = (None, None);
        for word in std::iter::once(first).chain(heard.try_iter()) {
            match word {
                Word::Habits(new) => habits = Some(new),
                Word::Draft(new) => draft = Some(new),
                Word::Sent(text) => drop(append(folder, &text)),
            }
        }
        // On a stage that cannot be written to nothing is kept; it is said to be read-only elsewhere.
        if let Some(draft) = draft {
            let _kept = replace(folder, "draft.txt", draft.as_bytes());
        }
        if let Some(text) = habits.and_then(|habits| serde_json::to_vec(&habits).ok()) {
            let _kept = replace(folder, "layout.json", &text);
        }
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn replace(folder: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    make(folder)?;
    let path: PathBuf = folder.join(name);
    let mut new = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
    new.write_all(text)?;
    new.persist(path).map(drop).map_err(|error| error.error)
}

fn append(folder: &Path, text: &str) -> io::Result<()> {
    make(folder)?;
    let path = folder.join("sent.jsonl");
    let mut line = serde_json::to_vec(text)?;
    line.push(b'\n');
    // Two screens may send at once: one write each, at the end.
    fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        room::State,
        tui::{Action, Settings},
    };

    #[test]
    fn the_next_screen_begins_where_this_one_was_left() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(".podium")).unwrap();
        let state = State::default();
        let mut app = App::new(Settings::default());
        app.resize(120, 40);
        let mut keeper = Keeper::open(dir.path(), &mut app);
        for action in [Action::LimitsView, Action::Wrap, Action::Wider] {
            app.act(action, &state);
        }
        app.compose("Announce\nthe week");
        keeper.look(&app);
        drop(keeper);
        let mut next = App::new(Settings::default());
        let mut keeper = Keeper::open(dir.path(), &mut next);
        assert_eq!((next.habits(), next.draft()), (app.habits(), "Announce\nthe week".to_owned()));
        assert!(next.habits().zoom && !next.is_composing());
        assert!(next.message().unwrap().text.contains("draft is back"));
        // What was sent is no draft any more, and comes back as such.
        next.act(Action::Compose, &state);
        let enter =
            crossterm::event::KeyEvent::new(crossterm::event::KeyCode::Enter, crossterm::event::KeyModifiers::NONE);
        assert!(!next.key(enter, &state).is_empty());
        keeper.look(&next);
        drop(keeper);
        let mut last = App::new(Settings::default());
        drop(Keeper::open(dir.path(), &mut last));
        assert_eq!((last.draft(), last.composer().sent()), (String::new(), &["Announce\nthe week".to_owned()][..]));
    }

    #[test]
    fn what_cannot_be_read_or_written_is_as_if_nothing_had_been_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut app = App::new(Settings::default());
        let mut keeper = Keeper::open(dir.path(), &mut app);
        app.compose("kept nowhere");
        keeper.look(&app);
        drop(keeper);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a folder that is no stage stays empty");
        let folder = dir.path().join(".podium/screen");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("layout.json"), "{\"focus\": 7").unwrap();
        fs::write(folder.join("sent.jsonl"), "\"one\"\ntorn\n\"two\"\n\"thr").unwrap();
        fs::write(folder.join("draft.txt"), b"\xff\xfe").unwrap();
        let mut app = App::new(Settings::default());
        drop(Keeper::open(dir.path(), &mut app));
        assert_eq!((app.draft().as_str(), app.composer().sent().len()), ("", 2));
    }
}
