//! What tools say of what came of them: a sentence for a model, an object for a program.

use serde_json::{Value, json};

use crate::wire::local::{AgentList, Sent};

/// What the engine tells, as it is.
pub(super) fn told(data: Value) -> (String, Value) {
    match data {
        Value::Null => ("done".to_owned(), json!({"ok": true})),
        Value::Object(_) => (data.to_string(), data),
        list => (list.to_string(), json!({"items": list})),
    }
}

/// An id, whether the engine writes it as a text or a number.
pub(super) fn id_of(data: &Value) -> String {
    match &data["id"] {
        Value::String(id) => id.clone(),
        other => other.to_string(),
    }
}

/// What became of a message so far; never its words. What a model must know to go on stands in the object too, as its `note`.
pub(super) fn receipt(to: &str, sent: &Sent) -> (String, Value) {
    let id = sent.event_id.as_str();
    let mut data = json!({"status": "queued", "message_id": id, "to": to});
    let note = match &sent.waits {
        _ if sent.suspended => {
            data["status"] = "held".into();
            format!(
                "held: you and {to} have answered each other very often, so {to} gets this once a person has looked; do not \
                 send it again"
            )
        }
        None if sent.steer_refused => {
            data["mode"] = "wait".into();
            format!("queued for {to}, and it waits its turn: only people may interrupt here")
        }
        Some(waits) => {
            let until = waits.until_ms.map(|at| at.iso());
            let shown = until.as_deref().unwrap_or("it comes");
            let text = format!("{to} does not run at the moment; the message waits until {shown}");
            data["status"] = "waits".into();
            data["until"] = until.into();
            text
        }
        None => return (format!("queued for {to} (message {id})"), data),
    };
    let text = format!("{note} (message {id})");
    data["note"] = note.into();
    (text, data)
}

/// A message that is in its reader's terminal, and how that was seen.
pub(super) fn delivered(to: &str, sent: &Sent, proof: &str) -> (String, Value) {
    let id = sent.event_id.as_str();
    (
        format!("delivered to {to}, seen by {proof} (message {id})"),
        json!({"status": "delivered", "proof": proof, "message_id": id, "to": to}),
    )
}

/// An inbox in words.
pub(super) fn inbox_words(data: &Value) -> String {
    let mut lines = Vec::new();
    let each = |key: &str| data[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for channel in each("unread_channels") {
        lines.push(format!(
            "#{}: {} unread",
            text(&channel["channel_name"]),
            channel["unread_count"]
        ));
    }
    for dm in each("unread_dms") {
        let (from, last) = (text(&dm["from"]), text(&dm["last_message"]["text"]));
        lines.push(format!(
            "from {from}: {} unread, the last: {last}",
            dm["unread_count"]
        ));
    }
    for mention in each("mentions") {
        let (who, said) = (text(&mention["agent_name"]), text(&mention["text"]));
        let channel = text(&mention["channel_name"]);
        lines.push(format!(
            "{who} named you in #{channel} [{}]: {said}",
            text(&mention["id"])
        ));
    }
    for reaction in each("recent_reactions") {
        lines.push(format!(
            "{} to {}",
            text(&reaction["emoji"]),
            text(&reaction["message_id"])
        ));
    }
    match lines.is_empty() {
        true => "Nothing is unread at the engine.".to_owned(),
        false => lines.join("\n"),
    }
}

/// Who is there: those of this node with what they do, and the others as the engine has them.
pub(super) fn roster(
    here: &AgentList,
    engine: Result<Value, String>,
    wanted: &str,
) -> (String, Value) {
    let mut rows: Vec<Value> = Vec::new();
    if wanted != "offline" {
        rows.extend(here.agents.iter().map(|agent| {
            json!({"name": agent.name, "online": true, "here": true, "state": agent.current_state,
                   "cli": agent.cli, "channels": agent.channels})
        }));
    }
    let (others, trouble) = match engine {
        Ok(Value::Array(others)) => (others, None),
        Ok(_) => (
            Vec::new(),
            Some("the engine's list has another form".to_owned()),
        ),
        Err(why) => (Vec::new(), Some(why)),
    };
    for other in others {
        let Some(name) = other["name"].as_str() else {
            continue;
        };
        if !here.agents.iter().any(|agent| agent.name.as_str() == name) {
            let online = other["status"].as_str() != Some("offline");
            rows.push(
                json!({"name": name, "online": online, "here": false, "type": other["type"]}),
            );
        }
    }
    let line = |row: &Value| {
        let name = row["name"].as_str().unwrap_or_default();
        let state = match (row["state"].as_str(), row["online"] == true) {
            (Some(state), _) => state,
            (None, true) => "online",
            (None, false) => "offline",
        };
        format!("{name}: {state}")
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.extend(
        trouble
            .iter()
            .map(|why| format!("Only those of this node: {why}")),
    );
    (
        lines.join("\n"),
        json!({"agents": rows, "incomplete": trouble}),
    )
}
