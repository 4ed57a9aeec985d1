//! Channels over HTTP ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).

use serde_json::{Value, json};

use super::call::{Call, HttpAnswer, HttpRefusal, nothing, refuse};
use crate::engine::directory::{Channel, ChannelKind, ChannelMember};
use crate::engine::id::Id;
use crate::engine::record::{ChannelChanged, EngineRecord, Joined, Muted};
use crate::engine::step::Step;
use crate::engine::views;
use crate::ids::is_channel_name;

/// A public channel by name.
pub fn find<'t>(t: &'t Step<'_>, ws: Id, name: &str) -> Result<&'t Channel, HttpRefusal> {
    t.ws(ws)?.channel_named(name).ok_or_else(|| {
        refuse(
            404,
            "channel_not_found",
            format!("Channel \"{name}\" not found"),
        )
    })
}

impl Step<'_> {
    /// Makes an agent a member; says whether it was one already.
    pub fn join(&mut self, ws: Id, channel: Id, agent: Id) -> bool {
        let Some(w) = self.core.state.workspaces.get(&ws) else {
            return true;
        };
        let Some(c) = w.channels.get(&channel) else {
            return true;
        };
        if c.members.contains_key(&agent) {
            return true;
        }
        let name = c.name.clone();
        let who = w.agents.get(&agent).map(|a| a.name.clone());
        self.record(EngineRecord::Joined(Joined {
            ws,
            channel,
            agent,
            at: self.now.wall,
        }));
        self.announce(ws, "channels:read", || {
            json!({
                "type": "member.joined",
                "channel": name,
                "channel_id": channel.to_string(),
                "agent_name": who,
            })
        });
        false
    }
}

pub fn create(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let name = call.need("name")?.trim_start_matches('#');
    if !is_channel_name(name) {
        return Err(refuse(
            400,
            "invalid_channel_name",
            "A channel name has small letters, digits and dashes, and starts with no dash",
        ));
    }
    let topic = call.text("topic")?.map(str::to_owned);
    let metadata = call.object("metadata")?.cloned().unwrap_or_default();
    if t.ws(ws)?.channel_named(name).is_some() {
        return Err(refuse(
            409,
            "channel_already_exists",
            format!("Channel \"{name}\" already exists"),
        ));
    }
    let member = ChannelMember {
        joined_at: t.now.wall,
        ..ChannelMember::default()
    };
    let channel = Channel {
        id: t.fresh_id(),
        kind: ChannelKind::Public,
        name: name.to_owned(),
        topic,
        metadata,
        created_by: Some(me),
        created_at: t.now.wall,
        members: [(me, member)].into(),
        ..Channel::default()
    };
    let data = views::channel(&channel);
    let (id, topic) = (channel.id.to_string(), channel.topic.clone());
    t.record(EngineRecord::ChannelCreated {
        ws,
        channel: Box::new(channel),
    });
    t.announce(ws, "channels:read", || {
        json!({
            "type": "channel.created",
            "channel": {"name": name, "topic": topic},
            "channel_id": id,
        })
    });
    Ok((201, data))
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let archived = ["include_archived", "includeArchived"]
        .iter()
        .any(|k| matches!(call.query(k), Some("true" | "1")));
    let list: Value = t
        .ws(call.ws())?
        .channels
        .values()
        .filter(|c| c.kind == ChannelKind::Public && (archived || !c.archived))
        .map(views::channel)
        .collect();
    Ok((200, list))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let c = find(t, w.id, call.at[0])?;
    let mut data = views::channel(c);
    data["members"] = json!(views::members(w, c));
    Ok((200, data))
}

pub fn members(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let c = find(t, w.id, call.at[0])?;
    Ok((200, json!(views::members(w, c))))
}

