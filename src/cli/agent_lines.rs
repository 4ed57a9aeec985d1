//! What is to be said of agents below their table, a line each.

use super::render::{brief, clean, span_ms};
use crate::wire::local;

/// One line for an agent that waits for another start, or runs unknown to the engine.
fn trouble_line(agent: &local::AgentView) -> Option<String> {
    let why = clean(agent.trouble.as_deref()?);
    let again = agent.next_start_ms.map_or(String::new(), |ms| {
        format!(" is started again in {}", span_ms(ms))
    });
    Some(format!("{}{again}: {why}\n", agent.name))
}

/// What is to be said of an agent below the table.
pub(super) fn trouble_lines(agent: &local::AgentView) -> impl Iterator<Item = String> {
    trouble_line(agent).into_iter().chain(suspended_line(agent))
}

/// One line for an agent whose mail is held because it and others seem to answer each other without end.
fn suspended_line(agent: &local::AgentView) -> Option<String> {
    let what = match agent.suspended_messages {
        0 => return None,
        1 => "a message is held".to_owned(),
        n => format!("{n} messages are held"),
    };
    let name = &agent.name;
    Some(format!(
        "{name}: {what}, because agents seem to answer each other without end; `relay-broker flush {name}` or a message of \
         yours to {name} lets them go on\n"
    ))
}

/// One line for an agent that is not here any more.
pub(super) fn departed_line(agent: &local::DepartedView) -> String {
    let what = if agent.given_up {
        "was given up"
    } else {
        "ended"
    };
    let waiting = waiting_words(agent.pending_messages);
    format!(
        "{} {what} at {}: {}{waiting} ({})\n",
        clean(agent.name.as_str()),
        agent.at,
        clean(&agent.reason),
        brief(&agent.command, 40)
    )
}

pub(super) fn waiting_words(count: u64) -> String {
    match count {
        0 => String::new(),
        1 => "; a message waits for it".to_owned(),
        n => format!("; {n} messages wait for it"),
    }
}
