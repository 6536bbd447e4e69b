//! Accounts and their limits: what was met, who may not start because of it, and when work goes on.
//!
//! Owns which accounts are parked and why. Must not know keys, logins or the gateway: an account is a name that agents
//! share. Its one surprise: the reset that a server names is an estimate. It may move while it is waited for, both ways,
//! and what was said before is kept beside what is said now.

mod orders;
mod own;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    Effect, Event, State, Voice,
    time::later,
    why::{Shut, span},
};
use crate::model::{
    AccountName, AccountSettings, AccountSetup, AgentName, Credential, Ending, Resume, Standing, TaskRef,
    limit::{LimitKind, LimitNews, LimitSource, Remedy, WindowName, Windows},
};

/// Every account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Accounts {
    /// Whether work goes on when a limit clears, where nobody has said otherwise of an account.
    pub resume: Resume,
    /// What a person should know of them.
    pub notes: Vec<String>,
    known: Vec<AccountSettings>,
    windows: BTreeMap<AccountName, Windows>,
    parked: BTreeMap<AccountName, Parked>,
    /// What each was parked for last, and when it was let go.
    lifted: BTreeMap<AccountName, (Timestamp, Parked)>,
    /// Refusals that engines told of, the newest last.
    refusals: VecDeque<Refusal>,
}

/// Why and until when nothing starts on an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// What was met; `None` = a person has parked it.
    pub kind: Option<LimitKind>,
    /// What was said.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// When it clears, as far as is known.
    pub until: Option<Timestamp>,
    /// The end is a guess, or has moved.
    pub estimated: bool,
    /// What was said before of its end, where that was something else.
    pub said: Option<Timestamp>,
    /// When that was last heard.
    pub heard: Timestamp,
    /// What a person has said about going on; `None` = as configured.
    pub wish: Option<Plan>,
    /// Whose attempt met it.
    pub task: Option<TaskRef>,
    /// A person was told that it has cleared.
    #[serde(default)]
    pub told: bool,
}

/// What happens when a limit clears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// Work goes on by itself.
    GoesOn,
    /// A person is asked.
    Asks,
    /// Nothing: it stays parked until a person resumes it.
    Stays,
}

/// What became of an account's limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "limit")]
pub enum LimitEvent {
    /// Nothing more starts on it.
    Parked {
        /// Which account.
        account: AccountName,
        /// Why, and until when.
        parked: Box<Parked>,
    },
    /// Its end is another one now.
    Moved {
        /// Which account.
        account: AccountName,
        /// Why, and until when.
        parked: Box<Parked>,
    },
    /// Its limit has cleared and work goes on by itself.
    Lifted {
        /// Which account.
        account: AccountName,
    },
}

/// A request that an engine says was refused and will be made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Refusal {
    at: Timestamp,
    account: AccountName,
    status: u16,
}

/// Refusals kept.
const REFUSALS: usize = 500;
/// Ends that are this close together are the same.
const SAME: SignedDuration = SignedDuration::from_secs(60);
/// A limit that is met so soon after it was to clear is the same one, and its end has moved.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

impl Parked {
    /// What was met, in words.
    pub fn words(&self) -> &str {
        match self.kind {
            // An engine that does not tell which window says more than we could.
            Some(LimitKind::Window(WindowName::Other)) if !self.message.is_empty() => &self.message,
            Some(kind) => kind.words(),
            None => "parked by hand",
        }
    }

    /// Whether only a person can mend it.
    pub fn needs_mending(&self) -> bool {
        self.kind.is_some_and(|kind| kind.remedy() == Remedy::StopAccount)
    }

