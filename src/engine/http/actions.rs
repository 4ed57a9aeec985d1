//! Actions over HTTP ([engine-protocol 2.7](crate::docs::engine_protocol#2.7)), with spawn and release
//! ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).

use serde_json::{Map, Value, json};

use super::call::{Call, Caller, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use crate::engine::actions::Placed;
use crate::engine::capability::{is_action, is_placement};
use crate::engine::directory::{DEFAULT_PROVIDER, Node, Workspace};
use crate::engine::id::Id;
use crate::engine::invocation::{Action, Invocation};
use crate::engine::placement::{fulfils, wish};
use crate::engine::record::EngineRecord;
use crate::engine::step::Step;
use crate::msg::Right;
use crate::wire::up::Capability;

/// The CLIs that `POST /v1/agents/spawn` takes ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
const CLIS: &[&str] = &[
    "claude", "codex", "gemini", "aider", "goose", "opencode", "grok",
];

fn input(call: &Call<'_>) -> Result<Value, HttpRefusal> {
    Ok(Value::Object(
        call.object("input")?.cloned().unwrap_or_default(),
    ))
}

fn caller(t: &Step<'_>, call: &Call<'_>) -> (Option<Id>, Option<String>) {
    match call.caller {
        Caller::Agent(ws, id) => (Some(id), t.agent(ws, id).map(|a| a.name.clone())),
        Caller::Nobody | Caller::Key(_) | Caller::Node(..) | Caller::Observer(..) => (None, None),
    }
}

/// Whether the caller may do what needs that right: agents of nodes are held to what the broker of this engine lets them.
/// Who has the workspace key, or an identity without a node that was made with it, is not.
fn permit(t: &Step<'_>, call: &Call<'_>, right: Right) -> Result<(), HttpRefusal> {
    let (Caller::Agent(ws, id), Some(may)) = (&call.caller, &t.core.agents_may) else {
        return Ok(());
    };
    match t.agent(*ws, *id) {
        Some(agent) if !agent.is_direct() && !may.contains(&right) => {
            Err(refuse(403, "not_permitted", right.refusal(&agent.name)))
        }
        _ => Ok(()),
    }
}

/// The right that an action of a node needs.
fn right_for(action: &str) -> Option<Right> {
    match action.split(':').next() {
        Some("spawn") => Some(Right::Spawn),
        Some("release") => Some(Right::Release),
        _ => None,
    }
}

fn unavailable() -> HttpRefusal {
    refuse(503, "handler_unavailable", "No node can take this now")
}

fn node_not_found(name: &str) -> HttpRefusal {
    refuse(404, "node_not_found", format!("Node \"{name}\" not found"))
}

/// Starts an invocation and answers with it. What could not be sent and may not wait is failed first.
fn answer(t: &mut Step<'_>, ws: Id, new: Invocation, may_wait: bool) -> HttpAnswer {
    let (id, placed) = t.start(ws, new)?;
    let sent = match placed {
        Placed::Sent => true,
        Placed::Waiting => may_wait,
        Placed::Full | Placed::Nowhere => false,
    };
    if !sent {
        t.finish(ws, &id, Err("handler_unavailable".into()), None);
        return Err(unavailable());
    }
    let i = t.ws(ws)?.invocations.get(&id).ok_or_else(unavailable)?;
    Ok((201, i.started_view()))
}

impl Step<'_> {
    /// What a spawn with this input becomes ([engine-protocol 5.2](crate::docs::engine_protocol#5.2)); `here` is the node
    /// that `self` means.
    pub fn plan_spawn(
        &self,
        ws: Id,
        input: Value,
        here: Result<String, HttpRefusal>,
    ) -> Result<Invocation, HttpRefusal> {
        let wanted = wish(&input);
        let w = self.ws(ws)?;
        if self.core.behaviour().bare_spawn_catches_all
            && let Some(node) = w.nodes.values().find(|n| n.provider_of("spawn").is_some())
        {
            return Ok(Invocation {
                action: "spawn".into(),
                wire_action: "spawn".into(),
                handler_node: Some(node.id.clone()),
                target: Some(node.id.clone()),
                capability: Some("spawn".into()),
                is_spawn: true,
                input,
                ..Invocation::default()
            });
        }
        let target = match wanted.target.as_deref() {
            None => None,
            Some("self") => Some(here?),
            Some(name) => Some(
                w.node_named(name)
                    .ok_or_else(|| node_not_found(name))?
                    .id
                    .clone(),
            ),
        };
        if let Some(node) = target.as_ref().and_then(|id| w.nodes.get(id)) {
            let capability = wanted.capability.as_deref();
            if !node
                .capabilities()
                .iter()
                .any(|c| fulfils(&c.name, capability))
            {
                return Err(refuse(
                    409,
                    "capability_mismatch",
                    format!(
                        "Node \"{}\" cannot {}",
                        node.name,
                        capability.unwrap_or("spawn")
                    ),
                ));
            }
        }
        Ok(Invocation {
            action: "spawn".into(),
            wire_action: wanted.capability.clone().unwrap_or_else(|| "spawn".into()),
            handler_node: target.clone(),
            target,
            capability: wanted.capability,
            is_spawn: true,
            input,
            ..Invocation::default()
        })
    }
}

