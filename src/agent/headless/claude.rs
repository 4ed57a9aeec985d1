//! Claude Code as one long process: `claude -p --input-format stream-json --output-format stream-json
//! --replay-user-messages`. A message is a line with an id of ours, and has arrived when the program replays that id.
//!
//! As measured on 2.1.332: each turn begins with a `system` line `init` and ends with a `result`; a message is replayed
//! once it stands in the session, which is when the model answers, or at once where the id is known already, and then
//! nothing comes of it; a message that waits for its turn is given back by `cancel_async_message`, and its id counts as
//! known from then on; `interrupt` ends the turn and begins with what waits; a line that is no JSON ends the program.

use serde::Deserialize;
use serde_json::{Value, json};

use super::dialect::{Dialect, ProgramWord};

/// Its words.
#[derive(Debug, Default)]
pub(super) struct ClaudeStream {
    /// How many requests were made, for their ids.
    requests: u64,
}

/// What of a line is read first.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamHead {
    r#type: String,
    subtype: Option<String>,
    uuid: Option<String>,
    session_id: Option<String>,
    parent_tool_use_id: Option<String>,
    #[serde(rename = "isReplay")]
    is_replay: bool,
    is_error: bool,
    result: Option<String>,
    errors: Vec<Value>,
    request_id: Option<String>,
    response: Value,
    command_uuid: Option<String>,
    state: Option<String>,
}

#[derive(Deserialize)]
struct AssistantLine {
    message: AssistantMessage,
}

#[derive(Deserialize)]
struct AssistantMessage {
    #[serde(default)]
    content: Vec<AssistantBlock>,
}

#[derive(Deserialize)]
struct AssistantBlock {
    #[serde(default)]
    r#type: String,
    text: Option<String>,
    name: Option<String>,
}

impl ClaudeStream {
    fn request(&mut self, letter: char, request: &Value) -> String {
        self.requests += 1;
        let id = format!("relay-{letter}{}", self.requests);
        json!({"type": "control_request", "request_id": id, "request": request}).to_string()
    }
}

impl Dialect for ClaudeStream {
    fn hear(&mut self, line: &str) -> Vec<ProgramWord> {
        let Ok(head) = serde_json::from_str::<StreamHead>(line) else {
            return vec![ProgramWord::Said(line.to_owned())];
        };
        match (head.r#type.as_str(), head.subtype.as_deref()) {
            ("system", Some("init")) => {
                let session = head.session_id.map(ProgramWord::Session);
                session.into_iter().chain([ProgramWord::Began]).collect()
            }
            ("user", _) if head.is_replay => head.uuid.map(ProgramWord::Took).into_iter().collect(),
            ("assistant", _) if head.parent_tool_use_id.is_none() => assistant(line),
            ("result", _) => vec![ProgramWord::TurnOver(trouble(head))],
            ("command_lifecycle", _) => lifecycle(head),
            ("control_response", _) => answered(&head.response),
            ("control_request", _) => head
                .request_id
                .map(ProgramWord::Asked)
                .into_iter()
                .collect(),
            _ => Vec::new(),
        }
    }

    fn say(&mut self, key: &str, text: &str) -> String {
        let message = json!({"role": "user", "content": [{"type": "text", "text": text}]});
        json!({"type": "user", "uuid": key, "session_id": "", "parent_tool_use_id": null, "message": message}).to_string()
    }

    fn interrupt(&mut self) -> String {
        self.request('i', &json!({"subtype": "interrupt"}))
    }

    fn give_back(&mut self, key: &str) -> Option<String> {
        Some(self.request(
            'c',
            &json!({"subtype": "cancel_async_message", "message_uuid": key}),
        ))
    }

    fn nobody(&self, request: &str) -> String {
        let response =
            json!({"subtype": "error", "request_id": request, "error": "nobody is here to answer"});
        json!({"type": "control_response", "response": response}).to_string()
    }

    fn queues(&self) -> bool {
        true
    }
}

/// What the model says and does; words of its helpers are not its own.
fn assistant(line: &str) -> Vec<ProgramWord> {
    let content = serde_json::from_str::<AssistantLine>(line).map(|line| line.message.content);
    let said =
        content
            .unwrap_or_default()
            .into_iter()
            .filter_map(|block| match block.r#type.as_str() {
                "text" => block.text.map(ProgramWord::Said),
                "tool_use" => block
                    .name
                    .map(|name| ProgramWord::Said(format!("[{name}]"))),
                _ => None,
            });
    std::iter::once(ProgramWord::Began).chain(said).collect()
}

/// What went wrong in a turn.
fn trouble(head: StreamHead) -> Option<String> {
    if !head.is_error {
        return None;
    }
    let told = head.errors.iter().map(|error| match error {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    let told: Vec<String> = head.result.into_iter().chain(told).collect();
    Some(match told.is_empty() {
        true => head.subtype.unwrap_or_else(|| "error".to_owned()),
        false => told.join("; "),
    })
}

/// A command of the program's own is not replayed when nothing of it goes into the session.
fn lifecycle(head: StreamHead) -> Vec<ProgramWord> {
    match (head.command_uuid, head.state.as_deref()) {
        (Some(key), Some("completed")) => vec![ProgramWord::Took(key)],
        (Some(key), Some("cancelled")) => {
            let why = "the program dropped the message before it had read it".to_owned();
            vec![ProgramWord::Dropped(key, why)]
        }
        _ => Vec::new(),
    }
}

fn answered(response: &Value) -> Vec<ProgramWord> {
    let id = response["request_id"].as_str().unwrap_or_default();
    let error = (response["subtype"] == "error").then(|| {
        let told = response["error"].as_str();
        told.unwrap_or("the program refused").to_owned()
    });
    let kind = id
        .strip_prefix("relay-")
        .and_then(|rest| rest.chars().next());
    match (kind, error) {
        (Some('c'), None) => vec![ProgramWord::GaveBack(
            response["response"]["cancelled"] == true,
        )],
        (Some('c'), Some(_)) => vec![ProgramWord::GaveBack(false)],
        (Some('i'), Some(why)) => vec![ProgramWord::NotInterrupted(why)],
        _ => Vec::new(),
    }
}
