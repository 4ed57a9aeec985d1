//! `wait`: until an agent is in a state. The state itself is asked for, once at the start and again whenever an event tells
//! of the agent, so it makes no difference whether it was reached before the command or during it.

use super::args::{self, State};
use super::client::{Client, Heard, typed};
use super::failure::Failure;
use super::render::{clean, print};
use super::run::Context;
use crate::sys::clock;
use crate::wire::local::{AgentList, AgentView};

/// `wait`.
pub fn wait(c: &Context, args: &args::Wait) -> Result<(), Failure> {
    let client = c.client()?;
    let deadline = clock::now().mono + args.timeout;
    // Opened before the first question, so nothing is missed between the two.
    let mut stream = client.events(client.newest()?)?;
    let mut agent = look(&client, &args.name)?;
    while !reached(args.until, agent.as_ref()) {
        match stream.next(Some(deadline)) {
            Heard::Event(event) if event["kind"] == "worker_stream" => {}
            Heard::Event(event) if event["name"] == args.name.as_str() => {
                agent = look(&client, &args.name)?;
            }
            Heard::Event(_) => {}
            Heard::Late => {
                return Err(Failure::new(format!(
                    "{} within {}",
                    standing(&args.name, agent.as_ref()),
                    humantime::format_duration(args.timeout)
                )));
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
    print(&format!(
        "{} {}\n",
        clean(&args.name),
        word(args.until, agent.as_ref())
    ))
}

fn look(client: &Client, name: &str) -> Result<Option<AgentView>, Failure> {
    let list: AgentList = typed(client.get("/api/spawned")?)?;
    Ok(list.agents.into_iter().find(|a| a.name.as_str() == name))
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
        (State::Exit, None) => "is not running",
    }
}

/// How it stands when time is up.
fn standing(name: &str, agent: Option<&AgentView>) -> String {
    let name = clean(name);
    match agent {
        Some(agent) => format!(
            "{name} is still {}/{}",
            clean(&agent.phase),
            clean(&agent.current_state)
        ),
        None => format!("no agent named {name} was started"),
    }
}
