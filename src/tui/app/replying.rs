//! What an agent wants to know: choices marked by key, own words in the composer, and the answer sent when all is answered.
//!
//! Its one surprise: one choice, or own words instead, is all that most questions take; there a key that chooses chooses
//! anew. Where more than one may be taken it is a mark that comes and goes.

use super::{App, Editing};
use crate::{
    model::{AskId, Question, Reply},
    room::{Order, State},
    tui::{
        Action, Wish,
        popup::{Popup, Replying},
    },
};

/// One row that can be under the hand: which question, and which of its choices; `None` is the row for own words.
pub(super) type Spot = (usize, Option<usize>);

/// The rows of a request that is a question, from the top.
pub fn spots(questions: &[Question]) -> Vec<Spot> {
    let each = questions.iter().enumerate().flat_map(|(at, question)| {
        let choices = (0..question.choices.len()).map(Some).chain([None]);
        choices.map(move |choice| (at, choice))
    });
    each.collect()
}

impl Replying {
    /// Of a request that has been opened just now; `None` where it is no question.
    pub fn new(questions: &[Question]) -> Option<Self> {
        let replies = vec![Reply::default(); questions.len()];
        (!questions.is_empty()).then_some(Self { row: 0, replies })
    }

    /// Chooses, or takes a choice back.
    fn choose(&mut self, question: &Question, at: usize, choice: usize) {
        let Some(reply) = self.replies.get_mut(at) else { return };
        if let Some(known) = reply.chosen.iter().position(|known| *known == choice) {
            reply.chosen.remove(known);
        } else if question.many {
            reply.chosen.push(choice);
            reply.chosen.sort_unstable();
        } else {
            *reply = Reply { chosen: vec![choice], words: String::new() };
        }
    }

    /// The first row of the first question that is not answered.
    fn unanswered(&self, questions: &[Question]) -> Option<usize> {
        let at = self.replies.iter().position(Reply::is_empty)?;
        spots(questions).iter().position(|(question, _)| *question == at)
    }
}

impl App {
    /// The question on top, as far as it is answered.
    fn asked_on_top<'a>(&self, state: &'a State) -> Option<(AskId, &'a [Question], Replying)> {
        let Some(Popup::Permit { ask, reply: Some(reply), .. }) = self.popups.last() else { return None };
        let open = state.asks.get(*ask)?;
        Some((*ask, &open.ask.questions, reply.clone()))
    }

    fn show_reply(&mut self, now: Replying) {
        if let Some(Popup::Permit { reply, .. }) = self.popups.last_mut() {
            *reply = Some(now);
        }
    }

    /// Chooses what is under the hand, or takes the choice back.
    pub(super) fn choose_here(&mut self, state: &State) {
        let Some((_, questions, mut reply)) = self.asked_on_top(state) else { return };
        match spots(questions).get(reply.row) {
            Some((at, Some(choice))) => {
                if let Some(question) = questions.get(*at) {
                    reply.choose(question, *at, *choice);
                }
                self.show_reply(reply);
            }
            Some((_, None)) => self.own_words(state),
            None => {}
        }
    }

    /// Takes what is under the hand where its question is not answered, and goes on: to the next one, or off.
    pub(super) fn take_choice(&mut self, state: &State) -> Vec<Wish> {
        let Some((_, questions, reply)) = self.asked_on_top(state) else { return Vec::new() };
        let here = spots(questions).get(reply.row).copied();
        let answered = here.and_then(|(at, _)| reply.replies.get(at)).is_some_and(|reply| !reply.is_empty());
        match here {
            Some((_, None)) if !answered => {
                self.own_words(state);
                return Vec::new();
            }
            // What is under the hand is what is meant, also where another one was chosen before.
            Some((at, Some(choice))) => {
                let taken = reply.replies.get(at).is_some_and(|reply| reply.chosen.contains(&choice));
                let many = questions.get(at).is_some_and(|question| question.many);
                if !taken && (!answered || !many) {
                    self.choose_here(state);
                }
            }
            Some(_) | None => {}
        }
        self.go_on(state)
    }

    /// To the next question that is not answered; where there is none the answer goes off.
    fn go_on(&mut self, state: &State) -> Vec<Wish> {
        let Some((_, questions, mut reply)) = self.asked_on_top(state) else { return Vec::new() };
        let Some(row) = reply.unanswered(questions) else { return self.send_reply(state) };
        reply.row = row;
        self.show_reply(reply);
        Vec::new()
    }

    /// Sends the answer where all is answered; else says what is not.
    pub(super) fn send_reply(&mut self, state: &State) -> Vec<Wish> {
        let Some((ask, questions, mut reply)) = self.asked_on_top(state) else { return Vec::new() };
        if let Some(row) = reply.unanswered(questions) {
            reply.row = row;
            self.show_reply(reply);
            let key = self.key_of(Action::Choose);
            self.say(&format!("choose an answer first: {key} takes what is under the hand"), true);
            return Vec::new();
        }
        self.popups.pop();
        vec![Wish::Order(Order::Reply { ask, replies: reply.replies })]
    }

    /// Opens the composer for own words in answer to the question under the hand.
    pub(super) fn own_words(&mut self, state: &State) {
        let Some((ask, questions, reply)) = self.asked_on_top(state) else { return };
        let Some((at, _)) = spots(questions).get(reply.row).copied() else { return };
        let words = reply.replies.get(at).map(|reply| reply.words.clone()).unwrap_or_default();
        self.write(Editing::Reply { ask, at, reply }, &words);
    }

    /// Own words were written, or not: the question is on top again, and goes on from there.
    pub(super) fn words_written(
        &mut self,
        ask: AskId,
        at: usize,
        reply: Replying,
        said: Option<&str>,
        state: &State,
    ) -> Vec<Wish> {
        let Some(open) = state.asks.get(ask) else {
            let gone = format!("{ask} does not wait for an answer any more");
            if let Some(said) = said.filter(|_| self.composer.is_empty()) {
                self.composer.set(said);
            }
            self.say(&gone, true);
            return Vec::new();
        };
        let mut reply = reply;
        if let (Some(said), Some(one), Some(question)) = (said, reply.replies.get_mut(at), open.ask.questions.get(at)) {
            let chosen = if question.many { std::mem::take(&mut one.chosen) } else { Vec::new() };
            *one = Reply { chosen, ..Reply::words(said) };
        }
        self.popups.push(Popup::Permit { ask, scroll: 0, reply: Some(reply) });
        if said.is_some() { self.go_on(state) } else { Vec::new() }
    }
}
