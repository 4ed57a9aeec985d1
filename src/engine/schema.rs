//! The keys that each frame may have towards an engine of a certain age
//! ([engine-protocol 3.2](crate::docs::engine_protocol#3.2), [3.4](crate::docs::engine_protocol#3.4),
//! [3.7](crate::docs::engine_protocol#3.7)). Only an engine that plays an age asks here; otherwise unknown keys are passed
//! over.

use serde_json::{Map, Value};

use super::behaviour::UpstreamVersion;
use super::behaviour::UpstreamVersion::{V5_0, V6_0, V8_2, V9_0};

/// When a key has to be there.
#[derive(Clone, Copy)]
enum Need {
    Always,
    Never,
    /// Only towards engines older than that.
    Before(UpstreamVersion),
}

struct Key {
    name: &'static str,
    fits: fn(&Value, UpstreamVersion) -> bool,
    need: Need,
    since: UpstreamVersion,
}

const fn must(name: &'static str, fits: fn(&Value, UpstreamVersion) -> bool) -> Key {
    Key {
        name,
        fits,
        need: Need::Always,
        since: V5_0,
    }
}

const fn may(
    name: &'static str,
    fits: fn(&Value, UpstreamVersion) -> bool,
    since: UpstreamVersion,
) -> Key {
    Key {
        name,
        fits,
        need: Need::Never,
        since,
    }
}

const ENVELOPE: &[Key] = &[must("v", any), must("type", text), may("id", text, V5_0)];

const NODE_REGISTER: &[Key] = &[
    must("name", text),
    must("node_id", text),
    must("capabilities", capabilities),
    must("max_agents", count),
    must("tags", tags),
    must("version", text),
    may("resume_cursor", text_or_null, V5_0),
    may("provider", provider, V6_0),
    may("machine_id", text, V6_0),
    may("repo_keys", texts, V8_2),
];

const NODE_HEARTBEAT: &[Key] = &[
    Key {
        name: "load",
        fits: load,
        need: Need::Before(V8_2),
        since: V5_0,
    },
    must("active_agents", count),
    must("handlers_live", flag),
    may("name", text, V5_0),
    may("node_id", text, V5_0),
    may("capabilities", capabilities, V5_0),
    may("max_agents", count, V5_0),
    may("version", text, V5_0),
    may("provider", provider, V6_0),
    may("load_reported", flag, V8_2),
];

const NODE_DEREGISTER: &[Key] = &[may("provider", provider, V6_0)];
const NODE_SPAWN: &[Key] = &[must("input", object)];

const AGENT_REGISTER: &[Key] = &[
    must("name", text),
    may("invocation_id", text, V5_0),
    may("session_ref", text, V5_0),
    may("resumable", flag, V5_0),
    may("auto_join_general", flag, V9_0),
];

const AGENT_RECOVER: &[Key] = &[
    must("name", text),
    must("expected_agent_id", text),
    may("invocation_id", text, V8_2),
    may("session_ref", text, V8_2),
    may("resumable", flag, V8_2),
];

const AGENT_DEREGISTER: &[Key] = &[must("agent_id", text), may("name", text, V5_0)];
const DELIVERY_ACK: &[Key] = &[must("agent", text), must("up_to_seq", count)];

const ACTION_RESULT: &[Key] = &[
    must("invocation_id", text),
    may("output", any, V5_0),
    may("error", text, V5_0),
];

const INVENTORY_SYNC: &[Key] = &[must("agents", members)];

const MEMBER: &[Key] = &[
    must("agent_id", text),
    must("name", text),
    may("invocation_id", text, V5_0),
    may("session_ref", text, V5_0),
];

const CAPABILITY: &[Key] = &[
    must("name", text),
    may("kind", text, V5_0),
    may("metadata", object, V5_0),
    may("global", flag, V6_0),
    may("queue", flag, V6_0),
];

const PROVIDER: &[Key] = &[must("name", text), must("instance_id", text)];

