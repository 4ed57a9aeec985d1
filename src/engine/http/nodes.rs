//! Nodes over HTTP ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).

use serde_json::{Value, json};

use super::call::{Call, HttpAnswer, HttpRefusal, invalid, nothing, refuse};
use crate::engine::agents::Binding;
use crate::engine::behaviour::NodeLookup;
use crate::engine::directory::{DEFAULT_PROVIDER, Node, Owner};
use crate::engine::event::Effect;
use crate::engine::id::{Id, digest};
use crate::engine::limits;
use crate::engine::mailbox::Mailbox;
use crate::engine::record::EngineRecord;
use crate::engine::step::Step;
use crate::wire::up::Capability;

impl Step<'_> {
    /// Replaces a node's token; a socket that is open stays so until its next registration.
    pub fn renew_node_token(&mut self, ws: Id, node: &str) -> String {
        let token = self.token("nt_live_", 48);
        let hash = digest(&token);
        let owner = Owner::Node(ws, node.to_owned());
        self.record(EngineRecord::TokenIssued { owner, hash });
        token
    }
}

fn find<'t>(t: &'t Step<'_>, ws: Id, name: &str) -> Result<&'t Node, HttpRefusal> {
    t.ws(ws)?
        .node_named(name)
        .ok_or_else(|| refuse(404, "node_not_found", format!("Node \"{name}\" not found")))
}

/// Which stored node a create call means ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)); by itself the one with
/// its id, or without an id the one with its name. A name that another node has is refused where the id counts.
fn meant(t: &Step<'_>, ws: Id, id: Option<&str>, name: &str) -> Result<Option<Node>, HttpRefusal> {
    let w = t.ws(ws)?;
    let named = w.bearer(name);
    let known = id.and_then(|id| w.nodes.get(id));
    let by_id = match t.core.behaviour().node_lookup {
        NodeLookup::Id => id.is_some(),
        NodeLookup::IdThenName => known.is_some(),
        NodeLookup::Name => false,
    };
    match named {
        Some(named) if by_id && Some(named.id.as_str()) != id => Err(refuse(
            409,
            "node_name_conflict",
            format!(
                "The name \"{name}\" belongs to node {}; use another name",
                named.id
            ),
        )),
        _ if by_id => Ok(known.cloned()),
        named => Ok(named.cloned()),
    }
}

/// Where ids are unique over all workspaces, one that is taken is a failure that nobody foresaw.
fn check_free(t: &Step<'_>, id: &str) -> Result<(), HttpRefusal> {
    let mut workspaces = t.core.state.workspaces.values();
    if t.core.behaviour().global_node_ids && workspaces.any(|w| w.nodes.contains_key(id)) {
        return Err(refuse(500, "internal_error", "The node cannot be stored"));
    }
    Ok(())
}

/// Where a token is replaced only by who has it: whether the caller does.
fn check_proof(t: &Step<'_>, node: &Node) -> Result<(), HttpRefusal> {
    let proven = t.proof.as_deref().map(digest) == node.token_hash;
    if t.core.behaviour().token_proof && !proven && node.token_hash.is_some() {
        return Err(refuse(
            409,
            "node_token_proof_required",
            format!("Node \"{}\" exists; show its token", node.name),
        ));
    }
    Ok(())
}

/// What a create call with an idempotency key stands for. The token is made from the key, so that a lost reply can be given
/// again although only digests of tokens are kept.
struct NodeMint {
    key: String,
    fingerprint: String,
    token: String,
    /// It was done before and still stands.
    done: bool,
}

/// Reads the idempotency key, where such calls may have one ([engine-protocol 2.2](crate::docs::engine_protocol#2.2)).
fn once(t: &Step<'_>, call: &Call<'_>) -> Result<Option<NodeMint>, HttpRefusal> {
    let ws = call.ws();
    let Some(key) = call
        .idempotency_key
        .filter(|_| t.core.behaviour().replays_mint)
    else {
        return Ok(None);
    };
    if !(32..=255).contains(&key.len()) || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refuse(
            400,
            "invalid_idempotency_key",
            "An idempotency key has 32 to 255 visible ASCII characters here",
        ));
    }
    let fingerprint = digest(&call.body.to_string());
    let secret = format!("{}\n{key}\n{fingerprint}", t.ws(ws)?.key_hash);
    let token = format!("nt_live_{}", &digest(&secret)[..48]);
    let done = match t.core.minted.get(&(ws, digest(key))) {
        // Its time is over: the key means nothing any more.
        Some((_, at)) if t.now.wall - *at >= limits::IDEMPOTENCY => return Ok(None),
        Some((asked, _)) if *asked != fingerprint => {
            return Err(refuse(
                409,
                "idempotency_key_reused",
                "This idempotency key was used with another payload",
            ));
        }
        Some(_) => true,
        None => t.core.state.tokens.contains_key(&digest(&token)),
    };
    Ok(Some(NodeMint {
        key: digest(key),
        fingerprint,
        token,
        done,
    }))
}

