//! An agent's mail over HTTP: the delivery ledger ([engine-protocol 2.6](crate::docs::engine_protocol#2.6)) and the inbox
//! ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).

use serde_json::{Value, json};

use super::agents::gone;
use super::call::{Call, HttpAnswer, refuse};
use super::dm::unread;
use crate::engine::directory::{Channel, ChannelKind};
use crate::engine::mailbox::Mailbox;
use crate::engine::record::{EngineRecord, Read};
use crate::engine::step::Step;

pub fn deliveries(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let me = w.agents.get(&call.agent()?).ok_or_else(gone)?;
    let wanted = call.query("status");
    // Finished rows are not kept, so asking for them finds none.
    let list: Value = w
        .mailboxes
        .get(&me.id)
        .into_iter()
        .flat_map(Mailbox::rows)
        .map(|row| t.core.delivery_view(w, me, row))
        .filter(|v| wanted.is_none_or(|s| v["status"] == s))
        .take(call.limit(50, 200))
        .collect();
    Ok((200, list))
}

/// Mail that lies here because the agent is on no node that is connected, with `all=true` also what nodes have and have not
/// acknowledged; no part of the upstream API.
pub fn waiting(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let (wanted, all) = (call.query("agent"), call.query("all") == Some("true"));
    let mut rows = Vec::new();
    for agent in w.agents.values() {
        let meant = wanted.is_none_or(|name| agent.name == name);
        if meant && (all || !t.is_in_hand(w.id, agent.id)) {
            let mailbox = w.mailboxes.get(&agent.id);
            let mail = mailbox.into_iter().flat_map(Mailbox::rows);
            rows.extend(mail.filter_map(|row| t.waiting_view(w, agent, row)));
        }
    }
    rows.truncate(call.limit(1_000, 1_000));
    Ok((200, json!(rows)))
}

/// Acknowledges or fails one delivery: either way it is not sent again.
pub fn close(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let w = t.ws(ws)?;
    let agent = w.agents.get(&me).ok_or_else(gone)?;
    let row = call.at[0]
        .strip_prefix("del_")
        .and_then(|id| id.strip_suffix(&format!("_{me}")))
        .and_then(|id| id.parse().ok())
        .and_then(|message| w.mailboxes.get(&me)?.row_of(message))
        .ok_or_else(|| refuse(404, "delivery_not_found", "Delivery not found"))?;
    let (seq, message) = (row.seq, row.message);
    let mut data = t.core.delivery_view(w, agent, row);
    let failed = call.route.ends_with("fail");
    data["status"] = json!(if failed { "failed" } else { "acked" });
    if failed {
        data["error"] = json!(call.text("error")?);
        data["retryable"] = call.body.get("retryable").cloned().unwrap_or_default();
    } else {
        data["acked_at"] = json!(t.now.wall.iso());
        t.record(EngineRecord::Read(Read {
            ws,
            message,
            agent: me,
            at: t.now.wall,
        }));
    }
    t.record(EngineRecord::DeliveryClosed { ws, agent: me, seq });
    Ok((200, data))
}

pub fn inbox(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let me = w.agents.get(&call.agent()?).ok_or_else(gone)?;
    let limit = call.limit(20, 100);
    let (mut channels, mut dms) = (Vec::new(), Vec::new());
    for c in w
        .channels
        .values()
        .filter(|c| c.members.contains_key(&me.id))
    {
        let count = unread(w, c, me.id);
        if count == 0 {
            continue;
        }
        if c.kind == ChannelKind::Public {
            channels.push(json!({"channel_name": c.name, "unread_count": count}));
            continue;
        }
        let last = w.history.last(c.id);
        dms.push(json!({
            "conversation_id": c.conversation,
            "from": last.map(|m| m.from_name.as_str()).unwrap_or_default(),
            "unread_count": count,
            "last_message": last.map(|m| json!({
                "id": m.id.to_string(), "text": m.text, "created_at": m.at.iso(),
            })),
        }));
    }
    let name_of = |channel| w.channels.get(&channel).map(|c: &Channel| c.name.clone());
    let mentions: Vec<Value> = w
        .history
        .newest_first()
        .filter(|m| m.from != me.id && m.mentions.contains(&me.name))
        .filter(|m| !m.readers.contains_key(&me.id))
        .take(limit)
        .map(|m| {
            json!({
                "id": m.id.to_string(),
                "channel_name": name_of(m.channel),
                "agent_name": m.from_name,
                "text": m.text,
                "created_at": m.at.iso(),
            })
        })
        .collect();
    let reactions: Vec<Value> = w
        .history
        .newest_first()
        .filter(|m| m.from == me.id)
        .flat_map(|m| m.reactions.iter().map(move |r| (m, r)))
        .filter(|(_, r)| r.agent != me.id)
        .take(limit)
        .map(|(m, r)| {
            json!({
                "message_id": m.id.to_string(),
                "channel_name": name_of(m.channel),
                "emoji": r.emoji,
                "agent_name": r.agent_name,
                "created_at": r.at.iso(),
            })
        })
        .collect();
    let data = json!({
        "unread_channels": channels,
        "mentions": mentions,
        "unread_dms": dms,
        "recent_reactions": reactions,
    });
    Ok((200, data))
}
