//! `wait`: until an agent is in a state. The state itself is asked for, once at the start and again whenever an event tells
//! of the agent, so it makes no difference whether it was reached before the command or during it.

use std::time::Duration;

use serde_json::json;

use super::args::{self, State};
use super::client::{Client, Heard, typed};
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, note};
use crate::net::http::encode;
use crate::sys::clock;
use crate::time::Mono;
use crate::wire::local::{AgentList, AgentPlace, AgentView};

/// Between two looks at what only the engine knows.
const LOOK: Duration = Duration::from_millis(250);

/// `wait`.
pub fn wait(c: &Context, args: &args::Wait) -> Result<(), Failure> {
    let client = c.client()?;
    let deadline = clock::now().mono + args.timeout;
    // Opened before the first question, so nothing is missed between the two.
    let mut stream = client.events(client.newest()?)?;
    let mut agent = look(&client, &args.name)?;
    if agent.is_none()
        && let Some(place) = elsewhere(&client, &args.name)
    {
        return wait_elsewhere(c, &client, args, place, deadline);
    }
    if agent.is_none() && args.until == State::Exit {
        was_here(&client, &args.name)?;
    }
    while !reached(args.until, agent.as_ref()) {
        // An agent hears of nobody but itself, and looks instead.
        let wake = match client.is_agents() {
            true => deadline.min(clock::now().mono + LOOK),
            false => deadline,
        };
        match stream.next(Some(wake)) {
            Heard::Event(event) if event["kind"] == "worker_stream" => {}
            Heard::Event(event) if event["name"] == args.name.as_str() => {
                agent = look(&client, &args.name)?;
            }
            Heard::Event(_) => {}
            Heard::Late if clock::now().mono < deadline => agent = look(&client, &args.name)?,
            Heard::Late => {
                let waited = humantime::format_duration(args.timeout);
                return Err(Failure::new(match &agent {
                    Some(agent) => format!("{} within {waited}", standing(agent)),
                    None => format!("{}; waited {waited}", absent(&client, &args.name)?),
                })
                .named("timeout"));
            }
            Heard::Over(why) => {
                // A reader that was too slow is cut off; a broker that is gone refuses the next call.
                stream = client
                    .events(client.newest()?)
                    .map_err(|_| Failure::new(format!("the broker has ended: {}", clean(&why))))?;
                agent = look(&client, &args.name)?;
            }
        }
    }
    let facts = json!({"name": args.name, "until": args.until.word(), "agent": agent});
    let text = format!(
        "{} {}\n",
        clean(&args.name),
        word(args.until, agent.as_ref())
    );
    c.tell(&facts, &text)
}

/// Where else in the workspace the agent is, if the engine knows it to be somewhere else, and there. Of one that ended here
/// the engine may not have heard yet.
fn elsewhere(client: &Client, name: &str) -> Option<AgentPlace> {
    let here: AgentList = client.read("/api/spawned").ok()?;
    if here.departed.iter().any(|gone| gone.name.as_str() == name) {
        return None;
    }
    let path = format!("/api/workspace/agents/{}", encode(name));
    // An engine that cannot be asked is no reason to fail: the agent may come to this broker.
    let place: AgentPlace = client.read(&path).ok()?;
    (place.online && !place.here).then_some(place)
}

/// Waits for the end of an agent that runs somewhere else, which the engine knows. How its terminal stands only its own
/// broker knows, and that is said at once.
fn wait_elsewhere(
    c: &Context,
    client: &Client,
    args: &args::Wait,
    place: AgentPlace,
    deadline: Mono,
) -> Result<(), Failure> {
    let name = clean(&args.name);
    let on = node_words(client, &place);
    if args.until != State::Exit {
        let until = args.until.word();
        let advice = match place.node_id {
            Some(_) => format!(
                "only its broker there knows whether it is {until}: `relay-broker wait {name} --until {until}` on that machine"
            ),
            None => "it has no terminal that a broker could look at".to_owned(),
        };
        let text = format!("{name} {on}, not on this one; {advice}");
        return Err(Failure::new(text).named("agent_elsewhere"));
    }
    note(&format!(
        "relay-broker: {name} {on}; waiting for the engine to say that it ended"
    ));
    while elsewhere(client, &args.name).is_some() {
        if clock::now().mono >= deadline {
            let waited = humantime::format_duration(args.timeout);
            let text = format!("{name} {on} still, after {waited}");
            return Err(Failure::new(text).named("timeout"));
        }
        std::thread::sleep(LOOK);
    }
    let facts = json!({"name": args.name, "until": args.until.word(), "agent": null});
    c.tell(
        &facts,
        &format!("{name} runs nowhere any more, the engine says\n"),
    )
}

fn node_words(client: &Client, place: &AgentPlace) -> String {
    let Some(id) = &place.node_id else {
        return "is connected to the engine without a broker".to_owned();
    };
    let nodes = super::nodes::roster(client).unwrap_or_default();
    let node = nodes
        .into_iter()
        .find(|node| node.node_id == *id || node.id == *id);
    let node = node.map_or(id.clone(), |node| node.name);
    format!("runs on node {}", clean(&node))
}

fn look(client: &Client, name: &str) -> Result<Option<AgentView>, Failure> {
    let list: AgentList = typed(client.get("/api/spawned")?)?;
    Ok(list.agents.into_iter().find(|a| a.name.as_str() == name))
}

/// Who is waited for in vain because the name is mistyped must not hear that all is done.
fn was_here(client: &Client, name: &str) -> Result<(), Failure> {
    let list: AgentList = typed(client.get("/api/spawned")?)?;
    if list.departed.iter().any(|d| d.name.as_str() == name) {
        return Ok(());
    }
    // The broker knows the name of everybody who has run here.
    let known = client.get(&format!("/api/spawned/{}/pending", encode(name)));
    known.map(drop).map_err(|unknown| {
        Failure::with(
            unknown.code,
            format!(
                "{}; nobody of that name ever ran on this broker",
                unknown.text
            ),
        )
    })
}

fn reached(wanted: State, agent: Option<&AgentView>) -> bool {
    let Some(agent) = agent else {
        return wanted == State::Exit;
    };
    let phase = agent.phase.as_str();
    match wanted {
        State::Ready => phase == "ready" || (phase == "blocked" && agent.ready),
        State::Idle => phase == "ready" && agent.current_state == "idle",
        State::Blocked => phase == "blocked",
        State::Exit => phase == "restarting",
    }
}

fn word(wanted: State, agent: Option<&AgentView>) -> &'static str {
    match (wanted, agent) {
        (State::Ready, _) => "is ready",
        (State::Idle, _) => "is idle",
        (State::Blocked, _) => "is blocked",
        (State::Exit, Some(_)) => "has ended and will be started again",
        (State::Exit, None) => "does not run on this broker",
    }
}

/// How it stands when time is up.
fn standing(agent: &AgentView) -> String {
    format!(
        "{} is still {}/{}",
        clean(agent.name.as_str()),
        clean(&agent.phase),
        clean(&agent.current_state)
    )
}

/// Why nothing is seen of an agent that does not run here.
fn absent(client: &Client, name: &str) -> Result<String, Failure> {
    let list: AgentList = typed(client.get("/api/spawned")?)?;
    let departed = list.departed.iter().find(|d| d.name.as_str() == name);
    let name = clean(name);
    Ok(match departed {
        Some(d) => format!("{name} ended at {}: {}", d.at, clean(&d.reason)),
        None => format!(
            "no agent named {name} runs on this broker, and none on another, as far as the engine knows"
        ),
    })
}
