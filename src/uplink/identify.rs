//! An agent's identity over HTTP, for when the link cannot give it: registered, or taken over from whoever bears the name
//! as the engine's age allows ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)), and bound to this node. Blocking, on
//! a REST thread.

use serde_json::{Value, json};

use super::rest::{CallError, RestClient, With};
use crate::ids::{AgentId, AgentName, NodeId, Seq};
use crate::msg::{Identified, Secret, Wanted};
use crate::net::http::encode;
use crate::wire::rest::{AgentFacts, BoundAgent, RegisteredAgent, RestError, RetakenAgent};

/// How an identity was come by.
struct Taken {
    agent_id: AgentId,
    token: Secret,
    /// The agent did not exist before.
    created: bool,
}

impl RestClient {
    /// An identity, bound to this node. Without its place here an identity is of no use: one that was made for nothing is
    /// taken back.
    ///
    /// # Errors
    /// As any call; `agent_location_conflict` for an agent that runs on another node.
    pub(super) fn identify(&self, wanted: &Wanted) -> Result<Identified, CallError> {
        let name = wanted.name.as_str();
        let taken = match &wanted.token {
            Some(token) => self.bearer_of(token, wanted)?,
            None => self.take(name, wanted)?,
        };
        let path = format!("/v1/nodes/{}/agents", encode(&wanted.node_name));
        let mut body = json!({ "agent_name": name, "priority": 0 });
        if let Some(session) = &wanted.session_ref {
            body["session_ref"] = session.as_str().into();
        }
        match self.call::<BoundAgent>("POST", &path, self.as_workspace(), Some(&body)) {
            Ok(bound) => Ok(Identified {
                agent_id: taken.agent_id,
                token: taken.token,
                acked: bound.delivery_ack_seq.map(Seq),
            }),
            Err(e) => {
                if taken.created {
                    self.take_back(name);
                }
                Err(e)
            }
        }
    }

    fn take(&self, name: &str, wanted: &Wanted) -> Result<Taken, CallError> {
        let made = if wanted.exists {
            None
        } else {
            self.create_agent(name, "agent")?
        };
        made.map_or_else(|| self.retake(name, Some(wanted)), Ok)
    }

    /// The agent that a given token acts as. Registering it again would kill that token
    /// ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
    fn bearer_of(&self, token: &Secret, wanted: &Wanted) -> Result<Taken, CallError> {
        let with = With::bearer(token);
        let facts: AgentFacts = self.call("GET", "/v1/agent", with, None::<&()>)?;
        if let Some(other) = facts.name.filter(|name| name != wanted.name.as_str()) {
            return Err(CallError::Refused {
                status: 409,
                error: RestError {
                    code: "agent_identity_mismatch".into(),
                    message: format!("the token that was given belongs to agent {other}"),
                },
            });
        }
        Ok(Taken {
            agent_id: facts.id,
            token: token.clone(),
            created: false,
        })
    }

    /// The token of the broker's own agent, its voice for what comes from no agent.
    ///
    /// # Errors
    /// As any call.
    pub(super) fn voice(&self, name: &str) -> Result<Secret, CallError> {
        let made = self.create_agent(name, "human")?;
        match made {
            Some(taken) => Ok(taken.token),
            None => self.retake(name, None).map(|taken| taken.token),
        }
    }

    /// Registers agents without a place, so that others can write to them before they run.
    ///
    /// # Errors
    /// As any call; what was registered before it stays.
    pub(super) fn reserve(&self, names: &[AgentName]) -> Result<(), CallError> {
        for name in names {
            self.create_agent(name.as_str(), "agent")?;
        }
        Ok(())
    }

    /// A token for somebody who only looks: at what is streamed, said and who is there
    /// ([engine-protocol 2.8](crate::docs::engine_protocol#2.8)).
    ///
    /// # Errors
    /// As any call.
    pub(super) fn observer(&self, name: &str) -> Result<serde_json::Value, CallError> {
        let scopes = [
            "stream:read",
            "messages:read",
            "threads:read",
            "channels:read",
            "agents:read",
            "nodes:read",
            "deliveries:read",
        ];
        let body = json!({ "name": name, "scopes": scopes });
        self.call(
            "POST",
            "/v1/observer-tokens",
            self.as_workspace(),
            Some(&body),
        )
    }

    /// `None` when the name is taken.
    fn create_agent(&self, name: &str, kind: &str) -> Result<Option<Taken>, CallError> {
        let body = json!({ "name": name, "type": kind });
        let made = self.call("POST", "/v1/agents", self.as_workspace(), Some(&body));
        let agent: RegisteredAgent = match made {
            Err(CallError::Refused { status: 409, .. }) => return Ok(None),
            made => made?,
        };
        let agent_id = match agent.id {
            Some(id) => id,
            None => self.facts(name)?.id,
        };
        Ok(Some(Taken {
            agent_id,
            token: Secret::new(agent.token),
            created: true,
        }))
    }