fn spawn_with(t: &mut Step<'_>, call: &Call<'_>, input: Value) -> HttpAnswer {
    permit(t, call, Right::Spawn)?;
    let ws = call.ws();
    let (caller, caller_name) = caller(t, call);
    let here = match caller.and_then(|id| t.agent(ws, id)) {
        None => Err(refuse(
            400,
            "placement_self_requires_agent",
            "Only an agent has a node of its own",
        )),
        Some(a) if a.is_direct() => Err(refuse(
            409,
            "placement_self_unavailable",
            "The calling agent lives on no broker node",
        )),
        Some(a) => Ok(a.node.clone()),
    };
    let new = Invocation {
        caller,
        caller_name,
        ..t.plan_spawn(ws, input, here)?
    };
    answer(t, ws, new, true)
}

fn release_with(t: &mut Step<'_>, call: &Call<'_>, input: Value) -> HttpAnswer {
    permit(t, call, Right::Release)?;
    let ws = call.ws();
    let name = ["name", "agent_name", "agent"]
        .iter()
        .find_map(|k| input.get(k)?.as_str())
        .filter(|n| !n.is_empty())
        .map(str::to_owned)
        .ok_or_else(|| refuse(400, "invalid_release_request", "\"name\" is required"))?;
    let agent = t.agent_named(ws, &name)?;
    let host = t.core.live.get(ws, &agent.node, &agent.provider);
    let is_live = host.is_some_and(|host| host.is_live(t.now.mono));
    let hostless = t.core.behaviour().release_needs_host && !is_live;
    if agent.is_direct() && !hostless {
        return Err(refuse(
            409,
            "agent_not_node_bound",
            format!("Agent \"{name}\" is not bound to a node"),
        ));
    }
    let (id, node) = (agent.id, agent.node.clone());
    let (caller, caller_name) = caller(t, call);
    let new = Invocation {
        action: "release".into(),
        wire_action: "release".into(),
        caller,
        caller_name,
        handler_node: Some(node.clone()),
        target: Some(node),
        releases: Some(id),
        delete_agent: input.get("delete_agent") == Some(&Value::Bool(true)),
        input,
        ..Invocation::default()
    };
    match hostless {
        true => release_hostless(t, ws, &name, new),
        false => answer(t, ws, new, true),
    }
}

/// Engines from about 8.0 leave no release to wait for a host (`dispatchRelease` in the engine's `action.ts`;
/// `agentLifecycle.test.ts` at 04fc9bc): one that deletes is done at once, any other is failed.
fn release_hostless(t: &mut Step<'_>, ws: Id, name: &str, new: Invocation) -> HttpAnswer {
    let deletes = new.delete_agent;
    let (id, _) = t.start(ws, new)?;
    if !deletes {
        t.finish(ws, &id, Err("agent_host_unavailable".into()), None);
        let why = format!("Agent \"{name}\" has no live host node; cannot dispatch release");
        return Err(refuse(503, "agent_host_unavailable", why));
    }
    let output = json!({"released": true, "deleted": false, "reaped_locally": true});
    t.finish(ws, &id, Ok(output), None);
    let i = t.ws(ws)?.invocations.get(&id).ok_or_else(unavailable)?;
    Ok((201, i.started_view()))
}

pub fn spawn(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (name, cli) = (call.need("name")?, call.need("cli")?);
    if !CLIS.contains(&cli) {
        return Err(invalid(format!(
            "\"cli\" must be one of {}",
            CLIS.join(", ")
        )));
    }
    let mut input = Map::new();
    input.insert("name".into(), json!(name));
    input.insert("cli".into(), json!(cli));
    for key in ["task", "channel", "persona", "model"] {
        input.insert(key.into(), json!(call.text(key)?));
    }
    let metadata = call.object("metadata")?.cloned().unwrap_or_default();
    input.insert("metadata".into(), Value::Object(metadata));
    spawn_with(t, call, Value::Object(input))
}

pub fn release(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let input = json!({
        "name": call.need("name")?,
        "reason": call.text("reason")?,
        "delete_agent": call.body.get("delete_agent") == Some(&Value::Bool(true)),
    });
    release_with(t, call, input)
}

