//! Agents that run here although the engine says otherwise. It gives an open spawn to somebody else as soon as a link is
//! lost ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)), and both programs go on; or the name is another agent's by
//! now. Whoever lists such an agent is told so ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)): one that runs on
//! another node is ended here, because it would hear of nothing and two would do the work of one; one whose identity the
//! engine does not know is registered anew, and ended when that is refused.

use std::collections::BTreeMap;

use serde_json::Value;

use super::calls::RestJob;
use super::roster::{Member, Phase};
use super::{Dispatcher, Out};
use crate::ids::{AgentId, AgentName, DeliveryId};
use crate::ledger::Record;
use crate::msg::{AgentCommand, Effect, Origin, RestCall, RestDone, Secret};
use crate::time::Now;
use crate::wire::down::ErrorFrame;
use crate::wire::event::{BrokerEvent, NestedError};
use crate::wire::rest::NodeAgent;
use crate::wire::up::{AgentRegister, InventoryMember, InventorySync, Up};

/// What an engine says of an agent that runs on another node.
const ELSEWHERE: &str = "agent_location_conflict";
/// What it says of one that another provider has, which may be of this very node.
const OTHER_PROVIDER: &str = "agent_provider_conflict";
/// What it says of a name that is another agent's by now.
const OTHER_AGENT: &str = "agent_identity_mismatch";
/// What engines that give no reason for a thing say.
const NO_CODE: &str = "node_control_failed";
/// How often an identity is asked for anew on one link.
const RENEWALS: u8 = 2;
/// How often in a row all agents are listed one by one.
const SEARCHES: u8 = 3;

/// The lists of agents that the engine has yet to answer.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The last complete one.
    whole: Option<String>,
    /// How many agents were on it.
    size: usize,
    /// A count of those that were taken has been too small for no reason, so it means something else here.
    miscounts: bool,
    /// Lists of one agent each, to find out which is refused.
    single: BTreeMap<String, AgentName>,
    refused: Vec<Refused>,
    /// How often that was done since a complete one was taken.
    searches: u8,
}

impl Lists {
    /// A complete list is on its way.
    pub(super) fn sent(&mut self, id: &str, size: usize) {
        self.whole = Some(id.to_owned());
        self.size = size;
    }

    /// A name that nobody has is passed over without a word, and only missing from the count (`reconcileInventory`).
    fn passed_over(&self, answer: &Value) -> bool {
        let taken = answer["rebound_agents"].as_u64();
        !self.miscounts && taken.is_some_and(|taken| taken < self.size as u64)
    }
}

/// An agent that the engine does not take for ours, and its reason if it gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    name: AgentName,
    code: Option<String>,
}

/// What is known of an identity that is asked for anew.
#[derive(Debug, Default)]
pub(super) struct Renewal {
    /// The request that waits for an answer.
    request: Option<String>,
    /// Why, in the engine's word.
    code: Option<String>,
    /// How often on this link.
    tries: u8,
}

impl Renewal {
    pub(super) fn is_under_way(&self) -> bool {
        self.request.is_some()
    }
}

/// A location conflict is told with a code of its own, by a hosted variant only in words
/// ([engine-protocol 3.10](crate::docs::engine_protocol#3.10)).
pub(super) fn recognised(mut error: ErrorFrame) -> ErrorFrame {
    let words = error.message.to_lowercase();
    if error.code == NO_CODE && words.contains("active") && words.contains("another") {
        error.code = ELSEWHERE.into();
    }
    error
}

fn is_about_a_member(code: &str) -> bool {
    matches!(code, ELSEWHERE | OTHER_PROVIDER | OTHER_AGENT)
}

/// Whom a refusal is about: engines name the agent, and perhaps its provider behind it.
fn named<'a>(message: &str, listed: &'a [InventoryMember]) -> Option<&'a AgentName> {
    let at = |m: &InventoryMember| message.find(&format!("\"{}\"", m.name));
    let found = listed.iter().filter_map(|m| Some((at(m)?, &m.name)));
    found.min_by_key(|(at, _)| *at).map(|(_, name)| name)
}

/// Those that a reply does not take: by name with a code, by name alone, or only how many, as the engine's age has it
/// ([engine-protocol 3.9](crate::docs::engine_protocol#3.9)).
enum Rejected {
    Some(Vec<Refused>),
    Number,
    None,
}

