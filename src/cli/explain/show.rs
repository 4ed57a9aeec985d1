//! What is known and what follows from it, for people and for programs.

use serde_json::{Value, json};

use super::cause::Cause;
use super::facts::{AgentStanding, AskedAgent, ExplainFacts};
use super::judge::Explanation;
use crate::cli::render::{Paint, brief, clean, span_ms, uptime};
use crate::domain::DeliveryMode;
use crate::time::millis;
use crate::wire::local::{AgentView, Status, TerminalView};

/// How many of the waiting messages are shown.
const SHOWN: usize = 5;

/// One object.
pub(super) fn for_programs(facts: &ExplainFacts, explanation: &Explanation) -> Value {
    let agent = facts.agent.as_ref();
    let view = agent.and_then(AskedAgent::view);
    let terminal = agent.and_then(|agent| agent.picture.as_ref()?.terminal.as_ref());
    let causes: Vec<Value> = (explanation.causes.iter())
        .map(|cause| serde_json::to_value(cause).unwrap_or_default())
        .collect();
    json!({
        "agent": explanation.agent,
        "takes_messages": explanation.takes_messages,
        "causes": causes,
        "verdict": explanation.verdict,
        "phase": view.map(|view| &view.phase),
        "current_state": view.map(|view| &view.current_state),
        "state_since": view.map(|view| &view.state_since),
        "pending_messages": agent.map(|agent| agent.pending.len()),
        "terminal": terminal,
        "screen": agent.map(AskedAgent::rows).unwrap_or_default(),
    })
}

/// Some lines: what is so, then what is wrong, then what it comes to.
pub(super) fn for_people(paint: Paint, facts: &ExplainFacts, explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut say = |label: &str, words: String| {
        if !words.is_empty() {
            text.push_str(&format!("{label:<10}{words}\n"));
        }
    };
    if let Some(agent) = &facts.agent {
        say("agent", clean(&agent.name));
        match &agent.standing {
            AgentStanding::Here(view) => agent_lines(agent, view, &mut say),
            AgentStanding::Ended(gone) => say("program", clean(&gone.command)),
            AgentStanding::Nowhere => {}
        }
    }
    if let Ok(status) = &facts.broker {
        broker_lines(facts, status, &mut say);
    }
    if let Some(agent) = &facts.agent {
        text.push_str(&waiting_lines(facts, agent));
        let rows = agent.rows();
        if !rows.is_empty() {
            text.push_str("screen\n");
            text.extend(rows.iter().map(|row| format!("    {}\n", clean(row))));
        }
    }
    for cause in &explanation.causes {
        text.push_str(&cause_lines(paint, cause));
    }
    let verdict = clean(&explanation.verdict);
    let verdict = match explanation.causes.is_empty() {
        true => paint.good(&verdict),
        false => verdict,
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

fn cause_lines(paint: Paint, cause: &Cause) -> String {
    let mark = match cause.stops {
        true => paint.bad("stops"),
        false => "note ".to_owned(),
    };
    let mut text = format!("\n{mark}     {}\n", clean(&cause.sentence));
    for way in &cause.ways {
        text.push_str(&format!("    {}\n", clean(&way.command)));
        text.push_str(&format!("        {}\n", paint.dim(&clean(&way.does))));
    }
    text
}

fn agent_lines(agent: &AskedAgent, view: &AgentView, say: &mut impl FnMut(&str, String)) {
    let since = &view.state_since;
    let shown = span_ms(view.last_activity_ms);
    say(
        "state",
        format!(
            "{}/{} since {since}; it showed something {shown} ago",
            view.phase, view.current_state
        ),
    );
    let pid = view
        .pid
        .map_or(String::new(), |pid| format!(", process {pid}"));
    let frozen = if agent.is_frozen { ", frozen" } else { "" };
    say(
        "program",
        format!(
            "{}{pid}{frozen}, up {}",
            brief(&view.command, 60),
            uptime(view.uptime_secs)
        ),
    );
    let mode = match view.mode {
        DeliveryMode::AutoInject => "typed as they come",
        DeliveryMode::ManualFlush => "held until somebody wants them typed",
    };
    say(
        "messages",
        format!("{mode}; {} wait", view.pending_messages),
    );
    if let Some(terminal) = agent
        .picture
        .as_ref()
        .and_then(|shot| shot.terminal.as_ref())
    {
        say("terminal", terminal_words(terminal));
    }
}

fn terminal_words(terminal: &TerminalView) -> String {
    let mut words = vec![match &terminal.delivery_id {
        Some(id) => format!("{} ({})", terminal.step.sentence(), clean(id.as_str())),
        None => terminal.step.sentence().to_owned(),
    }];
    words.push(match (terminal.line_mode, terminal.echo) {
        (None, _) => "its settings were not looked at yet".to_owned(),
        (Some(true), Some(false)) => "line mode without echo".to_owned(),
        (Some(true), _) => "line mode".to_owned(),
        (Some(false), _) => "each key by itself (raw)".to_owned(),
    });
    if terminal.unread == Some(true) {
        words.push("something typed is not read yet".to_owned());
    }
    if !terminal.title.is_empty() {
        words.push(format!("title \"{}\"", brief(&terminal.title, 40)));
    }
    if terminal.works {
        words.push("the program says that it works".to_owned());
    }
    if terminal.hooked {
        words.push("its hook has spoken".to_owned());
    }
    words.join("; ")
}

fn broker_lines(facts: &ExplainFacts, status: &Status, say: &mut impl FnMut(&str, String)) {
    let lost = status
        .node_lost_secs
        .map_or(String::new(), |secs| format!(" for {}", uptime(secs)));
    let link = match status.node_connected {
        true => "linked".to_owned(),
        false => format!("not linked{lost}"),
    };
    say(
        "engine",
        format!("{} {link}", clean(&status.relay_base_url)),
    );
    if facts.agent.is_some() {
        return;
    }
    let disk = match &status.degraded_reason {
        Some(why) if status.node_connected => clean(why),
        _ => "the journal is written".to_owned(),
    };
    say("disk", disk);
    say("clock", facts.now.iso());
    let refused = status.counters.deliveries_refused;
    say(
        "messages",
        format!(
            "{} wait, {} dead; {refused} refused by a limit since the start",
            status.pending_delivery_count, status.dead_letter_count
        ),
    );
    say(
        "agents",
        format!(
            "{} here, {} ended by themselves",
            status.agent_count,
            status.departed.len()
        ),
    );
}

fn waiting_lines(facts: &ExplainFacts, agent: &AskedAgent) -> String {
    let mut text = String::new();
    for (place, message) in agent.pending.iter().take(SHOWN).enumerate() {
        let age = span_ms(millis(facts.now - message.queued_at_ms));
        let held = if message.suspended {
            ", held by the loop guard"
        } else {
            ""
        };
        let at = message
            .lies_at
            .as_ref()
            .map_or(String::new(), |at| format!(" at the {at}"));
        let label = if place == 0 { "waits" } else { "" };
        let (from, body) = (clean(&message.from), brief(&message.body, 40));
        text.push_str(&format!("{label:<10}for {age}{at}{held}: {from}: {body}\n"));
    }
    match agent.pending.len().saturating_sub(SHOWN) {
        0 => text,
        more => text + &format!("{:<10}and {more} more\n", ""),
    }
}
