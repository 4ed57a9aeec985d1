//! The local API's questions, answered from the parts: what only looks, and what only the engine knows.

use serde_json::json;

use super::agents::{Agents, AgentsView};
use super::control::{Control, ControlView};
use super::mail::{Mail, MailView, SUSPENDED};
use super::questions::{AgentQuestions, ControlQuestions};
use super::rest_jobs::sentence;
use super::step::PartStep;
use crate::ids::{AgentName, NodeId, Ticket};
use crate::ledger::{Dead, Pending};
use crate::msg::{Answer, ApiCall, Effect, Refusal, RefusalKind, Reply, RestDone};
use crate::time::millis;
use crate::wire::local;
use crate::wire::rest::AgentFacts;

/// How many pending deliveries the status lists.
const STATUS_PENDING: usize = 100;

/// All parts, for looking.
#[derive(Clone, Copy)]
pub(super) struct ApiViews<'a> {
    pub(super) mail: (&'a Mail, MailView<'a>),
    pub(super) agents: (&'a Agents, AgentsView<'a>),
    pub(super) control: (&'a Control, ControlView<'a>),
}

impl ApiViews<'_> {
    /// The answer to a call that only looks; `None` for any other.
    pub(super) fn look(&self, call: &ApiCall) -> Option<Answer> {
        let (mail, view) = self.mail;
        Some(match call {
            ApiCall::Agents => Ok(Reply::Agents(local::AgentList {
                agents: self.agent_views(),
                departed: self.agents.0.departed_views(self.agents.1),
            })),
            ApiCall::Pending(name) => mail.pending(view, name),
            ApiCall::Mode(name) => mail.mode(view, name),
            ApiCall::Status => Ok(Reply::Status(Box::new(self.status()))),
            ApiCall::CrashInsights => {
                let (agents, view) = self.agents;
                Ok(Reply::CrashInsights(agents.crash_insights(view)))
            }
            ApiCall::DeadLetters => Ok(Reply::DeadLetters(self.dead_letters())),
            ApiCall::ResultSchema(name) => self.agents.0.result_schema(name),
            ApiCall::Spawn(..)
            | ApiCall::Release { .. }
            | ApiCall::Restart(_)
            | ApiCall::Preflight(_)
            | ApiCall::Channels { .. }
            | ApiCall::Send(_)
            | ApiCall::Flush(_)
            | ApiCall::SetModel(..)
            | ApiCall::SetMode(..)
            | ApiCall::SwapMode(..)
            | ApiCall::Threads
            | ApiCall::ObserverToken(_)
            | ApiCall::Snapshot { .. }
            | ApiCall::Interrupt(_)
            | ApiCall::Redeliver(_)
            | ApiCall::Nodes
            | ApiCall::RemoveNode(_)
            | ApiCall::Whereabouts(_)
            | ApiCall::Readers(_)
            | ApiCall::AsAgent(..)
            | ApiCall::Invoke { .. }
            | ApiCall::Invocation { .. }
            | ApiCall::SubmitResult(..)
            | ApiCall::Sidecar(..) => return None,
        })
    }

    /// The order that ends an agent's program at once; `None` when none runs.
    pub(super) fn hang_up(&self, name: &AgentName) -> Option<Effect> {
        let (agents, view) = self.agents;
        agents.hang_up(name, view.config().grace)
    }

    /// The same for all that run.
    pub(super) fn hang_up_all(&self) -> Vec<Effect> {
        let here = self.agents.0.here().into_iter();
        here.filter_map(|(name, _)| self.hang_up(name)).collect()
    }

    /// What shows the engine that this node lives, once heartbeats are under way.
    pub(super) fn sign_of_life(&self) -> Option<Effect> {
        self.control.0.sign_of_life(self.control.1)
    }

    fn agent_views(&self) -> Vec<local::AgentView> {
        let (agents, view) = self.agents;
        let (mail, mail_view) = self.mail;
        let mut views = agents.views(view);
        for agent in &mut views {
            agent.crowded = mail.crowded(mail_view, &agent.name);
        }
        views
    }

    fn status(&self) -> local::Status {
        let (agents, view) = self.agents;
        let (now, config, mail) = (view.now, view.config(), view.ledger().mail());
        let mut pending: Vec<&Pending> = mail.all().collect();
        pending.sort_by_key(|p| p.delivery.queued_at);
        let oldest = pending.first();
        let oldest = oldest.map(|p| millis(now.wall - p.delivery.queued_at));
        let degraded = self.degraded();
        let registered = self.control.0.is_registered();
        local::Status {
            agent_count: agents.count(),
            agents: self.agent_views(),
            departed: agents.departed_views(view),
            pending_delivery_count: mail.len() as u64,
            pending_deliveries: pending
                .into_iter()
                .take(STATUS_PENDING)
                .map(|p| self.pending_row(p))
                .collect(),
            dead_letter_count: view.ledger().dead().len() as u64,
            auth: json!({
                "authenticated": registered,
                "workspace_count": 1,
                "default_workspace_id": config.workspace_id,
                "workspaces": [{
                    "workspace_id": config.workspace_id,
                    "workspace_alias": null,
                    "self_name": self.control.0.node_name(),
                    "self_agent_id": self.control.0.node_id().to_string(),
                    "authenticated": registered,
                    "default": true,
                }],
            }),
            node_connected: registered,
            node_lost_secs: self
                .control
                .0
                .lost_at()
                .map(|at| now.mono.since(at).as_secs()),
            node_delivery: local::NodeDelivery {
                token_present: self.control.0.is_enrolled(),
                connected: registered,
            },
            status: match degraded {
                Some(_) => "degraded".into(),
                None => "ok".into(),
            },
            degraded_reason: degraded,
            node_id: self.control.0.node_id().to_string(),
            node_name: self.control.0.node_name().to_owned(),
            relay_base_url: config.engine_url.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: config.pid,
            uptime_secs: now.mono.since(view.started().mono).as_secs(),
            last_engine_frame_secs: self
                .control
                .0
                .last_frame()
                .map(|at| now.mono.since(at).as_secs()),
            oldest_pending_ms: oldest,
            counters: view.counters(),
        }
    }

    fn pending_row(&self, p: &Pending) -> local::PendingDelivery {
        let (agents, view) = self.agents;
        local::PendingDelivery {
            delivery_id: p.delivery.id.clone(),
            worker_name: p.delivery.agent.clone(),
            event_id: p.delivery.msg_id.clone(),
            from: p.delivery.from.clone(),
            to: p.delivery.agent.to_string(),
            attempts: p.attempts,
            queued_at_ms: p.delivery.queued_at,
            age_ms: millis(view.now.wall - p.delivery.queued_at),
            last_error: match p.suspended {
                true => Some(SUSPENDED.into()),
                false => agents.held_up_by(view, &p.delivery.agent),
            },
        }
    }

    fn degraded(&self) -> Option<String> {
        let config = self.agents.1.config();
        if !self.control.0.is_registered() {
            let why = self.control.0.why_down().unwrap_or("not connected yet");
            let engine = &config.engine_url;
            return Some(format!("no link to the engine at {engine}: {why}"));
        }
        config.damage.clone()
    }

    fn dead_letters(&self) -> Vec<local::DeadLetterView> {
        let view = self.agents.1;
        let row = |d: &Dead| local::DeadLetterView {
            delivery_id: d.pending.delivery.id.clone(),
            worker_name: d.pending.delivery.agent.clone(),
            event_id: d.pending.delivery.msg_id.clone(),
            from: d.pending.delivery.from.clone(),
            to: d.pending.delivery.agent.to_string(),
            attempts: d.pending.attempts,
            reason: d.reason.clone(),
            queued_at_ms: d.pending.delivery.queued_at,
            failed_at_ms: d.at,
            age_ms: millis(view.now.wall - d.at),
        };
        view.ledger().dead().iter().map(row).collect()
    }
}