fn rejected(answer: &Value) -> Rejected {
    let one = |member: &Value| {
        let name = member.as_str().or_else(|| member["name"].as_str())?;
        Some(Refused {
            name: AgentName::new(name),
            code: member["code"].as_str().map(str::to_owned),
        })
    };
    match &answer["rejected_agents"] {
        Value::Array(all) if !all.is_empty() => {
            let some: Vec<Refused> = all.iter().filter_map(one).collect();
            if some.len() == all.len() {
                Rejected::Some(some)
            } else {
                Rejected::Number
            }
        }
        Value::Number(n) if n.as_f64().is_some_and(|n| n > 0.0) => Rejected::Number,
        _ => Rejected::None,
    }
}

impl Dispatcher {
    // ---- answers to lists ---------------------------------------------------------------------------------------

    pub(super) fn list_answered(&mut self, now: Now, id: &str, answer: &Value, out: &mut Out) {
        if let Some(name) = self.link.lists.single.remove(id) {
            let code = match rejected(answer) {
                Rejected::None => return self.singles_answered(now, out),
                Rejected::Number => None,
                Rejected::Some(some) => some.into_iter().find_map(|refused| refused.code),
            };
            self.link.lists.refused.push(Refused { name, code });
            return self.singles_answered(now, out);
        }
        if self.link.lists.whole.as_deref() != Some(id) {
            return;
        }
        self.link.lists.whole = None;
        match rejected(answer) {
            Rejected::None if !self.link.lists.passed_over(answer) => self.link.lists.searches = 0,
            Rejected::Some(some) => self.refused_and_told(now, some, out),
            number @ (Rejected::Number | Rejected::None) => {
                let node_name = self.facts.node_name.clone();
                let job = RestJob::Bound {
                    asked: self.listed(),
                    told: matches!(number, Rejected::Number),
                };
                self.rest_job(RestCall::Bound { node_name }, job, out);
            }
        }
    }

    /// Who is bound to this node, as the engine has it: the others of a list are those that it did not take.
    pub(super) fn bound_listed(
        &mut self,
        now: Now,
        asked: &[InventoryMember],
        told: bool,
        done: RestDone,
        out: &mut Out,
    ) {
        let RestDone::Bound(bound) = done else {
            log::warn!("the engine does not say which agents it refused; asking for each");
            return self.list_one_by_one(out);
        };
        let is_bound = |m: &InventoryMember| bound.iter().any(|b| b.agent_id == m.agent_id);
        let refused = asked.iter().filter(|m| !is_bound(m)).map(|m| Refused {
            name: m.name.clone(),
            code: code_by(&bound, m),
        });
        let refused: Vec<Refused> = refused.collect();
        if refused.is_empty() && told {
            // The one that it means is bound to this node, but to another provider of it.
            return self.list_one_by_one(out);
        }
        if refused.is_empty() {
            log::info!(
                "the engine took fewer agents than were listed, and has all of them on this node"
            );
            self.link.lists.miscounts = true;
        }
        self.refused_and_told(now, refused, out);
    }

    /// Older engines refuse a list as a whole; most name the agent for whose sake. Says whether the error was about a list.
    pub(super) fn list_refused(&mut self, now: Now, error: &ErrorFrame, out: &mut Out) -> bool {
        let about = is_about_a_member(&error.code);
        if let Some(name) = self.link.lists.single.remove(&error.id) {
            if about {
                let code = Some(error.code.clone());
                self.link.lists.refused.push(Refused { name, code });
            }
            self.singles_answered(now, out);
            return true;
        }
        if !about || self.link.lists.whole.as_deref() != Some(&error.id) {
            return false;
        }
        self.link.lists.whole = None;
        match named(&error.message, &self.listed()) {
            Some(name) => {
                let (name, code) = (name.clone(), Some(error.code.clone()));
                // Nobody of the refused list counts as running; perhaps one more of it is refused.
                self.refused_and_told(now, vec![Refused { name, code }], out);
            }
            None => self.list_one_by_one(out),
        }
        true
    }

