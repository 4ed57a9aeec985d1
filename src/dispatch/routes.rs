//! Whose each event, call, answer and notice is.

use super::Dispatcher;
use super::actions::Actions;
use super::agents::{Agents, channels_left, reserved};
use super::calls::{
    agent_answered, invocation_answered, no_identity, node_removed, nodes_answered,
    observer_answered, readers_answered, whereabouts_answered,
};
use super::control::Control;
use super::mail::{Mail, post_answered};
use super::notice::Notice;
use super::questions::{AgentQuestions, ControlQuestions};
use super::rest_jobs::RestJob;
use super::step::{Out, PartStep};
use crate::ids::{AgentId, AgentName, JobId, Run, Ticket};
use crate::msg::{
    AgentReport, Answer, ApiCall, LinkReport, Refusal, RefusalKind, Reply, RestCall, RestDone,
    SpawnSource,
};
use crate::time::Now;
use crate::wire::down::Down;
use crate::wire::local::SendRequest;

impl Dispatcher {
    // ---- events -------------------------------------------------------------------------------------------------

    pub(super) fn link(&mut self, now: Now, report: LinkReport, out: &mut Out) {
        match report {
            LinkReport::Enrolled { node_id, node_name } => {
                self.control(now, out, |c, step| c.enrolled(step, node_id, node_name));
            }
            LinkReport::Up => self.control(now, out, Control::link_up),
            LinkReport::Lost(why) => self.control(now, out, |c, step| c.link_lost(step, &why)),
            LinkReport::Refused(why) => {
                self.control(now, out, |c, step| c.link_refused(step, &why));
            }
            LinkReport::Frame(frame) => {
                self.control(now, out, Control::heard);
                self.frame(now, frame, out);
            }
            LinkReport::TooLarge(frame, bytes) => {
                self.control(now, out, Control::passed_over);
                self.too_large(now, frame, bytes, out);
            }
            LinkReport::PassedOver => self.control(now, out, Control::passed_over),
        }
    }

    fn frame(&mut self, now: Now, frame: Down, out: &mut Out) {
        match frame {
            Down::Deliver(deliver) => self.mail(now, out, |mail, step| mail.deliver(step, deliver)),
            Down::ActionInvoke(invoke) => {
                self.control(now, out, Control::expect_orders);
                self.actions(now, out, |a, step| a.invoke(step, invoke));
            }
            Down::Reply(reply) => self.control(now, out, |c, step| c.reply(step, reply)),
            Down::Error(error) => self.control(now, out, |c, step| c.error_frame(step, error)),
            Down::ContextUpdate(news) if news.event == "delivery.failed" => {
                self.mail(now, out, |mail, step| mail.engine_gave_up(step, &news));
            }
            Down::ContextUpdate(news) if news.topic == "presence" => {
                self.control(now, out, |c, step| c.presence(step, &news.data));
            }
            // News for screens, and a ping that wants no answer (engine-protocol 3.1, 3.5).
            Down::ContextUpdate(_) | Down::Ping => {}
        }
    }

    /// `frame` is what can be known of it, its words not among that.
    fn too_large(&mut self, now: Now, frame: Down, bytes: u64, out: &mut Out) {
        match frame {
            Down::Deliver(frame) => {
                self.mail(now, out, |mail, step| mail.too_large(step, frame, bytes));
            }
            Down::ActionInvoke(invoke) => self.actions(now, out, |actions, step| {
                actions.too_large(step, invoke.invocation_id, bytes);
            }),
            // Nobody waits for one of these for long, and none of them is sent again.
            Down::ContextUpdate(_) | Down::Ping | Down::Reply(_) | Down::Error(_) => {}
        }
    }