/// The roster, as the engine has it.
pub(super) fn nodes_answered<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::Nodes(nodes) => Ok(Reply::Nodes(nodes)),
        done => Err(engine_refusal("the engine's roster", &done)),
    };
    step.reply(ticket, answer);
}

/// Whether the engine has taken the node off its roster.
pub(super) fn node_removed<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::NodeRemoved => Ok(Reply::NodeRemoved),
        done => Err(engine_refusal("the engine", &done)),
    };
    step.reply(ticket, answer);
}

/// A token that only reads, as the engine has made it.
pub(super) fn observer_answered<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::ObserverToken(token) => Ok(Reply::ObserverToken(token)),
        done => Err(engine_refusal("a token from the engine", &done)),
    };
    step.reply(ticket, answer);
}

/// Where an agent is, as the engine has it.
pub(super) fn whereabouts_answered<P: Copy>(
    step: &mut PartStep<P>,
    ticket: Ticket,
    (name, ours): (AgentName, &NodeId),
    done: RestDone,
) {
    let answer = match done {
        RestDone::Whereabouts(facts) => Ok(Reply::Whereabouts(place(name, facts, ours))),
        RestDone::Failed {
            status: Some(404),
            message,
            ..
        } => Err(Refusal::new(RefusalKind::UnknownAgent, message)),
        done => Err(engine_refusal("the engine", &done)),
    };
    step.reply(ticket, answer);
}

fn place(name: AgentName, facts: AgentFacts, ours: &NodeId) -> local::AgentPlace {
    let node = facts.metadata.pointer("/fleet/node_id");
    let node_id = node.and_then(|id| id.as_str()).map(str::to_owned);
    local::AgentPlace {
        name,
        agent_id: facts.id.to_string(),
        online: !matches!(facts.status.as_deref(), Some("offline" | "released")),
        status: facts.status,
        here: node_id.as_deref() == Some(ours.as_str()),
        node_id,
    }
}

/// Who has a message, as the engine has it.
pub(super) fn readers_answered<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::Readers(readers) => Ok(Reply::Readers(readers)),
        done => Err(engine_refusal("the engine's list of readers", &done)),
    };
    step.reply(ticket, answer);
}

/// An agent asks the engine something before the engine knows it.
pub(super) fn no_identity(name: &AgentName) -> Refusal {
    let text = format!(
        "{name} has no identity at the engine (yet): it is asked for while the engine is reachable; `relay-broker agents` \
         shows why it is missing"
    );
    Refusal::new(RefusalKind::Engine, text)
}

/// What the engine says to an agent that asked it something.
pub(super) fn agent_answered<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::Told(data) => Ok(Reply::Engine(data)),
        done => Err(Refusal::new(refused(&done), sentence(&done))),
    };
    step.reply(ticket, answer);
}

/// How an invocation stands, as the engine has it.
pub(super) fn invocation_answered<P: Copy>(step: &mut PartStep<P>, ticket: Ticket, done: RestDone) {
    let answer = match done {
        RestDone::Invocation(invocation) => Ok(Reply::Invocation(invocation)),
        done => Err(engine_refusal("the engine", &done)),
    };
    step.reply(ticket, answer);
}

fn engine_refusal(what: &str, done: &RestDone) -> Refusal {
    Refusal::new(refused(done), format!("{what}: {}", sentence(done)))
}

/// Whether the engine does not have what was asked for, or else has not said.
fn refused(done: &RestDone) -> RefusalKind {
    match done {
        RestDone::Failed {
            status: Some(404), ..
        } => RefusalKind::NotAtEngine,
        _ => RefusalKind::Engine,
    }
}
