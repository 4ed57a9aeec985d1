//! Commands that reach beyond this machine, through the engine: who is in the workspace, and agents on other nodes.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, note};
use crate::net::http::encode;
use crate::sys::clock;
use crate::wire::local::AgentList;
use crate::wire::rest::InvocationStatus;

/// How long a spawn or release elsewhere may take: engines try another node after 30 s
/// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// `release`: here, or else wherever the workspace has the agent.
pub fn release(c: &Context, name: &str) -> Result<(), Failure> {
    let client = c.client()?;
    let here: AgentList = typed(client.get("/api/spawned")?)?;
    let is_here = here.agents.iter().any(|agent| agent.name.as_str() == name);
    let was_here = here
        .departed
        .iter()
        .any(|agent| agent.name.as_str() == name);
    let mut warning = None;
    if is_here || was_here {
        let done = client.delete(&format!("/api/spawned/{}", encode(name)))?;
        warning = done["warning"].as_str().map(clean);
    } else {
        let names: Vec<&str> = here.agents.iter().map(|a| a.name.as_str()).collect();
        let here = match names.is_empty() {
            true => "no agents run here".to_owned(),
            false => format!("here: {}", names.join(", ")),
        };
        run(&client, "release", &json!({ "name": name }))
            .map_err(|elsewhere| not_released(name, &here, &elsewhere))?;
    }
    if let (false, Some(warning)) = (c.json, &warning) {
        note(&format!("relay-broker: {warning}"));
    }
    let facts =
        json!({"name": name, "released": true, "here": is_here || was_here, "warning": warning});
    c.tell(&facts, &format!("{} is released\n", clean(name)))
}

/// What an engine says of an agent that no node has: it was released before, or has ended.
const RUNS_NOWHERE: [&str; 2] = ["agent_not_node_bound", "agent_host_unavailable"];

fn not_released(name: &str, here: &str, elsewhere: &Failure) -> Failure {
    let nowhere = RUNS_NOWHERE
        .iter()
        .any(|code| elsewhere.text.contains(code));
    let text = match nowhere {
        true => format!(
            "'{name}' runs on no node, so there is nothing to release ({here}); `relay-broker pending {name}` lists what \
             waits for it, `relay-broker spawn {name} -- COMMAND` starts it again"
        ),
        false => format!("no agent is named '{name}' ({here}); elsewhere: {elsewhere}"),
    };
    named_by_engine(Failure::new(clean(&text)))
}

/// With the engine's own word for what it says, which programs tell its reasons apart by. Words of sentences have no
/// underscores.
fn named_by_engine(failure: Failure) -> Failure {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut words = failure.text.split(|c: char| c.is_whitespace() || c == ':');
    let word = words.find(|word| word.contains('_') && word.chars().all(fits));
    match word.map(str::to_owned) {
        Some(word) => failure.named(word),
        None => failure,
    }
}

/// Has an action invoked and waits for its end.
pub fn run(client: &Client, action: &str, input: &Value) -> Result<InvocationStatus, Failure> {
    let path = format!("/api/actions/{action}/invoke");
    let answer = client.post(&path, &json!({ "input": input }));
    let mut invocation: InvocationStatus = typed(answer.map_err(named_by_engine)?)?;
    let id = encode(invocation.invocation_id.as_str());
    let give_up = clock::now().mono + PATIENCE;
    while !invocation.is_over() {
        if clock::now().mono >= give_up {
            return Err(Failure::new(format!(
                "{action} has not ended within {} s (it is {}); it may still happen",
                PATIENCE.as_secs(),
                clean(&invocation.status)
            )));
        }
        std::thread::sleep(LOOK);
        let path = format!("/api/actions/{action}/invocation?id={id}");
        invocation = typed(client.get(&path)?)?;
    }
    match &invocation.error {
        Some(why) => {
            let failure = Failure::new(format!("{action} failed: {}", clean(why)));
            Err(named_by_engine(failure))
        }
        None => Ok(invocation),
    }
}

/// Whether the engine knows of no such call. What it says of a thing that it does not have ends in `_not_found`.
pub fn is_no_such_call(refused: &Failure) -> bool {
    let no_such = [": 404 ", ": 405 "];
    let thing = named_by_engine(Failure::new(refused.text.clone())).word;
    no_such.iter().any(|status| refused.text.contains(status))
        && !thing.is_some_and(|word| word.ends_with("_not_found"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_an_engine_does_not_know_is_told_from_a_thing_that_it_does_not_have() {
        let no_call = |text: &str| is_no_such_call(&Failure::new(text));
        assert!(no_call(
            "the engine's list of readers: 404 not_found: Not Found"
        ));
        assert!(no_call("the engine: 405 : no reason given"));
        assert!(!no_call("the engine: 404 node_not_found: no node"));
        assert!(!no_call(
            "the engine at http://e:4040 cannot be reached: /v1/messages/404"
        ));
    }

    #[test]
    fn the_engines_word_for_a_reason_is_the_errors_word() {
        let word = |text: &str| named_by_engine(Failure::new(text)).word;
        let said = "the engine: 404 agent_not_found: Agent \"a_b\" not found";
        assert_eq!(word(said).as_deref(), Some("agent_not_found"));
        assert_eq!(word("spawn failed: no such file"), None);
    }
}
