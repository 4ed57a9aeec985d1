//! What is written today must be read tomorrow: frames (engine-protocol 3.4, 3.5 and 4.7) and journals, kept as files.

mod journals;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use relay_broker::journal::{Journal, OpenError, Options, Recovery};
use relay_broker::machine::Log;
use relay_broker::wire::down::Down;
use relay_broker::wire::up::Up;
use relay_broker::wire::{Parsed, WireError, fields};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Scratch, fixture};

/// One file in `fixtures/wire`.
struct Frame {
    name: &'static str,
    /// Keys without which the frame is broken.
    needs: &'static [&'static str],
    /// Keys we read past: known to later engines, and of no use to us.
    drops: &'static [&'static str],
}

const fn frame(name: &'static str, needs: &'static [&'static str]) -> Frame {
    Frame {
        name,
        needs,
        drops: &[],
    }
}

const fn frame_dropping(
    name: &'static str,
    needs: &'static [&'static str],
    drops: &'static [&'static str],
) -> Frame {
    Frame { name, needs, drops }
}

const REGISTER: &[&str] = &[
    "name",
    "node_id",
    "capabilities",
    "max_agents",
    "tags",
    "version",
];
const DELIVER: &[&str] = &["agent", "msg_id", "seq"];

const FRAMES: &[Frame] = &[
    frame("up.node.register", REGISTER),
    frame_dropping(
        "up.node.register.e6",
        REGISTER,
        &["machine_id", "repo_keys"],
    ),
    frame("up.node.heartbeat", &["active_agents", "handlers_live"]),
    frame_dropping(
        "up.node.heartbeat.e7",
        &["active_agents", "handlers_live"],
        &["id", "load_reported"],
    ),
    frame("up.node.deregister", &[]),
    frame("up.node.deregister.e6", &[]),
    frame("up.agent.register", &["name"]),
    frame("up.agent.register.bare", &["name"]),
    frame("up.agent.recover", &["name", "expected_agent_id"]),
    frame("up.agent.deregister", &["agent_id"]),
    frame("up.agent.deregister.e8", &["agent_id"]),
    frame("up.delivery.ack", &["agent", "up_to_seq"]),
    frame("up.action.result.output", &["invocation_id", "output"]),
    frame("up.action.result.null", &["invocation_id", "output"]),
    frame("up.action.result.error", &["invocation_id", "error"]),
    frame("up.inventory.sync", &["agents"]),
    frame("up.inventory.sync.empty", &["agents"]),
    frame("down.deliver.message.created", DELIVER),
    frame("down.deliver.thread.reply", DELIVER),
    frame("down.deliver.dm.received", DELIVER),
    frame("down.deliver.group_dm.received", DELIVER),
    frame("down.deliver.message.reacted", DELIVER),
    frame("down.deliver.message.read", DELIVER),
    frame("down.deliver.action.completed", DELIVER),
    frame("down.deliver.action.failed", DELIVER),
    frame("down.deliver.action.denied", DELIVER),
    frame("down.action.invoke.spawn", &["invocation_id", "action"]),
    frame("down.action.invoke.agent", &["invocation_id", "action"]),
    frame("down.context.update", &[]),
    frame("down.context.update.channel", &[]),
    frame("down.ping", &[]),
    frame("down.reply", &[]),
    frame("down.error", &[]),
];

/// Keys whose value may be any JSON, and one whose unknown words count as the default.
const ANYTHING: &[&str] = &["payload", "input", "output", "data", "mode"];