    pub(super) fn agent(
        &mut self,
        now: Now,
        name: &AgentName,
        run: Run,
        report: AgentReport,
        out: &mut Out,
    ) {
        if !self.agents.is_current(name, run) {
            return;
        }
        match report {
            AgentReport::Typed(id) => self.mail(now, out, |m, s| m.typed(s, name, &id)),
            AgentReport::Landed(id, proof, reason) => {
                self.mail(now, out, |m, s| m.landed(s, name, &id, proof, reason));
            }
            AgentReport::TurnStarted(id, proof) => {
                self.mail(now, out, |m, s| m.turn_started(s, name, &id, proof));
            }
            AgentReport::Dropped(id, why) => {
                self.mail(now, out, |m, s| m.dropped(s, name, &id, &why))
            }
            AgentReport::Session(id) => self.agents(now, out, |a, s| a.session_shown(s, name, id)),
            AgentReport::Stalled(id, why) => {
                self.mail(now, out, |m, s| m.stalled(s, name, &id, &why));
            }
            AgentReport::Withdrawn(id) => self.mail(now, out, |m, s| m.withdrawn(s, name, &id)),
            AgentReport::NotTaken(id, why) => {
                self.mail(now, out, |m, s| m.not_taken(s, name, &id, &why));
            }
            AgentReport::Failed(id, why) => {
                self.mail(now, out, |m, s| m.untypable(s, name, &id, &why));
            }
            AgentReport::Started { pid } => self.agents(now, out, |a, s| a.started(s, name, pid)),
            AgentReport::NotStarted { why } => {
                let refusal = Refusal::new(RefusalKind::SpawnFailed, why);
                self.agents(now, out, |a, s| a.spawn_failed(s, name, &refusal));
            }
            AgentReport::NoRoom { why } => {
                let refusal = Refusal::new(RefusalKind::NoRoom, why);
                self.agents(now, out, |a, s| a.spawn_failed(s, name, &refusal));
            }
            AgentReport::Ready { evidence } => {
                self.agents(now, out, |a, s| a.ready(s, name, &evidence));
            }
            AgentReport::Blocked(dialog, rows) => {
                self.agents(now, out, |a, s| a.blocked(s, name, dialog, rows));
            }
            AgentReport::Unblocked(dialog) => {
                self.agents(now, out, |a, s| a.unblocked(s, name, dialog));
            }
            AgentReport::Answered {
                dialog,
                policy,
                keys,
            } => self.agents(now, out, |a, s| {
                a.dialog_answered(s, name, dialog, policy, keys)
            }),
            AgentReport::Interrupted(ticket, result) => {
                self.agents(now, out, |a, s| a.interrupted(s, name, ticket, result));
            }
            AgentReport::Picture(ticket, picture) => {
                self.agents(now, out, |a, s| a.pictured(s, name, ticket, picture));
            }
            AgentReport::Working => self.agents(now, out, |a, s| a.working(s, name)),
            AgentReport::Idle { silent } => self.agents(now, out, |a, s| a.idle(s, name, silent)),
            AgentReport::Exited(how) => self.agents(now, out, |a, s| a.exited(s, name, &how)),
        }
        self.hand_round(now, out);
        self.agents(now, out, |agents, step| agents.reported(step, name));
    }

    pub(super) fn tick(&mut self, now: Now, out: &mut Out) {
        self.control(now, out, Control::tick);
        self.hand_round(now, out);
        self.agents(now, out, Agents::tick);
        self.hand_round(now, out);
        self.mail(now, out, Mail::tick);
        self.hand_round(now, out);
        self.actions(now, out, Actions::tick);
        self.control(now, out, Control::tick_stop);
    }

    // ---- calls of the local API, and HTTP calls of ours ---------------------------------------------------------

