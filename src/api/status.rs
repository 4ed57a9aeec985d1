//! What the API itself can tell: session, health, metrics. While the journal cannot be written the dispatcher answers
//! nobody, so what it said last is kept here, and health and status go on telling it.

use std::time::Duration;

use serde_json::{Value, json};

use super::context::{BrokerStage, SessionFacts};
use super::render::{ApiError, ok};
use super::state::Api;
use crate::msg::{ApiCall, Reply};
use crate::net::{Request, Response};
use crate::sys::{clock, proc};
use crate::time::millis;
use crate::wire::local::{AgentView, Counters, Health, NodeDelivery, Session, Status};

/// `protocol_version` of the session answer.
pub(crate) const PROTOCOL: u32 = 2;
/// How long `/health` waits for the dispatcher: probes are impatient.
const HEALTH_LIMIT: Duration = Duration::from_secs(1);
/// How long everybody else does.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

impl SessionFacts {
    fn uptime(&self) -> Duration {
        clock::now().mono.since(self.started)
    }
}

fn memberships(workspace_id: Option<&str>) -> Value {
    match workspace_id {
        Some(id) => {
            json!([{"workspace_id": id, "workspace_alias": null, "is_default": true}])
        }
        None => json!([]),
    }
}

/// `GET /api/session`.
pub(crate) fn session(api: &Api) -> Response {
    let facts = &api.context.session;
    let published = api.context.published.get();
    ok(&Session {
        broker_version: facts.version.clone(),
        protocol_version: PROTOCOL,
        workspace_key: facts.workspace_key.reveal().to_owned(),
        relay_base_url: facts.engine_url.clone(),
        default_workspace_id: published.workspace_id.clone(),
        mode: match facts.lease {
            None => "persist",
            Some(_) => "ephemeral",
        }
        .to_owned(),
        uptime_secs: facts.uptime().as_secs(),
        node_id: published.node_id.to_string(),
        node_name: published.node_name.clone(),
        node_token: (facts.node_token)().map(|token| token.reveal().to_owned()),
    })
}

/// `POST /api/session/renew`.
pub(crate) fn renewed(api: &Api) -> Response {
    let lease = api.context.session.lease.as_ref();
    let left = lease.map_or(Duration::ZERO, |lease| lease.renew(clock::now().mono));
    ok(&json!({"renewed": true, "expires_in_secs": left.as_secs(), "persist": lease.is_none()}))
}

/// `GET /api/config`.
pub(crate) fn config(api: &Api) -> Response {
    let facts = &api.context.session;
    let published = api.context.published.get();
    ok(&json!({
        "workspaceKey": facts.workspace_key.reveal(),
        "defaultWorkspaceId": published.workspace_id,
        "memberships": memberships(published.workspace_id.as_deref()),
    }))
}

/// Everything at a glance: from the dispatcher, or, while it cannot answer, what it said last.
pub(crate) fn status(api: &Api, limit: Duration) -> Result<Status, ApiError> {
    match (api.context.ask)(ApiCall::Status, limit) {
        Ok(Reply::Status(status)) => {
            *api.last_status.lock() = Some((*status).clone());
            Ok(match api.trouble() {
                Some(trouble) => remembered(api, trouble),
                None => *status,
            })
        }
        Ok(other) => Err(ApiError::confused(&other)),
        // The trouble may have begun while we waited.
        Err(refusal) => match api.trouble() {
            Some(trouble) => Ok(remembered(api, trouble)),
            None => Err(refusal.into()),
        },
    }
}

/// What was last known, marked as degraded.
fn remembered(api: &Api, why: String) -> Status {
    let facts = &api.context.session;
    let known = api.last_status.lock().clone();
    let mut status = known.unwrap_or_else(|| {
        let published = api.context.published.get();
        Status {
            agent_count: 0,
            agents: Vec::new(),
            departed: Vec::new(),
            pending_delivery_count: 0,
            pending_deliveries: Vec::new(),
            dead_letter_count: 0,
            auth: Value::Null,
            node_connected: false,
            node_lost_secs: None,
            node_delivery: NodeDelivery::default(),
            status: String::new(),
            degraded_reason: None,
            node_id: published.node_id.to_string(),
            node_name: published.node_name.clone(),
            relay_base_url: facts.engine_url.clone(),
            version: facts.version.clone(),
            pid: api.context.pid,
            uptime_secs: 0,
            last_engine_frame_secs: None,
            oldest_pending_ms: None,
            counters: Counters::default(),
        }
    });
    status.status = "degraded".to_owned();
    status.degraded_reason = Some(why);
    status.uptime_secs = facts.uptime().as_secs();
    status
}

