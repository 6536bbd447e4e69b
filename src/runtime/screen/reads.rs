//! What the screen reads and writes beside the room: logs, searches, copies, texts. All of it in threads of their own.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::Screen;
use crate::{
    logs::{context, copy},
    model::{
        LogPlace, TaskRef,
        log::{LogHit, LogPart, LogRange, TimedLine},
    },
    queue::Queue as _,
    runtime::{
        documents,
        guest::Visitor,
        logs::{self, Eyes},
        refs,
    },
    tui::{
        Document, Guest, Search, Turn,
        composer::{Entry, Template},
        terminal,
    },
};

/// Lines before and after a hit that are shown beside a list of hits.
const BESIDE: usize = 6;
/// Where copies of logs go, below the stage.
const COPIES: &str = ".podium/copies";

/// What the loop hears from its own threads.
pub(super) enum Heard {
    Log(u64, LogPart),
    Found(u64, logs::News),
    Beside(LogPlace, Vec<TimedLine>, usize),
    Copied(Option<Guest>, std::io::Result<copy::Copied>),
    Document(Document, Result<String, String>),
    Task(TaskRef, Result<String, String>),
    Listed(String, Vec<Entry>),
    Templates(Vec<Template>),
}

/// Starts the thread that reads the logs below a folder.
pub(super) fn eyes_on(folder: &Path, tell: &mpsc::Sender<Heard>) -> anyhow::Result<Eyes> {
    let told = tell.clone();
    Eyes::open(folder, move |ask, part| told.blocking_send(Heard::Log(ask, part)).is_ok())
        .context("could not start the thread that reads logs")
}

/// Copies into a new folder of the temporary directory, which nobody else can have prepared.
fn copy_elsewhere(stage: &Path, range: &LogRange, gone: &dyn Fn() -> bool) -> std::io::Result<copy::Copied> {
    let folder = tempfile::Builder::new().prefix("podium-copy-").tempdir()?.keep();
    copy::copy(stage, range, &folder, gone)
}

/// Writes a text where an editor finds it, for its owner alone.
fn begin_draft(text: &str) -> std::io::Result<NamedTempFile> {
    let mut draft = tempfile::Builder::new().prefix("podium-").suffix(".md").tempfile()?;
    draft.write_all(text.as_bytes())?;
    draft.flush()?;
    Ok(draft)
}

impl Screen {
    /// Gives a text to the operator's editor.
    pub(super) fn edit(&mut self, text: &str) {
        match begin_draft(text) {
            Ok(draft) => {
                self.guest = Some(Visitor { program: Guest::Editor, file: draft.path().to_owned(), line: 1 });
                self.draft = Some(draft);
            }
            Err(error) => self.app.say(&format!("could not write the text for the editor: {error}"), true),
        }
    }

    pub(super) fn read(&mut self, document: Document) {
        let (stage, tell) = (self.stage.clone(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let read = documents::read(&stage, &document);
            let _left = tell.blocking_send(Heard::Document(document, read));
        });
    }

    /// Reads the whole text of a task, which its file alone has.
    pub(super) fn read_task(&mut self, task: TaskRef) {
        let Some(queue) = self.queue.clone() else {
            return self.app.task_read(&task, Err("the stage's tasks are not here"));
        };
        let tell = self.tell.clone();
        self.reading.spawn(async move {
            let read = queue.spec(&task).await.map(|spec| spec.description).map_err(|error| error.to_string());
            let _left = tell.send(Heard::Task(task, read)).await;
        });
    }

    pub(super) fn list(&mut self, folder: String) {
        let (stage, tell) = (self.stage.clone(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let entries = refs::list(&stage, &folder);
            let _left = tell.blocking_send(Heard::Listed(folder, entries));
        });
    }

    pub(super) fn read_templates(&mut self) {
        let folders = [Some(self.stage.join("templates")), self.templates.clone()];
        let tell = self.tell.clone();
        self.reading.spawn_blocking(move || {
            let folders: Vec<_> = folders.iter().flatten().map(PathBuf::as_path).collect();
            let _left = tell.blocking_send(Heard::Templates(refs::templates(&folders)));
        });
    }