    pub(super) fn facts(&self, name: &str) -> Result<AgentFacts, CallError> {
        let path = format!("/v1/agents/{}", encode(name));
        self.call("GET", &path, self.as_workspace(), None::<&()>)
    }

    /// Whether the engine has the agent bound to this node, whatever it says of where the agent was born.
    fn is_ours(&self, agent_id: &AgentId, wanted: &Wanted) -> Result<bool, CallError> {
        let path = format!("/v1/nodes/{}/agents", encode(&wanted.node_name));
        let bound: Vec<BoundAgent> = self.call("GET", &path, self.as_workspace(), None::<&()>)?;
        Ok(bound.iter().any(|b| b.agent_id.as_ref() == Some(agent_id)))
    }

    /// The identity of a name, if this node had it (`known`), registered it last, or has it bound. A registration on the link
    /// leaves the node's id with the agent (`registerAgentViaNode` in the engine's `node.ts` at 01db911 and d0ed8bc), so one
    /// whose answer was lost is told from a person's client of that name and from another node's agent.
    ///
    /// # Errors
    /// As any call.
    pub(super) fn find_ours(
        &self,
        wanted: &Wanted,
        known: Option<&AgentId>,
    ) -> Result<Option<AgentId>, CallError> {
        let facts = match self.facts(wanted.name.as_str()) {
            Err(e) if e.code() == "agent_not_found" => return Ok(None),
            facts => facts?,
        };
        let ours = known == Some(&facts.id)
            || registered_by(&facts) == Some(wanted.node_id.as_str())
            || self.is_ours(&facts.id, wanted)?;
        Ok(ours.then_some(facts.id))
    }

    /// An existing agent's identity: takeover where the engine has it (from 8.2), else a new token for it. What `wanted`
    /// says is for agents of this node; one that runs on another node is left alone. A takeover wants all of its keys, and
    /// does not make the agent this node's own: only being bound here does
    /// ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
    fn retake(&self, name: &str, wanted: Option<&Wanted>) -> Result<Taken, CallError> {
        self.retake_known(self.facts(name)?, name, wanted)
    }

    fn retake_known(
        &self,
        facts: AgentFacts,
        name: &str,
        wanted: Option<&Wanted>,
    ) -> Result<Taken, CallError> {
        if let Some(wanted) = wanted
            && let Some(node) = elsewhere(&facts, &wanted.node_id)
            && !self.is_ours(&facts.id, wanted).unwrap_or(false)
        {
            return Err(CallError::Refused {
                status: 409,
                error: RestError {
                    code: "agent_location_conflict".into(),
                    message: format!("the agent runs on node {node}"),
                },
            });
        }
        let call = |what: &str, body: &Value| {
            let path = format!("/v1/agents/{}/{what}", encode(name));
            self.call::<RetakenAgent>("POST", &path, self.as_workspace(), Some(body))
        };
        let actor = wanted.map_or(name, |wanted| wanted.node_name.as_str());
        let session = wanted.and_then(|wanted| wanted.session_ref.as_deref());
        let body = json!({
            "expected_agent_id": facts.id,
            "actor": format!("broker:{actor}"),
            "reason": "restart",
            "node_id": wanted.map_or(actor, |wanted| wanted.node_id.as_str()),
            "session_ref": session.unwrap_or(name),
        });
        let retaken = match call("takeover", &body) {
            Err(e) if is_no_such_route(&e) => call("rotate-token", &json!({}))?,
            taken => taken?,
        };
        Ok(Taken {
            agent_id: retaken.agent_id.unwrap_or(facts.id),
            token: Secret::new(retaken.token),
            created: false,
        })
    }

    /// The token of an agent that this node had, and no other one of its name; `None` when there is none any more, or it
    /// lives on another node.
    ///
    /// # Errors
    /// As any call.
    pub(super) fn token_of(
        &self,
        wanted: &Wanted,
        agent_id: &AgentId,
    ) -> Result<Option<Secret>, CallError> {
        if let Some(token) = &wanted.token {
            return Ok(Some(token.clone()));
        }
        let name = wanted.name.as_str();
        let facts = match self.facts(name) {
            Err(e) if e.code() == "agent_not_found" => return Ok(None),
            facts => facts?,
        };
        if facts.id != *agent_id {
            return Ok(None);
        }
        match self.retake_known(facts, name, Some(wanted)) {
            Err(e) if e.code() == "agent_location_conflict" => Ok(None),
            taken => taken.map(|taken| Some(taken.token)),
        }
    }

