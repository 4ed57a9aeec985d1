//! Agents as functions: `spawn --wait-result` starts one and prints what it hands in, and `submit-result` hands it in.

use std::io::Read;
use std::time::Duration;

use serde_json::{Value, json};

use super::args;
use super::client::{Client, EventStream, Heard, typed};
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, note, print_json};
use crate::ids::{AgentName, Generation};
use crate::json_schema::ValueSchema;
use crate::net::http::encode;
use crate::sys::{clock, stdio};
use crate::time::Mono;
use crate::wire::event::{BrokerEvent, Numbered};
use crate::wire::local::{AgentList, AgentResult, ResultTaken, SpawnRequest, Spawned};

/// How the ids of the messages begin that agents are started with.
const TASK: &str = "task_";

/// What a spawn says of the result that is wanted: the schema of the file, or any result for who waits for one.
pub fn schema(args: &args::SpawnArgs) -> Result<Option<Value>, Failure> {
    let Some(path) = &args.result_schema else {
        return Ok(args.wait_result.map(|_| Value::Bool(true)));
    };
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::usage(format!("{shown} cannot be read: {e}")))?;
    let schema: Value = serde_json::from_str(&text)
        .map_err(|e| Failure::usage(format!("{shown} is no JSON schema: {e}")))?;
    ValueSchema::read(&schema).map_err(|why| Failure::usage(format!("{shown}: {why}")))?;
    if schema == Value::Bool(false) {
        return Err(Failure::usage(format!(
            "{shown} is `false`, which no result fits; leave --result-schema away for any result"
        )));
    }
    Ok(Some(schema))
}

/// `spawn --wait-result`: standard output has the result and nothing else.
///
/// # Errors
/// When the agent does not start, ends without a result, or time is up; it runs on then.
pub fn spawn_and_wait(
    c: &Context,
    client: &Client,
    request: &SpawnRequest,
    limit: Option<Duration>,
    keep: bool,
) -> Result<(), Failure> {
    let limit = limit.filter(|limit| !limit.is_zero());
    if request.task.is_none() {
        note("relay-broker: without --task nobody tells the program that a result is wanted");
    }
    // Opened before the agent is there, so that nothing is missed between the two.
    let since = client.newest()?;
    let stream = client.events(since)?;
    let begun = clock::now().mono;
    let spawned: Spawned = typed(client.post("/api/spawn", request)?)?;
    if let Some(warning) = &spawned.warning {
        note(&format!("relay-broker: {}", clean(warning)));
    }
    let mut waiting = Waiting {
        client,
        name: spawned.name,
        generation: spawned.generation,
        since,
        stream,
        limit,
        deadline: limit.map(|limit| begun + limit),
    };
    let event = waiting.wait()?;
    match c.json {
        true => print_json(&event)?,
        false => print_json(&event["data"])?,
    }
    if !keep && let Err(why) = client.delete(&waiting.path()) {
        // The result is there, which is what was asked for.
        note(&format!(
            "relay-broker: {} runs on: {}",
            waiting.name,
            clean(&why.text)
        ));
    }
    Ok(())
}

/// Waits for the final result of one life of an agent.
struct Waiting<'a> {
    client: &'a Client,
    name: AgentName,
    generation: Option<Generation>,
    /// The number of the event that was heard last.
    since: u64,
    stream: EventStream,
    limit: Option<Duration>,
    deadline: Option<Mono>,
}

