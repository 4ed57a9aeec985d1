//! The only place that changes durable state, live and on replay alike. A record about something that is gone changes
//! nothing: nothing here can fail. The parts stand for what they change: `residents` who and what there is, `talk` what is
//! said and received, `work` what is asked of nodes and agents.

mod residents;
mod talk;
mod work;

use super::directory::{Agent, Channel, State, Workspace};
use super::id::Id;
use super::record::EngineRecord;

impl State {
    /// Applies one fact. Names every kind of it, each beside the function that applies it, so that one that nobody applies
    /// does not compile: it would be lost on replay.
    pub fn apply(&mut self, record: &EngineRecord) {
        use EngineRecord as R;
        match record {
            R::Snapshot(state) => self.replace(state),
            R::WorkspaceCreated(fact) => self.create_workspace(fact),
            R::WorkspaceChanged(fact) => self.change_workspace(fact),
            R::WorkspaceDeleted { ws } => self.delete_workspace(*ws),
            R::TokenIssued { owner, hash } => self.issue(owner, hash),
            R::AgentRegistered { ws, agent } => self.register_agent(*ws, agent),
            R::AgentChanged(fact) => self.change_agent(fact),
            R::AgentDeleted { ws, agent } => self.delete_agent(*ws, *agent),
            R::AgentBound(fact) => self.bind_agent(fact),
            R::AgentUnbound { ws, agent } => self.unbind_agent(*ws, *agent),
            R::OriginSet { ws, agent, node } => self.set_origin(*ws, *agent, node),
            R::NodeCreated { ws, node } => self.create_node(*ws, node),
            R::NodeDescribed(fact) => self.describe_node(fact),
            R::ProviderRemoved { ws, node, provider } => self.remove_provider(*ws, node, provider),
            R::NodeDeleted { ws, node } => self.delete_node(*ws, node),
            R::ObserverSaved { ws, observer } => self.save_observer(*ws, observer),
            R::ChannelCreated { ws, channel } => self.create_channel(*ws, channel),
            R::ChannelChanged(fact) => self.change_channel(fact),
            R::Joined(fact) => self.join(fact),
            R::Left { ws, channel, agent } => self.leave(*ws, *channel, *agent),
            R::Muted(fact) => self.mute(fact),
            R::MessagePosted(fact) => self.post(fact),
            R::Reacted(fact) => self.react(fact),
            R::Unreacted(fact) => self.unreact(fact),
            R::Read(fact) => self.with(fact.ws, |w| w.read(fact.message, fact.agent, fact.at)),
            R::Acked(fact) => self.with(fact.ws, |w| w.ack(fact)),
            R::DeliveryClosed { ws, agent, seq } => self.with(*ws, |w| w.close(*agent, *seq)),
            R::Waited { ws, agent, ms } => self.with(*ws, |w| w.waited(*agent, *ms)),
            R::Expired { ws, at } => self.with(*ws, |w| w.expire(*at)),
            R::ActionDefined { ws, action } => self.define_action(*ws, action),
            R::ActionRemoved { ws, name } => self.remove_action(*ws, name),
            R::Invoked { ws, invocation } => self.invoke(*ws, invocation),
            R::Dispatched(fact) => self.dispatch(fact),
            R::Requeued { ws, invocation } => self.requeue(*ws, invocation),
            R::InvocationEnded(fact) => self.end_invocation(fact),
        }
    }

    fn replace(&mut self, by: &State) {
        *self = by.clone();
        self.reindex();
    }

    fn saw(&mut self, id: Id) {
        self.last_id = self.last_id.max(id);
    }

    fn with(&mut self, ws: Id, change: impl FnOnce(&mut Workspace)) {
        if let Some(w) = self.workspaces.get_mut(&ws) {
            change(w);
        }
    }

    fn agent(&mut self, ws: Id, agent: Id, change: impl FnOnce(&mut Agent)) {
        self.with(ws, |w| {
            if let Some(a) = w.agents.get_mut(&agent) {
                change(a);
            }
        });
    }

    fn channel(&mut self, ws: Id, channel: Id, change: impl FnOnce(&mut Channel)) {
        self.with(ws, |w| {
            if let Some(c) = w.channels.get_mut(&channel) {
                change(c);
            }
        });
    }
}

fn set<T: Clone>(field: &mut T, value: Option<&T>) {
    if let Some(value) = value {
        field.clone_from(value);
    }
}