/// A node's capability that is an action for the whole workspace ([engine-protocol 5.1](crate::docs::engine_protocol#5.1)),
/// the connected node first.
fn global<'w>(
    t: &Step<'_>,
    w: &'w Workspace,
    name: &str,
) -> Option<(&'w Node, &'w str, &'w Capability)> {
    let mut found: Vec<_> = global_actions(w)
        .filter(|(_, _, c)| c.name == name)
        .collect();
    found.sort_by_key(|(node, provider, _)| t.core.live.get(w.id, &node.id, provider).is_none());
    found.into_iter().next()
}

/// Every action that nodes offer to the whole workspace.
fn global_actions(w: &Workspace) -> impl Iterator<Item = (&Node, &str, &Capability)> {
    w.nodes.values().flat_map(|node| {
        node.providers.iter().flat_map(move |(name, p)| {
            p.capabilities
                .iter()
                .filter(|c| is_action(c))
                .filter(move |c| name == DEFAULT_PROVIDER || c.global == Some(true))
                .map(move |c| (node, name.as_str(), c))
        })
    })
}

fn no_action(name: &str) -> HttpRefusal {
    refuse(
        404,
        "action_not_found",
        format!("Action \"{name}\" not found"),
    )
}

pub fn invoke(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, name) = (call.ws(), call.at[0]);
    let input = input(call)?;
    match name {
        "spawn" => return spawn_with(t, call, input),
        "release" => return release_with(t, call, input),
        _ => {}
    }
    let (caller, caller_name) = caller(t, call);
    let w = t.ws(ws)?;
    let new = Invocation {
        action: name.to_owned(),
        wire_action: name.to_owned(),
        caller,
        caller_name,
        input,
        ..Invocation::default()
    };
    if let Some(action) = w.actions.get(name) {
        let action = action.clone();
        return invoke_defined(t, ws, &action, new);
    }
    let (node, provider, capability) = global(t, w, name).ok_or_else(|| no_action(name))?;
    let may_wait = provider == DEFAULT_PROVIDER || capability.queue == Some(true);
    let new = Invocation {
        handler_node: Some(node.id.clone()),
        target: Some(node.id.clone()),
        ..new
    };
    answer(t, ws, new, may_wait)
}

fn invoke_defined(t: &mut Step<'_>, ws: Id, action: &Action, new: Invocation) -> HttpAnswer {
    let me = new.caller_name.clone().unwrap_or_default();
    if action
        .available_to
        .as_ref()
        .is_some_and(|a| !a.contains(&me))
    {
        let error = format!("Action \"{}\" is not available to \"{me}\"", action.name);
        let data = json!({"action_name": action.name, "caller_name": me, "error": error});
        if let Some(caller) = new.caller {
            let key = t.fresh_id().to_string();
            t.notice(ws, caller, "action.denied", &key, &action.name, &data);
        }
        t.announce(ws, "activity:read", || {
            let mut data = data;
            data["type"] = json!("action.denied");
            data
        });
        return Err(refuse(403, "action_denied", error));
    }
    let new = Invocation {
        handler_agent: action.handler_agent,
        handler_node: action.handler_node.clone(),
        target: action.handler_node.clone(),
        ..new
    };
    answer(t, ws, new, action.handler_node.is_some())
}

pub fn invoke_on_node(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, name) = (call.ws(), call.at[1]);
    if let Some(right) = right_for(name) {
        permit(t, call, right)?;
    }
    let input = input(call)?;
    let (caller, caller_name) = caller(t, call);
    let w = t.ws(ws)?;
    let node = w
        .node_named(call.at[0])
        .ok_or_else(|| node_not_found(call.at[0]))?;
    let (provider, offered) = node.serving(name).ok_or_else(|| no_action(name))?;
    let may_wait = provider == DEFAULT_PROVIDER || offered.queue == Some(true);
    let new = Invocation {
        action: name.to_owned(),
        wire_action: name.to_owned(),
        caller,
        caller_name,
        handler_node: Some(node.id.clone()),
        target: Some(node.id.clone()),
        is_spawn: name.starts_with("spawn:"),
        capability: Some(name.to_owned()),
        input,
        ..Invocation::default()
    };
    answer(t, ws, new, may_wait)
}

fn find<'t>(t: &'t Step<'_>, call: &Call<'_>) -> Result<&'t Invocation, HttpRefusal> {
    t.ws(call.ws())?
        .invocations
        .get(call.at[1])
        .filter(|i| i.action == call.at[0])
        .ok_or_else(|| refuse(404, "invocation_not_found", "Invocation not found"))
}

pub fn invocation(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    Ok((200, find(t, call)?.view()))
}

