//! Mail that the engine has for an agent that was released: listed with the agent's own token, and closed row by row. The
//! link cannot do it: who is deregistered is sent nothing, and its acknowledgements are passed over
//! ([engine-protocol 2.6](crate::docs::engine_protocol#2.6)). Blocking, on a REST thread.

use serde_json::{Value, json};

use super::rest::{CallError, RestClient, With};
use crate::ids::{AgentId, AgentName, DeliveryId};
use crate::msg::{RestDone, Secret, Wanted};
use crate::net::http::encode;
use crate::wire::rest::{ChannelFacts, LEFTOVERS_PAGE, LeftoverRow, WaitingRow};

impl RestClient {
    /// Engines of other makes have no such list, and keep such mail where nobody can look.
    pub(super) fn waiting(&self, agent: &AgentName) -> Result<Vec<WaitingRow>, CallError> {
        self.get(&format!(
            "/v1/deliveries/waiting?agent={}",
            encode(agent.as_str())
        ))
    }

    /// The oldest rows of an agent that this node had.
    ///
    /// # Errors
    /// As any call.
    pub(super) fn leftovers(
        &self,
        wanted: &Wanted,
        agent_id: &AgentId,
    ) -> Result<RestDone, CallError> {
        let Some(token) = self.token_of(wanted, agent_id)? else {
            return Ok(RestDone::NobodysMail);
        };
        let path = format!("/v1/deliveries?limit={LEFTOVERS_PAGE}");
        let mut rows: Vec<LeftoverRow> =
            self.call("GET", &path, With::bearer(&token), None::<&()>)?;
        self.name_channels(&mut rows);
        Ok(RestDone::Leftovers(token, rows))
    }

    /// Rows name their channels by ids alone. Where the names cannot be had, the ids stay.
    fn name_channels(&self, rows: &mut [LeftoverRow]) {
        if rows.iter().all(LeftoverRow::is_direct) {
            return;
        }
        let listed: Result<Vec<ChannelFacts>, _> =
            self.call("GET", "/v1/channels", self.as_workspace(), None::<&()>);
        let channels = listed.unwrap_or_default();
        for row in rows.iter_mut().filter(|row| !row.is_direct()) {
            let id = row.channel_id.as_deref();
            let known = channels
                .iter()
                .find(|channel| id == Some(channel.id.as_str()));
            if let Some(channel) = known {
                row.channel_id = Some(channel.name.clone());
            }
        }
    }

    /// Says that these are done.
    ///
    /// # Errors
    /// As any call, at the first that the engine does not take.
    pub(super) fn close(&self, token: &Secret, ids: &[DeliveryId]) -> Result<(), CallError> {
        for id in ids {
            let path = format!("/v1/deliveries/{}/ack", encode(id.as_str()));
            match self.call::<Value>("POST", &path, With::bearer(token), Some(&json!({}))) {
                Err(e) if e.code() == "delivery_not_found" => {}
                closed => drop(closed?),
            }
        }
        Ok(())
    }
}