fn read(name: &str) -> Value {
    let path = fixture(&format!("wire/{name}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Reads a frame in the direction its file's name says, and gives it as we would write it.
fn through(name: &str, frame: &Value) -> Result<Parsed<Value>, WireError> {
    fn again(text: &str) -> Value {
        serde_json::from_str(text).expect("we write JSON")
    }
    let text = frame.to_string();
    Ok(if name.starts_with("up.") {
        match Up::parse(&text)? {
            Parsed::Known(frame) => Parsed::Known(again(&frame.to_text())),
            Parsed::Unknown { kind, frame } => Parsed::Unknown { kind, frame },
        }
    } else {
        match Down::parse(&text)? {
            Parsed::Known(frame) => Parsed::Known(again(&frame.to_text())),
            Parsed::Unknown { kind, frame } => Parsed::Unknown { kind, frame },
        }
    })
}

/// The keys of a frame besides `v` and `type`.
fn keys(frame: &Value) -> BTreeSet<String> {
    let all = frame
        .as_object()
        .expect("frames are objects")
        .keys()
        .cloned();
    all.filter(|key| key != "v" && key != "type").collect()
}

fn without(frame: &Value, key: &str) -> Value {
    let mut frame = frame.clone();
    frame
        .as_object_mut()
        .expect("frames are objects")
        .remove(key);
    frame
}

#[test]
fn every_frame_on_file_is_named_here_and_every_named_one_is_on_file() {
    let named: BTreeSet<String> = FRAMES.iter().map(|f| format!("{}.json", f.name)).collect();
    let on_file: BTreeSet<String> = fs::read_dir(fixture("wire"))
        .expect("the folder is there")
        .map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    assert_eq!(named, on_file);
}

#[test]
fn every_frame_is_written_as_it_was_read() {
    for Frame { name, drops, .. } in FRAMES {
        let mut expected = read(name);
        for key in *drops {
            expected = without(&expected, key);
        }
        assert_eq!(
            through(name, &read(name)),
            Ok(Parsed::Known(expected)),
            "{name}"
        );
    }
}

/// N22: unknown keys are tolerated in every frame.
#[test]
fn keys_of_later_engines_are_read_past_at_every_level() {
    fn strew(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.values_mut().for_each(strew);
                map.insert("of_tomorrow".into(), json!({"deep": [1, null]}));
            }
            Value::Array(list) => list.iter_mut().for_each(strew),
            _ => {}
        }
    }
    fn sweep(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("of_tomorrow");
                map.values_mut().for_each(sweep);
            }
            Value::Array(list) => list.iter_mut().for_each(sweep),
            _ => {}
        }
    }
    for Frame { name, drops, .. } in FRAMES {
        let (mut strewn, mut expected) = (read(name), read(name));
        strew(&mut strewn);
        for key in *drops {
            expected = without(&expected, key);
        }
        match through(name, &strewn) {
            Ok(Parsed::Known(mut frame)) => {
                assert!(
                    !keys(&frame).contains("of_tomorrow"),
                    "{name}: we never write what we do not know"
                );
                sweep(&mut frame);
                assert_eq!(frame, expected, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn frames_of_unknown_type_are_kept_whole() {
    for direction in ["up.", "down."] {
        let frame = json!({"v": 1, "type": "tide.turned", "id": "t-1", "height": {"m": 3.5}});
        let expected = Parsed::Unknown {
            kind: "tide.turned".into(),
            frame: frame.clone(),
        };
        assert_eq!(through(direction, &frame), Ok(expected));
    }
    let down = json!({"v": 1, "type": "deliver"});
    assert!(
        matches!(through("up.", &down), Ok(Parsed::Unknown { .. })),
        "a direction knows its own types"
    );
}

#[test]
fn a_frame_without_what_it_needs_is_broken_and_named_by_its_id() {
    for Frame { name, needs, .. } in FRAMES {
        let whole = read(name);
        for key in keys(&whole) {
            let id = whole
                .get("id")
                .filter(|_| key != "id")
                .and_then(Value::as_str);
            match through(name, &without(&whole, &key)) {
                Ok(Parsed::Known(_)) => {
                    assert!(!needs.contains(&key.as_str()), "{name} without {key}")
                }
                Err(WireError::Broken { kind, id: read, .. }) => {
                    assert!(needs.contains(&key.as_str()), "{name} without {key}");
                    assert_eq!(
                        (Value::from(kind), read.as_deref()),
                        (whole["type"].clone(), id)
                    );
                }
                other => panic!("{name} without {key}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_frame_with_a_value_of_the_wrong_type_is_broken_unless_we_can_do_without_that_value() {
    for Frame { name, drops, needs } in FRAMES {
        let whole = read(name);
        for key in keys(&whole) {
            let mut wrong = whole.clone();
            wrong[&key] = json!({"not": ["what", "belongs", "here"]});
            let key_is_in = |list: &[&str]| list.contains(&key.as_str());
            // Whatever an engine makes of what is optional to us, the rest of its frame counts.
            let optional = name.starts_with("down.") && !key_is_in(needs);
            let tolerated = key_is_in(ANYTHING) || key_is_in(drops) || optional;
            // An error reply can be addressed only by an id that is a text.
            let id = whole
                .get("id")
                .filter(|_| key != "id")
                .and_then(Value::as_str);
            match through(name, &wrong) {
                Ok(Parsed::Known(_)) => assert!(tolerated, "{name}: {key}"),
                Err(WireError::Broken { kind, id: read, .. }) => {
                    assert!(!tolerated, "{name}: {key}");
                    assert_eq!(
                        (Value::from(kind), read.as_deref()),
                        (whole["type"].clone(), id)
                    );
                }
                other => panic!("{name}: {key}: {other:?}"),
            }
        }
    }
}

#[test]
fn an_answer_to_an_action_is_either_an_output_or_an_error() {
    for outcome in [
        json!({}),
        json!({"output": 1, "error": "x"}),
        json!({"output": 1, "error": null}),
        json!({"output": null, "error": "x"}),
        json!({"error": null}),
        json!({"error": {"code": 1}}),
    ] {
        let mut frame =
            json!({"v": 1, "type": "action.result", "invocation_id": "inv_1", "id": "r-9"});
        frame
            .as_object_mut()
            .expect("an object")
            .extend(outcome.as_object().expect("an object").clone());
        match through("up.", &frame) {
            Err(WireError::Broken { id, .. }) => assert_eq!(id.as_deref(), Some("r-9")),
            other => panic!("{outcome}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_version_one_frame_is_refused() {
    for direction in ["up.", "down."] {
        for text in [
            json!({"type": "ping"}),
            json!({"v": 2, "type": "ping"}),
            json!({"v": "1", "type": "ping"}),
            json!({"v": 1}),
            json!([1]),
            json!("ping"),
        ] {
            assert_eq!(
                through(direction, &text),
                Err(WireError::NotAFrame),
                "{text}"
            );
        }
    }
    for text in ["", "{", "ping", "{\"v\":1,\"type\":\"ping\"} x"] {
        assert!(
            matches!(Down::parse(text), Err(WireError::NotJson(_))),
            "{text}"
        );
    }
}

#[test]
fn an_error_or_a_reply_without_an_id_is_still_read() {
    for name in ["down.error", "down.reply"] {
        assert!(
            matches!(
                through(name, &without(&read(name), "id")),
                Ok(Parsed::Known(_))
            ),
            "{name}"
        );
    }
}

/// What the oldest engine we support knows of the frames the broker sends (the E5 column of engine-protocol 3.7). It takes
/// any other key for a broken frame. `agent.recover` is sent only to engines that know it.
const OLDEST: &[(&str, &[&str])] = &[
    (
        "up.node.register",
        &[
            "id",
            "name",
            "node_id",
            "capabilities",
            "max_agents",
            "tags",
            "version",
            "resume_cursor",
        ],
    ),
    (
        "up.node.heartbeat",
        &[
            "id",
            "name",
            "node_id",
            "capabilities",
            "max_agents",
            "version",
            "load",
            "active_agents",
            "handlers_live",
        ],
    ),
    ("up.node.deregister", &["id"]),
    (
        "up.agent.register",
        &["id", "name", "invocation_id", "session_ref", "resumable"],
    ),
    (
        "up.agent.register.bare",
        &["id", "name", "invocation_id", "session_ref", "resumable"],
    ),
    (
        "up.agent.recover",
        &[
            "id",
            "name",
            "expected_agent_id",
            "invocation_id",
            "session_ref",
            "resumable",
        ],
    ),
    ("up.agent.deregister", &["agent_id", "name"]),
    ("up.delivery.ack", &["agent", "up_to_seq"]),
    (
        "up.action.result.output",
        &["id", "invocation_id", "output"],
    ),
    ("up.action.result.null", &["id", "invocation_id", "output"]),
    ("up.action.result.error", &["id", "invocation_id", "error"]),
    ("up.inventory.sync", &["id", "agents"]),
];

#[test]
fn we_send_only_keys_that_the_oldest_engine_knows() {
    let within = |what: &str, frame: &Value, known: &[&str]| {
        let strangers: Vec<String> = keys(frame)
            .into_iter()
            .filter(|k| !known.contains(&k.as_str()))
            .collect();
        assert!(strangers.is_empty(), "{what}: {strangers:?}");
        for (key, value) in frame.as_object().expect("an object") {
            let may_be_null = matches!(key.as_str(), "output" | "resume_cursor");
            assert!(
                may_be_null || !value.is_null(),
                "{what}: {key} must be left out, not null"
            );
        }
    };
    for (name, known) in OLDEST {
        let Ok(Parsed::Known(sent)) = through(name, &read(name)) else {
            panic!("{name} is not read");
        };
        within(name, &sent, known);
        for capability in sent["capabilities"].as_array().unwrap_or(&Vec::new()) {
            within(name, capability, &["name", "kind", "metadata"]);
        }
        for member in sent["agents"].as_array().unwrap_or(&Vec::new()) {
            within(
                name,
                member,
                &["agent_id", "name", "invocation_id", "session_ref"],
            );
        }
    }
}

#[test]
fn the_mail_on_file_is_understood() {
    use fields::PayloadKind::{Message, Notice};
    for (name, kind, sender, target, body, thread) in [
        (
            "message.created",
            Message,
            "master",
            "#quay",
            "gull, which berth is free?",
            None,
        ),
        (
            "thread.reply",
            Message,
            "tern",
            "#quay",
            "berth 4, until the flood",
            Some("8805"),
        ),
        (
            "dm.received",
            Message,
            "master",
            "gull",
            "stop the crane",
            None,
        ),
        (
            "group_dm.received",
            Message,
            "tern",
            "gull",
            "fog at six",
            None,
        ),
        (
            "action.completed",
            Message,
            "relaycast",
            "gull",
            "{\"high_m\":3.5}",
            None,
        ),
        (
            "action.failed",
            Message,
            "relaycast",
            "gull",
            "the gauge is frozen",
            None,
        ),
    ] {
        let text = read(&format!("down.deliver.{name}")).to_string();
        let Ok(Parsed::Known(Down::Deliver(frame))) = Down::parse(&text) else {
            panic!("{name} is not read");
        };
        let payload = &frame.payload;
        assert_eq!(fields::kind(payload), kind, "{name}");
        let read = (
            fields::sender(payload),
            fields::target(&frame),
            fields::body(payload),
        );
        assert_eq!(read, (sender.into(), target.into(), body.into()), "{name}");
        assert_eq!(fields::thread_id(payload).as_deref(), thread, "{name}");
    }
    for name in ["message.reacted", "message.read"] {
        let frame = read(&format!("down.deliver.{name}"));
        assert_eq!(fields::kind(&frame["payload"]), Notice, "{name}");
    }
}

/// A record for journals in fixtures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Noted { number: u64, text: String },
}
