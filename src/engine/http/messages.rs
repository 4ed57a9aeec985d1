//! Messages, threads, reactions and readers over HTTP ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)), and the
//! idempotency of posts ([engine-protocol 1.8](crate::docs::engine_protocol#1.8)).

use serde_json::{Value, json};

use super::call::{Call, Caller, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use super::channels;
use crate::engine::directory::Workspace;
use crate::engine::history::{Idem, Message};
use crate::engine::id::{Id, digest};
use crate::engine::limits;
use crate::engine::record::{EngineRecord, Reacted, Read, Unreacted};
use crate::engine::routing::MessageDraft;
use crate::engine::step::Step;
use crate::engine::views;

/// Who speaks: the calling agent, or the agent that a node names with `from`. Engines that play an age let a node name any
/// agent, and no agent name one.
pub fn speaker(t: &Step<'_>, call: &Call<'_>) -> Result<Id, HttpRefusal> {
    let lenient = t.core.behaviour().schema.is_none();
    let from = call.text("from")?.filter(|from| !from.is_empty());
    match (&call.caller, from) {
        (Caller::Node(..), None) => Err(refuse(400, "from_required", "\"from\" is required")),
        (Caller::Node(ws, node), Some(from)) => {
            let agent = t.agent_named(*ws, from)?;
            if lenient && agent.node != *node {
                return Err(refuse(
                    403,
                    "forbidden",
                    "A node speaks for its own agents only",
                ));
            }
            Ok(agent.id)
        }
        (Caller::Agent(..) | Caller::Nobody | Caller::Key(_) | Caller::Observer(..), from) => {
            if from.is_some() && !lenient {
                let why = "An agent speaks for itself only";
                return Err(refuse(400, "from_not_allowed", why));
            }
            call.agent()
        }
    }
}

/// What came of looking at a call's idempotency key.
pub enum Once {
    /// Not seen before: post it, under this key if there is one.
    New(Option<Idem>),
    /// Done before: this is the message.
    Done(Id),
}

/// Looks at the call's idempotency key ([engine-protocol 1.8](crate::docs::engine_protocol#1.8)). The keys are part of the
/// messages, so they survive a restart and are forgotten with them.
pub fn once(t: &Step<'_>, call: &Call<'_>, who: Id) -> Result<Once, HttpRefusal> {
    let Some(key) = call.idempotency_key else {
        return Ok(Once::New(None));
    };
    if key.is_empty() || key.len() > 255 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refuse(
            400,
            "invalid_idempotency_key",
            "An idempotency key has 1 to 255 visible ASCII characters",
        ));
    }
    let mut payload = call.body.clone();
    if let Some(fields) = payload.as_object_mut()
        && fields.get("mode").is_some_and(|m| m != "steer")
    {
        fields.remove("mode");
    }
    let ws = call.ws();
    let idem = Idem {
        scope: digest(&format!(
            "{ws}\n{who}\n{}\n{}\n{key}",
            call.route,
            call.at.join("/")
        )),
        fingerprint: digest(&payload.to_string()),
    };
    let w = t.ws(ws)?;
    match w.history.by_key(&idem.scope) {
        Some(m) if t.now.wall - m.at < limits::IDEMPOTENCY => {
            if m.idem
                .as_ref()
                .is_some_and(|i| i.fingerprint == idem.fingerprint)
            {
                Ok(Once::Done(m.id))
            } else {
                Err(refuse(
                    409,
                    "idempotency_key_reused",
                    "This idempotency key was used with another payload",
                ))
            }
        }
        _ => Ok(Once::New(Some(idem))),
    }
}

/// The message a call describes.
pub fn draft(
    call: &Call<'_>,
    channel: Id,
    from: Id,
    thread: Option<Id>,
    idem: Option<Idem>,
) -> Result<MessageDraft, HttpRefusal> {
    let text = call
        .text("text")?
        .ok_or_else(|| invalid("\"text\" is required"))?;
    if text.len() > limits::TEXT_BYTES {
        return Err(invalid(format!(
            "\"text\" is longer than {} bytes",
            limits::TEXT_BYTES
        )));
    }
    if !call.texts("attachments")?.is_empty() {
        return Err(refuse(
            400,
            "invalid_attachments",
            "This engine stores no files",
        ));
    }
    let blocks = match call.body.get("blocks") {
        None | Some(Value::Null) => Value::Null,
        Some(Value::Array(list)) if list.is_empty() => Value::Null,
        Some(list @ Value::Array(_)) => list.clone(),
        Some(_) => return Err(invalid("\"blocks\" must be a list")),
    };
    let data = call.object("data")?.cloned().unwrap_or_default();
    Ok(MessageDraft {
        channel,
        from,
        text: text.to_owned(),
        mode: call.mode()?,
        thread,
        blocks,
        data: Value::Object(data),
        idem,
    })
}