    /// Whether its limit has cleared, by what was last said.
    pub fn has_cleared(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// What happens when it clears.
    pub fn plan(&self, resume: Resume) -> Plan {
        if self.kind.is_none() || self.needs_mending() {
            return Plan::Stays;
        }
        self.wish.unwrap_or(match resume {
            Resume::Off => Plan::Stays,
            Resume::Ask => Plan::Asks,
            Resume::On => Plan::GoesOn,
        })
    }

    fn by_hand(now: Timestamp) -> Self {
        Self {
            kind: None,
            message: String::new(),
            since: now,
            until: None,
            estimated: false,
            said: None,
            heard: now,
            wish: Some(Plan::Stays),
            task: None,
            told: false,
        }
    }

    fn new(news: &LimitNews, task: Option<TaskRef>) -> Self {
        Self {
            kind: Some(news.kind),
            message: news.message.clone(),
            since: news.at,
            until: news.until.filter(|_| news.kind.remedy() == Remedy::ParkAccount),
            estimated: news.estimated,
            said: None,
            heard: news.at,
            wish: None,
            task,
            told: false,
        }
    }

    /// The same limit is met again: its end was not where it was said to be.
    fn goes_on_from(&mut self, before: &Self) {
        self.wish = before.wish.filter(|_| before.kind.is_some());
        if let (Some(said), Some(until)) = (before.until, self.until)
            && until.duration_since(said).abs() > SAME
        {
            self.said = Some(said);
            self.estimated = true;
        }
    }

    /// Takes in what was said later; whether that changed when it ends.
    fn hear(&mut self, news: &LimitNews) -> bool {
        self.heard = news.at;
        let (Some(old), Some(new)) = (self.until, news.until) else {
            return false;
        };
        let other = self.kind != Some(news.kind);
        // A guess says nothing against an end that was named and is still to come; of two windows the later one counts.
        if new.duration_since(old).abs() <= SAME || (news.estimated && old > news.at) || (other && new < old) {
            return false;
        }
        self.kind = Some(news.kind);
        self.message.clone_from(&news.message);
        self.said = Some(old);
        self.until = Some(new);
        self.estimated = true;
        self.told = false;
        true
    }
}

impl Accounts {
    /// One account, as it was found at the start.
    pub fn settings(&self, name: &AccountName) -> Option<&AccountSettings> {
        self.known.iter().find(|a| a.name == *name)
    }

    /// The account an agent uses.
    pub fn of(&self, agent: &AgentName) -> AccountName {
        let known = self.known.iter().find(|a| a.agents.contains(agent));
        known.map_or_else(|| AccountName::own(agent), |a| a.name.clone())
    }

    /// What an account is paid by.
    pub fn credential(&self, name: &AccountName) -> Credential {
        self.settings(name).map_or(Credential::Own, |a| a.credential)
    }

    /// The account that the gateway calls so.
    pub(super) fn labelled(&self, label: &str) -> Option<AccountName> {
        self.known.iter().find(|a| a.label.as_deref() == Some(label)).map(|a| a.name.clone())
    }

    /// Why nothing starts on an account.
    pub fn parked(&self, name: &AccountName) -> Option<&Parked> {
        self.parked.get(name)
    }

    /// Every parked account.
    pub fn all_parked(&self) -> impl Iterator<Item = (&AccountName, &Parked)> {
        self.parked.iter()
    }

    /// What the account's server or engine last said of its windows.
    pub fn windows(&self, name: &AccountName) -> Option<&Windows> {
        self.windows.get(name)
    }

    /// The same of every account.
    pub fn all_windows(&self) -> &BTreeMap<AccountName, Windows> {
        &self.windows
    }

    /// How often engines were refused with this status in the last minute, on accounts whose calls pass no gateway.
    pub fn refused(&self, status: u16, now: Timestamp) -> usize {
        let since = later(now, SignedDuration::from_secs(-60));
        self.refusals.iter().filter(|r| r.status == status && r.at > since).count()
    }

    /// When something happens to an account by itself.
    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let waits = self.parked.values().filter(|p| !p.told && !p.needs_mending());
        waits.filter_map(|p| p.until).min()
    }

    /// Moves every wait: the clock was set.
    pub(super) fn shift(&mut self, by: SignedDuration) {
        for parked in self.parked.values_mut() {
            parked.since = later(parked.since, by);
            parked.heard = later(parked.heard, by);
            parked.until = parked.until.map(|until| later(until, by));
            parked.said = parked.said.map(|said| later(said, by));
        }
        for (at, parked) in self.lifted.values_mut() {
            *at = later(*at, by);
            parked.until = parked.until.map(|until| later(until, by));
        }
        self.refusals.clear();
    }

    pub(super) fn open(&mut self, setup: AccountSetup) {
        let AccountSetup { resume, accounts, notes, windows } = setup;
        self.resume = resume;
        self.notes = notes;
        self.known = accounts;
        for (account, windows) in windows {
            self.hear_windows(account, windows);
        }
    }

    /// Takes what an account's server or engine said of its windows.
    pub(super) fn hear_windows(&mut self, account: AccountName, windows: Windows) {
        let newer = self.windows.get(&account).is_none_or(|known| known.at <= windows.at);
        if newer {
            self.windows.insert(account, windows);
        }
    }
}

impl State {
    /// Why nothing starts on an agent because of its account.
    pub fn parked(&self, agent: &AgentName) -> Option<&Parked> {
        self.accounts.parked(&self.accounts.of(agent))
    }

    /// Who uses an account.
    pub fn users_of(&self, account: &AccountName) -> Vec<AgentName> {
        self.agents.names().into_iter().filter(|agent| self.accounts.of(agent) == *account).collect()
    }

