//! The dispatcher's calls to the engine, as the REST threads make them: those by which a release clears what the engine has.
//! Each is made at one instant, between the two ways over the network.

use relay_broker::ids::{AgentId, DeliveryId, JobId};
use relay_broker::msg::{Event, RestCall, RestDone, Secret, Wanted};
use relay_broker::wire::rest::LEFTOVERS_PAGE;
use serde_json::{Value, json};

use crate::peer::{KEY, http};
use crate::world::{MS, What, World, tell};

impl World {
    pub fn rest_arrives(&mut self, life: u64, id: JobId, call: Box<RestCall>) {
        if self.engine_listens() == Some(false) {
            return self.at(MS, What::Rest(life, id, call));
        }
        let done = match *call {
            RestCall::Leftovers { wanted, agent_id } => self.leftovers(&wanted, &agent_id),
            RestCall::Find { wanted, known } => self.find_ours(&wanted, known.as_ref()),
            RestCall::Close { token, ids } => self.close_rows(&token, &ids),
            _ => None,
        };
        let done = done.unwrap_or_else(|| RestDone::Failed {
            status: None,
            code: "unreachable".into(),
            message: "nobody answers".into(),
        });
        let after = self.latency();
        self.at(after, What::RestDone(life, id, done));
    }

    pub fn rest_done(&mut self, life: u64, id: JobId, done: RestDone) {
        if self.broker.as_ref().is_some_and(|b| b.life == life) {
            self.tell_broker(Event::RestJob(id, done));
        }
    }

    fn find_ours(&mut self, wanted: &Wanted, known: Option<&AgentId>) -> Option<RestDone> {
        let facts = self.ask("GET", &format!("/v1/agents/{}", wanted.name), KEY)?;
        let bearer = facts["data"]["id"].as_str().map(AgentId::new);
        let by = facts["data"]["metadata"]["fleet"]["node_id"].as_str();
        let ours = bearer.as_ref() == known || by == Some(wanted.node_id.as_str());
        tell!(
            self,
            "{} is borne by {bearer:?} (ours: {ours})",
            wanted.name
        );
        Some(RestDone::Found(bearer.filter(|_| ours)))
    }

    fn leftovers(&mut self, wanted: &Wanted, agent_id: &AgentId) -> Option<RestDone> {
        let name = &wanted.name;
        let token = match &wanted.token {
            Some(token) => token.clone(),
            None => {
                let path = format!("/v1/agents/{name}");
                let facts = self.ask("GET", &path, KEY)?;
                if facts["data"]["id"] != agent_id.as_str() {
                    return Some(RestDone::NobodysMail);
                }
                let taken = self.ask("POST", &format!("{path}/rotate-token"), KEY)?;
                Secret::new(taken["data"]["token"].as_str()?)
            }
        };
        let mut call = http("GET", "/v1/deliveries", token.reveal(), None, json!({}));
        call.query
            .push(("limit".into(), LEFTOVERS_PAGE.to_string()));
        let listed = self.engine_at_once(call);
        let rows = serde_json::from_value(listed["data"].clone()).ok()?;
        tell!(self, "the engine has for {name}: {}", listed["data"]);
        Some(RestDone::Leftovers(token, rows))
    }

    fn close_rows(&mut self, token: &Secret, ids: &[DeliveryId]) -> Option<RestDone> {
        for id in ids {
            let closed = self.ask("POST", &format!("/v1/deliveries/{id}/ack"), token.reveal())?;
            if closed["error"]["code"] != "delivery_not_found" {
                closed.get("data")?;
            }
            tell!(self, "{id} is closed");
            self.laws.closed(id);
        }
        Some(RestDone::Closed)
    }

    /// `None` when nothing answers.
    fn ask(&mut self, method: &str, path: &str, bearer: &str) -> Option<Value> {
        let answer = self.engine_at_once(http(method, path, bearer, None, json!({})));
        (!answer.is_null()).then_some(answer)
    }
}