pub fn update(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let c = find(t, ws, call.at[0])?;
    let (id, name, archived) = (c.id, c.name.clone(), c.archived);
    let topic = match call.body.get("topic") {
        None => None,
        Some(_) => Some(call.text("topic")?.map(str::to_owned)),
    };
    let metadata = call.object("metadata")?.map(|more| {
        let mut all = c.metadata.clone();
        all.extend(more.clone());
        all
    });
    t.record(EngineRecord::ChannelChanged(ChannelChanged {
        ws,
        channel: id,
        topic,
        metadata,
        archived,
    }));
    let c = find(t, ws, &name)?;
    let (data, topic) = (views::channel(c), c.topic.clone());
    t.announce(
        ws,
        "channels:read",
        || json!({"type": "channel.updated", "channel": {"name": name, "topic": topic}}),
    );
    Ok((200, data))
}

pub fn archive(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let c = find(t, ws, call.at[0])?;
    let (id, name) = (c.id, c.name.clone());
    if id == t.ws(ws)?.general {
        return Err(refuse(
            400,
            "cannot_archive_general",
            "The channel \"general\" stays",
        ));
    }
    t.record(EngineRecord::ChannelChanged(ChannelChanged {
        ws,
        channel: id,
        topic: None,
        metadata: None,
        archived: true,
    }));
    t.announce(
        ws,
        "channels:read",
        || json!({"type": "channel.archived", "channel": {"name": name}}),
    );
    nothing()
}

fn open_channel(t: &Step<'_>, ws: Id, name: &str) -> Result<(Id, String), HttpRefusal> {
    let c = find(t, ws, name)?;
    if c.archived {
        return Err(refuse(
            400,
            "channel_archived",
            format!("Channel \"{name}\" is archived"),
        ));
    }
    Ok((c.id, c.name.clone()))
}

pub fn join(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let (id, name) = open_channel(t, ws, call.at[0])?;
    let already = t.join(ws, id, me);
    let data = json!({"channel": name, "agent_id": me.to_string(), "already_member": already});
    Ok((200, data))
}

pub fn leave(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let c = find(t, ws, call.at[0])?;
    let (id, name, member) = (c.id, c.name.clone(), c.members.contains_key(&me));
    let who = t.agent(ws, me).map(|a| a.name.clone());
    if member {
        t.record(EngineRecord::Left {
            ws,
            channel: id,
            agent: me,
        });
        t.announce(
            ws,
            "channels:read",
            || json!({"type": "member.left", "channel": name, "agent_name": who}),
        );
    }
    nothing()
}

pub fn invite(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let (id, name) = open_channel(t, ws, call.at[0])?;
    let agent = t.agent_named(ws, call.need("agent_name")?)?;
    let (agent, who) = (agent.id, agent.name.clone());
    t.join(ws, id, agent);
    Ok((200, json!({"channel": name, "agent": who})))
}

pub fn mute(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    set_muted(t, call, true)
}

pub fn unmute(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    set_muted(t, call, false)
}

fn set_muted(t: &mut Step<'_>, call: &Call<'_>, muted: bool) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let c = find(t, ws, call.at[0])?;
    if !c.members.contains_key(&me) {
        return Err(refuse(403, "not_a_member", "Join the channel first"));
    }
    let (id, name) = (c.id, c.name.clone());
    t.record(EngineRecord::Muted(Muted {
        ws,
        channel: id,
        agent: me,
        muted,
    }));
    let data = json!({"channel": name, "agent_id": me.to_string(), "muted": muted});
    Ok((200, data))
}

pub fn read_status(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let c = find(t, w.id, call.at[0])?;
    let list: Value = c
        .members
        .iter()
        .filter_map(|(id, member)| {
            let agent = w.agents.get(id)?;
            Some(json!({
                "agent_name": agent.name,
                "last_read_id": member.last_read.map(|(id, _)| id.to_string()),
                "last_read_at": member.last_read.map(|(_, at)| at.iso()),
            }))
        })
        .collect();
    Ok((200, list))
}
