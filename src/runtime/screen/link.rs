//! The room as the screen's loop hears it: orders go out, words come in, and a room that is lost is called again.

use futures_util::FutureExt as _;

use super::{Feed, Room, Screen};
use crate::{
    attach::{AttachError, client::News},
    room::{Answer, Order},
    runtime::{
        caller::{Caller, Met, Missed},
        hands::{Asked, Hands, There},
        refs,
    },
    tui::Connection,
};

/// Words of the room that are taken in before keys and the clock are looked at again.
const NEWS: usize = 256;

impl Screen {
    pub(super) async fn order(&mut self, order: Order) {
        match self.room {
            Room::Up | Room::Silent => {}
            Room::Opening => return self.kept.push(order),
            Room::Lost => return self.app.say("not sent: the room is not reachable", true),
        }
        match self.hands {
            Hands::Here(_) => {
                let resolved = refs::resolve(&self.stage, order.clone());
                self.send(order, resolved).await;
            }
            // Where its references lead is known where the files lie.
            Hands::There(_) if refs::has_references(&order) => {
                if !self.hands.ask(Asked::Resolve(Box::new(order.clone()))) {
                    let refused = Answer::Refused { reason: "not sent: the room is not reachable".to_owned() };
                    self.app.answered(&order, &refused);
                }
            }
            Hands::There(_) => self.send(order.clone(), order).await,
        }
    }

    /// Sends an order as it is `resolved`, and remembers it as it was given.
    pub(super) async fn send(&mut self, order: Order, resolved: Order) {
        match self.link.send(resolved).await {
            Ok(ticket) => drop(self.orders.insert(ticket, order)),
            Err(error) => self.lost(&error),
        }
    }

    /// Whether it is another stage's room that is shown.
    pub(super) fn is_guest(&self) -> bool {
        matches!(self.caller, Caller::There(_))
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
            Ok(News::Sign) => {
                self.signs = true;
                return;
            }
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

    pub(super) fn lost(&mut self, error: &AttachError) {
        self.room = Room::Lost;
        self.dirty = true;
        self.orders.clear();
        self.app.connection(Connection::Lost { since: self.clock.now(), why: error.to_string() });
        self.call();
    }

    fn call(&mut self) {
        let caller = self.caller.clone();
        self.calling.spawn(async move {
            tokio::time::sleep(caller.pause()).await;
            Ok(caller.call().await?)
        });
    }

    /// Somebody has answered, or nobody: a room that was lost is called again, one that could not be opened is the end.
    pub(super) async fn called(&mut self, answered: anyhow::Result<Met>) -> anyhow::Result<()> {
        match answered {
            Ok(Met { link, files, whose, caller }) => {
                self.link = Feed::room(link);
                if let Some(files) = files {
                    self.hands = Hands::There(There::over(files, self.tell.clone()));
                    self.app.read_anew();
                }
                self.caller = caller;
                self.room = Room::Up;
                self.dirty = true;
                self.app.belongs(whose);
                self.app.connection(Connection::Connected);
                self.arrive().await;
            }
            Err(error) if self.room == Room::Opening => return Err(error),
            Err(error) => {
                if self.is_guest() {
                    self.missed(&error);
                }
                self.call();
            }
        }
        Ok(())
    }

    /// Says why another stage's room was not reached: what keeps it away may be another thing than at first.
    fn missed(&mut self, error: &anyhow::Error) {
        if let Connection::Lost { since, .. } | Connection::Left { since, .. } = *self.app.link() {
            self.dirty = true;
            self.app.connection(match error.downcast_ref() {
                Some(Missed::Free(address)) => Connection::Left { since, address: address.clone() },
                Some(_) | None => Connection::Lost { since, why: error.to_string() },
            });
        }
    }

    /// There is a picture: what has changed since the last visit is said, and what was ordered meanwhile is sent.
    pub(super) async fn arrive(&mut self) {
        self.observe().await;
        if let Some(then) = self.before.take() {
            self.app.welcome(self.link.state(), then);
        }
        for order in std::mem::take(&mut self.kept) {
            self.order(order).await;
        }
    }
}
