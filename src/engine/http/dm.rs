//! Direct messages over HTTP ([engine-protocol 2.5](crate::docs::engine_protocol#2.5)).

use serde_json::{Value, json};

use super::call::{Call, Caller, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use super::messages::{Once, draft, once, page, speaker};
use crate::engine::directory::{Channel, ChannelKind, ChannelMember, Workspace, conversation_id};
use crate::engine::history::Message;
use crate::engine::id::Id;
use crate::engine::payload::core_message;
use crate::engine::record::{EngineRecord, Joined};
use crate::engine::step::Step;

impl Step<'_> {
    /// The channel behind the conversation of two, made if it is their first.
    fn direct_channel(&mut self, ws: Id, one: Id, other: Id) -> Id {
        let conversation = conversation_id(ws, one, other);
        let known = self
            .core
            .state
            .workspaces
            .get(&ws)
            .and_then(|w| w.conversation(&conversation))
            .map(|c| c.id);
        match known {
            Some(channel) => channel,
            None => {
                let members = vec![one, other];
                self.open_conversation(ws, ChannelKind::Direct, Some(conversation), None, &members)
            }
        }
    }

    fn open_conversation(
        &mut self,
        ws: Id,
        kind: ChannelKind,
        conversation: Option<String>,
        title: Option<String>,
        members: &[Id],
    ) -> Id {
        let id = self.fresh_id();
        let conversation = conversation.unwrap_or_else(|| format!("gdm_{id}"));
        let tail = conversation.split_once('_').map_or("", |(_, tail)| tail);
        let member = ChannelMember {
            joined_at: self.now.wall,
            ..ChannelMember::default()
        };
        let channel = Channel {
            id,
            kind,
            name: format!("dm-{tail}"),
            conversation: Some(conversation.clone()),
            title,
            created_by: members.first().copied(),
            created_at: self.now.wall,
            members: members.iter().map(|m| (*m, member.clone())).collect(),
            ..Channel::default()
        };
        self.record(EngineRecord::ChannelCreated {
            ws,
            channel: Box::new(channel),
        });
        id
    }
}

fn sent(t: &Step<'_>, ws: Id, id: Id, to: Option<&str>) -> HttpAnswer {
    let w = t.ws(ws)?;
    let lost = || refuse(404, "message_not_found", "Message not found");
    let m = w.history.get(id).ok_or_else(lost)?;
    let c = w.channels.get(&m.channel).ok_or_else(lost)?;
    let mut data = json!({
        "conversation_id": c.conversation,
        "message": core_message(m),
        "created_at": m.at.iso(),
        "id": m.id.to_string(),
        "from_agent_id": m.from.to_string(),
        "text": m.text,
        "injection_mode": m.mode.as_str(),
        "attachments": [],
    });
    if let Some(to) = to {
        data["to"] = json!(to);
    }
    Ok((201, data))
}

pub fn send(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let me = speaker(t, call)?;
    let to = call.need("to")?;
    let peer = match to {
        "@self" => me,
        name => {
            t.agent_named(ws, name.strip_prefix('@').unwrap_or(name))?
                .id
        }
    };
    let name = t.agent(ws, peer).map(|a| a.name.clone());
    let id = match once(t, call, me)? {
        Once::Done(id) => id,
        Once::New(idem) => {
            // What is wrong with the message is found before the conversation is made.
            let mut draft = draft(call, 0, me, None, idem)?;
            draft.channel = t.direct_channel(ws, me, peer);
            t.post(ws, draft)
        }
    };
    let (status, mut data) = sent(t, ws, id, name.as_deref())?;
    if !t.is_in_hand(ws, peer) {
        data["waits"] = json!({"left_ms": t.core.ttl.map(|ttl| ttl.as_millis() as u64)});
    }
    Ok((status, data))
}

pub fn create_group(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let mut members = vec![me];
    for name in call.texts("participants")? {
        let agent = t.agent_named(ws, name.trim_start_matches('@'))?.id;
        if !members.contains(&agent) {
            members.push(agent);
        }
    }
    if members.len() < 2 {
        return Err(invalid("\"participants\" needs at least one other agent"));
    }
    let title = call.text("name")?.map(str::to_owned);
    let channel = t.open_conversation(ws, ChannelKind::Group, None, title, &members);
    // The Rust SDK sends its first message along.
    if call.text("text")?.is_some_and(|text| !text.is_empty()) {
        let draft = draft(call, channel, me, None, None)?;
        t.post(ws, draft);
    }
    let c = t
        .ws(ws)?
        .channels
        .get(&channel)
        .ok_or_else(no_conversation)?;
    let participants: Vec<Value> = members
        .iter()
        .map(|m| json!({"agent_id": m.to_string()}))
        .collect();
    let data = json!({
        "id": c.conversation,
        "channel_id": c.public_id(),
        "dm_type": "group",
        "name": c.title,
        "participants": participants,
        "created_at": c.created_at.iso(),
    });
    Ok((201, data))
}

fn no_conversation() -> HttpRefusal {
    refuse(404, "channel_not_found", "Conversation not found")
}

