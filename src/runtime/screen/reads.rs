//! What the screen does with what was read of files, and with texts that go to a program of the operator's.

use std::{fs, io::Write as _, path::PathBuf};

use tempfile::NamedTempFile;

use super::Screen;
use crate::{
    attach::AttachError,
    logs::copy,
    room::Answer,
    runtime::{
        guest::Visitor,
        hands::{Asked, Hands, Heard},
        logs, refs,
    },
    tui::{Guest, Turn, terminal},
};

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

    /// Has something read.
    pub(super) fn ask(&mut self, asked: Asked) {
        // Looking at a log is asked for again when the room is back.
        let is_look = matches!(asked, Asked::Log(_) | Asked::Search(None));
        if !self.hands.ask(asked) && !is_look {
            self.app.say("not read: there is no word from the room", true);
        }
    }

    pub(super) fn read_templates(&mut self) {
        // Those of another stage are not the operator's own.
        let own = Some(self.stage.join("templates")).filter(|_| !self.is_guest());
        let folders = [own, self.templates.clone()];
        let tell = self.tell.clone();
        self.reading.spawn_blocking(move || {
            let folders: Vec<_> = folders.iter().flatten().map(PathBuf::as_path).collect();
            let _left = tell.blocking_send(Heard::Templates(refs::templates(&folders)));
        });
    }

    /// Moves the tape.
    pub(super) fn turn(&mut self, turn: Turn) {
        let turned = self.link.turn(turn).map_err(anyhow::Error::from).and_then(|elsewhere| {
            if elsewhere && let Hands::Here(here) = &mut self.hands {
                here.turn_to(self.link.folder(&self.stage))?;
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

    fn copied(&mut self, guest: Option<Guest>, copied: Result<copy::Copied, String>) {
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
            Heard::Resolved(order, resolved) => {
                if self.room == super::Room::Lost {
                    let refused = Answer::Refused { reason: "not sent: the room is not reachable".to_owned() };
                    return self.app.answered(&order, &refused);
                }
                self.send(*order, *resolved).await;
            }
            // One that was told before the room answered again is of no interest.
            Heard::Gone if self.room != super::Room::Lost && !self.hands.is_there() => self.lost(&AttachError::Closed),
            Heard::Gone | Heard::Piece(_) => {}
        }
    }
}
