//! `explain`: why an agent, or the broker, does or does not take messages now, on which evidence, and what to do about it.
//! The facts are gathered here; what follows from them is decided in `judge`, which asks nobody anything.

mod cause;
mod facts;
mod held_up;
mod judge;
mod show;
#[cfg(test)]
mod tests;

use self::facts::{AgentStanding, AskedAgent, ExplainFacts, Unanswered};
use super::args;
use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::find::NO_BROKER;
use super::render::{print, print_json};
use crate::ids::AgentName;
use crate::net::http::encode;
use crate::sys::sysexit::Sysexit;
use crate::sys::{clock, proc};
use crate::wire::local;

/// `explain`. Without a broker it says so on standard output, and fails.
pub fn explain(c: &Context, args: &args::Explain) -> Result<(), Failure> {
    let facts = gather(c, args.name.as_deref())?;
    let explanation = judge::explain(&facts);
    match c.json {
        true => print_json(&show::for_programs(&facts, &explanation))?,
        false => print(&show::for_people(c.paint, &facts, &explanation))?,
    }
    match facts.broker {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::silent(Sysexit::Failure)),
    }
}

fn gather(c: &Context, name: Option<&str>) -> Result<ExplainFacts, Failure> {
    let asked = c
        .client()
        .and_then(|client| Ok((typed(client.look("/api/status")?)?, client)));
    let (broker, client) = match asked {
        Ok((status, client)) => (Ok(Box::new(status)), Some(client)),
        Err(failure) if failure.word.as_deref() == Some("not_permitted") => return Err(failure),
        Err(failure) => (Err(unanswered(failure)), None),
    };
    let name = match name {
        Some(name) => {
            Some(AgentName::check(AgentName::meant(name).as_str()).map_err(Failure::usage)?)
        }
        None => None,
    };
    let agent = name.map(|name| agent(client.as_ref(), broker.as_deref().ok(), name.as_str()));
    Ok(ExplainFacts {
        now: clock::now().wall,
        program: c.program(),
        broker,
        agent,
    })
}

fn unanswered(failure: Failure) -> Unanswered {
    Unanswered {
        is_absent: failure.word.as_deref() == Some(NO_BROKER),
        was_killed: failure.text.contains("without a goodbye"),
        why: failure.text,
    }
}

fn agent(client: Option<&Client>, status: Option<&local::Status>, name: &str) -> AskedAgent {
    let mut facts = AskedAgent {
        name: name.to_owned(),
        standing: standing(status, name),
        pending: Vec::new(),
        unasked: None,
        picture: None,
        is_frozen: false,
        dead: Vec::new(),
    };
    let Some(client) = client else {
        return facts;
    };
    match client.look(&format!("/api/spawned/{}/pending", encode(name))) {
        Ok(answer) => {
            facts.pending =
                typed::<local::PendingList>(answer).map_or_else(|_| Vec::new(), |list| list.pending)
        }
        Err(failure) => facts.unasked = Some(failure.text),
    }
    let pid = facts.view().and_then(|view| view.pid);
    facts.is_frozen = pid.is_some_and(proc::is_stopped);
    if facts.view().is_some_and(|view| view.runtime != "headless") {
        let path = format!("/api/spawned/{}/snapshot?format=plain", encode(name));
        facts.picture = client.look(&path).and_then(typed).ok();
    }
    let dead = client
        .look("/api/dead-letters")
        .and_then(|mut answer| typed::<Vec<local::DeadLetterView>>(answer["dead_letters"].take()));
    facts.dead = dead.unwrap_or_default();
    facts
        .dead
        .retain(|letter| letter.worker_name.as_str() == name);
    facts.dead.sort_by_key(|letter| letter.failed_at_ms);
    facts
}

fn standing(status: Option<&local::Status>, name: &str) -> AgentStanding {
    let Some(status) = status else {
        return AgentStanding::Nowhere;
    };
    let here = status
        .agents
        .iter()
        .find(|agent| agent.name.as_str() == name);
    let ended = status
        .departed
        .iter()
        .find(|gone| gone.name.as_str() == name);
    match (here, ended) {
        (Some(view), _) => AgentStanding::Here(Box::new(view.clone())),
        (None, Some(gone)) => AgentStanding::Ended(Box::new(gone.clone())),
        (None, None) => AgentStanding::Nowhere,
    }
}