fn find<'w>(w: &'w Workspace, id: &str) -> Result<&'w Channel, HttpRefusal> {
    w.conversation(id).ok_or_else(no_conversation)
}

/// The conversation, if the caller is in it.
fn mine<'w>(w: &'w Workspace, call: &Call<'_>) -> Result<&'w Channel, HttpRefusal> {
    let c = find(w, call.at[0])?;
    if c.members.contains_key(&call.agent()?) {
        Ok(c)
    } else {
        Err(refuse(
            403,
            "not_a_member",
            "The agent is not part of this conversation",
        ))
    }
}

pub fn send_in(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let channel = mine(t.ws(ws)?, call)?.id;
    let id = match once(t, call, me)? {
        Once::Done(id) => id,
        Once::New(idem) => {
            let draft = draft(call, channel, me, None, idem)?;
            t.post(ws, draft)
        }
    };
    sent(t, ws, id, None)
}

pub fn messages(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let channel = mine(w, call)?.id;
    Ok((200, page(w, call, channel)?))
}

pub fn any_messages(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let c = find(w, call.at[0])?;
    if let Caller::Agent(_, me) = call.caller
        && !c.members.contains_key(&me)
    {
        return Err(no_conversation());
    }
    Ok((200, page(w, call, c.id)?))
}

pub fn add_participant(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let c = mine(t.ws(ws)?, call)?;
    if c.kind != ChannelKind::Group {
        return Err(invalid(
            "Only group conversations take further participants",
        ));
    }
    let (channel, conversation) = (c.id, c.conversation.clone());
    let name = call.need("agent_name")?;
    let agent = t.agent_named(ws, name)?.id;
    let already = c_has(t, ws, channel, agent);
    if !already {
        t.record(EngineRecord::Joined(Joined {
            ws,
            channel,
            agent,
            at: t.now.wall,
        }));
    }
    let data = json!({"conversation_id": conversation, "agent": name, "already_member": already});
    Ok((200, data))
}

fn c_has(t: &Step<'_>, ws: Id, channel: Id, agent: Id) -> bool {
    t.ws(ws)
        .ok()
        .and_then(|w| w.channels.get(&channel))
        .is_some_and(|c| c.members.contains_key(&agent))
}

pub fn remove_participant(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let c = mine(t.ws(ws)?, call)?;
    if c.kind != ChannelKind::Group {
        return Err(invalid("Nobody leaves a conversation of two"));
    }
    let channel = c.id;
    let agent = t.agent_named(ws, call.at[1])?.id;
    t.record(EngineRecord::Left { ws, channel, agent });
    nothing()
}

fn kind_word(c: &Channel) -> &'static str {
    if c.kind == ChannelKind::Group {
        "group"
    } else {
        "1:1"
    }
}

/// How many messages of others an agent has not read in a channel.
pub fn unread(w: &Workspace, c: &Channel, me: Id) -> usize {
    let last = c
        .members
        .get(&me)
        .and_then(|m| m.last_read)
        .map(|(id, _)| id);
    w.history
        .in_channel(c.id, last, None)
        .filter(|m| m.from != me && !m.readers.contains_key(&me))
        .count()
}

pub fn conversations(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let w = t.ws(ws)?;
    let list: Value = w
        .channels
        .values()
        .filter(|c| c.conversation.is_some() && c.members.contains_key(&me))
        .map(|c| {
            let participants: Vec<Value> = c
                .members
                .keys()
                .filter_map(|id| w.agents.get(id))
                .map(|a| json!({"agent_id": a.id.to_string(), "agent_name": a.name}))
                .collect();
            let last = w.history.last(c.id).map(|m: &Message| {
                json!({
                    "id": m.id.to_string(),
                    "text": m.text,
                    "agent_id": m.from.to_string(),
                    "agent_type": m.from_kind,
                    "created_at": m.at.iso(),
                })
            });
            json!({
                "id": c.conversation,
                "type": kind_word(c),
                "name": c.title,
                "participants": participants,
                "last_message": last,
                "unread_count": unread(w, c, me),
                "created_at": c.created_at.iso(),
            })
        })
        .collect();
    Ok((200, list))
}

pub fn all_conversations(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let only = match call.caller {
        Caller::Agent(_, me) => Some(me),
        Caller::Nobody | Caller::Key(_) | Caller::Node(..) | Caller::Observer(..) => None,
    };
    let list: Value = w
        .channels
        .values()
        .filter(|c| c.conversation.is_some())
        .filter(|c| only.is_none_or(|me| c.members.contains_key(&me)))
        .map(|c| {
            let names: Vec<&str> = c
                .members
                .keys()
                .filter_map(|id| w.agents.get(id))
                .map(|a| a.name.as_str())
                .collect();
            let last = w.history.last(c.id).map(|m| {
                json!({
                    "text": m.text,
                    "agent_id": m.from.to_string(),
                    "agent_name": m.from_name,
                    "created_at": m.at.iso(),
                })
            });
            json!({
                "id": c.conversation,
                "channel_id": c.public_id(),
                "type": kind_word(c),
                "participants": names,
                "last_message": last,
                "message_count": w.history.count(c.id),
            })
        })
        .collect();
    Ok((200, list))
}