/// The name, the kind, and the role if it is named, that a create call asks for, if this engine has such nodes.
fn asked<'a>(call: &Call<'a>) -> Result<(&'a str, &'a str, Option<&'a str>), HttpRefusal> {
    let name = call.need("name")?.trim();
    if name.is_empty() || name.len() > 255 {
        return Err(refuse(
            400,
            "invalid_node_name",
            "The node name is empty or too long",
        ));
    }
    let kind = call.text("kind")?.unwrap_or("ws");
    if kind != "ws" {
        return Err(refuse(
            400,
            "invalid_node_delivery",
            "This engine delivers to nodes of kind \"ws\" only",
        ));
    }
    let role = call.text("role")?;
    if role.is_some_and(|role| !matches!(role, "broker" | "direct")) {
        return Err(invalid("\"role\" must be \"direct\" or \"broker\""));
    }
    if role == Some("direct") && call.count("max_agents")?.is_some_and(|m| m != 1) {
        return Err(refuse(
            400,
            "direct_node_capacity_exceeded",
            "A direct node has one agent",
        ));
    }
    Ok((name, kind, role))
}

pub fn create(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let (name, kind, role) = asked(call)?;
    let max_agents = call.count("max_agents")?;
    let capabilities = call.texts("capabilities")?;
    let tags = call.texts("tags")?;
    let node_id = call.text("node_id")?.filter(|id| !id.is_empty());
    let once = once(t, call)?;
    let old = meant(t, ws, node_id, name)?;
    if let (Some(once), Some(old)) = (&once, &old)
        && once.done
    {
        return created(t, ws, &old.id, &once.token);
    }
    match (&old, node_id) {
        (Some(old), _) => check_proof(t, old)?,
        (None, Some(id)) => check_free(t, id)?,
        (None, None) => {}
    }
    let token = match &once {
        Some(once) => once.token.clone(),
        None => t.token("nt_live_", 48),
    };
    let mut node = match old {
        Some(old) => old,
        None => Node {
            id: node_id.map_or_else(|| format!("node_{}", t.fresh_id()), str::to_owned),
            role: "broker".into(),
            created_at: t.now.wall,
            ..Node::default()
        },
    };
    name.clone_into(&mut node.name);
    kind.clone_into(&mut node.kind);
    if let Some(role) = role {
        role.clone_into(&mut node.role);
    }
    node.token_hash = Some(digest(&token));
    if let Some(machine) = call.text("machine_id")? {
        node.machine_id = Some(machine.to_owned());
    }
    if let Some(version) = call.text("version")? {
        version.clone_into(&mut node.version);
    }
    if call.body.get("tags").is_some() {
        node.tags = tags;
    }
    let named = call.body.get("capabilities").is_some();
    if named || max_agents.is_some() {
        let known = node.providers.entry(DEFAULT_PROVIDER.into()).or_default();
        if named {
            known.capabilities = plain(capabilities);
        }
        known.max_agents = max_agents.unwrap_or(known.max_agents);
    }
    let id = node.id.clone();
    t.record(EngineRecord::NodeCreated {
        ws,
        node: Box::new(node),
    });
    if let Some(once) = once {
        let key = (ws, once.key);
        t.core.minted.insert(key, (once.fingerprint, t.now.wall));
    }
    t.core.faults.mints();
    t.disconnect_node(ws, &id);
    created(t, ws, &id, &token)
}

fn created(t: &Step<'_>, ws: Id, node: &str, token: &str) -> HttpAnswer {
    let mut data = t.core.node_view(ws, find(t, ws, node)?, t.now);
    data.insert("token".into(), json!(token));
    Ok((201, Value::Object(data)))
}

/// Capabilities of which only the names are known.
fn plain(names: Vec<String>) -> Vec<Capability> {
    let capability = |name| Capability {
        name,
        kind: None,
        metadata: None,
        global: None,
        queue: None,
    };
    names.into_iter().map(capability).collect()
}

