//! An agent's own CLI in a pane: it has all keys but those of its place.

use crossterm::event::{KeyEvent, MouseEvent, MouseEventKind};

use super::{App, Message};
use crate::{
    model::AgentName,
    tui::{
        Action, Wish,
        action::Place,
        attached::{Asks, Attached},
        keymap::Chord,
        layout,
    },
};

/// Rows that the wheel moves.
const WHEEL: isize = 3;

impl App {
    /// An agent's own CLI has been started; how many columns and rows it has.
    pub fn attached_to(&mut self, agent: AgentName) -> (u16, u16) {
        let size = self.attached_size();
        self.attached = Some(Attached::new(agent, size));
        size
    }

    /// The columns and rows of the pane in which an agent's CLI is.
    pub fn attached_size(&self) -> (u16, u16) {
        let area = layout::between(self.size);
        (area.width, area.height)
    }

    /// The CLI that has the keys.
    pub fn attached(&self) -> Option<&Attached> {
        self.attached.as_ref()
    }

    /// The CLI has printed this.
    pub fn attached_printed(&mut self, bytes: &[u8]) -> Vec<Wish> {
        let asks = self.attached.as_mut().map(|cli| cli.printed(bytes)).unwrap_or_default();
        let wish = |ask| match ask {
            Asks::Bytes(bytes) => Wish::Type(bytes),
            Asks::Copy(text) => Wish::Copy(text),
        };
        asks.into_iter().map(wish).collect()
    }

    /// The CLI has ended. What it printed last stays until the next key where it has not ended well, else everything
    /// is as it was before.
    pub fn attached_ended(&mut self, why: Option<&str>) {
        match (why, &mut self.attached) {
            (Some(why), Some(cli)) => {
                cli.over = true;
                self.message =
                    Some(Message { stays: true, ..Message::new(&format!("{why}; any key closes its pane"), true) });
            }
            (Some(_) | None, _) => self.attached = None,
        }
    }

    /// The key goes to the CLI; `None` where there is none.
    pub(super) fn attached_key(&mut self, key: KeyEvent) -> Option<Vec<Wish>> {
        let action = self.settings.keys.action_in(Chord::of(key), Place::Attached);
        let leave = self.key_of(Action::CloseAttached);
        if self.attached.take_if(|cli| cli.over).is_some() {
            return Some(Vec::new());
        }
        let cli = self.attached.as_mut()?;
        let page = cli.rows() - 1;
        match action {
            Some(Action::CloseAttached) if cli.leaving => return Some(vec![Wish::Detach]),
            Some(Action::CloseAttached) => {
                cli.leaving = true;
                let text = format!("{}'s CLI is running: {leave} again ends it, any other key goes on", cli.agent());
                self.say(&text, false);
                return Some(Vec::new());
            }
            Some(Action::AttachedUp) => cli.scroll(page),
            Some(Action::AttachedDown) => cli.scroll(-page),
            Some(_) | None => {
                cli.leaving = false;
                let bytes = cli.key(key);
                return Some(if bytes.is_empty() { Vec::new() } else { vec![Wish::Type(bytes)] });
            }
        }
        Some(Vec::new())
    }

    /// The paste goes to the CLI; `None` where there is none.
    pub(super) fn attached_paste(&mut self, text: &str) -> Option<Vec<Wish>> {
        Some(vec![Wish::Type(self.attached.as_mut()?.paste(text))])
    }

    /// The mouse goes to a CLI that wants it, else it turns back what the CLI has printed; `None` where there is none.
    pub(super) fn attached_mouse(&mut self, mouse: MouseEvent) -> Option<Vec<Wish>> {
        let area = layout::between(self.size);
        let cli = self.attached.as_mut()?;
        let inside = area.contains((mouse.column, mouse.row).into());
        let place = |at: u16, from: u16| at.saturating_sub(from);
        let within = MouseEvent { column: place(mouse.column, area.x), row: place(mouse.row, area.y), ..mouse };
        if let Some(bytes) = cli.mouse(within) {
            return Some(if inside && !bytes.is_empty() { vec![Wish::Type(bytes)] } else { Vec::new() });
        }
        match mouse.kind {
            MouseEventKind::ScrollUp => cli.scroll(WHEEL),
            MouseEventKind::ScrollDown => cli.scroll(-WHEEL),
            _ => {}
        }
        Some(Vec::new())
    }
}
