//! `worker AGENT --invite`, `worker --invited`, `worker AGENT --alive`.

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde::Serialize;

use crate::gateway;

/// An invitation; the only place in which a token is printed.
#[derive(Serialize)]
pub struct InvitationJson {
    /// Names it for `worker --revoke`.
    pub id: String,
    /// Whose worker it admits.
    pub agent: String,
    /// `HOST:PORT`.
    pub address: String,
    /// `sha256:…`.
    pub pin: String,
    /// Admits the worker.
    pub token: String,
    /// All of it, as `worker --invitation FILE` reads it.
    pub line: String,
}

impl InvitationJson {
    /// As it is printed, this once.
    pub fn new(id: String, invitation: &gateway::Invitation) -> Self {
        Self {
            id,
            agent: invitation.agent.to_string(),
            address: invitation.address.clone(),
            pin: invitation.pin.to_string(),
            token: invitation.token.expose_secret().to_owned(),
            line: invitation.line(),
        }
    }
}

/// One that is in force.
#[derive(Debug, Serialize)]
pub struct InvitedJson {
    /// Names it.
    pub id: String,
    /// Whose worker it admits.
    pub agent: String,
    /// When it was made.
    pub made_at: Timestamp,
}

impl From<gateway::Invited> for InvitedJson {
    fn from(invited: gateway::Invited) -> Self {
        Self { id: invited.id, agent: invited.agent.to_string(), made_at: invited.made_at }
    }
}

/// Whether a worker serves a slot here.
#[derive(Debug, Serialize)]
pub struct Alive {
    /// Which.
    pub slot: String,
    /// Its process; `null` = none does.
    pub pid: Option<u32>,
}