    /// Moves the tape.
    pub(super) fn turn(&mut self, turn: Turn) {
        let turned = self.link.turn(turn).map_err(anyhow::Error::from).and_then(|elsewhere| {
            if elsewhere {
                self.logs = eyes_on(self.link.folder(&self.stage), &self.tell)?;
                self.app.read_anew();
            }
            Ok(())
        });
        if let Err(error) = turned {
            self.app.say(&format!("could not go there: {error:#}"), true);
        }
        if let Some(moment) = self.link.moment() {
            self.app.at_moment(moment);
        }
    }

    pub(super) fn find(&mut self, asked: Option<Search>) {
        self.search.store(true, Ordering::Relaxed);
        while self.reading.try_join_next().is_some() {}
        let Some(asked) = asked else { return };
        self.search = Arc::default();
        let folder = self.link.folder(&self.stage).to_owned();
        let (stage, stop, tell) = (folder, self.search.clone(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let id = asked.id;
            logs::find(&stage, &asked, &stop, &|news| tell.blocking_send(Heard::Found(id, news)).is_ok());
        });
    }

    pub(super) fn look_beside(&mut self, hit: LogHit) {
        let (stage, tell) = (self.link.folder(&self.stage).to_owned(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let place = hit.place();
            let (lines, here) = context(&stage, &hit.log, &place, &hit.text, BESIDE);
            let _left = tell.blocking_send(Heard::Beside(place, lines, here));
        });
    }

    pub(super) fn copy(&mut self, range: LogRange, guest: Option<Guest>) {
        let (stage, tell) = (self.link.folder(&self.stage).to_owned(), self.tell.clone());
        self.reading.spawn_blocking(move || {
            let gone = || tell.is_closed();
            let copied = copy::copy(&stage, &range, &stage.join(COPIES), &gone)
                // A stage that cannot be written to still has logs that can be read.
                .or_else(|_| copy_elsewhere(&stage, &range, &gone));
            let _left = tell.blocking_send(Heard::Copied(guest, copied));
        });
    }

    fn copied(&mut self, guest: Option<Guest>, copied: std::io::Result<copy::Copied>) {
        match (copied, guest) {
            (Err(error), _) => self.app.say(&format!("could not copy: {error}"), true),
            (Ok(copied), Some(guest)) => {
                self.guest = Some(Visitor { program: guest, file: copied.path, line: copied.here });
            }
            (Ok(copied), None) => {
                let set = copied.text.as_deref().is_some_and(|text| terminal::copy(text).is_ok());
                let path = copied.path.strip_prefix(&self.stage).unwrap_or(&copied.path);
                self.app.copied(copied.lines, path, set, copied.cut);
            }
        }
    }

    /// The editor has ended: what it left is the text.
    pub(super) fn take_back(&mut self, draft: &NamedTempFile) {
        match fs::read_to_string(draft.path()) {
            Ok(text) => self.app.text_edited(&text),
            Err(error) => self.app.say(&format!("could not read the edited text: {error}"), true),
        }
    }

    pub(super) async fn hear(&mut self, word: Heard) {
        self.dirty = true;
        match word {
            Heard::Log(ask, part) => self.app.log_read(ask, part, self.link.state()),
            Heard::Found(id, logs::News::Hits(hits)) => {
                self.app.found(id, hits, self.link.state());
                self.observe().await;
            }
            Heard::Found(id, logs::News::Read(bytes)) => self.app.searched(id, bytes),
            Heard::Found(id, logs::News::Ended(sum)) => self.app.search_ended(id, sum),
            Heard::Beside(place, lines, here) => self.app.beside_read(place, lines, here),
            Heard::Copied(guest, copied) => self.copied(guest, copied),
            Heard::Task(task, read) => self.app.task_read(&task, read.as_deref().map_err(String::as_str)),
            Heard::Document(document, read) => {
                self.app.document_read(&document, read.as_deref().map_err(String::as_str));
            }
            Heard::Listed(folder, entries) => self.app.folder_read(folder, entries, self.link.state()),
            Heard::Templates(templates) => self.app.templates_read(templates),
        }
    }
}
