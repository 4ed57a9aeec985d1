//! Messages from this machine: to a local agent straight into its mailbox, to anybody else through the engine.

use std::time::Duration;

use super::limits::Side;
use super::speaker::Speaker;
use super::state::{Mail, MailStep};
use crate::dispatch::rest_jobs::{RestJob, sentence};
use crate::domain::Mode;
use crate::ids::{AgentName, DeliveryId, MsgId, Ticket};
use crate::ledger::{Delivery, Origin};
use crate::msg::{Answer, Refusal, RefusalKind, Reply, RestCall, RestDone};
use crate::wire::event::BrokerEvent;
use crate::wire::local::{self, SendRequest, TEXT_MAX};
use crate::wire::rest::Posted;
use crate::words::{self, NO_WORDS};

impl Mail {
    /// A message from this machine. Who sends one through the engine has the answer later.
    pub(in crate::dispatch) fn send(
        &mut self,
        step: &mut MailStep,
        ticket: Ticket,
        request: SendRequest,
    ) -> Option<Answer> {
        let (to, mode) = match check_send(step, &request) {
            Ok(checked) => checked,
            Err(refusal) => return Some(Err(refusal)),
        };
        let from = request.from.clone().filter(|f| !f.is_empty());
        let from = from.unwrap_or_else(|| step.peers.control.node_name().to_owned());
        match local_agent(step, &to) {
            Some(name) => Some(self.send_here(step, name, from, request, mode)),
            None if request.raw => {
                let text = format!(
                    "'{to}' is no agent of this broker, and only to such can a message be typed as it is; send it without raw"
                );
                Some(Err(Refusal::new(RefusalKind::Invalid, text)))
            }
            None => {
                post(step, ticket, to, from, request, mode);
                None
            }
        }
    }

    fn send_here(
        &mut self,
        step: &mut MailStep,
        name: AgentName,
        from: String,
        request: SendRequest,
        mode: Mode,
    ) -> Answer {
        if let Some(reason) = self.crowd(step.view(), &name, Side::Local, request.text.len()) {
            step.count().deliveries_refused += 1;
            step.publish(BrokerEvent::DeliveryDropped {
                name,
                count: 1,
                reason: reason.clone(),
                senders: vec![from],
            });
            let text = format!("{reason}; try again when it has read some");
            return Err(Refusal::new(RefusalKind::Full, text));
        }
        let by_operator = !request.by_agent && local_agent(step, &from).is_some();
        let event_id = MsgId::new(format!("http_{}", step.unused()));
        let mut delivery = Delivery {
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
            by_operator,
            queued_at: step.now.wall,
        };
        let speaker = Speaker::of(step.view(), &delivery);
        let steer_refused = speaker.queues(step.view(), &mut delivery);
        let id = delivery.id.clone();
        self.accept(step, delivery, &speaker);
        let sent = step.ledger().mail().get(&id);
        Ok(Reply::Sent(local::Sent {
            suspended: sent.is_some_and(|pending| pending.suspended),
            steer_refused,
            success: true,
            event_id,
            delivered: 1,
            local: true,
            relaycast_published: None,
            targets: vec![name.to_string()],
            workspace_id: step.config().workspace_id.clone(),
            workspace_alias: None,
            waits: None,
        }))
    }
}

fn post(
    step: &mut MailStep,
    ticket: Ticket,
    to: String,
    from: String,
    request: SendRequest,
    mode: Mode,
) {
    let call = RestCall::Post {
        from: step.peers.agents.token(&AgentName::new(from)),
        to: to.clone(),
        text: request.text,
        mode,
        idempotency_key: step.idempotency_key(step.peers.control.node_id()),
    };
    step.rest_job(call, RestJob::Post { ticket, to });
}

/// The engine took a message of ours, or did not.
pub(in crate::dispatch) fn post_answered(
    step: &mut MailStep,
    ticket: Ticket,
    to: &str,
    done: RestDone,
) {
    let answer = match done {
        RestDone::Posted(posted) => Ok(Reply::Sent(sent(step, posted))),
        done => Err(post_refusal(to, done)),
    };
    step.reply(ticket, answer);
}

fn sent(step: &MailStep, posted: Posted) -> local::Sent {
    let until = |ms| step.now.wall + Duration::from_millis(ms);
    let waits = posted.waits.map(|waits| local::Waits {
        until_ms: waits.left_ms.map(until),
    });
    local::Sent {
        success: true,
        waits,
        suspended: false,
        steer_refused: false,
        event_id: posted.id,
        delivered: 0,
        local: false,
        relaycast_published: Some(true),
        targets: Vec::new(),
        workspace_id: step.config().workspace_id.clone(),
        workspace_alias: None,
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
        RestDone::Failed {
            status: Some(404), ..
        } => Refusal::new(
            RefusalKind::UnknownChannel,
            format!("no channel is named {to}: {why}; subscribe an agent to it and it is made"),
        ),
        _ => Refusal::new(
            RefusalKind::Engine,
            format!("the message to {to} was not taken by the engine: {why}"),
        ),
    }
}

fn check_send(step: &MailStep, request: &SendRequest) -> Result<(String, Mode), Refusal> {
    let invalid = |text: String| Refusal::new(RefusalKind::Invalid, text);
    if step.peers.control.is_stopping() {
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
fn local_agent(step: &MailStep, to: &str) -> Option<AgentName> {
    if to.starts_with('#') {
        return None;
    }
    let bare = to.strip_prefix('@').unwrap_or(to);
    let exact = AgentName::meant(bare);
    if step.peers.agents.is_here(&exact) {
        return Some(exact);
    }
    let mut here = step.peers.agents.here().into_iter();
    let alike = here.find(|(name, _)| name.as_str().eq_ignore_ascii_case(exact.as_str()));
    alike.map(|(name, _)| name.clone())
}
