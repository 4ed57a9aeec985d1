//! Requests from the local API: messages to send, views of what is, and the HTTP calls to the engine they need.

use super::channels::channels_of;
use super::limits::Side;
use super::{Dispatcher, Out};
use crate::ids::{AgentName, DeliveryId, JobId, MsgId, Run, Ticket};
use crate::ledger::{Departed, Pending};
use crate::msg::{
    AgentCommand, Answer, Delivery, Effect, Origin, Refusal, RefusalKind, Reply, RestCall, RestDone,
};
use crate::time::Now;
use crate::wire::down::Mode;
use crate::wire::local::{self, SendRequest, TEXT_MAX};
use crate::wire::up::InventoryMember;
use crate::words::{self, NO_WORDS};

/// How many pending deliveries the status lists.
const STATUS_PENDING: usize = 100;

/// Why an HTTP call to the engine was made, and so who is waiting for it.
#[derive(Clone, Debug)]
pub(super) enum RestJob {
    /// A message that leaves this machine.
    Post { ticket: Ticket, to: String },
    /// An agent joins or leaves channels; nobody waits.
    Channels(AgentName),
    /// The roster.
    Nodes(Ticket),
    /// Who has a message.
    Readers(Ticket),
    /// What the engine keeps for an agent that is not here.
    Waiting(Ticket, AgentName),
    /// An agent wants an identity, in this run.
    Identify { name: AgentName, run: Run },
    /// An action is invoked, or looked after.
    Invocation(Ticket),
    /// An agent that was registered for nothing is taken back.
    Forget(AgentName),
    /// The engine took less than all of this list, and did not say which.
    Bound {
        asked: Vec<InventoryMember>,
        /// It said so itself; otherwise it is only what its count seems to say.
        told: bool,
    },
}

impl Dispatcher {
    pub(super) fn rest_job(&mut self, call: RestCall, why: RestJob, out: &mut Out) -> JobId {
        let id = self.next_job;
        self.next_job = id.next();
        self.jobs.insert(id, why);
        out.effects.push(Effect::RestJob(id, call));
        id
    }

    pub(super) fn job_done(&mut self, now: Now, id: JobId, done: RestDone, out: &mut Out) {
        match (self.jobs.remove(&id), done) {
            (Some(RestJob::Identify { name, run }), done) => {
                self.identify_done(now, id, (name, run), done, out)
            }
            (Some(RestJob::Forget(name)), done) => self.forgotten(now, &name, &done, out),
            (Some(RestJob::Bound { asked, told }), done) => {
                self.bound_listed(now, &asked, told, done, out)
            }
            (None, _) | (Some(RestJob::Channels(_)), RestDone::Joined | RestDone::Left) => {}
            (Some(RestJob::Channels(name)), other) => {
                log::warn!("{name} could not change its channels at the engine: {other:?}")
            }
            (Some(RestJob::Waiting(ticket, name)), done) => {
                let rows = match done {
                    RestDone::Waiting(rows) => rows,
                    _ => Vec::new(),
                };
                let answer = self.waiting_answered(now, &name, rows);
                out.effects.push(Effect::Reply(ticket, answer));
            }
            (Some(RestJob::Post { ticket, to: _ }), RestDone::Posted(posted)) => {
                let until = |ms| now.wall + std::time::Duration::from_millis(ms);
                let waits = posted.waits.map(|waits| local::Waits {
                    until_ms: waits.left_ms.map(until),
                });
                let sent = local::Sent {
                    success: true,
                    waits,
                    event_id: posted.id,
                    delivered: 0,
                    local: false,
                    relaycast_published: Some(true),
                    targets: Vec::new(),
                    workspace_id: self.facts.workspace_id.clone(),
                    workspace_alias: None,
                };
                out.effects
                    .push(Effect::Reply(ticket, Ok(Reply::Sent(sent))));
            }
            (Some(RestJob::Post { ticket, to }), done) => {
                out.effects
                    .push(Effect::Reply(ticket, Err(post_refusal(&to, done))));
            }
            (Some(RestJob::Invocation(ticket)), RestDone::Invocation(invocation)) => {
                out.effects
                    .push(Effect::Reply(ticket, Ok(Reply::Invocation(invocation))));
            }
            (Some(RestJob::Invocation(ticket)), done) => {
                let text = format!("the engine: {}", sentence(&done));
                let refusal = Refusal::new(RefusalKind::Engine, text);
                out.effects.push(Effect::Reply(ticket, Err(refusal)));
            }
            (Some(RestJob::Nodes(ticket)), RestDone::Nodes(nodes)) => {
                out.effects
                    .push(Effect::Reply(ticket, Ok(Reply::Nodes(nodes))));
            }
            (Some(RestJob::Readers(ticket)), RestDone::Readers(readers)) => {
                out.effects
                    .push(Effect::Reply(ticket, Ok(Reply::Readers(readers))));
            }
            (Some(RestJob::Readers(ticket)), done) => {
                let text = format!("the engine's list of readers: {}", sentence(&done));
                let refusal = Refusal::new(RefusalKind::Engine, text);
                out.effects.push(Effect::Reply(ticket, Err(refusal)));
            }
            (Some(RestJob::Nodes(ticket)), done) => {
                let refusal = Refusal::new(
                    RefusalKind::Engine,
                    format!("the engine's roster: {}", sentence(&done)),
                );
                out.effects.push(Effect::Reply(ticket, Err(refusal)));
            }
        }
    }