    pub(super) fn call(&mut self, now: Now, ticket: Ticket, call: ApiCall, out: &mut Out) {
        let answer = match call {
            ApiCall::Agents
            | ApiCall::Mode(_)
            | ApiCall::Status
            | ApiCall::CrashInsights
            | ApiCall::DeadLetters
            | ApiCall::ResultSchema(_) => self.views(now).look(&call),
            ApiCall::Pending(name) => {
                self.mail(now, out, |mail, step| mail.pending_call(step, ticket, name))
            }
            ApiCall::Send(request) => self.mail(now, out, |m, step| m.send(step, ticket, request)),
            ApiCall::Flush(name) => Some(self.mail(now, out, |mail, step| mail.flush(step, &name))),
            ApiCall::SetModel(name, model) => self.set_model(now, ticket, &name, &model, out),
            ApiCall::SetMode(name, mode) => {
                Some(self.mail(now, out, |mail, step| mail.set_mode(step, &name, mode)))
            }
            ApiCall::SwapMode(name, mode, expected) => Some(self.mail(now, out, |mail, step| {
                mail.swap_mode(step, &name, mode, expected)
            })),
            ApiCall::Threads => {
                Some(self.mail(now, out, |m, step| Ok(m.threads.list(step.ledger().mail()))))
            }
            ApiCall::Redeliver(which) => {
                Some(self.mail(now, out, |mail, step| mail.redeliver(step, which.as_ref())))
            }
            ApiCall::Spawn(request, source) => {
                self.agents(now, out, |a, step| {
                    a.spawn(step, Some(ticket), *request, source)
                });
                None
            }
            ApiCall::Release { name, reason } => self.agents(now, out, |agents, step| {
                agents.release_call(step, ticket, &name, reason.as_deref())
            }),
            ApiCall::Restart(name) => {
                self.agents(now, out, |a, step| a.restart_call(step, ticket, &name))
            }
            ApiCall::Interrupt(name) => {
                self.agents(now, out, |a, step| a.interrupt_call(step, ticket, &name))
            }
            ApiCall::Snapshot { name, ansi } => self.agents(now, out, |a, step| {
                a.snapshot_call(step, ticket, &name, ansi)
            }),
            ApiCall::Channels {
                name,
                channels,
                listens,
            } => Some(self.agents(now, out, |agents, step| {
                agents.change_channels(step, &name, &channels, listens)
            })),
            ApiCall::Preflight(names) => Some(self.agents(now, out, |agents, step| {
                Ok(Reply::Queued(agents.preflight(step, names)))
            })),
            ApiCall::AsAgent(name, request) => match self.agents.token(&name) {
                Some(token) => {
                    let call = RestCall::AsAgent { token, request };
                    self.ask(now, call, RestJob::AsAgent(ticket), out)
                }
                None => Some(Err(no_identity(&name))),
            },
            ApiCall::ObserverToken(_)
            | ApiCall::Nodes
            | ApiCall::RemoveNode(_)
            | ApiCall::Whereabouts(_)
            | ApiCall::Readers(_)
            | ApiCall::Invoke { .. }
            | ApiCall::Invocation { .. } => self.ask_engine(now, ticket, call, out),
            ApiCall::SubmitResult(name, result) => Some(self.agents(now, out, |agents, step| {
                agents.submit_result(step, &name, *result)
            })),
            ApiCall::Sidecar(id, call) => Some(self.actions(now, out, |actions, step| {
                actions.sidecar_call(step, id, call)
            })),
        };
        if let Some(answer) = answer {
            self.bare(now, out).reply(ticket, answer);
        }
    }

    /// What only the engine knows.
    fn ask_engine(
        &mut self,
        now: Now,
        ticket: Ticket,
        call: ApiCall,
        out: &mut Out,
    ) -> Option<Answer> {
        let (call, why) = match call {
            ApiCall::ObserverToken(name) => (
                RestCall::ObserverToken(name),
                RestJob::ObserverToken(ticket),
            ),
            ApiCall::Nodes => (RestCall::Nodes, RestJob::Nodes(ticket)),
            ApiCall::RemoveNode(name) => (RestCall::RemoveNode(name), RestJob::RemoveNode(ticket)),
            ApiCall::Whereabouts(name) => (
                RestCall::Whereabouts(name.clone()),
                RestJob::Whereabouts(ticket, name),
            ),
            ApiCall::Readers(message) => (RestCall::Readers(message), RestJob::Readers(ticket)),
            ApiCall::Invoke { action, input } => (
                RestCall::Invoke { action, input },
                RestJob::Invocation(ticket),
            ),
            ApiCall::Invocation { action, id } => (
                RestCall::Invocation { action, id },
                RestJob::Invocation(ticket),
            ),
            _ => return None,
        };
        self.ask(now, call, why, out)
    }

    /// The command goes the way of any message, and is typed as it is.
    fn set_model(
        &mut self,
        now: Now,
        ticket: Ticket,
        name: &AgentName,
        model: &str,
        out: &mut Out,
    ) -> Option<Answer> {
        let text = match self.agents(now, out, |agents, _| agents.change_model(name, model)) {
            Ok(text) => text,
            Err(refusal) => return Some(Err(refusal)),
        };
        let request = SendRequest {
            to: name.to_string(),
            text,
            raw: true,
            ..SendRequest::default()
        };
        self.mail(now, out, |mail, step| mail.send(step, ticket, request))
    }

