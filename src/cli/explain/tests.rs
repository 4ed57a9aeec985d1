use serde_json::json;

use super::facts::{AgentStanding, AskedAgent, ExplainFacts, Unanswered};
use super::judge::{Explanation, explain};
use crate::time::Wall;
use crate::wire::local;

fn status(more: serde_json::Value) -> local::Status {
    let mut all = json!({
        "agent_count": 1, "agents": [], "pending_delivery_count": 0, "pending_deliveries": [], "dead_letter_count": 0,
        "auth": null, "node_connected": true, "node_delivery": {"token_present": true, "connected": true},
        "status": "ok", "degraded_reason": null, "node_id": "n", "node_name": "box", "relay_base_url": "http://e",
        "version": "1", "pid": 1, "uptime_secs": 9, "last_engine_frame_secs": 1, "oldest_pending_ms": null,
        "counters": serde_json::to_value(local::Counters::default()).expect("plain"),
    });
    merge(&mut all, more);
    serde_json::from_value(all).expect("a status")
}

fn merge(all: &mut serde_json::Value, more: serde_json::Value) {
    let more = more.as_object().cloned().unwrap_or_default();
    all.as_object_mut().expect("an object").extend(more);
}

fn view(more: serde_json::Value) -> local::AgentView {
    let mut all = json!({
        "name": "ada", "runtime": "pty", "cli": "cat", "channels": [], "parent": "", "workerPid": 7, "pid": 7,
        "last_activity_ms": 5, "last_activity_at": "", "context_budget_pct": null, "current_state": "idle",
        "state_since": "then", "pending_messages": 0, "phase": "ready", "ready": true, "agent_id": null,
        "mode": "auto_inject", "uptime_secs": 8,
    });
    merge(&mut all, more);
    serde_json::from_value(all).expect("an agent")
}

fn about(view: Option<local::AgentView>, broker: serde_json::Value) -> ExplainFacts {
    ExplainFacts {
        now: Wall(0),
        program: "relay-broker".into(),
        broker: Ok(Box::new(status(broker))),
        agent: Some(AskedAgent {
            name: "ada".into(),
            standing: view.map_or(AgentStanding::Nowhere, |view| {
                AgentStanding::Here(Box::new(view))
            }),
            pending: Vec::new(),
            unasked: None,
            picture: None,
            is_frozen: false,
            dead: Vec::new(),
        }),
    }
}

fn words(explanation: &Explanation) -> Vec<&str> {
    explanation.causes.iter().map(|cause| cause.cause).collect()
}

/// Of an agent that is here, the first cause, and the first command to copy.
fn first(more: serde_json::Value) -> (&'static str, String) {
    let explanation = explain(&about(Some(view(more)), json!({})));
    assert!(!explanation.takes_messages, "{}", explanation.verdict);
    let worst = &explanation.causes[0];
    (worst.cause, worst.ways[0].command.clone())
}

#[test]
fn an_agent_without_trouble_takes_messages() {
    let explanation = explain(&about(Some(view(json!({}))), json!({})));
    assert!(explanation.takes_messages);
    assert_eq!(
        explanation.verdict,
        "ada takes messages, and nothing is wrong"
    );
}

#[test]
fn what_is_in_an_agents_way_is_named_with_a_command_to_copy() {
    let told = |cause, command: &str| (cause, command.to_owned());
    let held = |why: &str| json!({"phase": "blocked", "held_up_by": why});
    assert_eq!(
        first(json!({"blocked_on": "permission"})),
        told("dialog", "relay-broker attach ada")
    );
    assert_eq!(
        first(held(
            "words stand in the input line of claude, so nothing was typed"
        )),
        told("draft", "relay-broker attach ada")
    );
    assert_eq!(
        first(held("the text is not shown, so Enter was not pressed")),
        told("held_up", "relay-broker flush ada")
    );
    assert_eq!(
        first(json!({"mode": "manual_flush"})),
        told("held", "relay-broker auto ada")
    );
    assert_eq!(
        first(json!({"suspended_messages": 3})),
        told("loop", "relay-broker flush ada")
    );
    assert_eq!(
        first(json!({"crowded": "500 messages wait for 'ada' already"})),
        told("full", "relay-broker pending ada")
    );
    assert_eq!(
        first(json!({"phase": "restarting"})),
        told("restarting", "relay-broker restart ada")
    );
    assert_eq!(
        first(json!({"phase": "starting"})),
        told("not_ready", "relay-broker snapshot ada")
    );
}

#[test]
fn the_worst_cause_comes_first_and_an_engine_that_is_away_stops_nobody() {
    let away = json!({"node_connected": false, "degraded_reason": "no link to the engine at http://e: refused"});
    let mut facts = about(Some(view(json!({"mode": "manual_flush"}))), away.clone());
    assert_eq!(words(&explain(&facts)), ["held", "engine_away"]);
    if let Some(agent) = &mut facts.agent {
        agent.is_frozen = true;
    }
    assert_eq!(words(&explain(&facts)), ["frozen", "held", "engine_away"]);
    let alone = explain(&about(Some(view(json!({}))), away));
    assert!(alone.takes_messages);
    assert!(
        alone
            .verdict
            .starts_with("ada takes messages; but there has been no link")
    );
    let disk = json!({"degraded_reason": "journal: No space left on device"});
    let explanation = explain(&about(Some(view(json!({"mode": "manual_flush"}))), disk));
    assert_eq!(words(&explanation), ["journal", "held"]);
}

#[test]
fn somebody_who_never_was_is_told_from_somebody_who_is_not_here() {
    let mut facts = about(None, json!({}));
    assert_eq!(words(&explain(&facts)), ["never_was"]);
    let letter = json!({
        "delivery_id": "d1", "worker_name": "ada", "event_id": "m1", "from": "bob", "to": "ada", "attempts": 0,
        "reason": "nobody came", "queued_at_ms": 1, "failed_at_ms": 2, "age_ms": 3,
    });
    if let Some(agent) = &mut facts.agent {
        agent.dead = vec![serde_json::from_value(letter).expect("a letter")];
    }
    let explanation = explain(&facts);
    assert_eq!(words(&explanation), ["absent", "given_up"]);
    assert_eq!(
        explanation.causes[1].ways[0].command,
        "relay-broker redeliver d1"
    );
}

#[test]
fn a_broker_that_was_killed_is_started_again() {
    let mut facts = about(None, json!({}));
    facts.broker = Err(Unanswered {
        is_absent: true,
        was_killed: true,
        why: "gone".into(),
    });
    let explanation = explain(&facts);
    assert_eq!(words(&explanation), ["no_broker"]);
    assert_eq!(
        explanation.causes[0].ways[0].command,
        "relay-broker up --detach"
    );
    assert!(
        explanation.verdict.contains("was killed"),
        "{}",
        explanation.verdict
    );
}
