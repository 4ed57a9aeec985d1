//! Agents over HTTP ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).

use serde_json::{Value, json};

use super::call::{Call, Caller, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use crate::engine::agents::NewAgent;
use crate::engine::behaviour::SignOff;
use crate::engine::directory::{Agent, Workspace};
use crate::engine::id::Id;
use crate::engine::record::{AgentChanged, EngineRecord};
use crate::engine::step::Step;
use crate::ids::AgentName;

pub fn register(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let name = call.need("name")?;
    AgentName::check(name).map_err(invalid)?;
    let kind = call.text("type")?.unwrap_or("agent");
    if !matches!(kind, "agent" | "human" | "system") {
        return Err(invalid("\"type\" must be agent, human or system"));
    }
    let persona = call.text("persona")?.map(str::to_owned);
    let metadata = call.object("metadata")?.cloned().unwrap_or_default();
    let capabilities = call.object("capabilities")?;
    let capabilities = capabilities.map_or(Value::Null, |c| Value::Object(c.clone()));
    if t.ws(ws)?.agent_named(name).is_some() {
        return Err(refuse(
            409,
            "agent_already_exists",
            format!("Agent \"{name}\" already exists"),
        ));
    }
    let new = NewAgent {
        name,
        kind,
        persona,
        metadata,
        capabilities: capabilities.clone(),
    };
    let (id, token) = t.make_agent(ws, new);
    t.core.live.saw(ws, id, t.now);
    t.announce_presence(ws, name, true);
    let data = json!({
        "id": id.to_string(),
        "workspace_id": ws.to_string(),
        "name": name,
        "handle": format!("@{name}"),
        "token": token,
        "status": "online",
        "capabilities": capabilities,
        "created_at": t.now.wall.iso(),
    });
    Ok((201, data))
}

/// Whether an agent passes `?status=`.
fn passes(filter: Option<&str>, shown: &str) -> bool {
    match filter {
        None | Some("all") => true,
        Some("online" | "active") => shown != "offline",
        Some(other) => shown == other,
    }
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let filter = call.query("status");
    let list: Value = w
        .agents
        .values()
        .filter(|a| passes(filter, t.core.status(w.id, a, t.now)))
        .map(|a| t.core.agent_view(w, a, t.now))
        .collect();
    Ok((200, list))
}

pub fn presence(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let list: Value = w
        .agents
        .values()
        .map(|a| {
            let online = t.core.live.is_online(w.id, a, t.now.mono);
            json!({
                "agent_id": a.id.to_string(),
                "agent_name": a.name,
                "status": if online { "online" } else { "offline" },
            })
        })
        .collect();
    Ok((200, list))
}

fn view(t: &Step<'_>, w: &Workspace, agent: &Agent) -> HttpAnswer {
    Ok((200, t.core.agent_view(w, agent, t.now)))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    view(t, w, t.agent_named(w.id, call.at[0])?)
}

pub fn me(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let agent = w.agents.get(&call.agent()?).ok_or_else(gone)?;
    view(t, w, agent)
}

/// The token's agent vanished between two events: cannot happen while tokens die with their agents.
pub fn gone() -> HttpRefusal {
    refuse(401, "agent_token_invalid", "Invalid agent token")
}

pub fn update(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let agent = t.agent_named(ws, call.at[0])?;
    let (id, name) = (agent.id, agent.name.clone());
    let status = call.text("status")?.map(|s| match s {
        // Two words for the same.
        "online" => "active".to_owned(),
        other => other.to_owned(),
    });
    let metadata = call.object("metadata")?.map(|more| {
        let mut all = agent.metadata.clone();
        all.extend(more.clone());
        all
    });
    let persona = match call.body.get("persona") {
        None => None,
        Some(_) => Some(call.text("persona")?.map(str::to_owned)),
    };
    if status.as_deref() == Some("offline") {
        t.core.live.forget(ws, id);
    }
    t.record(EngineRecord::AgentChanged(AgentChanged {
        ws,
        agent: id,
        status: status.clone().filter(|s| s != "offline"),
        persona,
        metadata,
    }));
    if let Some(status) = status {
        t.announce(
            ws,
            "agents:read",
            || json!({"type": "agent.status.changed", "agent": {"name": name}, "status": status}),
        );
    }
    let w = t.ws(ws)?;
    view(t, w, w.agents.get(&id).ok_or_else(gone)?)
}

pub fn delete(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let agent = t.agent_named(call.ws(), call.at[0])?.id;
    t.remove_agent(call.ws(), agent);
    nothing()
}

pub fn rotate(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let agent = t.agent_named(ws, call.at[0])?;
    let (id, name) = (agent.id, agent.name.clone());
    match call.caller {
        Caller::Agent(_, me) if me != id => {
            return Err(refuse(
                403,
                "agent_recovery_not_authorized",
                "An agent may rotate its own token only",
            ));
        }
        Caller::Key(_) if t.core.behaviour().recovery_routes => {
            return Err(refuse(
                401,
                "unauthorized",
                "Only the agent itself rotates its token; use takeover",
            ));
        }
        Caller::Agent(..)
        | Caller::Key(_)
        | Caller::Nobody
        | Caller::Node(..)
        | Caller::Observer(..) => {}
    }
    let token = t.renew_agent_token(ws, id);
    Ok((200, json!({"name": name, "token": token})))
}

/// A new token for an agent that lost its own, asked for by itself or by the node it comes from
/// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)). Whatever is wrong with the proof, the answer is the same.
pub fn recover(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let agent = t.agent_named(call.ws(), call.at[0])?;
    let may = match &call.caller {
        Caller::Agent(_, me) => *me == agent.id,
        Caller::Node(_, node) => agent.origin.as_ref() == Some(node),
        Caller::Nobody | Caller::Key(_) | Caller::Observer(..) => false,
    };
    if !may || agent.id.to_string() != call.need("expected_agent_id")? {
        return Err(refuse(
            403,
            "agent_recovery_not_authorized",
            "Only the agent itself and the node it comes from may recover it, by its id",
        ));
    }
    let id = agent.id;
    renewed(t, call.ws(), id)
}

/// A new token for an agent whatever became of the old one. The agent stays where it is and comes from where it came: the
/// node that is named is for the record only.
pub fn take_over(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    for key in ["actor", "reason", "session_ref", "node_id"] {
        call.need(key)?;
    }
    let expected = call.need("expected_agent_id")?;
    let agent = t.agent_named(call.ws(), call.at[0])?;
    if agent.id.to_string() != expected {
        return Err(refuse(
            409,
            "agent_identity_conflict",
            format!("Agent \"{}\" has another id", agent.name),
        ));
    }
    let id = agent.id;
    renewed(t, call.ws(), id)
}

fn renewed(t: &mut Step<'_>, ws: Id, id: Id) -> HttpAnswer {
    let name = t.agent(ws, id).ok_or_else(gone)?.name.clone();
    let token = t.renew_agent_token(ws, id);
    let audit = t.fresh_id();
    let data = json!({
        "agent_id": id.to_string(),
        "name": name,
        "token": token,
        "audit_id": format!("aid_{audit}"),
    });
    Ok((200, data))
}

/// The calling agent: its workspace, id and name, and whether it is online.
fn caller(t: &Step<'_>, call: &Call<'_>) -> Result<(Id, Id, String, bool), HttpRefusal> {
    let (ws, id) = (call.ws(), call.agent()?);
    let agent = t.agent(ws, id).ok_or_else(gone)?;
    let online = t.core.live.is_online(ws, agent, t.now.mono);
    Ok((ws, id, agent.name.clone(), online))
}

pub fn heartbeat(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, id, name, was) = caller(t, call)?;
    t.core.live.saw(ws, id, t.now);
    if !was {
        t.announce_presence(ws, &name, true);
    }
    Ok((200, json!({})))
}

pub fn disconnect(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, id, name, was) = caller(t, call)?;
    t.core.live.forget(ws, id);
    let leaves = match t.core.behaviour().sign_off {
        SignOff::Presence => false,
        SignOff::OnRequest => call.body.get("deregister") == Some(&json!(true)),
        SignOff::Always => true,
    };
    if leaves && !t.agent(ws, id).ok_or_else(gone)?.is_direct() {
        t.unbind_agent(ws, id);
        return Ok((200, json!({})));
    }
    let agent = t.agent(ws, id).ok_or_else(gone)?;
    if was && !t.core.live.is_online(ws, agent, t.now.mono) {
        t.announce_presence(ws, &name, false);
    }
    Ok((200, json!({})))
}

pub fn node_token(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, id) = (call.ws(), call.agent()?);
    let agent = t.agent(ws, id).ok_or_else(gone)?;
    if !agent.is_direct() {
        return Err(refuse(
            409,
            "agent_bound_to_node",
            format!("Agent \"{}\" is bound to a node", agent.name),
        ));
    }
    let node = agent.node.clone();
    let token = t.renew_node_token(ws, &node);
    let name = format!("direct-{id}");
    let data = json!({"node_id": node, "node_name": name, "token": token});
    Ok((200, data))
}