impl Step<'_> {
    /// Takes a node offline because its token changed; its sockets are closed.
    fn disconnect_node(&mut self, ws: Id, node: &str) {
        let providers: Vec<(String, u64)> = self
            .core
            .live
            .providers(ws, node)
            .map(|(name, a)| (name.clone(), a.conn))
            .collect();
        for (provider, conn) in providers {
            self.node_lost(ws, node, &provider);
            self.core.live.conns.remove(&conn);
            self.effect(Effect::Close {
                conn,
                code: 1000,
                reason: "force-disconnect",
            });
        }
    }
}

pub fn list(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let list: Value = w
        .nodes
        .values()
        .filter(|n| call.query("name").is_none_or(|name| n.name == name))
        .filter(|n| {
            call.query("capability")
                .is_none_or(|c| n.provider_of(c).is_some())
        })
        .map(|n| Value::Object(t.core.node_view(w.id, n, t.now)))
        .filter(|v| call.query("status").is_none_or(|s| v["status"] == s))
        .take(call.limit(500, 500))
        .collect();
    Ok((200, list))
}

pub fn get(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let node = find(t, call.ws(), call.at[0])?;
    Ok((200, Value::Object(t.core.node_view(call.ws(), node, t.now))))
}

pub fn delete(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let node = find(t, ws, call.at[0])?;
    if node.is_direct() {
        return Err(invalid(
            "A direct node goes with its agent; delete the agent",
        ));
    }
    let node = node.id.clone();
    t.disconnect_node(ws, &node);
    t.record(EngineRecord::NodeDeleted { ws, node });
    nothing()
}

/// Takes one of a node's providers away, and what it offers.
pub fn remove_provider(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let (ws, provider) = (call.ws(), call.at[1]);
    let node = find(t, ws, call.at[0])?;
    if !node.providers.contains_key(provider) {
        let why = format!("Node \"{}\" has no provider \"{provider}\"", node.name);
        return Err(refuse(404, "provider_not_found", why));
    }
    let node = node.id.clone();
    t.provider_leaves(ws, &node, provider);
    nothing()
}

pub fn agents(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let w = t.ws(call.ws())?;
    let node = find(t, w.id, call.at[0])?;
    let list: Value = w
        .agents_on(&node.id)
        .into_iter()
        .map(|a| t.core.binding_view(w, a, node, t.now))
        .collect();
    Ok((200, list))
}

pub fn bind(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let node = find(t, ws, call.at[0])?.id.clone();
    let name = call.need("agent_name")?;
    let agent = t.agent_named(ws, name)?;
    let (id, here) = (agent.id, agent.node == node);
    let session_ref = call.text("session_ref")?.map(str::to_owned);
    let priority = call
        .body
        .get("priority")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    // A node with one connected provider means that one, whatever its name.
    let mut connected = t
        .core
        .live
        .providers(ws, &node)
        .map(|(name, _)| name.clone());
    let provider = match (connected.next(), connected.next()) {
        (Some(only), None) => only,
        _ => DEFAULT_PROVIDER.to_owned(),
    };
    drop(connected);
    if !here {
        if !t.has_room(ws, &node, &provider, 0) {
            return Err(refuse(
                409,
                "node_capacity_exceeded",
                "The node runs as many agents as it may",
            ));
        }
        if let Some(a) = t.core.live.get_mut(ws, &node, &provider) {
            a.active += 1;
        }
    }
    let to = Binding {
        node: node.clone(),
        provider,
        session_ref,
        priority,
    };
    t.bind_agent(ws, id, to);
    t.flush(ws, id);
    let w = t.ws(ws)?;
    let agent = t.agent_named(ws, name)?;
    let mut data = t.core.binding_view(w, agent, find(t, ws, &node)?, t.now);
    // What was just bound is active by definition, connected or not.
    data["status"] = json!("active");
    if t.core.behaviour().bind_tells_cursor {
        data["delivery_ack_seq"] = json!(w.mailboxes.get(&id).map_or(0, Mailbox::acked));
    }
    Ok((201, data))
}

pub fn unbind(t: &mut Step<'_>, call: &Call<'_>) -> HttpAnswer {
    let ws = call.ws();
    let node = find(t, ws, call.at[0])?.id.clone();
    let agent = t.agent_named(ws, call.at[1])?;
    if agent.node != node || agent.is_direct() {
        return Err(refuse(
            404,
            "node_agent_binding_not_found",
            "The agent is not bound to this node",
        ));
    }
    let agent = agent.id;
    t.unbind_agent(ws, agent);
    nothing()
}