    pub(super) fn nodes_call(&mut self, ticket: Ticket, out: &mut Out) -> Option<Answer> {
        self.rest_job(RestCall::Nodes, RestJob::Nodes(ticket), out);
        None
    }

    pub(super) fn readers_call(&mut self, ticket: Ticket, message: MsgId, out: &mut Out) {
        self.rest_job(RestCall::Readers(message), RestJob::Readers(ticket), out);
    }

    pub(super) fn invocation_call(&mut self, ticket: Ticket, call: RestCall, out: &mut Out) {
        self.rest_job(call, RestJob::Invocation(ticket), out);
    }

    /// A message from this machine: to a local agent straight into its mailbox, to anybody else through the engine.
    pub(super) fn send(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: SendRequest,
        out: &mut Out,
    ) -> Option<Answer> {
        let (to, mode) = match self.check_send(&request) {
            Ok(checked) => checked,
            Err(refusal) => return Some(Err(refusal)),
        };
        let from = request
            .from
            .clone()
            .filter(|f| !f.is_empty())
            .unwrap_or_else(|| self.facts.node_name.clone());
        let name = self.local_agent(&to);
        if request.raw && name.is_none() {
            let text = format!(
                "'{to}' is no agent of this broker, and only to such can a message be typed as it is; send it without raw"
            );
            return Some(Err(Refusal::new(RefusalKind::Invalid, text)));
        }
        let Some(name) = name else {
            let call = RestCall::Post {
                from: self.token_of(&AgentName::new(from)),
                to: to.clone(),
                text: request.text,
                mode,
                idempotency_key: format!(
                    "{}-{}-{}-{}",
                    self.facts.node_id,
                    self.started.wall.0,
                    self.ledger.numbered(),
                    self.next_job
                ),
            };
            self.rest_job(call, RestJob::Post { ticket, to }, out);
            return None;
        };
        if let Some(reason) = self.crowd(&name, Side::Local, request.text.len()) {
            self.counters.deliveries_refused += 1;
            let dropped = crate::wire::event::BrokerEvent::DeliveryDropped {
                name: name.clone(),
                count: 1,
                reason: reason.clone(),
                senders: vec![from],
            };
            self.publish(dropped, out);
            let text = format!("{reason}; try again when it has read some");
            return Some(Err(Refusal::new(RefusalKind::Full, text)));
        }
        let event_id = MsgId::new(format!("http_{}", self.unused(now)));
        let delivery = Delivery {
            id: DeliveryId::new(format!("del_{event_id}_{name}")),
            msg_id: event_id.clone(),
            agent: name.clone(),
            origin: Origin::Local,
            from,
            target: name.to_string(),
            body: request.text,
            thread_id: request.thread_id,
            mode,
            raw: request.raw,
            queued_at: now.wall,
        };
        self.accept(now, delivery, out);
        Some(Ok(Reply::Sent(local::Sent {
            success: true,
            event_id,
            delivered: 1,
            local: true,
            relaycast_published: None,
            targets: vec![name.to_string()],
            workspace_id: self.facts.workspace_id.clone(),
            workspace_alias: None,
            waits: None,
        })))
    }

    fn check_send(&self, request: &SendRequest) -> Result<(String, Mode), Refusal> {
        let invalid = |text: String| Refusal::new(RefusalKind::Invalid, text);
        if self.stopping.is_some() {
            return Err(Refusal::new(
                RefusalKind::Stopping,
                "the broker is stopping and takes no more messages",
            ));
        }
        let to = request.to.trim();
        if to.is_empty() || to == "@" || to == "#" {
            return Err(invalid(
                "`to` is missing; name an agent, `@agent` or `#channel`".into(),
            ));
        }
        if request.text.trim().is_empty() {
            return Err(invalid(
                "`text` is missing or blank; there is nothing to send".into(),
            ));
        }
        if words::is_nothing_but_controls(&request.text) {
            return Err(invalid(format!("the text has {NO_WORDS}")));
        }
        if request.text.len() > TEXT_MAX {
            let size = request.text.len();
            return Err(invalid(format!(
                "the text has {size} bytes; at most {TEXT_MAX} (1 MiB) go in one message"
            )));
        }
        let mode = match request.mode.as_deref() {
            None | Some("" | "wait") => Mode::Wait,
            Some("steer") => Mode::Steer,
            Some(other) => {
                return Err(invalid(format!(
                    "`mode` is {other:?}; it may be `wait` or `steer`"
                )));
            }
        };
        Ok((to.to_owned(), mode))
    }

