//! `podium worker AGENT --invite`: lets a worker on another machine call this room's gateway, and takes that back.
//!
//! Needs no room: an invitation is a file of the stage, and holds as soon as it is there.

use super::{Call, Exit, Trouble, ids::known_agent, json, link, out::Paint};
use crate::{gateway::Invitation, model::text};

/// Makes an invitation and prints it, this once.
pub(super) fn invite(call: &Call, agent: &str) -> anyhow::Result<Exit> {
    let config = call.config()?;
    let known: Vec<_> = config.agents.iter().map(|a| a.name.clone()).collect();
    let agent = known_agent(&known, agent)?;
    let address = config.elsewhere.called().map_err(Trouble::Wrong)?;
    let invitations = config.invitations();
    let pin = invitations.pin()?;
    let (invited, token) = invitations.make(agent.clone(), link::clock().now())?;
    let invitation = Invitation { agent, address, pin, token };
    if call.out.is_json() {
        call.out.json(&json::InvitationJson::new(invited.id, &invitation));
        return Ok(Exit::Done);
    }
    call.out.line(&invitation.line());
    call.out.note(&format!(
        "this line is shown once and opens the room's gateway for {}: keep it in a file that nobody else can read \
         (mode 600), and start `podium worker {} --invitation FILE`; `podium worker --revoke {}` takes it back",
        invitation.agent, invitation.agent, invited.id
    ));
    Ok(Exit::Done)
}

/// Lists invitations in force.
pub(super) fn list(call: &Call) -> anyhow::Result<Exit> {
    let all = call.config()?.invitations().list()?;
    if call.out.is_json() {
        for invited in all {
            call.out.json_line(&json::InvitedJson::from(invited));
        }
        return Ok(Exit::Done);
    }
    let rows: Vec<_> = all
        .into_iter()
        .map(|invited| {
            let since = format!("since {}", invited.made_at.strftime("%Y-%m-%d %H:%M UTC"));
            vec![(Paint::Bold, invited.id), (Paint::Plain, invited.agent.to_string()), (Paint::Dim, since)]
        })
        .collect();
    if rows.is_empty() {
        call.out.note("nobody is invited; `podium worker AGENT --invite` makes an invitation");
    }
    call.out.table(&rows);
    Ok(Exit::Done)
}

/// Takes an invitation back.
pub(super) fn revoke(call: &Call, id: &str) -> anyhow::Result<Exit> {
    let invitations = call.config()?.invitations();
    let known = invitations.list()?.into_iter().any(|invited| invited.id == id);
    if !known || !invitations.revoke(id)? {
        let shown = text::first_line(id, 60);
        return Err(
            Trouble::Wrong(format!("there is no invitation {shown}; `podium worker --invited` lists them")).into()
        );
    }
    let text = format!("{id} is taken back: its next call is refused");
    if call.out.is_json() {
        call.out.json(&json::Done { text, ids: vec![id.to_owned()] });
    } else {
        call.out.line(&text);
    }
    Ok(Exit::Done)
}