fn not_found() -> HttpRefusal {
    refuse(404, "message_not_found", "Message not found")
}

fn find<'w>(w: &'w Workspace, id: &str) -> Result<&'w Message, HttpRefusal> {
    id.parse()
        .ok()
        .and_then(|id| w.history.get(id))
        .ok_or_else(not_found)
}

fn is_conversation(w: &Workspace, m: &Message) -> bool {
    w.channels
        .get(&m.channel)
        .is_some_and(|c| c.conversation.is_some())
}

/// A message the caller may know of: agents see conversations they are in, the key sees all, observers none.
fn visible<'w>(w: &'w Workspace, call: &Call<'_>, id: &str) -> Result<&'w Message, HttpRefusal> {
    let m = find(w, id)?;
    let may = match &call.caller {
        Caller::Key(_) => true,
        Caller::Agent(_, me) => {
            !is_conversation(w, m)
                || w.channels
                    .get(&m.channel)
                    .is_some_and(|c| c.members.contains_key(me))
        }
        Caller::Nobody | Caller::Node(..) | Caller::Observer(..) => !is_conversation(w, m),
    };
    if may { Ok(m) } else { Err(not_found()) }
}

pub fn post(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let who = speaker(t, call)?;
    let c = channels::find(t, ws, call.at[0])?;
    let (channel, archived) = (c.id, c.archived);
    let id = match once(t, call, who)? {
        Once::Done(id) => id,
        Once::New(_) if archived => {
            return Err(refuse(400, "channel_archived", "The channel is archived"));
        }
        Once::New(idem) => {
            let draft = draft(call, channel, who, None, idem)?;
            t.post(ws, draft)
        }
    };
    posted(t, ws, id)
}

/// The answer to a post: the message without figures that may change, so that a replay repeats it.
fn posted(t: &Step<'_>, ws: Id, id: Id) -> HttpAnswer {
    let w = t.ws(ws)?;
    let mut data = views::message(w, w.history.get(id).ok_or_else(not_found)?);
    if let Some(fields) = data.as_object_mut() {
        for figure in ["reply_count", "reactions", "read_by_count"] {
            fields.remove(figure);
        }
    }
    Ok((201, data))
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let c = channels::find(t, w.id, call.at[0])?;
    Ok((200, page(w, call, c.id)?))
}

/// A page of a channel, newest first.
pub fn page(w: &Workspace, call: &Call<'_>, channel: Id) -> Result<Value, HttpRefusal> {
    let bound = |name: &str| match call.query(name).map(str::parse) {
        None => Ok(None),
        Some(Ok(id)) => Ok(Some(id)),
        Some(Err(_)) => Err(invalid(format!("\"{name}\" must be a message id"))),
    };
    let (after, before) = (bound("after")?, bound("before")?);
    Ok(w.history
        .in_channel(channel, after, before)
        .take(call.limit(50, 100))
        .map(|m| views::message(w, m))
        .collect())
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    Ok((200, views::message(w, visible(w, call, call.at[0])?)))
}

pub fn reply(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let who = speaker(t, call)?;
    let w = t.ws(ws)?;
    let parent = find(w, call.at[0])?;
    if is_conversation(w, parent)
        && !w
            .channels
            .get(&parent.channel)
            .is_some_and(|c| c.members.contains_key(&who))
    {
        return Err(not_found());
    }
    let (channel, root) = (parent.channel, parent.thread.unwrap_or(parent.id));
    let id = match once(t, call, who)? {
        Once::Done(id) => id,
        Once::New(idem) => {
            let draft = draft(call, channel, who, Some(root), idem)?;
            t.post(ws, draft)
        }
    };
    posted(t, ws, id)
}

pub fn replies(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let parent = visible(w, call, call.at[0])?;
    let root = match parent.thread {
        Some(root) => w.history.get(root).unwrap_or(parent),
        None => parent,
    };
    let bound = |name: &str| call.query(name).and_then(|v| v.parse::<Id>().ok());
    let replies: Vec<Value> = w
        .history
        .replies(root.id)
        .filter(|m| bound("after").is_none_or(|a| m.id > a))
        .filter(|m| bound("before").is_none_or(|b| m.id < b))
        .take(call.limit(100, 500))
        .map(|m| views::message(w, m))
        .collect();
    let data = json!({"parent": views::message(w, root), "replies": replies});
    Ok((200, data))
}

