//! The room as the screen's loop hears it: orders go out, words come in, and a room that is lost is called again.

use std::time::Duration;

use futures_util::FutureExt as _;

use super::{Feed, Room, Screen};
use crate::{
    attach::{
        AttachError,
        client::{Link, News},
    },
    room::Order,
    runtime::refs,
    tui::Connection,
};

/// Words of the room that are taken in before keys and the clock are looked at again.
const NEWS: usize = 256;
/// How often a lost room is called again.
const CALL: Duration = Duration::from_millis(300);

impl Screen {
    pub(super) async fn order(&mut self, order: Order) {
        if self.room == Room::Lost {
            self.app.say("not sent: the room is not reachable", true);
            return;
        }
        match self.link.send(refs::resolve(&self.stage, order.clone())).await {
            Ok(ticket) => drop(self.orders.insert(ticket, order)),
            Err(error) => self.lost(&error),
        }
    }

    pub(super) fn falls_silent(&mut self) {
        self.room = Room::Silent;
        self.dirty = true;
        let silent = jiff::SignedDuration::try_from(self.link.silent_for()).unwrap_or_default();
        let now = self.clock.now();
        let since = now.saturating_sub(silent).unwrap_or(now);
        self.app.connection(Connection::Silent { since, pid: self.link.state().pid });
    }

    /// Takes in what was heard and what else has come: looking once for many changes keeps up with any number of them.
    pub(super) async fn news(&mut self, first: Result<News, AttachError>) {
        let (mut next, mut changed, mut left) = (Some(first), false, NEWS);
        while let Some(news) = next {
            changed |= matches!(news, Ok(News::Changed));
            self.word(news);
            left -= 1;
            next = if self.room != Room::Lost && left > 0 { self.link.next().now_or_never() } else { None };
        }
        if let Some(moment) = self.link.moment() {
            self.app.at_moment(moment);
        }
        if changed {
            self.observe().await;
        }
    }

    fn word(&mut self, news: Result<News, AttachError>) {
        if self.room == Room::Silent && news.is_ok() {
            self.room = Room::Up;
            self.app.connection(Connection::Connected);
            self.dirty = true;
        }
        match news {
            Ok(News::Beat) => return,
            Ok(News::Changed) => {}
            Ok(News::Answered(ticket, answer)) => {
                if let Some(order) = self.orders.remove(&ticket) {
                    self.app.answered(&order, &answer);
                    // What was refused is back in the composer.
                    self.keep();
                }
            }
            Err(error) => self.lost(&error),
        }
        self.dirty = true;
    }

    fn lost(&mut self, error: &AttachError) {
        self.room = Room::Lost;
        self.dirty = true;
        self.orders.clear();
        self.app.connection(Connection::Lost { since: self.clock.now(), why: error.to_string() });
        self.call();
    }

    fn call(&mut self) {
        let stage = self.stage.clone();
        self.calling.spawn(async move {
            tokio::time::sleep(CALL).await;
            Link::connect(&stage).await.ok()
        });
    }

    pub(super) async fn called(&mut self, answered: Option<Link>) {
        match answered {
            Some(link) => {
                self.link = Feed::room(link);
                self.room = Room::Up;
                self.dirty = true;
                self.app.connection(Connection::Connected);
                self.observe().await;
            }
            None => self.call(),
        }
    }
}