    /// The local agent a target means, if it is one; names are compared without regard to case when no exact one runs.
    fn local_agent(&self, to: &str) -> Option<AgentName> {
        if to.starts_with('#') {
            return None;
        }
        let bare = to.strip_prefix('@').unwrap_or(to);
        let exact = AgentName::new(bare);
        if self.members.contains_key(&exact) {
            return Some(exact);
        }
        self.members
            .keys()
            .find(|name| name.as_str().eq_ignore_ascii_case(bare))
            .cloned()
    }

    pub(super) fn snapshot_call(
        &mut self,
        ticket: Ticket,
        name: &AgentName,
        ansi: bool,
        out: &mut Out,
    ) -> Option<Answer> {
        match self.members.get_mut(name) {
            Some(member) if member.pid.is_some() => {
                member.pictures.push(ticket);
                let run = member.run;
                out.effects.push(Effect::Agent(
                    name.clone(),
                    run,
                    AgentCommand::Snapshot { ticket, ansi },
                ));
                None
            }
            _ => Some(Err(self.unknown(name))),
        }
    }

    // ---- views --------------------------------------------------------------------------------------------------

    pub(super) fn agent_views(&self, now: Now) -> Vec<local::AgentView> {
        self.members
            .iter()
            .map(|(name, m)| {
                let last = if m.idle_since.is_none() && m.ready {
                    now.wall
                } else {
                    m.last_activity
                };
                let waiting = self.ledger.mail().waiting(name) as u64;
                local::AgentView {
                    name: name.clone(),
                    runtime: "pty".into(),
                    provider: None,
                    cli: m.spec.argv.join(" "),
                    model: m.request.model.clone(),
                    session_id: m
                        .request
                        .harness_config
                        .as_ref()
                        .and_then(|h| h.session_id.clone()),
                    team: m.request.team.clone(),
                    channels: channels_of(&m.request.channels),
                    parent: "Dashboard".into(),
                    pid: m.pid,
                    worker_pid: m.pid,
                    last_activity_ms: millis(now.wall - last),
                    last_activity_at: last.iso(),
                    context_budget_pct: None,
                    current_state: m.current_state(waiting).into(),
                    state_since: m.state_since(now, waiting).iso(),
                    pending_messages: waiting,
                    phase: m.phase_word().into(),
                    ready: m.ready,
                    blocked_on: m.dialog,
                    agent_id: m.agent_id.as_ref().map(ToString::to_string),
                    mode: self.ledger.mode(name),
                    uptime_secs: now.mono.since(m.started.mono).as_secs(),
                }
            })
            .collect()
    }

    /// Agents that ended without anybody's wish, in order of their names.
    pub(super) fn departed_views(&self) -> Vec<local::DepartedView> {
        let departed = self.ledger.lives().departed();
        let view = |(name, d): (&AgentName, &Departed)| local::DepartedView {
            name: name.clone(),
            reason: d.reason.clone(),
            given_up: d.given_up,
            at: d.at.iso(),
            command: d.command.clone(),
            pending_messages: self.ledger.mail().waiting(name) as u64,
        };
        // One that is being started has its place among the others.
        let away = departed.filter(|(name, _)| !self.members.contains_key(*name));
        away.map(view).collect()
    }