    /// A step of no part.
    fn bare<'a>(&'a mut self, now: Now, out: &'a mut Out) -> PartStep<'a, ()> {
        PartStep::new(now, &mut self.common, (), out)
    }

    /// Asks the engine what only it knows. The answer comes later.
    fn ask(&mut self, now: Now, call: RestCall, why: RestJob, out: &mut Out) -> Option<Answer> {
        self.bare(now, out).rest_job(call, why);
        None
    }

    pub(super) fn job_done(&mut self, now: Now, id: JobId, done: RestDone, out: &mut Out) {
        let Some(why) = self.common.job_ended(id) else {
            return;
        };
        match why {
            RestJob::Identify { name, run } => self.agents(now, out, |agents, step| {
                agents.identify_done(step, id, (name, run), done);
            }),
            RestJob::Find(name) => {
                self.agents(now, out, |a, step| a.bearer_found(step, name, &done));
            }
            RestJob::Forget(name) => {
                self.agents(now, out, |agents, step| {
                    agents.forgotten(step, &name, &done)
                });
            }
            RestJob::Join {
                name,
                channels,
                tell,
            } => self.agents(now, out, |agents, step| {
                agents.channels_joined(step, &name, channels, tell, done);
            }),
            RestJob::Leave(name) => channels_left(&name, &done),
            RestJob::Bound { asked, told } => {
                self.control(now, out, |c, step| c.bound_listed(step, &asked, told, done));
            }
            RestJob::Waiting(ticket, name) => self.mail(now, out, |mail, step| {
                mail.waiting_answered(step, ticket, &name, done);
            }),
            RestJob::Leftovers(name) => {
                self.mail(now, out, |m, step| m.leftovers_listed(step, &name, done));
            }
            RestJob::Closing { name, more } => {
                self.mail(now, out, |m, step| {
                    m.leftovers_closed(step, &name, more, &done)
                });
            }
            RestJob::Post { ticket, to } => {
                self.mail(now, out, |_, step| post_answered(step, ticket, &to, done));
            }
            RestJob::Reserve => reserved(&done),
            RestJob::ObserverToken(ticket) => {
                observer_answered(&mut self.bare(now, out), ticket, done);
            }
            RestJob::Nodes(ticket) => {
                nodes_answered(&mut self.bare(now, out), ticket, done);
            }
            RestJob::RemoveNode(ticket) => {
                node_removed(&mut self.bare(now, out), ticket, done);
            }
            RestJob::Whereabouts(ticket, name) => {
                let ours = self.control.node_id().clone();
                let asked = (name, &ours);
                whereabouts_answered(&mut self.bare(now, out), ticket, asked, done);
            }
            RestJob::Readers(ticket) => {
                readers_answered(&mut self.bare(now, out), ticket, done);
            }
            RestJob::AsAgent(ticket) => {
                agent_answered(&mut self.bare(now, out), ticket, done);
            }
            RestJob::Invocation(ticket) => {
                invocation_answered(&mut self.bare(now, out), ticket, done);
            }
        }
    }

    // ---- notices ------------------------------------------------------------------------------------------------

    /// Hands round what parts have left for others, until nothing is left.
    pub(super) fn hand_round(&mut self, now: Now, out: &mut Out) {
        while let Some(notice) = self.common.next_notice() {
            self.hand(now, notice, out);
        }
    }

    fn link_lost(&mut self, now: Now, out: &mut Out) {
        self.actions.link_lost();
        self.mail.link_lost();
        self.agents(now, out, Agents::link_lost);
    }

    fn link_open(&mut self, now: Now, out: &mut Out) {
        self.actions(now, out, Actions::answer_again);
        self.control(now, out, Control::link_open);
        self.mail(now, out, Mail::acknowledge_all);
        self.agents(now, out, Agents::link_open);
    }

    fn found_late(
        &mut self,
        now: Now,
        (name, id): (AgentName, AgentId),
        released: bool,
        out: &mut Out,
    ) {
        self.mail(now, out, |mail, step| {
            mail.acknowledge_last(step, &name, &id);
            if released {
                mail.leave_with_engine(step, &name, &id);
            }
        });
        self.agents(now, out, |agents, step| agents.sign_off(step, name, id));
    }