    fn list_one_by_one(&mut self, out: &mut Out) {
        self.link.lists.searches += 1;
        if self.link.lists.searches > SEARCHES {
            log::warn!("the engine refuses the list of agents, and none of them alone");
            return;
        }
        for member in self.listed() {
            let id = self.request_id("inventory");
            let name = member.name.clone();
            self.link.lists.single.insert(id.clone(), name);
            out.effects
                .push(Effect::Send(Up::InventorySync(InventorySync {
                    id: Some(id),
                    agents: vec![member],
                })));
        }
    }

    fn singles_answered(&mut self, now: Now, out: &mut Out) {
        if !self.link.lists.single.is_empty() {
            return;
        }
        let refused = std::mem::take(&mut self.link.lists.refused);
        self.all_refused(now, refused, out);
        // Each list of one took all others for gone.
        self.announce(now, out);
    }

    fn refused_and_told(&mut self, now: Now, refused: Vec<Refused>, out: &mut Out) {
        if self.all_refused(now, refused, out) {
            self.announce(now, out);
        }
    }

    /// One that runs on another node is ended; any other is asked for anew, as a new agent only: who runs on another node is
    /// not given to us then, and so not taken away from there ([engine-protocol 3.4](crate::docs::engine_protocol#3.4),
    /// [2.3](crate::docs::engine_protocol#2.3)). Says whether anything came of it.
    fn all_refused(&mut self, now: Now, refused: Vec<Refused>, out: &mut Out) -> bool {
        let mut news = false;
        for Refused { name, code } in refused {
            news |= match code.as_deref() {
                Some(ELSEWHERE) => self.moved(now, &name, out),
                _ => self.renew(now, &name, code, out),
            };
        }
        news
    }

    // ---- another identity ---------------------------------------------------------------------------------------

    fn renew(&mut self, now: Now, name: &AgentName, code: Option<String>, out: &mut Out) -> bool {
        let id = self.request_id("agent_register");
        let Some(member) = self.members.get_mut(name).filter(|m| m.may_be_renewed()) else {
            return false;
        };
        member.renewal.tries += 1;
        if member.renewal.tries > RENEWALS {
            let why = code.as_deref().unwrap_or("it does not say why");
            let why = format!("the engine does not take '{name}' for an agent of this node: {why}");
            return self.disowned(now, name, &why, out);
        }
        log::warn!("the engine does not take {name} for ours: {code:?}; registering it anew");
        member.renewal.request = Some(id.clone());
        member.renewal.code = code;
        let session_ref = member.session_ref();
        let frame = AgentRegister {
            id: Some(id),
            name: name.clone(),
            invocation_id: member.born_of.clone(),
            resumable: session_ref.as_ref().map(|_| true),
            session_ref,
        };
        out.effects.push(Effect::Send(Up::AgentRegister(frame)));
        true
    }

    fn renewing(&self, request: &str) -> Option<AgentName> {
        let mut all = self.members.iter();
        let found = all.find(|(_, m)| m.renewal.request.as_deref() == Some(request));
        found.map(|(name, _)| name.clone())
    }

    /// Says whether the reply was to such a request.
    pub(super) fn renewed(&mut self, now: Now, request: &str, data: &Value, out: &mut Out) -> bool {
        let Some(name) = self.renewing(request) else {
            return false;
        };
        let token = Self::text(data, "token").map(Secret::new);
        let agent_id = Self::text(data, "agent_id").map(AgentId::new);
        let Some(member) = self.members.get_mut(&name) else {
            return true;
        };
        member.renewal.request = None;
        let Some(agent_id) = agent_id else {
            return true;
        };
        member.agent_id = Some(agent_id.clone());
        member.token = token.or(member.token.take());
        self.record(
            Record::Bound {
                agent: name.clone(),
                agent_id,
            },
            out,
        );
        let message = format!(
            "the engine did not know '{name}' as it runs here and has registered it anew; mail reaches it again, but the \
             token in its program's environment is no longer good: start it again if it speaks to the engine itself"
        );
        self.emit_location_conflict(&name, "agent_registered_anew", message, out);
        self.announce(now, out);
        true
    }

