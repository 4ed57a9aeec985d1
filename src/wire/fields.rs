//! Reading the payload of a `deliver` frame: engines and relays name the same fact in many places
//! ([engine-protocol 4.7](crate::docs::engine_protocol#4.7)), and the first non-empty one wins.

use serde_json::Value;

use crate::wire::down::Deliver;

/// What a payload means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Somebody's words, or the result of an action: to be typed.
    Message,
    /// A reaction or a read mark: acknowledged, never shown.
    Notice,
    /// A type we do not know: acknowledged with a warning, never shown.
    Unknown,
}

/// The payload's `type`, empty for legacy flat payloads.
pub fn kind_word(payload: &Value) -> &str {
    payload.get("type").and_then(Value::as_str).unwrap_or("")
}

/// Sorts a payload by its `type`, all aliases included.
pub fn kind(payload: &Value) -> PayloadKind {
    match kind_word(payload) {
        ""
        | "message.created"
        | "message.received"
        | "message.new"
        | "message.sent"
        | "message.delivered"
        | "dm.received"
        | "dm.created"
        | "dm.new"
        | "dm.sent"
        | "dm.message.created"
        | "direct_message.received"
        | "direct_message.created"
        | "direct_message.new"
        | "direct_message.sent"
        | "thread.reply"
        | "thread.message.created"
        | "thread.message.sent"
        | "group_dm.received"
        | "group_dm.created"
        | "group_dm.new"
        | "group_dm.sent"
        | "group_dm.message.created"
        | "action.completed"
        | "action.failed"
        | "action.denied" => PayloadKind::Message,
        "message.reacted" | "message.read" => PayloadKind::Notice,
        _ => PayloadKind::Unknown,
    }
}

fn text_at<'a>(payload: &'a Value, path: &str) -> Option<&'a str> {
    let mut at = payload;
    for key in path.split('.') {
        at = at.get(key)?;
    }
    at.as_str().filter(|s| !s.is_empty())
}

fn first<'a>(payload: &'a Value, paths: &[&str]) -> Option<&'a str> {
    paths.iter().find_map(|p| text_at(payload, p))
}

/// Why nobody will read it, in words of the embedded engine, which hands over what it has kept long enough for an agent that
/// is not here.
pub fn undelivered(payload: &Value) -> Option<&str> {
    text_at(payload, "undelivered")
}

/// The words to type. Results of actions that are not text are shown as compact JSON of their output, and those that hold
/// nothing are told in words; the envelope is never shown.
pub fn body(payload: &Value) -> String {
    let words = first(
        payload,
        &[
            "data.text",
            "data.body",
            "data.content",
            "text",
            "body",
            "content",
            "data.message.text",
            "message.text",
            "payload.text",
            "data.output",
            "data.error",
        ],
    );
    if let Some(words) = words {
        return words.to_owned();
    }
    // A message may be blank, for example one of attachments only; the envelope around it is nobody's words.
    if payload.pointer("/data/text").is_some_and(Value::is_string) {
        return String::new();
    }
    for key in ["output", "error"] {
        match payload.get("data").and_then(|d| d.get(key)) {
            None | Some(Value::Null) => {}
            Some(Value::String(empty)) if empty.is_empty() => {}
            Some(value) => return value.to_string(),
        }
    }
    if let Some(end) = kind_word(payload).strip_prefix("action.") {
        let action = text_at(payload, "data.action_name").unwrap_or("the action");
        let lacks = if end == "completed" {
            "result"
        } else {
            "reason"
        };
        return format!("{action} {end} without a {lacks}");
    }
    match payload.get("data") {
        Some(data) if !data.is_null() => data.to_string(),
        _ => payload.to_string(),
    }
}

/// Who speaks.
pub fn sender(payload: &Value) -> String {
    first(
        payload,
        &[
            "data.agent_name",
            "data.from_name",
            "data.caller_name",
            "data.message.agent_name",
            "from",
            "sender",
            "author",
            "message.agent_name",
            "message.from",
            "payload.from",
        ],
    )
    .unwrap_or("relaycast")
    .to_owned()
}

/// Whether it is said that an agent speaks; engines that do not say so leave it open.
pub fn is_from_agent(payload: &Value) -> bool {
    let paths = [
        "data.message.agent_type",
        "data.agent_type",
        "message.agent_type",
        "agent_type",
    ];
    first(payload, &paths) == Some("agent")
}

/// Where it was said: `#channel`, or the recipient's own name for direct mail.
pub fn target(frame: &Deliver) -> String {
    let payload = &frame.payload;
    if let Some(target) = first(payload, &["target", "to", "recipient", "message.target"]) {
        return target.to_owned();
    }
    let paths = ["data.channel_name", "channel", "message.channel"];
    match first(payload, &paths) {
        Some(channel) if !is_direct(payload, channel) => {
            format!("#{}", channel.trim_start_matches('#'))
        }
        _ => frame.agent.to_string(),
    }
}