/// `GET /health`: always 200 while the process can answer; the words say how well it is.
pub(crate) fn health(api: &Api) -> Response {
    let facts = &api.context.session;
    let published = api.context.published.get();
    let status = match api.context.life.get() {
        BrokerStage::Starting => remembered(api, "the broker is starting".to_owned()),
        BrokerStage::Stopping => remembered(api, "the broker is stopping".to_owned()),
        BrokerStage::Running | BrokerStage::Draining => {
            status(api, HEALTH_LIMIT).unwrap_or_else(|e| {
                remembered(api, format!("the broker does not answer: {}", e.message))
            })
        }
    };
    let workspace_id = published.workspace_id.clone();
    let memory = proc::resident_bytes(api.context.pid).unwrap_or(0);
    ok(&Health {
        status: status.status,
        service: "agent-relay-listen".to_owned(),
        version: facts.version.clone(),
        uptime_ms: millis(facts.uptime()),
        default_workspace_id: workspace_id.clone(),
        workspace_id,
        memberships: memberships(published.workspace_id.as_deref()),
        agent_count: status.agent_count,
        pending_delivery_count: status.pending_delivery_count,
        dead_letter_count: status.dead_letter_count,
        ws_connections: u64::try_from(api.context.events.listeners()).unwrap_or(u64::MAX),
        memory_mb: memory / (1024 * 1024),
        relaycast_connected: status.node_connected,
        node_connected: status.node_connected,
        node_delivery: json!({
            "tokenPresent": status.node_delivery.token_present,
            "connected": status.node_delivery.connected,
        }),
        degraded_reason: status.degraded_reason,
    })
}

/// `GET /api/status`.
pub(crate) fn overview(api: &Api) -> Result<Response, ApiError> {
    let mut status = status(api, STATUS_LIMIT)?;
    freshen(api, &mut status.agents);
    Ok(ok(&status))
}

/// `GET /api/spawned`.
pub(crate) fn agents(api: &Api) -> Result<Response, ApiError> {
    match api.ask(ApiCall::Agents, STATUS_LIMIT)? {
        Reply::Agents(mut list) => {
            freshen(api, &mut list.agents);
            Ok(ok(&list))
        }
        other => Err(ApiError::confused(&other)),
    }
}

/// The dispatcher hears when output begins and when it has long ended; in between only the agents' threads know of the last.
fn freshen(api: &Api, agents: &mut [AgentView]) {
    let now = clock::now().wall;
    for agent in agents {
        let line = api.context.registry.get(&agent.name);
        let Some(at) = line.and_then(|line| line.activity.last()) else {
            continue;
        };
        let ago = millis(now - at);
        if ago < agent.last_activity_ms {
            agent.last_activity_ms = ago;
            agent.last_activity_at = at.iso();
        }
    }
}

/// `GET /api/metrics`. Memory is that of the agent's own program, not of what it has started.
pub(crate) fn metrics(api: &Api, request: &Request) -> Result<Response, ApiError> {
    let status = status(api, STATUS_LIMIT)?;
    let wanted = request.query("agent");
    let named = |a: &&AgentView| wanted.is_none_or(|name| a.name.as_str() == name);
    if let Some(name) = wanted.filter(|_| !status.agents.iter().any(|a| named(&a))) {
        return Err(ApiError::no_agent(name));
    }
    // Who waits for another start has no process, and clients take both figures for numbers.
    let figures = |a: &AgentView| {
        Some(json!({
            "name": a.name,
            "pid": a.pid?,
            "memory_bytes": a.pid.and_then(proc::resident_bytes).unwrap_or(0),
            "uptime_secs": a.uptime_secs,
        }))
    };
    let shown = status.agents.iter().filter(named);
    let agents: Vec<Value> = shown.filter_map(figures).collect();
    Ok(ok(&json!({
        "agents": agents,
        "broker": {
            "uptime_secs": status.uptime_secs,
            "total_agents_spawned": status.counters.agents_spawned,
            "total_crashes": status.counters.agents_crashed,
            "total_restarts": status.counters.agents_restarted,
            "active_agents": status.agent_count,
            "pid": api.context.pid,
            "memory_bytes": proc::resident_bytes(api.context.pid),
            "counters": status.counters,
        },
    })))
}

/// `GET /api/history/stats`: what went through this broker in its life; the engine has the history.
pub(crate) fn history_stats(api: &Api) -> Result<Response, ApiError> {
    let status = status(api, STATUS_LIMIT)?;
    Ok(ok(&json!({
        "messageCount": status.counters.deliveries_accepted,
        "sessionCount": status.counters.agents_spawned,
        "activeSessions": status.agent_count,
        "archivedSessions": 0,
        "uniqueAgents": status.agents.len() + status.departed.len(),
    })))
}

/// `GET /api/fleet-inventory`: the agents that the engine knows.
pub(crate) fn inventory(api: &Api) -> Result<Response, ApiError> {
    let status = status(api, STATUS_LIMIT)?;
    let agents: Vec<Value> = status
        .agents
        .iter()
        .filter_map(|a| Some(json!({"agent_id": a.agent_id.as_ref()?, "name": a.name})))
        .collect();
    Ok(ok(&json!({
        "success": status.node_connected,
        "node_name": status.node_name,
        "agents": agents,
    })))
}