    /// Says whether the error was about such a request.
    pub(super) fn renewal_refused(&mut self, now: Now, error: &ErrorFrame, out: &mut Out) -> bool {
        let Some(name) = self.renewing(&error.id) else {
            return false;
        };
        let known = self.ledger.bound(&name).cloned();
        let id = self.request_id("agent_register");
        let Some(member) = self.members.get_mut(&name) else {
            return true;
        };
        member.renewal.request = None;
        // Only from a provider of this node is an agent had back; the same agent elsewhere is left alone.
        let ours = member.renewal.code.take().as_deref() == Some(OTHER_PROVIDER);
        match known.filter(|_| ours && error.code == "agent_already_exists") {
            Some(expected_agent_id) => {
                member.renewal.request = Some(id.clone());
                let frame = member.recovery(id, &name, expected_agent_id);
                out.effects.push(Effect::Send(Up::AgentRecover(frame)));
            }
            None => {
                let why = format!(
                    "the engine does not have '{name}' on this node any more ({} {}), so the program that runs here is ended",
                    error.code, error.message
                );
                if self.disowned(now, &name, &why, out) {
                    self.announce(now, out);
                }
            }
        }
        true
    }

    /// Requests of a link that is gone get no answer; the next list shows whether they are still needed.
    pub(super) fn renewals_lost(&mut self) {
        for member in self.members.values_mut() {
            member.renewal = Renewal::default();
        }
    }

    // ---- the end ------------------------------------------------------------------------------------------------

    fn moved(&mut self, now: Now, name: &AgentName, out: &mut Out) -> bool {
        let why = format!(
            "the engine has '{name}' on another node, so the program that runs here is ended"
        );
        self.disowned(now, name, &why, out)
    }

    /// Ends an agent that is somebody else's. Nothing that it does here counts any more, so the engine hears nothing of its
    /// end, and what waits for it is the other's to read.
    fn disowned(&mut self, now: Now, name: &AgentName, why: &str, out: &mut Out) -> bool {
        let grace = self.facts.grace;
        let may = |m: &&mut Member| m.phase == Phase::Running && !m.moved;
        let Some(member) = self.members.get_mut(name).filter(may) else {
            return false;
        };
        member.moved = true;
        member.released = true;
        member.phase = Phase::Stopping;
        let order = AgentCommand::Stop { grace };
        out.effects
            .push(Effect::Agent(name.clone(), member.run, order));
        log::error!("{why}");
        self.emit_location_conflict(name, "agent_moved", why.to_owned(), out);
        let mail = self.ledger.mail().of(name).map(|p| &p.delivery);
        let theirs: Vec<DeliveryId> = mail
            .filter(|delivery| matches!(delivery.origin, Origin::Engine { .. }))
            .map(|delivery| delivery.id.clone())
            .collect();
        for id in theirs {
            let why = "the agent runs on another node now, which gets the message from the engine";
            self.bury(now, &id, why, out);
        }
        true
    }

    fn emit_location_conflict(
        &mut self,
        name: &AgentName,
        code: &str,
        message: String,
        out: &mut Out,
    ) {
        let error = NestedError {
            code: code.into(),
            message: message.clone(),
            retryable: false,
        };
        let event = BrokerEvent::WorkerError {
            name: name.clone(),
            code: error.code.clone(),
            message,
            error,
        };
        self.publish(event, out);
    }

    /// Who runs here, as the engine is told.
    pub(super) fn listed(&self) -> Vec<InventoryMember> {
        let ours = |m: &Member| m.is_live() && !m.moved && !m.renewal.is_under_way();
        let live = self.members.iter().filter(|(_, m)| ours(m));
        live.filter_map(|(name, m)| {
            Some(InventoryMember {
                agent_id: m.agent_id.clone()?,
                name: name.clone(),
                invocation_id: m.born_of.clone(),
                session_ref: m.session_ref(),
            })
        })
        .collect()
    }
}

/// An agent of that name is bound to this node under another identity, or none is.
fn code_by(bound: &[NodeAgent], member: &InventoryMember) -> Option<String> {
    let other = bound
        .iter()
        .any(|b| b.agent_name.as_deref() == Some(member.name.as_str()));
    other.then(|| OTHER_AGENT.to_owned())
}

impl Member {
    fn may_be_renewed(&self) -> bool {
        self.phase == Phase::Running && !self.moved && !self.renewal.is_under_way()
    }
}