/// Whether a message was said to the agent and not in a channel. The type says so; a reply in a thread has the same type in
/// both, and is then known by its conversation, or by its channel's id or made-up name
/// ([engine-protocol 4.7](crate::docs::engine_protocol#4.7)).
fn is_direct(payload: &Value, channel: &str) -> bool {
    let word = kind_word(payload);
    if word.starts_with("message.") {
        return false;
    }
    let direct = ["dm.", "direct_message.", "group_dm."];
    if direct.iter().any(|start| word.starts_with(start)) {
        return true;
    }
    if text_at(payload, "data.conversation_id").is_some() {
        return true;
    }
    match text_at(payload, "data.channel_id") {
        Some(id) if id.starts_with("dmch_") => true,
        _ => channel.strip_prefix("dm-").is_some_and(is_made_up),
    }
}

/// Whether the rest of a channel's name is a number or digest, as engines name the backs of conversations.
fn is_made_up(tail: &str) -> bool {
    let digits = tail.chars().filter(char::is_ascii_hexdigit).count();
    digits >= 8
        && tail
            .chars()
            .all(|c| c.is_ascii_hexdigit() || matches!(c, '-' | '_'))
}

/// The thread it belongs to.
pub fn thread_id(payload: &Value) -> Option<String> {
    first(
        payload,
        &["data.thread_id", "thread_id", "threadId", "data.parent_id"],
    )
    .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn frame(payload: Value) -> Deliver {
        serde_json::from_value(json!({"delivery_id":"d","agent_id":"1","agent":"w1","msg_id":"m","seq":1,"mode":"wait","payload":payload}))
            .expect("a whole frame")
    }

    #[test]
    fn a_channel_message_names_sender_and_channel() {
        let f = frame(
            json!({"type":"message.created","data":{"id":"3001","channel_name":"general","agent_name":"lead","text":"hello"}}),
        );
        assert_eq!(kind(&f.payload), PayloadKind::Message);
        assert_eq!(
            (
                sender(&f.payload).as_str(),
                target(&f).as_str(),
                body(&f.payload).as_str()
            ),
            ("lead", "#general", "hello")
        );
    }

    #[test]
    fn a_direct_message_is_addressed_to_the_agent_itself() {
        let f = frame(
            json!({"type":"dm.received","data":{"from_name":"lead","message":{"text":"ping"}}}),
        );
        assert_eq!(
            (target(&f).as_str(), body(&f.payload).as_str()),
            ("w1", "ping")
        );
    }

    /// N28: the type decides, not the channel's name.
    #[test]
    fn a_message_is_direct_by_its_type_and_not_by_the_name_of_its_channel() {
        let of = |payload: Value| target(&frame(payload));
        let said = |kind: &str, data: Value| of(json!({"type": kind, "data": data}));
        let team = json!({"channel_name":"dm-team","channel_id":"500","text":"hi"});
        assert_eq!(said("message.created", team.clone()), "#dm-team");
        assert_eq!(said("thread.reply", team), "#dm-team");
        let odd = json!({"channel_name":"general","text":"hi"});
        for kind in ["dm.received", "direct_message.created", "group_dm.received"] {
            assert_eq!(said(kind, odd.clone()), "w1", "{kind}");
        }
        let tail = "dm-0123456789abcdef01234567";
        for data in [
            json!({"channel_name":tail,"channel_id":"dmch_0123","text":"hi"}),
            json!({"channel_name":tail,"text":"hi"}),
            json!({"channel_name":"talk","conversation_id":"dm_01","text":"hi"}),
        ] {
            assert_eq!(said("thread.reply", data.clone()), "w1", "{data}");
        }
    }

    #[test]
    fn an_action_result_shows_its_output_and_not_the_envelope() {
        let p = json!({"type":"action.completed","data":{"invocation_id":"i","output":{"v":1},"error":null}});
        assert_eq!(body(&p), r#"{"v":1}"#);
        assert_eq!(
            body(&json!({"type":"action.failed","data":{"output":null,"error":"boom"}})),
            "boom"
        );
    }

    #[test]
    fn a_blank_message_is_blank_and_not_its_envelope() {
        assert_eq!(
            body(&json!({"type":"dm.received","data":{"id":"1","text":""}})),
            ""
        );
    }

    #[test]
    fn reactions_are_notices_and_tomorrows_types_are_unknown() {
        assert_eq!(
            kind(&json!({"type":"message.reacted"})),
            PayloadKind::Notice
        );
        assert_eq!(
            kind(&json!({"type":"planet.aligned"})),
            PayloadKind::Unknown
        );
        assert_eq!(kind(&json!({"text":"old and flat"})), PayloadKind::Message);
    }
}