impl Waiting<'_> {
    fn path(&self) -> String {
        format!("/api/spawned/{}", encode(self.name.as_str()))
    }

    fn wait(&mut self) -> Result<Value, Failure> {
        loop {
            match self.stream.next(self.deadline) {
                Heard::Event(event) => {
                    self.since = event["seq"].as_u64().unwrap_or(self.since);
                    if let Some(result) = self.heard(event)? {
                        return Ok(result);
                    }
                }
                Heard::Late => return Err(self.late()),
                // A reader that was too slow is cut off; a broker that is gone refuses the next call.
                Heard::Over(why) => {
                    self.stream = self.client.events(self.since).map_err(|_| {
                        Failure::new(format!(
                            "the broker ended before the result came: {}",
                            clean(&why)
                        ))
                    })?;
                }
            }
        }
    }

    /// The result, if this event is it.
    fn heard(&self, event: Value) -> Result<Option<Value>, Failure> {
        if event["kind"] == "worker_stream" || event["name"] != self.name.as_str() {
            return Ok(None);
        }
        let Ok(Numbered { event: said, .. }) = serde_json::from_value(event.clone()) else {
            return Ok(None);
        };
        match said {
            BrokerEvent::AgentResult {
                is_final: true,
                generation,
                result_id,
                data,
                metadata,
                ..
            } if generation == self.generation => {
                let mut facts =
                    json!({"name": self.name, "result_id": result_id, "data": data, "final": true});
                if let Some(metadata) = metadata {
                    facts["metadata"] = metadata;
                }
                Ok(Some(facts))
            }
            BrokerEvent::AgentExited { .. }
            | BrokerEvent::AgentReleased { .. }
            | BrokerEvent::AgentPermanentlyDead { .. }
            | BrokerEvent::WorkerError { .. } => self.is_it_over().map(|()| None),
            BrokerEvent::MessageDeliveryFailed {
                event_id: Some(id),
                last_error,
                ..
            } if id.as_str().starts_with(TASK) => Err(self.without_task(&last_error)),
            _ => Ok(None),
        }
    }

    fn without_task(&self, why: &str) -> Failure {
        let (name, why) = (&self.name, clean(why));
        Failure::new(format!(
            "{name} never got its task: {why}; it runs on: `relay-broker attach {name}` shows it, and `relay-broker release \
             {name}` ends it"
        ))
        .named("no_result")
    }

    /// Whether this life of the agent is over; one that is started again may still hand in a result.
    fn is_it_over(&self) -> Result<(), Failure> {
        let list: AgentList = self.client.read("/api/spawned")?;
        let lives = list
            .agents
            .iter()
            .any(|agent| agent.name == self.name && agent.generation == self.generation);
        if lives {
            return Ok(());
        }
        let departed = list.departed.iter().find(|gone| gone.name == self.name);
        let how = departed.map_or("it was released", |gone| gone.reason.as_str());
        let mut text = format!("{} ended without a result: {}", self.name, clean(how));
        for line in departed.into_iter().flat_map(|gone| &gone.last_lines) {
            text.push_str(&format!(" | {}", clean(line)));
        }
        Err(Failure::new(text).named("no_result"))
    }

    fn late(&self) -> Failure {
        let name = &self.name;
        let limit = humantime::format_duration(self.limit.unwrap_or_default());
        Failure::new(format!(
            "{name} has handed in no result within {limit}; it runs on: `relay-broker attach {name}` shows it, and \
             `relay-broker release {name}` ends it"
        ))
        .named("timeout")
    }
}

/// `submit-result`.
///
/// # Errors
/// When the result is no JSON, is not wanted, or does not fit.
pub fn submit(c: &Context, args: &args::SubmitResult) -> Result<(), Failure> {
    let text = match args.data.as_str() {
        "-" => {
            let mut text = String::new();
            let read = stdio::input().read_to_string(&mut text);
            read.map_err(|e| Failure::new(format!("standard input cannot be read: {e}")))?;
            text
        }
        text => text.to_owned(),
    };
    let data = serde_json::from_str(&text).map_err(|e| {
        Failure::usage(format!(
            "the result is no JSON ({e}); a text is written in quotes: '\"done\"'"
        ))
    })?;
    let result = AgentResult {
        name: args.agent.as_deref().map(AgentName::meant),
        data,
        is_final: !args.interim,
        metadata: None,
    };
    let answer = c.client()?.post("/api/agent-result", &result)?;
    let taken: ResultTaken = typed(answer.clone())?;
    c.tell(
        &answer,
        &format!("taken (result {})\n", clean(&taken.result_id)),
    )
}
