//! Reading the payload of a `deliver` frame: engines and relays name the same fact in many places (engine-wire 4.7), and
//! the first non-empty one wins.

use serde_json::Value;

use crate::wire::down::Deliver;

/// What a payload means for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
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
pub fn kind(payload: &Value) -> Kind {
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
        | "action.denied" => Kind::Message,
        "message.reacted" | "message.read" => Kind::Notice,
        _ => Kind::Unknown,
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

/// The words to type. Results of actions that are not text are shown as compact JSON of their output, never as the whole
/// envelope.
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
            Some(value) => return value.to_string(),
        }
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

/// Where it was said: `#channel`, or the recipient's own name for direct mail.
pub fn target(frame: &Deliver) -> String {
    let payload = &frame.payload;
    if let Some(target) = first(payload, &["target", "to", "recipient", "message.target"]) {
        return target.to_owned();
    }
    match first(
        payload,
        &["data.channel_name", "channel", "message.channel"],
    ) {
        // A DM's backing channel (`dm-…`) is the engine's business; the agent was spoken to directly.
        Some(channel) if !channel.starts_with("dm-") => {
            format!("#{}", channel.trim_start_matches('#'))
        }
        _ => frame.agent.to_string(),
    }
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
        assert_eq!(kind(&f.payload), Kind::Message);
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
        assert_eq!(kind(&json!({"type":"message.reacted"})), Kind::Notice);
        assert_eq!(kind(&json!({"type":"planet.aligned"})), Kind::Unknown);
        assert_eq!(kind(&json!({"text":"old and flat"})), Kind::Message);
    }
}