/// A frame's own keys, and since when there is such a frame.
fn keys_of(kind: &str) -> Option<(&'static [Key], UpstreamVersion)> {
    Some(match kind {
        "node.register" => (NODE_REGISTER, V5_0),
        "node.heartbeat" => (NODE_HEARTBEAT, V5_0),
        "node.deregister" => (NODE_DEREGISTER, V5_0),
        "node.spawn" => (NODE_SPAWN, V6_0),
        "agent.register" => (AGENT_REGISTER, V5_0),
        "agent.recover" => (AGENT_RECOVER, V8_2),
        "agent.deregister" => (AGENT_DEREGISTER, V5_0),
        "delivery.ack" => (DELIVERY_ACK, V5_0),
        "action.result" => (ACTION_RESULT, V5_0),
        "inventory.sync" => (INVENTORY_SYNC, V5_0),
        _ => return None,
    })
}

/// Whether an engine of that age takes the frame; if not, why not.
pub fn check(age: UpstreamVersion, text: &str) -> Result<(), String> {
    let frame: Value = serde_json::from_str(text).map_err(|e| format!("not JSON: {e}"))?;
    let Value::Object(frame) = frame else {
        return Err("not an object".into());
    };
    let kind = frame.get("type").and_then(Value::as_str).unwrap_or("");
    let Some((own, since)) = keys_of(kind) else {
        return Err(format!("\"{kind}\" is no frame"));
    };
    if since > age {
        return Err(format!("\"{kind}\" is no frame yet"));
    }
    check_keys(age, &frame, &[ENVELOPE, own]).map_err(|why| format!("{kind}: {why}"))?;
    if kind == "action.result" && frame.contains_key("output") == frame.contains_key("error") {
        return Err("action.result: one of output and error".into());
    }
    if frame.get("load_reported") == Some(&Value::Bool(true))
        && !frame.get("load").is_some_and(Value::is_number)
    {
        return Err("node.heartbeat: a load that is reported is a number".into());
    }
    Ok(())
}

fn check_keys(
    age: UpstreamVersion,
    frame: &Map<String, Value>,
    keys: &[&[Key]],
) -> Result<(), String> {
    let known = || {
        keys.iter()
            .flat_map(|k| k.iter())
            .filter(|k| k.since <= age)
    };
    for key in known() {
        let needed = match key.need {
            Need::Always => true,
            Need::Never => false,
            Need::Before(later) => age < later,
        };
        match frame.get(key.name) {
            None if needed => return Err(format!("\"{}\" is missing", key.name)),
            Some(value) if !(key.fits)(value, age) => {
                return Err(format!("\"{}\" is not what it must be", key.name));
            }
            _ => {}
        }
    }
    let stranger = frame.keys().find(|name| known().all(|k| k.name != **name));
    match stranger {
        Some(name) => Err(format!("\"{name}\" is unknown")),
        None => Ok(()),
    }
}

fn any(_: &Value, _: UpstreamVersion) -> bool {
    true
}

fn text(value: &Value, _: UpstreamVersion) -> bool {
    value.is_string()
}

fn text_or_null(value: &Value, _: UpstreamVersion) -> bool {
    value.is_string() || value.is_null()
}

fn flag(value: &Value, _: UpstreamVersion) -> bool {
    value.is_boolean()
}

fn object(value: &Value, _: UpstreamVersion) -> bool {
    value.is_object()
}

/// A whole number, also one written with a point.
fn count(value: &Value, _: UpstreamVersion) -> bool {
    value.is_u64() || value.as_f64().is_some_and(|n| n >= 0.0 && n.fract() == 0.0)
}

fn load(value: &Value, age: UpstreamVersion) -> bool {
    match value.as_f64() {
        Some(load) => load >= 0.0 && (age < V8_2 || load <= 1.0),
        None => value.is_null() && age >= V8_2,
    }
}

fn texts(value: &Value, _: UpstreamVersion) -> bool {
    each(value, Value::is_string)
}

/// A tag that speaks of a repository names it as `name` or `owner/name`.
fn tags(value: &Value, age: UpstreamVersion) -> bool {
    each(value, |tag| match tag.as_str() {
        None => false,
        Some(_) if age < V8_2 => true,
        Some(tag) => tag.strip_prefix("repo:").is_none_or(|repo| {
            let parts: Vec<&str> = repo.split('/').collect();
            parts.len() <= 2 && parts.iter().all(|p| !p.is_empty())
        }),
    })
}

fn capabilities(value: &Value, age: UpstreamVersion) -> bool {
    each(value, |c| has_keys(c, age, CAPABILITY))
}

fn members(value: &Value, age: UpstreamVersion) -> bool {
    each(value, |m| has_keys(m, age, MEMBER))
}

fn provider(value: &Value, age: UpstreamVersion) -> bool {
    has_keys(value, age, PROVIDER)
}