    /// Deletes an agent that was made by its last registration. One that was there before that stays: engines before 8.2
    /// give an existing agent too ([engine-protocol 3.4](crate::docs::engine_protocol#3.4)).
    ///
    /// # Errors
    /// As any call.
    pub(super) fn forget(&self, name: &str, agent_id: &AgentId) -> Result<(), CallError> {
        let facts = self.facts(name)?;
        if facts.id == *agent_id && was_made_for_this(&facts) {
            let path = format!("/v1/agents/{}", encode(name));
            self.call::<Value>("DELETE", &path, self.as_workspace(), None::<&()>)?;
        }
        Ok(())
    }

    fn take_back(&self, name: &str) {
        let path = format!("/v1/agents/{}", encode(name));
        let gone: Result<Value, _> = self.call("DELETE", &path, self.as_workspace(), None::<&()>);
        if let Err(e) = gone {
            log::warn!("agent {name} was registered for nothing and stays at the engine: {e}");
        }
    }
}

/// Its registration on a node made it: both happened in the same second of the engine's clock.
fn was_made_for_this(facts: &AgentFacts) -> bool {
    let second = |text: &str| text.get(..19).map(str::to_owned);
    let registered = facts.metadata.pointer("/fleet/registered_at");
    let registered = registered.and_then(Value::as_str).and_then(second);
    let created = facts.created_at.as_deref().and_then(second);
    created.is_some() && created == registered
}

/// A 404 that is not about the agent is about the route ([engine-protocol 2.3](crate::docs::engine_protocol#2.3)).
fn is_no_such_route(error: &CallError) -> bool {
    matches!(error.status(), Some(404 | 405)) && error.code() != "agent_not_found"
}

/// The node that registered this agent last.
fn registered_by(facts: &AgentFacts) -> Option<&str> {
    facts.metadata.pointer("/fleet/node_id")?.as_str()
}

/// The other node that this agent runs on, as far as the engine says.
fn elsewhere<'a>(facts: &'a AgentFacts, ours: &NodeId) -> Option<&'a str> {
    let away = matches!(facts.status.as_deref(), None | Some("offline" | "released"));
    let node = registered_by(facts)?;
    (!away && node != ours.as_str()).then_some(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(status: &str, node: &str) -> AgentFacts {
        AgentFacts {
            id: AgentId::new("2001"),
            name: None,
            created_at: None,
            status: Some(status.into()),
            metadata: json!({"fleet": {"node_id": node}}),
        }
    }

    #[test]
    fn an_agent_that_is_there_on_another_node_is_elsewhere_and_all_others_may_be_taken_over() {
        let ours = NodeId::new("node_a");
        assert_eq!(elsewhere(&facts("active", "node_b"), &ours), Some("node_b"));
        for (status, node) in [
            ("offline", "node_b"),
            ("released", "node_b"),
            ("idle", "node_a"),
        ] {
            assert_eq!(
                elsewhere(&facts(status, node), &ours),
                None,
                "{status} {node}"
            );
        }
        let bare = AgentFacts {
            metadata: Value::Null,
            ..facts("active", "")
        };
        assert_eq!(elsewhere(&bare, &ours), None, "a person's own client");
    }

    #[test]
    fn an_agent_that_was_there_before_its_registration_is_not_deleted_after_it() {
        let at = |created: &str, registered: &str| AgentFacts {
            created_at: Some(created.into()),
            metadata: json!({"fleet": {"node_id": "node_a", "registered_at": registered}}),
            ..facts("offline", "node_a")
        };
        let (early, late) = ("2026-06-28T10:00:02.010Z", "2026-06-28T10:00:02.310Z");
        assert!(was_made_for_this(&at(early, late)));
        assert!(!was_made_for_this(&at("2026-06-27T10:00:02.010Z", late)));
        assert!(
            !was_made_for_this(&facts("offline", "node_a")),
            "nobody knows"
        );
    }

    #[test]
    fn a_404_about_the_agent_is_told_from_one_about_the_route() {
        let refused = |status, code: &str| CallError::Refused {
            status,
            error: RestError {
                code: code.into(),
                message: String::new(),
            },
        };
        assert!(is_no_such_route(&refused(404, "not_found")));
        assert!(is_no_such_route(&refused(404, "")));
        assert!(!is_no_such_route(&refused(404, "agent_not_found")));
        assert!(!is_no_such_route(&refused(409, "agent_identity_conflict")));
    }
}
