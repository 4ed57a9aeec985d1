//! `/livez` and `/readyz`, for whoever keeps the process alive and whoever sends it work: they need no key, so they tell
//! nothing of agents but whether all is as declared. Liveness fails only for what a new start can mend; readiness waits out
//! a link that is gone for a moment ([`ApiContext::ready_grace`](super::context::ApiContext::ready_grace)).

use std::time::Duration;

use serde_json::json;

use super::context::BrokerStage;
use super::render::{finish, ok};
use super::state::Api;
use crate::msg::{ApiCall, Reply};
use crate::net::{Request, Response};
use crate::wire::local::{AgentList, Status};

/// How long a probe waits for the dispatcher: probes are impatient.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

/// One thing that is looked at, and what is wrong with it.
struct ProbeCheck {
    name: &'static str,
    trouble: Option<String>,
}

impl ProbeCheck {
    fn new(name: &'static str, trouble: Option<String>) -> Self {
        Self { name, trouble }
    }
}

/// `GET /livez`: whether this process works. An engine that is away, agents that are gone, and a broker that starts or stops
/// are no reason to kill it.
pub(crate) fn livez(api: &Api, request: &Request) -> Response {
    let (dispatcher, _) = dispatcher(api);
    respond("livez", &[dispatcher, journal(api)], request)
}

/// `GET /readyz`: whether messages from everywhere reach the agents that were declared at the start.
pub(crate) fn readyz(api: &Api, request: &Request) -> Response {
    let (dispatcher, status) = dispatcher(api);
    let running = match api.context.life.get() {
        BrokerStage::Starting => Some("the broker is starting".to_owned()),
        BrokerStage::Running => None,
        BrokerStage::Draining | BrokerStage::Stopping => Some("the broker is stopping".to_owned()),
    };
    let unknown = || "the dispatcher does not answer".to_owned();
    let link = match &status {
        Some(status) => link_trouble(status, api.context.ready_grace),
        None => Some(unknown()),
    };
    let agents = match status {
        Some(_) if api.context.declared.is_empty() => None,
        Some(_) => agents_trouble(api),
        None => Some(unknown()),
    };
    let checks = [
        ProbeCheck::new("stage", running),
        dispatcher,
        journal(api),
        ProbeCheck::new("link", link),
        ProbeCheck::new("agents", agents),
    ];
    respond("readyz", &checks, request)
}

/// Whether the dispatcher answers, and what.
fn dispatcher(api: &Api) -> (ProbeCheck, Option<Box<Status>>) {
    let (trouble, status) = match (api.context.ask)(ApiCall::Status, PROBE_LIMIT) {
        Ok(Reply::Status(status)) => (None, Some(status)),
        Ok(_) => (Some("it answers another question".to_owned()), None),
        // At the very end nobody is left to answer, and that is as it should be.
        Err(_) if api.context.life.get() == BrokerStage::Stopping => (None, None),
        Err(refusal) => (Some(refusal.message), None),
    };
    (ProbeCheck::new("dispatcher", trouble), status)
}

/// Why it cannot be written names files, and those are nobody's business.
fn journal(api: &Api) -> ProbeCheck {
    let trouble = api.trouble().map(|_| "it cannot be written".to_owned());
    ProbeCheck::new("journal", trouble)
}

fn link_trouble(status: &Status, grace: Duration) -> Option<String> {
    if status.node_connected {
        return None;
    }
    match status.node_lost_secs {
        None => Some("the engine has not taken this node in yet".to_owned()),
        Some(secs) if secs < grace.as_secs() => None,
        Some(secs) => Some(format!("the engine has been away for {secs} s")),
    }
}

/// An agent that somebody released is no longer wanted, and so no trouble.
fn agents_trouble(api: &Api) -> Option<String> {
    let list = match (api.context.ask)(ApiCall::Agents, PROBE_LIMIT) {
        Ok(Reply::Agents(list)) => list,
        _ => return Some("the dispatcher does not answer".to_owned()),
    };
    let all_up = api.context.declared.iter().all(|name| is_up(&list, name));
    (!all_up).then(|| "a declared agent does not run, or is not ready".to_owned())
}

fn is_up(list: &AgentList, name: &str) -> bool {
    match list.agents.iter().find(|agent| agent.name.as_str() == name) {
        // Whether it has a dialog open is between it and its operator.
        Some(agent) => ["ready", "blocked"].contains(&agent.phase.as_str()),
        None => !list.departed.iter().any(|gone| gone.name.as_str() == name),
    }
}

fn respond(what: &str, checks: &[ProbeCheck], request: &Request) -> Response {
    let failed = checks.iter().any(|check| check.trouble.is_some());
    let wants_json = request
        .header("accept")
        .is_some_and(|accept| accept.contains("application/json"));
    let mut response = if wants_json {
        ok(&as_json(checks, failed))
    } else {
        let verbose = request.query("verbose").is_some();
        finish(Response::text(200, as_text(what, checks, failed, verbose)))
    };
    if failed {
        response.status = 503;
    }
    response
}

fn as_json(checks: &[ProbeCheck], failed: bool) -> serde_json::Value {
    let word = |failed: bool| if failed { "failed" } else { "ok" };
    let rows: Vec<_> = checks
        .iter()
        .map(|check| {
            json!({"name": check.name, "status": word(check.trouble.is_some()), "reason": check.trouble})
        })
        .collect();
    json!({"status": word(failed), "checks": rows})
}

/// The form that operators know from Kubernetes' own components.
fn as_text(what: &str, checks: &[ProbeCheck], failed: bool, verbose: bool) -> String {
    let mut text = String::new();
    for check in checks {
        match &check.trouble {
            Some(why) => text.push_str(&format!("[-]{} failed: {why}\n", check.name)),
            None if verbose => text.push_str(&format!("[+]{} ok\n", check.name)),
            None => {}
        }
    }
    match (failed, verbose) {
        (true, _) => text.push_str(&format!("{what} check failed\n")),
        (false, true) => text.push_str(&format!("{what} check passed\n")),
        (false, false) => text.push_str("ok\n"),
    }
    text
}