pub fn react(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let emoji = call.need("emoji")?.to_owned();
    if emoji.len() > 64 {
        return Err(invalid("\"emoji\" is longer than 64 bytes"));
    }
    let w = t.ws(ws)?;
    let m = visible(w, call, call.at[0])?;
    if m.reactions.len() >= limits::REACTIONS {
        return Err(invalid("The message has as many reactions as it may"));
    }
    let name = w
        .agents
        .get(&me)
        .map(|a| a.name.clone())
        .unwrap_or_default();
    let channel = w.channels.get(&m.channel).map(|c| c.name.clone());
    let message = m.id;
    let old = m
        .reactions
        .iter()
        .find(|r| r.agent == me && r.emoji == emoji);
    let (id, at, is_new) = match old {
        Some(r) => (r.id, r.at, false),
        None => (t.fresh_id(), t.now.wall, true),
    };
    let data = json!({
        "id": id.to_string(),
        "message_id": message.to_string(),
        "agent_id": me.to_string(),
        "agent_name": name,
        "emoji": emoji,
        "created_at": at.iso(),
    });
    if is_new {
        t.record(EngineRecord::Reacted(Reacted {
            ws,
            message,
            id,
            agent: me,
            agent_name: name,
            emoji,
            at,
        }));
        let mut event = data.clone();
        event["channel_name"] = json!(channel);
        notify_reaction(t, ws, message, event, "added");
    }
    Ok((201, data))
}

fn notify_reaction(t: &mut Step<'_>, ws: Id, message: Id, mut event: Value, action: &str) {
    event["action"] = json!(action);
    let key = format!("{message}-{action}-{}", event["id"].as_str().unwrap_or("0"));
    t.notify_members(ws, message, "message.reacted", &key, &event);
    t.announce(ws, "reactions:read", || {
        json!({
            "type": "message.reacted",
            "message_id": event["message_id"],
            "emoji": event["emoji"],
            "agent_name": event["agent_name"],
            "action": action,
        })
    });
}

pub fn unreact(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let w = t.ws(ws)?;
    let m = visible(w, call, call.at[0])?;
    let emoji = call.at[1];
    let message = m.id;
    let channel = w.channels.get(&m.channel).map(|c| c.name.clone());
    let old = m
        .reactions
        .iter()
        .find(|r| r.agent == me && r.emoji == emoji);
    if let Some(r) = old {
        let event = json!({
            "id": r.id.to_string(),
            "message_id": message.to_string(),
            "emoji": emoji,
            "agent_id": me.to_string(),
            "agent_name": r.agent_name,
            "channel_name": channel,
            "created_at": t.now.wall.iso(),
        });
        t.record(EngineRecord::Unreacted(Unreacted {
            ws,
            message,
            agent: me,
            emoji: emoji.to_owned(),
        }));
        notify_reaction(t, ws, message, event, "removed");
    }
    nothing()
}

pub fn reactions(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let m = visible(w, call, call.at[0])?;
    Ok((200, json!(views::reactions(m))))
}

pub fn read(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let w = t.ws(ws)?;
    let m = visible(w, call, call.at[0])?;
    let (message, before) = (m.id, m.readers.get(&me).copied());
    let name = w.agents.get(&me).map(|a| a.name.clone());
    let at = before.unwrap_or(t.now.wall);
    let data = json!({
        "message_id": message.to_string(),
        "agent_id": me.to_string(),
        "read_at": at.iso(),
    });
    if before.is_none() {
        t.record(EngineRecord::Read(Read {
            ws,
            message,
            agent: me,
            at,
        }));
    }
    // An acknowledgement has marked it read already, silently; saying so aloud is this call's purpose.
    let mut event = data.clone();
    event["agent_name"] = json!(name);
    let key = format!("{message}-{me}");
    t.notify_members(ws, message, "message.read", &key, &event);
    event["type"] = json!("message.read");
    t.announce(ws, "messages:read", || event);
    Ok((200, data))
}

pub fn readers(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let m = visible(w, call, call.at[0])?;
    let list: Value = m
        .readers
        .iter()
        .filter_map(|(id, at)| {
            let name = &w.agents.get(id)?.name;
            Some(json!({"agent_name": name, "agent_id": id.to_string(), "read_at": at.iso()}))
        })
        .collect();
    Ok((200, list))
}

pub fn search(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let words = call
        .query("q")
        .ok_or_else(|| invalid("\"q\" is required"))?
        .to_lowercase();
    let hits: Value = w
        .history
        .newest_first()
        .filter(|m| !is_conversation(w, m))
        .filter(|m| call.query("from").is_none_or(|from| m.from_name == from))
        .filter_map(|m| Some((m, w.channels.get(&m.channel)?)))
        .filter(|(_, c)| {
            call.query("channel")
                .is_none_or(|name| c.name == name.trim_start_matches('#'))
        })
        .filter(|(m, _)| m.text.to_lowercase().contains(&words))
        .take(call.limit(20, 100))
        .map(|(m, c)| {
            json!({
                "id": m.id.to_string(),
                "channel_name": c.name,
                "agent_name": m.from_name,
                "text": m.text,
                "created_at": m.at.iso(),
                "relevance_score": 1.0,
            })
        })
        .collect();
    Ok((200, hits))
}
