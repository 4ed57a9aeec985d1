//! Agents that run here although the engine says otherwise. It gives an open spawn to somebody else as soon as a link is
//! lost ([engine-protocol 5.3](crate::docs::engine_protocol#5.3)), and both programs go on; or the name is another agent's by
//! now. Whoever lists such an agent is told so ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)): one that runs on
//! another node is ended here, because it would hear of nothing and two would do the work of one; one whose identity the
//! engine does not know is registered anew, and ended when that is refused.

use serde_json::Value;

use super::link::ANSWER_WITHIN;
use super::state::{Control, ControlStep};
use crate::dispatch::notice::{Notice, Refused};
use crate::dispatch::rest_jobs::RestJob;
use crate::ids::AgentName;
use crate::msg::{RestCall, RestDone};
use crate::wire::down::ErrorFrame;
use crate::wire::rest::NodeAgent;
use crate::wire::up::{InventoryMember, InventorySync, Up};

/// What engines that give no reason for a thing say.
const NO_CODE: &str = "node_control_failed";
/// How often in a row all agents are listed one by one.
const SEARCHES: u8 = 3;

/// A location conflict is told with a code of its own, by a hosted variant only in words
/// ([engine-protocol 3.10](crate::docs::engine_protocol#3.10)).
pub(super) fn recognised(mut error: ErrorFrame) -> ErrorFrame {
    let words = error.message.to_lowercase();
    if error.code == NO_CODE && words.contains("active") && words.contains("another") {
        error.code = Refused::ELSEWHERE.into();
    }
    error
}

fn is_about_a_member(code: &str) -> bool {
    matches!(
        code,
        Refused::ELSEWHERE | Refused::OTHER_PROVIDER | Refused::OTHER_AGENT
    )
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

impl Control {
    // ---- answers to lists ---------------------------------------------------------------------------------------

    pub(super) fn list_answered(&mut self, step: &mut ControlStep, id: &str, answer: &Value) {
        let single = self.link.lists.single.remove(id);
        let is_whole = self.link.lists.whole.as_deref() == Some(id);
        if is_whole {
            self.link.lists.whole = None;
        }
        if is_whole || single.is_some() {
            self.lists_answered(step, answer);
        }
        if let Some(name) = single {
            let code = match rejected(answer) {
                Rejected::None => return self.singles_answered(step),
                Rejected::Number => None,
                Rejected::Some(some) => some.into_iter().find_map(|refused| refused.code),
            };
            self.link.lists.refused.push(Refused { name, code });
            return self.singles_answered(step);
        }
        if !is_whole {
            return;
        }
        match rejected(answer) {
            Rejected::None if !self.link.lists.passed_over(answer) => self.link.lists.searches = 0,
            Rejected::Some(some) => dispute(step, some),
            number @ (Rejected::Number | Rejected::None) => {
                let node_name = self.node_name.clone();
                let job = RestJob::Bound {
                    asked: step.peers.agents.listed(),
                    told: matches!(number, Rejected::Number),
                };
                step.rest_job(RestCall::Bound { node_name }, job);
            }
        }
    }

    /// The orders that came meanwhile have waited for that.
    fn lists_answered(&mut self, step: &mut ControlStep, answer: &Value) {
        if let Some(moved) = self.link.lists.answered(answer) {
            step.notice(Notice::ListsAnswered { moved });
        }
    }

    /// Who is bound to this node, as the engine has it: the others of a list are those that it did not take.
    pub(in crate::dispatch) fn bound_listed(
        &mut self,
        step: &mut ControlStep,
        asked: &[InventoryMember],
        told: bool,
        done: RestDone,
    ) {
        let RestDone::Bound(bound) = done else {
            log::warn!("the engine does not say which agents it refused; asking for each");
            return self.list_one_by_one(step);
        };
        let is_bound = |m: &InventoryMember| bound.iter().any(|b| b.agent_id == m.agent_id);
        let refused = asked.iter().filter(|m| !is_bound(m)).map(|m| Refused {
            name: m.name.clone(),
            code: code_by(&bound, m),
        });
        let refused: Vec<Refused> = refused.collect();
        if refused.is_empty() && told {
            // The one that it means is bound to this node, but to another provider of it.
            return self.list_one_by_one(step);
        }
        if refused.is_empty() {
            log::info!(
                "the engine took fewer agents than were listed, and has all of them on this node"
            );
            self.link.lists.miscounts = true;
        }
        dispute(step, refused);
    }

    /// Older engines refuse a list as a whole; most name the agent for whose sake. Says whether the error was about a list.
    pub(super) fn list_refused(&mut self, step: &mut ControlStep, error: &ErrorFrame) -> bool {
        let about = is_about_a_member(&error.code);
        let is_whole = self.link.lists.whole.as_deref() == Some(&error.id);
        if is_whole {
            self.link.lists.whole = None;
            // One that is refused as a whole gives nothing away.
            self.lists_answered(step, &Value::Null);
        }
        if let Some(name) = self.link.lists.single.remove(&error.id) {
            self.lists_answered(step, &Value::Null);
            if about {
                let code = Some(error.code.clone());
                self.link.lists.refused.push(Refused { name, code });
            }
            self.singles_answered(step);
            return true;
        }
        if !about || !is_whole {
            return false;
        }
        match named(&error.message, &step.peers.agents.listed()) {
            Some(name) => {
                let (name, code) = (name.clone(), Some(error.code.clone()));
                // Nobody of the refused list counts as running; perhaps one more of it is refused.
                dispute(step, vec![Refused { name, code }]);
            }
            None => self.list_one_by_one(step),
        }
        true
    }

    fn list_one_by_one(&mut self, step: &mut ControlStep) {
        self.link.lists.searches += 1;
        if self.link.lists.searches > SEARCHES {
            log::warn!("the engine refuses the list of agents, and none of them alone");
            return;
        }
        for member in step.peers.agents.listed() {
            let id = step.request_id("inventory");
            let name = member.name.clone();
            self.link.lists.single.insert(id.clone(), name);
            self.link.lists.awaited_until = Some(step.now.mono + ANSWER_WITHIN);
            step.send(Up::InventorySync(InventorySync {
                id: Some(id),
                agents: vec![member],
            }));
        }
    }

    fn singles_answered(&mut self, step: &mut ControlStep) {
        if !self.link.lists.single.is_empty() {
            return;
        }
        let refused = std::mem::take(&mut self.link.lists.refused);
        // Each list of one took all others for gone.
        let list_again = true;
        step.notice(Notice::Disputed {
            refused,
            list_again,
        });
    }
}

fn dispute(step: &mut ControlStep, refused: Vec<Refused>) {
    step.notice(Notice::Disputed {
        refused,
        list_again: false,
    });
}

/// An agent of that name is bound to this node under another identity, or none is.
fn code_by(bound: &[NodeAgent], member: &InventoryMember) -> Option<String> {
    let other = bound
        .iter()
        .any(|b| b.agent_name.as_deref() == Some(member.name.as_str()));
    other.then(|| Refused::OTHER_AGENT.to_owned())
}
