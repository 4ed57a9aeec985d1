//! Journals of the engine that are kept as files: each kind of record as it was written when it came to be. Whoever changes
//! a record, or something in one, sees here whether the journals that people have can still be read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use serde_json::{Value, json};

use super::{KEY, World};
use crate::engine::live::ConnId;
use crate::engine::{EngineCore, EngineRecord, SocketKind};
use crate::journal::{Journal, Options};
use crate::machine::{Log, Machine};
use crate::time::Wall;

const ON_FILE: &str = "fixtures/journal/engine";

fn on_file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(ON_FILE)
}

/// The word of a record in the journal. Names every kind, so that a new one is thought of here: it needs a journal of its
/// own under `fixtures/journal`, because those that are there stay as they are.
fn word(record: &EngineRecord) -> &'static str {
    use EngineRecord as R;
    match record {
        R::WorkspaceCreated { .. } => "WorkspaceCreated",
        R::WorkspaceChanged { .. } => "WorkspaceChanged",
        R::WorkspaceDeleted { .. } => "WorkspaceDeleted",
        R::AgentRegistered { .. } => "AgentRegistered",
        R::AgentChanged { .. } => "AgentChanged",
        R::AgentDeleted { .. } => "AgentDeleted",
        R::TokenIssued { .. } => "TokenIssued",
        R::AgentBound { .. } => "AgentBound",
        R::OriginSet { .. } => "OriginSet",
        R::AgentUnbound { .. } => "AgentUnbound",
        R::NodeCreated { .. } => "NodeCreated",
        R::NodeDescribed { .. } => "NodeDescribed",
        R::ProviderRemoved { .. } => "ProviderRemoved",
        R::NodeDeleted { .. } => "NodeDeleted",
        R::ChannelCreated { .. } => "ChannelCreated",
        R::ChannelChanged { .. } => "ChannelChanged",
        R::Joined { .. } => "Joined",
        R::Left { .. } => "Left",
        R::Muted { .. } => "Muted",
        R::MessagePosted { .. } => "MessagePosted",
        R::Reacted { .. } => "Reacted",
        R::Unreacted { .. } => "Unreacted",
        R::Read { .. } => "Read",
        R::Acked { .. } => "Acked",
        R::DeliveryClosed { .. } => "DeliveryClosed",
        R::Waited { .. } => "Waited",
        R::Expired { .. } => "Expired",
        R::ActionDefined { .. } => "ActionDefined",
        R::ActionRemoved { .. } => "ActionRemoved",
        R::Invoked { .. } => "Invoked",
        R::Dispatched { .. } => "Dispatched",
        R::Requeued { .. } => "Requeued",
        R::InvocationEnded { .. } => "InvocationEnded",
        R::ObserverSaved { .. } => "ObserverSaved",
        R::Snapshot(_) => "Snapshot",
    }
}
/// How many kinds [`word`] names.
const KINDS: usize = 35;

/// What an engine of these records knows, as it would write it down.
fn knows(records: &[EngineRecord]) -> Value {
    let mut core = EngineCore::new();
    records.iter().for_each(|record| core.replay(record));
    serde_json::to_value(core.snapshot()).expect("plain data")
}

/// Opens a copy of the journal: opening writes.
fn open(name: &str) -> Vec<EngineRecord> {
    let copy = env::temp_dir().join(format!(
        "relay-engine-journal-{}-{name}",
        std::process::id()
    ));
    fs::create_dir_all(&copy).expect("room");
    fs::copy(on_file().join("journal.1"), copy.join("journal.1")).expect("on file");
    let opened = Journal::<EngineRecord>::open(&copy, "engine", Options::default()).expect("ours");
    drop(opened.journal);
    fs::remove_dir_all(&copy).expect("ours");
    opened.records
}

#[test]
fn a_journal_on_file_holds_every_kind_of_record_and_leads_to_what_it_led_to_then() {
    let records = open("state");
    let words: BTreeSet<&str> = records.iter().map(word).collect();
    assert_eq!(words.len(), KINDS, "{words:?}");
    let then = fs::read(on_file().join("state.json")).expect("on file");
    let then: Value = serde_json::from_slice(&then).expect("JSON");
    assert_eq!(knows(&records), then);
}