fn each(value: &Value, fits: impl Fn(&Value) -> bool) -> bool {
    value.as_array().is_some_and(|list| list.iter().all(fits))
}

fn has_keys(value: &Value, age: UpstreamVersion, keys: &[Key]) -> bool {
    value
        .as_object()
        .is_some_and(|o| check_keys(age, o, &[keys]).is_ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(age: UpstreamVersion, mut frame: Value) -> bool {
        frame["v"] = json!(1);
        check(age, &frame.to_string()).is_ok()
    }

    fn register(more: &[(&str, Value)]) -> Value {
        let mut frame = json!({
            "type": "node.register", "name": "box", "node_id": "n", "version": "t", "tags": [],
            "capabilities": [{"name": "spawn:x", "kind": "capacity"}], "max_agents": 0, "resume_cursor": null,
        });
        for (key, value) in more {
            frame[*key] = value.clone();
        }
        frame
    }

    #[test]
    fn the_oldest_columns_frames_are_taken_by_every_age() {
        let frames = [
            register(&[]),
            json!({"type": "node.heartbeat", "load": 0.5, "active_agents": 1, "handlers_live": true, "max_agents": 2}),
            json!({"type": "node.deregister"}),
            json!({"type": "agent.register", "id": "a", "name": "w", "session_ref": "s", "resumable": true}),
            json!({"type": "agent.deregister", "agent_id": "1"}),
            json!({"type": "delivery.ack", "agent": "w", "up_to_seq": 3}),
            json!({"type": "action.result", "invocation_id": "i", "output": null}),
            json!({"type": "action.result", "invocation_id": "i", "error": "no"}),
            json!({"type": "inventory.sync", "agents": [{"agent_id": "1", "name": "w"}]}),
        ];
        for frame in frames {
            for (name, age) in UpstreamVersion::ALL {
                assert!(takes(age, frame.clone()), "{name}: {frame}");
            }
        }
    }

    /// Which ages take each frame, oldest first.
    #[test]
    fn a_key_is_unknown_before_its_time() {
        let beat = |load: Value| {
            let mut frame =
                json!({"type": "node.heartbeat", "active_agents": 1, "handlers_live": true});
            frame["load"] = load;
            frame
        };
        let (t, f) = (true, false);
        let provider = json!({"name": "default", "instance_id": "i"});
        for (frame, expected) in [
            (register(&[("provider", provider)]), [f, t, t, t]),
            (register(&[("machine_id", json!("m"))]), [f, t, t, t]),
            (register(&[("repo_keys", json!(["a/b"]))]), [f, f, t, t]),
            (register(&[("planet", json!(9))]), [f, f, f, f]),
            (register(&[("resume_cursor", json!(1))]), [f, f, f, f]),
            (
                register(&[("capabilities", json!([{"name": "x", "global": true}]))]),
                [f, t, t, t],
            ),
            (
                register(&[("capabilities", json!([{"name": "x", "kind": null}]))]),
                [f, f, f, f],
            ),
            (register(&[("tags", json!(["repo:/x"]))]), [t, t, f, f]),
            (beat(json!(null)), [f, f, t, t]),
            (beat(json!(1.5)), [t, t, f, f]),
            (beat(json!("0")), [f, f, f, f]),
            (
                json!({"type": "node.heartbeat", "active_agents": 1, "handlers_live": true}),
                [f, f, t, t],
            ),
            (
                json!({"type": "agent.recover", "name": "w", "expected_agent_id": "1"}),
                [f, f, t, t],
            ),
            (
                json!({"type": "agent.register", "name": "w", "auto_join_general": false}),
                [f, f, f, t],
            ),
            (json!({"type": "agent.register"}), [f, f, f, f]),
            (
                json!({"type": "agent.register", "name": "w", "session_ref": null}),
                [f, f, f, f],
            ),
            (
                json!({"type": "action.result", "invocation_id": "i"}),
                [f, f, f, f],
            ),
            (
                json!({"type": "action.result", "invocation_id": "i", "output": 1, "error": "x"}),
                [f, f, f, f],
            ),
            (json!({"type": "planet.aligned"}), [f, f, f, f]),
        ] {
            let taken = [V5_0, V6_0, V8_2, V9_0].map(|age| takes(age, frame.clone()));
            assert_eq!(taken, expected, "{frame}");
        }
    }
}