    /// Every account that an agent uses, that is parked, or that something is known of: used ones first.
    pub fn account_names(&self) -> Vec<AccountName> {
        let used = self.agents.iter().map(|agent| self.accounts.of(agent.name()));
        let others = self.accounts.parked.keys().chain(self.accounts.windows.keys()).cloned();
        let mut names: Vec<AccountName> = Vec::new();
        for name in used.chain(others) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// What holds an agent because of its account, in words.
    pub fn shut(&self, agent: &AgentName, now: Timestamp) -> Option<Shut> {
        let account = self.accounts.of(agent);
        let parked = self.accounts.parked(&account)?;
        let then = match (parked.until, parked.plan(self.accounts.resume)) {
            (Some(_), Plan::GoesOn) => String::new(),
            (Some(until), Plan::Asks) if until > now => "then you are asked".to_owned(),
            (Some(until), Plan::Stays) if until > now => "then it waits for you".to_owned(),
            _ => self.mending(&account, parked),
        };
        let left = parked.until.map(|until| until.duration_since(now));
        Some(Shut { words: parked.words().to_owned(), left, about: parked.estimated, then })
    }

    /// An engine waits before it asks its model again.
    pub(super) fn refusal_heard(&mut self, agent: &AgentName, status: u16) {
        let account = self.accounts.of(agent);
        if !self.accounts.credential(&account).is_observed() {
            return;
        }
        if self.accounts.refusals.len() >= REFUSALS {
            self.accounts.refusals.pop_front();
        }
        self.accounts.refusals.push_back(Refusal { at: self.now, account, status });
    }

    /// The gateway or an engine has met a limit. Where it closes an account, nothing more starts on that.
    pub(super) fn limit_met(
        &mut self,
        account: AccountName,
        news: &LimitNews,
        task: Option<TaskRef>,
        effects: &mut Vec<Effect>,
    ) {
        if !news.kind.closes_account() {
            return;
        }
        let stops = news.kind.remedy() == Remedy::StopAccount;
        let known = self.accounts.parked.get_mut(&account);
        let event = match known {
            // What a person must mend, and has not, is not mended by another limit.
            Some(known) if known.needs_mending() => {
                known.heard = news.at;
                return;
            }
            Some(known) if known.kind.is_some() && !stops => {
                if !known.hear(news) {
                    return;
                }
                LimitEvent::Moved { account, parked: Box::new(known.clone()) }
            }
            known => {
                let mut parked = Parked::new(news, task);
                if let Some(known) = known {
                    (parked.since, parked.wish) = (known.since, known.wish);
                } else if let Some((at, before)) = self.accounts.lifted.get(&account)
                    && news.at.duration_since(*at) <= AGAIN
                {
                    parked.goes_on_from(before);
                }
                self.accounts.parked.insert(account.clone(), parked.clone());
                LimitEvent::Parked { account, parked: Box::new(parked) }
            }
        };
        effects.push(Effect::Keep { fact: Box::new(Event::Limit(event)) });
    }

    /// A call of an account that was closed was answered well, or it was opened by hand: what a person had to mend is
    /// mended. A window's end is waited for as the switch says.
    pub(super) fn account_works(&mut self, label: &str, effects: &mut Vec<Effect>) {
        let Some(account) = self.accounts.labelled(label) else { return };
        if self.accounts.parked(&account).is_some_and(Parked::needs_mending) {
            let fact = Event::Limit(LimitEvent::Lifted { account });
            effects.push(Effect::Keep { fact: Box::new(fact) });
        }
    }

    /// An attempt ended in a limit: the word of an engine that told of no windows.
    pub(super) fn limit_ended(&mut self, task: &TaskRef, ending: &Ending, effects: &mut Vec<Effect>) {
        let Ending::Limit { message, until: Some(until) } = ending else { return };
        let account = self.accounts.of(&task.agent);
        if self.accounts.parked.contains_key(&account) || *until <= self.now {
            return;
        }
        let news = LimitNews {
            account: String::new(),
            group: None,
            kind: LimitKind::Window(WindowName::Other),
            until: Some(*until),
            estimated: false,
            source: LimitSource::Engine,
            message: message.clone(),
            at: self.now,
        };
        self.limit_met(account, &news, Some(task.clone()), effects);
    }

    pub(super) fn limit_event(&mut self, event: LimitEvent) {
        match event {
            LimitEvent::Parked { account, parked } => {
                let text = self.parked_line(&account, &parked);
                self.accounts.parked.insert(account, *parked);
                self.say(Voice::Room, None, text);
            }
            LimitEvent::Moved { account, parked } => {
                let left = parked.until.map(|until| span(until.duration_since(self.now))).unwrap_or_default();
                let before = parked.said.map(|said| span(said.duration_since(self.now))).unwrap_or_default();
                self.accounts.parked.insert(account.clone(), *parked);
                let text = format!("{account}: the limit now clears in {left}, {before} was said before");
                self.say(Voice::Room, None, text);
            }
            LimitEvent::Lifted { account } => {
                self.lift(&account);
                self.say(Voice::Room, None, format!("{account}: the limit has cleared; work goes on"));
            }
        }
    }

    fn parked_line(&self, account: &AccountName, parked: &Parked) -> String {
        let users = super::agents::join(&self.users_of(account));
        let on = if users.is_empty() { String::new() } else { format!(" on {users}") };
        let words = parked.words();
        let Some(until) = parked.until else {
            return format!("{account}: {words}; nothing more starts{on}: {}", self.mending(account, parked));
        };
        let about = if parked.estimated { "about " } else { "" };
        let wait = span(until.duration_since(self.now));
        let then = match parked.plan(self.accounts.resume) {
            Plan::GoesOn => "then work goes on by itself".to_owned(),
            Plan::Asks => "then you are asked".to_owned(),
            Plan::Stays => format!("and then not before `podium resume {account}`"),
        };
        format!("{account}: {words}; nothing more starts{on} for {about}{wait}, {then}")
    }

    /// What a person can do about an account that does not go on by itself.
    pub fn mending(&self, account: &AccountName, parked: &Parked) -> String {
        let settings = self.accounts.settings(account);
        let agent = settings.and_then(|a| a.agents.first());
        match (parked.kind.map(LimitKind::remedy), settings.map(|a| a.credential), agent) {
            (Some(Remedy::StopAccount), Some(Credential::Login), Some(agent))
                if parked.kind == Some(LimitKind::Auth) =>
            {
                format!("`podium auth {agent}`, then `podium resume {account}`")
            }
            (Some(Remedy::StopAccount), Some(Credential::Key), _) if parked.kind == Some(LimitKind::Auth) => {
                format!("set {account} anew and start the room again, or `podium resume {account}`")
            }
            (Some(Remedy::StopAccount), ..) => format!("see to it, then `podium resume {account}`"),
            _ => format!("`podium resume {account}`"),
        }
    }

    /// Lets go what has cleared and goes on by itself; tells once of what asks.
    pub(super) fn settle_limits(&mut self, effects: &mut Vec<Effect>) {
        if self.opened_at.is_none() {
            return;
        }
        let (now, resume) = (self.now, self.accounts.resume);
        let mut asks = Vec::new();
        for (account, parked) in &mut self.accounts.parked {
            if parked.told || !parked.has_cleared(now) || parked.needs_mending() {
                continue;
            }
            parked.told = true;
            match parked.plan(resume) {
                Plan::GoesOn => {
                    let lifted = Event::Limit(LimitEvent::Lifted { account: account.clone() });
                    effects.push(Effect::Keep { fact: Box::new(lifted) });
                }
                Plan::Asks | Plan::Stays => asks.push(account.clone()),
            }
        }
        for account in asks {
            let text = format!("{account}: the limit has cleared; `podium resume {account}`, or p, lets work go on");
            self.say(Voice::Room, None, text);
        }
    }

    /// Whether an account waits for a person.
    pub fn account_needs_you(&self, parked: &Parked, now: Timestamp) -> bool {
        parked.needs_mending() || (parked.has_cleared(now) && parked.plan(self.accounts.resume) != Plan::GoesOn)
    }

    /// Lets an account go, and the tasks that wait for its limit.
    fn lift(&mut self, account: &AccountName) -> Option<Parked> {
        let parked = self.accounts.parked.remove(account)?;
        self.accounts.lifted.insert(account.clone(), (self.now, parked.clone()));
        let limited = |task: &&super::Task| {
            matches!(task.record.standing, Standing::Retrying { .. })
                && self.accounts.of(&task.record.task().agent) == *account
                && matches!(task.record.attempts.last().and_then(|a| a.ending.as_ref()), Some(Ending::Limit { .. }))
        };
        let tasks: Vec<_> = self.tasks.iter().filter(limited).map(|task| task.record.task().clone()).collect();
        for task in tasks {
            self.tasks.wait_anew(&task, SignedDuration::ZERO, self.now);
        }
        Some(parked)
    }

    /// Takes the accounts as they are found at the start; a key that was not accepted may be another one now.
    pub(super) fn open_accounts(&mut self, setup: AccountSetup, same_room: bool) {
        self.accounts.open(setup);
        for parked in self.accounts.parked.values_mut() {
            parked.told = false;
        }
        for note in self.accounts.notes.clone() {
            self.say(Voice::Room, None, note);
        }
        if same_room {
            return;
        }
        let mended = |(account, parked): (&AccountName, &Parked)| {
            let key = self.accounts.credential(account) == Credential::Key;
            (key && parked.needs_mending()).then(|| account.clone())
        };
        let mended: Vec<_> = self.accounts.parked.iter().filter_map(mended).collect();
        for account in mended {
            self.lift(&account);
        }
    }
}