    pub(super) fn status(&self, now: Now) -> local::Status {
        let mail = self.ledger.mail();
        let mut pending: Vec<&Pending> = mail.all().collect();
        pending.sort_by_key(|p| p.delivery.queued_at);
        let oldest = pending
            .first()
            .map(|p| millis(now.wall - p.delivery.queued_at));
        let row = |p: &Pending| local::PendingDelivery {
            delivery_id: p.delivery.id.clone(),
            worker_name: p.delivery.agent.clone(),
            event_id: p.delivery.msg_id.clone(),
            from: p.delivery.from.clone(),
            to: p.delivery.agent.to_string(),
            attempts: p.attempts,
            queued_at_ms: p.delivery.queued_at,
            age_ms: millis(now.wall - p.delivery.queued_at),
            last_error: self
                .members
                .get(&p.delivery.agent)
                .and_then(super::roster::Member::held_up_by),
        };
        local::Status {
            agent_count: self.members.len() as u64,
            agents: self.agent_views(now),
            pending_delivery_count: mail.len() as u64,
            pending_deliveries: pending.into_iter().take(STATUS_PENDING).map(row).collect(),
            dead_letter_count: self.ledger.dead().len() as u64,
            auth: serde_json::json!({
                "authenticated": self.link.registered,
                "workspace_count": 1,
                "default_workspace_id": self.facts.workspace_id,
                "workspaces": [{
                    "workspace_id": self.facts.workspace_id,
                    "workspace_alias": null,
                    "self_name": self.facts.node_name,
                    "self_agent_id": null,
                    "authenticated": self.link.registered,
                    "default": true,
                }],
            }),
            node_connected: self.link.registered,
            node_delivery: local::NodeDelivery {
                token_present: self.link.enrolled,
                connected: self.link.registered,
            },
            status: if self.degraded().is_some() {
                "degraded".into()
            } else {
                "ok".into()
            },
            degraded_reason: self.degraded(),
            node_id: self.facts.node_id.to_string(),
            node_name: self.facts.node_name.clone(),
            relay_base_url: self.facts.engine_url.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            pid: self.facts.pid,
            uptime_secs: now.mono.since(self.started.mono).as_secs(),
            last_engine_frame_secs: self.link.last_frame.map(|at| now.mono.since(at).as_secs()),
            oldest_pending_ms: oldest,
            counters: self.counters,
        }
    }

    fn degraded(&self) -> Option<String> {
        if !self.link.registered {
            let why = self.link.why_down.as_deref().unwrap_or("not connected yet");
            return Some(format!(
                "no link to the engine at {}: {why}",
                self.facts.engine_url
            ));
        }
        self.facts.damage.clone()
    }

    pub(super) fn dead_views(&self, now: Now) -> Vec<local::DeadLetterView> {
        let view = |d: &crate::ledger::Dead| local::DeadLetterView {
            delivery_id: d.pending.delivery.id.clone(),
            worker_name: d.pending.delivery.agent.clone(),
            event_id: d.pending.delivery.msg_id.clone(),
            from: d.pending.delivery.from.clone(),
            to: d.pending.delivery.agent.to_string(),
            attempts: d.pending.attempts,
            reason: d.reason.clone(),
            queued_at_ms: d.pending.delivery.queued_at,
            failed_at_ms: d.at,
            age_ms: millis(now.wall - d.at),
        };
        self.ledger.dead().iter().map(view).collect()
    }
}

impl super::roster::Member {
    /// Why its messages wait, if that is known.
    fn held_up_by(&self) -> Option<String> {
        let asks = || self.dialog.map(|dialog| dialog.sentence().to_owned());
        self.stalled.clone().or_else(asks)
    }

    fn phase_word(&self) -> &'static str {
        use super::roster::Phase;
        match &self.phase {
            Phase::Running if self.stalled.is_some() || self.dialog.is_some() => "blocked",
            Phase::Running if self.ready => "ready",
            Phase::Registering { .. } | Phase::Starting | Phase::Running => "starting",
            Phase::Cooling { .. } => "restarting",
            Phase::Stopping => "stopping",
        }
    }
}

fn millis(d: std::time::Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

fn sentence(done: &RestDone) -> String {
    match done {
        RestDone::Failed {
            status: Some(status),
            code,
            message,
        } => format!("{status} {code}: {message}"),
        RestDone::Failed {
            status: None,
            message,
            ..
        } => message.clone(),
        RestDone::Busy => "too many calls to the engine are waiting; try again".into(),
        RestDone::Posted(_)
        | RestDone::Waiting(_)
        | RestDone::Joined
        | RestDone::Left
        | RestDone::Nodes(_)
        | RestDone::Readers(_)
        | RestDone::Identified(_)
        | RestDone::Bound(_)
        | RestDone::Invocation(_) => "an answer of the wrong kind".into(),
    }
}

fn post_refusal(to: &str, done: RestDone) -> Refusal {
    let why = sentence(&done);
    match done {
        // The wording existing clients look for (local-api 2.4).
        RestDone::Failed {
            status: Some(404), ..
        } if !to.starts_with('#') => Refusal::new(
            RefusalKind::UnknownAgent,
            format!(
                "Agent \"{to}\" not found and Relaycast publish failed: {why}; `relay-broker agents` lists who runs here"
            ),
        ),
        _ => Refusal::new(
            RefusalKind::Engine,
            format!("the message to {to} was not taken by the engine: {why}"),
        ),
    }
}