/// So that the program before this one reads what this one writes.
#[test]
fn what_is_read_from_a_journal_on_file_is_written_in_the_same_bytes() {
    let text = fs::read_to_string(on_file().join("journal.1")).expect("on file");
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('{')).collect();
    let records = open("bytes");
    assert_eq!(records.len(), lines.len());
    for (record, line) in records.iter().zip(lines) {
        assert_eq!(serde_json::to_string(record).expect("plain data"), line);
    }
}

/// A small world in which everything happens once.
fn everything() -> Vec<EngineRecord> {
    let mut w = World::new();
    let people = people(&mut w);
    channels(&mut w, &people);
    w.records.push(w.core.snapshot().expect("always"));
    mail_and_actions(&mut w, &people);
    the_rest(&mut w, &people);
    w.records
}

/// Tokens of agents and a node's connection.
struct People {
    lead: String,
    ada: String,
    broker: ConnId,
}

fn none() -> Value {
    json!({})
}

fn people(w: &mut World) -> People {
    w.ok(
        "PATCH",
        "/v1/workspace",
        KEY,
        json!({"system_prompt": "be kind", "metadata": {"a": 1}}),
    );
    let (lead, _) = w.agent("lead");
    let (ada, _) = w.agent("ada");
    w.ok(
        "PATCH",
        "/v1/agents/ada",
        KEY,
        json!({"status": "busy", "persona": "calm", "metadata": {"b": 2}}),
    );
    w.agent("gone");
    w.ok("DELETE", "/v1/agents/gone", KEY, none());
    w.ok("POST", "/v1/agents/lead/rotate-token", &lead, none());
    let lead = w.ok("POST", "/v1/agents/lead/rotate-token", KEY, none())["token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let token = w.node("node_box", "box");
    let broker = w.socket(SocketKind::Node, &token).expect("admitted");
    w.send(broker, json!({
        "type": "node.register", "id": "reg", "name": "box", "node_id": "node_box", "version": "1.0", "tags": ["t"],
        "capabilities": [
            {"name": "spawn:claude", "kind": "capacity", "metadata": {"cli": "claude"}}, {"name": "build", "kind": "action"},
        ],
        "max_agents": 4,
    }));
    let second = w.socket(SocketKind::Node, &token).expect("admitted");
    w.send(second, json!({
        "type": "node.register", "id": "reg", "name": "box", "node_id": "node_box", "version": "1.0", "tags": ["t"],
        "provider": {"name": "py", "instance_id": "i1"}, "max_agents": 0,
        "capabilities": [{"name": "etl", "kind": "action", "global": true, "queue": true}],
    }));
    w.hosted(broker, "eve");
    w.ok(
        "POST",
        "/v1/nodes/box/agents",
        KEY,
        json!({"agent_name": "ada", "session_ref": "s1", "priority": 2}),
    );
    w.send(second, json!({"type": "node.deregister"}));
    w.node("node_old", "old");
    w.ok("DELETE", "/v1/nodes/old", KEY, none());
    People { lead, ada, broker }
}

fn channels(w: &mut World, people: &People) {
    let People { lead, ada, broker } = people;
    w.ok(
        "POST",
        "/v1/channels",
        lead,
        json!({"name": "ops", "topic": "ships", "metadata": {"c": 3}}),
    );
    w.ok("PATCH", "/v1/channels/ops", lead, json!({"topic": "boats"}));
    w.ok("POST", "/v1/channels/ops/join", ada, none());
    w.ok("POST", "/v1/channels/ops/mute", ada, none());
    w.ok("POST", "/v1/channels/general/leave", ada, none());
    let post =
        json!({"text": "hello @ada", "mode": "steer", "blocks": [{"type": "x"}], "data": {"k": 1}});
    let (status, said) = w.call_with_key(
        "POST",
        "/v1/channels/ops/messages",
        lead,
        Some("key-1"),
        post,
    );
    assert_eq!(status, 201, "{said}");
    let said = said["data"]["id"].as_str().expect("an id").to_owned();
    w.ok(
        "POST",
        &format!("/v1/messages/{said}/replies"),
        lead,
        json!({"text": "and more"}),
    );
    w.ok(
        "POST",
        &format!("/v1/messages/{said}/reactions"),
        ada,
        json!({"emoji": "+1"}),
    );
    w.ok(
        "POST",
        &format!("/v1/messages/{said}/reactions"),
        ada,
        json!({"emoji": "-1"}),
    );
    w.ok(
        "DELETE",
        &format!("/v1/messages/{said}/reactions/-1"),
        ada,
        none(),
    );
    w.ok("POST", &format!("/v1/messages/{said}/read"), ada, none());
    w.ack(*broker, "ada", 1);
    w.dm(lead, "eve", "one");
    w.dm(lead, "eve", "two");
}

fn mail_and_actions(w: &mut World, people: &People) {
    let People { lead, broker, .. } = people;
    let (bob, _) = w.agent("bob");
    w.dm(lead, "bob", "are you there?");
    w.pass(Duration::from_secs(90));
    w.dm(lead, "bob", "still?");
    let list = w.ok("GET", "/v1/deliveries", &bob, none());
    let delivery = list[0]["id"].as_str().expect("an id").to_owned();
    w.ok(
        "POST",
        &format!("/v1/deliveries/{delivery}/ack"),
        &bob,
        none(),
    );
    w.ok("POST", "/v1/actions", lead, json!({
        "name": "review", "description": "reads", "input_schema": {"type": "object"}, "available_to": ["ada"],
    }));
    w.ok("POST", "/v1/actions", lead, json!({"name": "junk"}));
    w.ok("DELETE", "/v1/actions/junk", KEY, none());
    w.beat(*broker, 2);
    let run = w.ok(
        "POST",
        "/v1/actions/build/invoke",
        lead,
        json!({"input": {"n": 1}}),
    );
    let run = run["invocation_id"].as_str().expect("an id").to_owned();
    w.send(
        *broker,
        json!({"type": "action.result", "invocation_id": run, "error": "handler_unavailable"}),
    );
    w.beat(*broker, 2);
    w.send(
        *broker,
        json!({"type": "action.result", "invocation_id": run, "output": {"ok": true}}),
    );
    w.ok(
        "POST",
        "/v1/actions/spawn/invoke",
        lead,
        json!({"input": {"cli": "claude", "name": "kim"}}),
    );
}

fn the_rest(w: &mut World, people: &People) {
    let lead = &people.lead;
    w.ok("DELETE", "/v1/nodes/box/agents/ada", KEY, none());
    w.ok(
        "POST",
        "/v1/dm/group",
        lead,
        json!({"participants": ["ada", "bob"], "name": "crew"}),
    );
    w.ok(
        "POST",
        "/v1/observer-tokens",
        KEY,
        json!({"name": "eye", "scopes": ["stream:read"], "filters": {"x": []}}),
    );
    w.ok("POST", "/v1/workspaces", "", json!({"name": "second"}));
    let third = w.ok("POST", "/v1/workspaces", "", json!({"name": "third"}));
    let third = third["api_key"].as_str().expect("a key").to_owned();
    w.ok("DELETE", "/v1/workspace", &third, none());
    let ws = *w.core.state.workspaces.keys().next().expect("the first");
    // Of versions that went by the wall clock; early enough that nothing dies of it.
    w.records.push(EngineRecord::Expired { ws, at: Wall(1) });
}

/// Made the journal that is kept, and would make it anew in the present form.
#[test]
#[ignore = "writes the journal on file: what is there is there to stay"]
fn write_a_journal_with_every_kind_of_record() {
    let records = everything();
    let words: BTreeSet<&str> = records.iter().map(word).collect();
    assert_eq!(words.len(), KINDS, "{words:?}");
    fs::create_dir_all(on_file()).expect("room");
    let opened = Journal::<EngineRecord>::open(&on_file(), "engine", Options::default());
    let mut journal = opened.expect("empty").journal;
    for batch in records.chunks(7) {
        journal.commit(batch).expect("room");
    }
    let text = serde_json::to_string_pretty(&knows(&records)).expect("plain data");
    fs::write(on_file().join("state.json"), text + "\n").expect("room");
}