    fn gone(&mut self, now: Now, name: &AgentName, out: &mut Out) {
        self.mail(now, out, |mail, step| mail.agent_gone(step, name));
        self.agents(now, out, Agents::find_unanswered);
    }

    /// Who hears of what, and in which order.
    fn hand(&mut self, now: Now, notice: Notice, out: &mut Out) {
        match notice {
            Notice::LinkUp => self.mail.link_up(),
            Notice::LinkLost => self.link_lost(now, out),
            Notice::LinkOpen => self.link_open(now, out),
            Notice::ListsAnswered { moved } => {
                self.actions(now, out, |a, step| a.lists_answered(step, moved));
            }
            Notice::Listed(request) => {
                self.mail(now, out, |mail, step| mail.listed(step, request.as_deref()));
            }
            Notice::Replied(reply) => {
                self.mail(now, out, |mail, step| mail.replay_begins(step, &reply.id));
                self.agents(now, out, |agents, step| agents.replied(step, &reply));
            }
            Notice::Complained(error) => {
                self.agents(now, out, |agents, step| agents.complained(step, &error));
            }
            Notice::Disputed {
                refused,
                list_again,
            } => self.agents(now, out, |a, step| a.disputed(step, refused, list_again)),
            Notice::Stopping { grace } => {
                self.agents(now, out, |agents, step| agents.stop_all(step, grace));
            }
            Notice::Leaving => self.mail(now, out, Mail::leaving),
            Notice::Left(reason) => {
                self.common.answer_all(out);
                self.control(now, out, |control, step| control.say_goodbye(step, reason));
            }
            Notice::RosterChanged => self.control(now, out, Control::announce),
            Notice::NameCleared(n, all) => self.agents(now, out, |a, s| a.cleared(s, &n, all)),
            Notice::MailMissing => self.control(now, out, Control::inventory_needed),
            Notice::CapabilitiesChanged => self.control(now, out, Control::capabilities_changed),
            Notice::Answered => self.control(now, out, Control::expect_orders),
            Notice::InvocationOver(id, outcome) => {
                self.actions(now, out, |actions, step| actions.answer(step, id, outcome));
            }
            Notice::Unavailable(id) => self.actions(now, out, |a, step| a.unavailable(step, id)),
            Notice::Undelivered(delivery, why) => self.actions(now, out, |actions, step| {
                actions.nobody_serves(step, &delivery, &why);
            }),
            Notice::SpawnWanted(request, id) => self.agents(now, out, |agents, step| {
                agents.spawn(step, None, *request, SpawnSource::Invocation(id));
            }),
            Notice::ReleaseWanted(name, id) => {
                self.agents(now, out, |a, step| a.release_invoked(step, &name, id));
            }
            Notice::Settled(name) => self.agents.mail_settled(&name, now.wall),
            Notice::Told(frame) => self.mail(now, out, |mail, step| mail.deliver(step, *frame)),
            Notice::AgentCame(name) => self.mail(now, out, |m, step| m.agent_came(step, &name)),
            Notice::AgentReady(name, run) => {
                self.mail(now, out, |mail, step| mail.agent_ready(step, &name, run));
            }
            Notice::AgentLeaving(name) => self.mail.agent_leaving(&name),
            Notice::AgentBack(name) => self.mail.agent_back(&name),
            Notice::AgentGone(name) => self.gone(now, &name, out),
            Notice::FoundLate {
                name,
                agent_id,
                released,
            } => self.found_late(now, (name, agent_id), released, out),
            Notice::LifeOver {
                name,
                agent_id,
                end,
                departed,
            } => {
                let agent_id = agent_id.as_ref();
                self.mail(now, out, |m, step| m.life_over(step, &name, agent_id, end));
                self.agents(now, out, |a, s| a.life_ended(s, name, end, departed));
            }
            Notice::IdentityOver(name, id, newcomer) => {
                self.agents(now, out, |a, step| a.give_back(step, name, id, newcomer));
            }
            Notice::AgentMoved(name) => self.mail(now, out, |m, step| m.agent_moved(step, &name)),
            Notice::FirstTask(name, by, task) => {
                self.mail(now, out, |m, step| m.first_task(step, &name, by, task));
            }
        }
    }
}