pub fn complete(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, me) = (call.ws(), call.agent()?);
    let i = find(t, call)?;
    match i.handler_agent {
        None => {
            return Err(refuse(
                403,
                "node_owned_invocation",
                "A node answers this invocation",
            ));
        }
        Some(handler) if handler != me => {
            return Err(refuse(403, "forbidden", "Another agent handles this"));
        }
        Some(_) => {}
    }
    let id = i.id.clone();
    let result = match call.text("error")? {
        Some(error) => Err(error.to_owned()),
        None => Ok(call.body.get("output").cloned().unwrap_or_default()),
    };
    t.finish(ws, &id, result, call.count("duration_ms")?);
    Ok((200, find(t, call)?.view()))
}

fn action_view(w: &Workspace, a: &Action) -> Value {
    let node = a.handler_node.as_ref().and_then(|id| w.nodes.get(id));
    json!({
        "id": a.id.to_string(),
        "name": a.name,
        "description": a.description,
        "handler_agent": a.handler_agent.and_then(|id| w.agents.get(&id)).map(|a| &a.name),
        "handler_node": node.map(|n| &n.name),
        "handler_node_id": a.handler_node,
        "input_schema": a.input_schema,
        "output_schema": a.output_schema,
        "available_to": a.available_to,
        "is_active": true,
        "created_at": a.created_at.iso(),
    })
}

fn capability_view(node: &Node, c: &Capability) -> Value {
    let described = |key: &str| c.metadata.as_ref().and_then(|m| m.get(key)).cloned();
    json!({
        "id": format!("act_{}_{}", node.id, c.name),
        "name": c.name,
        "description": described("description").unwrap_or_else(|| json!("")),
        "handler_agent": null,
        "handler_node": node.name,
        "handler_node_id": node.id,
        "input_schema": described("input_schema").unwrap_or_else(|| json!({})),
        "output_schema": described("output_schema").unwrap_or_else(|| json!({})),
        "available_to": null,
        "is_active": true,
        "created_at": node.created_at.iso(),
    })
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let defined = w.actions.values().map(|a| action_view(w, a));
    let offered = global_actions(w)
        .filter(|(_, _, c)| !w.actions.contains_key(&c.name))
        .map(|(node, _, c)| capability_view(node, c));
    Ok((200, defined.chain(offered).collect()))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (w, name) = (t.ws(call.ws())?, call.at[0]);
    if let Some(action) = w.actions.get(name) {
        return Ok((200, action_view(w, action)));
    }
    let (node, _, c) = global(t, w, name).ok_or_else(|| no_action(name))?;
    Ok((200, capability_view(node, c)))
}

pub fn remove(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, name) = (call.ws(), call.at[0]);
    if !t.ws(ws)?.actions.contains_key(name) {
        return Err(no_action(name));
    }
    let name = name.to_owned();
    t.record(EngineRecord::ActionRemoved { ws, name });
    nothing()
}

pub fn define(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let name = call.need("name")?;
    if is_placement(name) {
        return Err(invalid(format!(
            "The name \"{name}\" belongs to the engine"
        )));
    }
    let handler_node = match call.text("handler_node")? {
        None => None,
        Some(node) => {
            let found = t.ws(ws)?.node_named(node);
            Some(found.ok_or_else(|| node_not_found(node))?.id.clone())
        }
    };
    let handler_agent = match (call.text("handler_agent")?, &call.caller) {
        (Some(agent), _) => Some(t.agent_named(ws, agent)?.id),
        (None, Caller::Agent(_, me)) if handler_node.is_none() => Some(*me),
        _ => None,
    };
    if handler_agent.is_none() == handler_node.is_none() {
        return Err(invalid(
            "Give one of \"handler_agent\" and \"handler_node\"",
        ));
    }
    let available_to = match call.body.get("available_to") {
        None | Some(Value::Null) => None,
        Some(_) => Some(call.texts("available_to")?),
    };
    let schema = |key| {
        Ok(Value::Object(
            call.object(key)?.cloned().unwrap_or_default(),
        ))
    };
    let (input_schema, output_schema) = (schema("input_schema")?, schema("output_schema")?);
    let old = t.ws(ws)?.actions.get(name).map(|a| (a.id, a.created_at));
    let (id, created_at) = match old {
        Some(old) => old,
        None => (t.fresh_id(), t.now.wall),
    };
    let action = Action {
        id,
        name: name.to_owned(),
        description: call.text("description")?.unwrap_or_default().to_owned(),
        handler_agent,
        handler_node,
        input_schema,
        output_schema,
        available_to,
        created_at,
    };
    let data = action_view(t.ws(ws)?, &action);
    t.record(EngineRecord::ActionDefined {
        ws,
        action: Box::new(action),
    });
    Ok((if old.is_some() { 200 } else { 201 }, data))
}
