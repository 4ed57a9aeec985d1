//! Channels that an agent listens to: joined and left at the engine, and remembered for the agent's restarts.

use super::restart::remember;
use super::state::{AgentStep, Agents};
use crate::dispatch::questions::AgentQuestions;
use crate::dispatch::rest_jobs::RestJob;
use crate::ids::AgentName;
use crate::msg::{Answer, Refusal, RefusalKind, Reply, RestCall, RestDone};
use crate::wire::event::BrokerEvent;
use crate::wire::local;

impl Agents {
    /// Has an agent listen to further channels, or to some no longer. What is so already changes nothing
    /// ([local-api 2.4](crate::docs::local_api#2.4)).
    pub(in crate::dispatch) fn change_channels(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        channels: &[String],
        listens: bool,
    ) -> Answer {
        let Some(agent) = self.all.get(name) else {
            return Err(self.unknown(name));
        };
        let mut now = channels_of(&agent.request.channels);
        let before = now.clone();
        let mut changed: Vec<String> = channels.iter().map(|c| plain(c)).collect();
        changed.retain(|c| !c.is_empty() && before.contains(c) != listens);
        changed.sort();
        changed.dedup();
        match listens {
            true => now.extend(changed.iter().cloned()),
            false => now.retain(|c| !changed.contains(c)),
        }
        if now.is_empty() {
            let text = format!(
                "'{name}' listens to no channel but these; subscribe it to another one first"
            );
            return Err(Refusal::new(RefusalKind::Invalid, text));
        }
        if !changed.is_empty() {
            self.channels_changed(step, name, now.clone(), changed, listens);
        }
        Ok(Reply::Channels(local::ChannelsChanged {
            name: name.clone(),
            channels: now,
        }))
    }

    /// A program runs: its agent joins the channels that were asked for, but the one that all are in.
    pub(super) fn join_channels(&self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get(name) else {
            return;
        };
        let asked = agent.request.channels.iter();
        let extra = asked.filter(|c| c.trim_start_matches('#') != "general");
        let channels: Vec<String> = extra.cloned().collect();
        if let (Some(token), false) = (agent.token.clone(), channels.is_empty()) {
            let call = RestCall::Join { token, channels };
            step.rest_job(call, RestJob::Channels(name.clone()));
        }
    }

    fn channels_changed(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        now: Vec<String>,
        changed: Vec<String>,
        listens: bool,
    ) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        agent.request.channels = now;
        let (request, token) = (agent.request.clone(), agent.token.clone());
        // One that is still being started is remembered, and joins, when its program runs.
        if step.ledger().lives().get(name).is_some() {
            remember(step, name, &request);
            if let Some(token) = token {
                let channels = changed.clone();
                let call = match listens {
                    true => RestCall::Join { token, channels },
                    false => RestCall::Leave { token, channels },
                };
                step.rest_job(call, RestJob::Channels(name.clone()));
            }
        }
        let (name, channels) = (name.clone(), changed);
        let event = match listens {
            true => BrokerEvent::ChannelSubscribed { name, channels },
            false => BrokerEvent::ChannelUnsubscribed { name, channels },
        };
        step.publish(event);
    }
}

/// The call that an agent's change of channels at the engine has come to.
pub(in crate::dispatch) fn channels_done(name: &AgentName, done: &RestDone) {
    if !matches!(done, RestDone::Joined | RestDone::Left) {
        log::warn!(event = "channels_unchanged", agent:% = name; "{name} could not change its channels at the engine: {done:?}");
    }
}

/// The channels that a spawn asked for, by their plain names.
pub(super) fn channels_of(asked: &[String]) -> Vec<String> {
    let mut asked: Vec<String> = asked.iter().map(|c| plain(c)).collect();
    asked.retain(|c| !c.is_empty());
    if asked.is_empty() {
        asked.push("general".into());
    }
    asked
}

fn plain(channel: &str) -> String {
    channel.trim().trim_start_matches('#').to_owned()
}
