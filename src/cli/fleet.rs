//! Commands that reach beyond this machine, through the engine: who is in the workspace, and agents on other nodes.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args;
use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, note, print, print_json, span_ms, table};
use crate::net::http::encode;
use crate::sys::clock;
use crate::time::Wall;
use crate::wire::local::AgentList;
use crate::wire::rest::{InvocationStatus, RosterEntry};

/// How long a spawn or release elsewhere may take: engines try another node after 30 s
/// ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)).
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// `nodes`.
pub fn nodes(c: &Context, args: &args::Nodes) -> Result<(), Failure> {
    let answer = c.client()?.get("/api/nodes")?;
    let mut nodes: Vec<RosterEntry> = typed(answer["nodes"].clone())?;
    if let Some(wanted) = &args.capability {
        nodes.retain(|node| node.capabilities.iter().any(|c| c.name == *wanted));
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    if c.json {
        return print_json(&json!({ "nodes": nodes }));
    }
    // Engines make a "direct" node for every SDK client; those are no machines that run a broker.
    nodes.retain(|node| node.role != "direct");
    if nodes.is_empty() {
        return print(match &args.capability {
            Some(_) => "no node offers that; `relay-broker nodes` lists what they offer\n",
            None => "no nodes are known\n",
        });
    }
    let now = clock::now().wall;
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, now)).collect();
    let heads = [
        "NAME", "STATE", "AGENTS", "LOAD", "OFFERS", "VERSION", "HEARD OF", "ID",
    ];
    print(&table(c.paint, &heads, &rows))
}

fn row(node: &RosterEntry, now: Wall) -> Vec<String> {
    let state = match (node.live, node.handlers_live) {
        (true, true) => "live",
        (true, false) => "live, handlers away",
        (false, _) if node.status.is_empty() => "offline",
        (false, _) => node.status.as_str(),
    };
    let most = match node.max_agents {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    let dash = || "-".to_owned();
    // Names that begin so are agreements between node and engine, and nothing to ask for.
    let names = node.capabilities.iter().map(|c| c.name.as_str());
    let offers: Vec<&str> = names.filter(|name| !name.starts_with("relay:")).collect();
    let heard = node.last_heartbeat_at.as_deref();
    vec![
        node.name.clone(),
        state.to_owned(),
        format!("{}{most}", node.active_agents),
        node.load
            .map_or_else(dash, |load| format!("{:.0} %", load * 100.0)),
        if offers.is_empty() {
            dash()
        } else {
            offers.join(" ")
        },
        node.version.clone().unwrap_or_else(dash),
        heard.map_or_else(dash, |at| age(at, now)),
        match node.id == node.node_id {
            true => node.node_id.clone(),
            false => format!("{} (listed as {})", node.node_id, node.id),
        },
    ]
}

/// How long ago a time of the engine's is; the time itself where it cannot be read.
fn age(at: &str, now: Wall) -> String {
    let since = humantime::parse_rfc3339_weak(at)
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    match since {
        Some(since) => format!("{} ago", span_ms(now.0.saturating_sub(since))),
        None => clean(at),
    }
}

/// `spawn --on`.
pub fn spawn(c: &Context, args: &args::SpawnArgs, node: &str) -> Result<(), Failure> {
    let (program, rest) = args
        .command
        .split_first()
        .ok_or_else(|| Failure::usage("no command given; write `spawn NAME --on NODE -- CMD`"))?;
    let name = Path::new(program).file_name().unwrap_or(program.as_ref());
    let usual = format!("spawn:{}", name.to_string_lossy());
    let mut input = json!({
        "name": args.name,
        "cli": program,
        "capability": args.capability.clone().unwrap_or(usual),
        "args": rest,
    });
    let mut add = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            input[key] = Value::String(value);
        }
    };
    add("task", args.task.clone());
    add(
        "cwd",
        args.cwd
            .as_ref()
            .map(|dir| dir.to_string_lossy().into_owned()),
    );
    add("target_node", (node != "any").then(|| node.to_owned()));
    let client = c.client()?;
    let invocation = run(&client, "spawn", &input)?;
    if c.json {
        return print_json(&json!(invocation));
    }
    let place = match &invocation.dispatched_node_id {
        Some(id) => format!(" on {}", node_name(&client, id)),
        None => String::new(),
    };
    print(&format!("{} runs{}\n", clean(&args.name), clean(&place)))
}

fn node_name(client: &Client, id: &str) -> String {
    let nodes = client.get("/api/nodes").ok();
    let nodes: Option<Vec<RosterEntry>> = nodes.and_then(|n| typed(n["nodes"].clone()).ok());
    let node = nodes
        .into_iter()
        .flatten()
        .find(|node| node.node_id == id || node.id == id);
    node.map_or(id.to_owned(), |node| node.name)
}

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
fn run(client: &Client, action: &str, input: &Value) -> Result<InvocationStatus, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_word_for_a_reason_is_the_errors_word() {
        let word = |text: &str| named_by_engine(Failure::new(text)).word;
        let said = "the engine: 404 agent_not_found: Agent \"a_b\" not found";
        assert_eq!(word(said).as_deref(), Some("agent_not_found"));
        assert_eq!(word("spawn failed: no such file"), None);
    }

    #[test]
    fn the_age_of_a_heartbeat_is_shown_and_not_its_date() {
        let now = Wall(1_782_640_804_000);
        assert_eq!(age("2026-06-28T10:00:00.000Z", now), "4.0 s ago");
        assert_eq!(age("just now", now), "just now");
    }
}
