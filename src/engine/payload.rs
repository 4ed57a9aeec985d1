//! The shapes in which messages leave: payloads of deliveries ([engine-protocol 4.7](crate::docs::engine_protocol#4.7)) and
//! events of the streams, with the ids that go with them. No decisions, no state.

use serde_json::{Value, json};

use super::directory::{Agent, Channel, ChannelKind, Workspace};
use super::history::Message;
use super::id::Id;
use super::mailbox::Row;
use crate::ids::{AgentId, AgentName, DeliveryId, MsgId, Seq};
use crate::wire::down::{Deliver, Down};

/// The id of a delivery: stable over redelivery ([engine-protocol 4.1](crate::docs::engine_protocol#4.1)).
pub fn delivery_id(message: Id, agent: Id) -> String {
    format!("del_{message}_{agent}")
}

/// The stable event id of a message: a UUID that the SDKs compute in the same way
/// ([engine-protocol 2.9](crate::docs::engine_protocol#2.9)).
pub fn event_id(message: &str) -> String {
    const M1: u32 = 2_246_822_507;
    const M2: u32 = 3_266_489_909;
    const FACTORS: [u32; 4] = [2_654_435_761, 1_597_334_677, M1, M2];
    let mut h: [u32; 4] = [0xdead_beef, 0x41c6_ce57, 0xc0de_cafe, 0x9e37_79b9];
    for unit in json!(["relaycast", message.trim()])
        .to_string()
        .encode_utf16()
    {
        for (lane, factor) in h.iter_mut().zip(FACTORS) {
            *lane = (*lane ^ u32::from(unit)).wrapping_mul(factor);
        }
    }
    for i in 0..4 {
        let next = h[(i + 1) % 4];
        h[i] = (h[i] ^ (h[i] >> 16)).wrapping_mul(M1) ^ (next ^ (next >> 13)).wrapping_mul(M2);
    }
    let mut bytes: Vec<u8> = h.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes[6] = (bytes[6] & 0x0f) | 0x50;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = crate::ids::to_hex(&bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

/// Names of known agents that a text addresses with `@`, each once.
pub fn mentions(text: &str, known: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split('@').skip(1) {
        let end = part
            .find(|c: char| !(c.is_alphanumeric() || matches!(c, '-' | '_' | '.')))
            .unwrap_or(part.len());
        let word = &part[..end];
        // A full stop may end the sentence or belong to the name.
        let name = [word, word.trim_end_matches('.')]
            .into_iter()
            .find(|n| !n.is_empty() && known(n));
        if let Some(name) = name
            && !found.iter().any(|f| f == name)
        {
            found.push(name.to_owned());
        }
    }
    found
}

/// Two objects as one.
fn joined(mut fields: Value, more: Value) -> Value {
    if let (Value::Object(fields), Value::Object(more)) = (&mut fields, more) {
        fields.extend(more);
    }
    fields
}

/// What every form of a message has.
fn words(m: &Message) -> Value {
    json!({
        "id": m.id.to_string(),
        "agent_id": m.from.to_string(),
        "agent_name": m.from_name,
        "text": m.text,
        "injection_mode": m.mode.as_str(),
        "attachments": [],
    })
}

/// The short form of a message that DMs and stream events carry.
pub fn core_message(m: &Message) -> Value {
    joined(words(m), json!({"agent_type": m.from_kind}))
}

/// The form of a message in a channel, which `more` adds to.
pub fn post(m: &Message, more: Value) -> Value {
    let fields = json!({
        "blocks": m.blocks,
        "metadata": m.data,
        "has_attachments": false,
        "thread_id": m.thread.map(|t| t.to_string()),
        "created_at": m.at.iso(),
        "mentions": m.mentions,
    });
    joined(joined(words(m), fields), more)
}

/// The type of a message's payload and event ([engine-protocol 4.1](crate::docs::engine_protocol#4.1)).
pub fn payload_type(channel: &Channel, m: &Message) -> &'static str {
    match (m.thread, channel.kind) {
        (Some(_), _) => "thread.reply",
        (None, ChannelKind::Public) => "message.created",
        (None, ChannelKind::Direct) => "dm.received",
        (None, ChannelKind::Group) => "group_dm.received",
    }
}

/// The payload of a message for one recipient ([engine-protocol 4.7](crate::docs::engine_protocol#4.7)).
pub fn payload(channel: &Channel, m: &Message, to: &str) -> Value {
    let conversation = channel.conversation.as_deref().unwrap_or_default();
    let kind = payload_type(channel, m);
    let direct = |more: Value| {
        let fields = json!({
            "conversation_id": conversation,
            "message": core_message(m),
            "from_name": m.from_name,
            "created_at": m.at.iso(),
        });
        joined(joined(words(m), fields), more)
    };
    let data = match kind {
        "dm.received" => direct(json!({"from_agent_id": m.from.to_string(), "to": to})),
        "group_dm.received" => direct(json!({})),
        _ => {
            let place = json!({
                "channel_id": channel.public_id(),
                "channel_name": channel.name,
                "from_name": m.from_name,
            });
            post(m, place)
        }
    };
    json!({"type": kind, "data": data})
}

/// The frame for one row; `None` when its message is gone.
pub fn deliver(w: &Workspace, to: &Agent, row: &Row) -> Option<Down> {
    let m = w.history.get(row.message)?;
    let channel = w.channels.get(&m.channel)?;
    Some(Down::Deliver(Deliver {
        delivery_id: DeliveryId::new(delivery_id(m.id, to.id)),
        agent_id: AgentId::new(to.id.to_string()),
        agent: AgentName::new(to.name.clone()),
        msg_id: MsgId::new(m.id.to_string()),
        seq: Seq(row.seq),
        mode: m.mode,
        payload: payload(channel, m, &to.name),
        left_out: false,
        bytes: 0,
    }))
}

/// The stream event of a message and the scope it needs ([engine-protocol 2.9](crate::docs::engine_protocol#2.9)).
pub fn stream_event(channel: &Channel, m: &Message) -> (Value, &'static str) {
    let kind = payload_type(channel, m);
    let mut event = json!({
        "type": kind,
        "id": event_id(&m.id.to_string()),
        "channel_id": channel.public_id(),
        "message": core_message(m),
        "created_at": m.at.iso(),
    });
    if let Some(conversation) = &channel.conversation {
        event["conversation_id"] = json!(conversation);
    }
    let scope = match kind {
        "thread.reply" => {
            event["channel"] = json!(channel.name);
            event["parent_id"] = json!(m.thread.map(|t| t.to_string()));
            if channel.conversation.is_some() {
                "dms:read"
            } else {
                "threads:read"
            }
        }
        "message.created" => {
            event["channel"] = json!(channel.name);
            "messages:read"
        }
        _ => "dms:read",
    };
    (event, scope)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Mode;
    use crate::time::Wall;

    #[test]
    fn event_ids_are_those_the_sdks_compute() {
        assert_eq!(
            event_id("190000000000000001"),
            "191620d1-9e1d-5bab-92bf-775d0a28c7f2"
        );
    }

    #[test]
    fn a_mention_is_a_known_name_after_an_at_sign() {
        let known = |n: &str| matches!(n, "w1" | "w.2");
        assert_eq!(
            mentions("hi @w1, @w.2. and @nobody; @w1", known),
            ["w1", "w.2"]
        );
        assert!(mentions("mail a@b.c", known).is_empty());
    }

    fn message(thread: Option<Id>) -> Message {
        Message {
            id: 3001,
            channel: 500,
            from: 2000,
            from_name: "lead".into(),
            from_kind: "agent".into(),
            text: "hello @w1".into(),
            mode: Mode::Steer,
            thread,
            blocks: Value::Null,
            data: json!({}),
            mentions: vec!["w1".into()],
            at: Wall(1_782_640_806_000),
            idem: None,
            reactions: Vec::new(),
            readers: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn every_key_that_some_client_reads_is_in_the_payload() {
        let mut channel = Channel {
            id: 500,
            name: "general".into(),
            ..Channel::default()
        };
        let p = payload(&channel, &message(None), "w1");
        assert_eq!(p["type"], "message.created");
        for key in [
            "id",
            "channel_id",
            "channel_name",
            "agent_name",
            "from_name",
        ] {
            assert!(p["data"][key].is_string(), "{key}");
        }
        assert_eq!(
            payload(&channel, &message(Some(1)), "w1")["type"],
            "thread.reply"
        );
        channel.kind = ChannelKind::Direct;
        channel.conversation = Some("dm_01".into());
        let p = payload(&channel, &message(None), "w1");
        assert_eq!(p["type"], "dm.received");
        assert_eq!(p["data"]["conversation_id"], "dm_01");
        assert_eq!(p["data"]["to"], "w1");
        assert_eq!(p["data"]["message"]["agent_id"], "2000");
        assert_eq!(channel.public_id(), "dmch_01");
        channel.kind = ChannelKind::Group;
        assert_eq!(
            payload(&channel, &message(None), "w1")["type"],
            "group_dm.received"
        );
    }
}
