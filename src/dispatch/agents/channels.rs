//! Channels that an agent listens to: joined and left at the engine, and remembered for the agent's restarts.

use super::restart::remember;
use super::state::{AgentStep, Agents};
use crate::dispatch::questions::AgentQuestions;
use crate::dispatch::rest_jobs::{RestJob, sentence};
use crate::ids::{AgentName, check_channel};
use crate::msg::{Answer, ChannelRefusal, Refusal, RefusalKind, Reply, RestCall, RestDone};
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
        if listens {
            check_channels(channels)?;
        }
        let mut now = channels_of(&agent.request.channels);
        let is_so = |c: &String| now.contains(c) && !agent.unjoined.contains(c);
        let mut changed: Vec<String> = channels.iter().map(|c| plain(c)).collect();
        changed.retain(|c| !c.is_empty() && if listens { !is_so(c) } else { now.contains(c) });
        changed.sort();
        changed.dedup();
        now.retain(|c| !changed.contains(c));
        if listens {
            now.extend(changed.iter().cloned());
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
    pub(super) fn join_channels(&mut self, step: &mut AgentStep, name: &AgentName) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        agent.unjoined.clear();
        let mut channels = channels_of(&agent.request.channels);
        channels.retain(|c| c != "general");
        self.join(step, name, channels, false);
    }

    /// The engine listens again: what could not be joined is tried once more.
    pub(super) fn join_again(&mut self, step: &mut AgentStep) {
        let left = self.all.iter_mut().filter(|(_, a)| !a.unjoined.is_empty());
        let left: Vec<_> = left
            .map(|(name, agent)| (name.clone(), std::mem::take(&mut agent.unjoined)))
            .collect();
        for (name, channels) in left {
            self.join(step, &name, channels, true);
        }
    }

    /// Whether an agent can be in channels yet; one without an identity joins them when it has one.
    fn join(
        &self,
        step: &mut AgentStep,
        name: &AgentName,
        channels: Vec<String>,
        tell: bool,
    ) -> bool {
        let Some(token) = self.token(name) else {
            return false;
        };
        if !channels.is_empty() {
            let call = RestCall::Join {
                token,
                channels: channels.clone(),
            };
            let name = name.clone();
            step.rest_job(
                call,
                RestJob::Join {
                    name,
                    channels,
                    tell,
                },
            );
        }
        true
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
        agent.unjoined.retain(|c| !changed.contains(c));
        let (request, token) = (agent.request.clone(), agent.token.clone());
        // One that is still being started is remembered, and joins, when its program runs.
        let lives = step.ledger().lives().get(name).is_some();
        if lives {
            remember(step, name, &request);
        }
        if listens && lives && self.join(step, name, changed.clone(), true) {
            // It is told once the engine has let it in.
            return;
        }
        if !listens {
            self.tell_hasty(step, name, &changed);
        }
        if let Some(token) = token.filter(|_| lives) {
            let channels = changed.clone();
            let call = RestCall::Leave { token, channels };
            step.rest_job(call, RestJob::Leave(name.clone()));
        }
        tell(step, name, changed, listens, None);
    }

    /// What is unsubscribed before the engine has let the agent in was subscribed all the same, and comes first.
    fn tell_hasty(&self, step: &mut AgentStep, name: &AgentName, left: &[String]) {
        let joins = |channel: &String| {
            step.awaits(|job| {
                matches!(job, RestJob::Join { name: n, channels, tell: true }
                    if n == name && channels.contains(channel))
            })
        };
        let hasty: Vec<String> = left.iter().filter(|c| joins(c)).cloned().collect();
        if !hasty.is_empty() {
            tell(step, name, hasty, true, None);
        }
    }

    /// The engine let an agent into its channels, or into some of them. One that it can never be in leaves the list.
    pub(in crate::dispatch) fn channels_joined(
        &mut self,
        step: &mut AgentStep,
        name: &AgentName,
        mut asked: Vec<String>,
        tells: bool,
        done: RestDone,
    ) {
        let Some(agent) = self.all.get_mut(name) else {
            return;
        };
        let wanted = channels_of(&agent.request.channels);
        let refused = refusals(&asked, done);
        asked.retain(|c| wanted.contains(c) && refused.iter().all(|r| r.channel != *c));
        let (never, later): (Vec<_>, Vec<_>) = refused
            .into_iter()
            .filter(|r| wanted.contains(&r.channel))
            .partition(|r| r.for_good);
        for ChannelRefusal { channel, why, .. } in never.iter().chain(&later) {
            log::warn!(event = "channel_not_joined", agent:% = name; "{name} is not in the channel {channel:?}: {why}");
        }
        agent.unjoined.retain(|c| !asked.contains(c));
        agent.unjoined.extend(later.into_iter().map(|r| r.channel));
        if tells && !asked.is_empty() {
            tell(step, name, asked, true, None);
        }
        self.never_in(step, name, never);
    }

    fn never_in(&mut self, step: &mut AgentStep, name: &AgentName, never: Vec<ChannelRefusal>) {
        let Some(agent) = self.all.get_mut(name).filter(|_| !never.is_empty()) else {
            return;
        };
        let channels = &mut agent.request.channels;
        channels.retain(|c| never.iter().all(|r| r.channel != plain(c)));
        let request = agent.request.clone();
        if step.ledger().lives().get(name).is_some() {
            remember(step, name, &request);
        }
        for ChannelRefusal { channel, why, .. } in never {
            tell(step, name, vec![channel], false, Some(why));
        }
    }
}

/// Those that could not be joined, of a call that may have come to nothing at all.
fn refusals(asked: &[String], done: RestDone) -> Vec<ChannelRefusal> {
    match done {
        RestDone::Joined(refused) => refused,
        other => asked
            .iter()
            .map(|channel| ChannelRefusal {
                channel: channel.clone(),
                why: sentence(&other),
                for_good: false,
            })
            .collect(),
    }
}

fn tell(
    step: &mut AgentStep,
    name: &AgentName,
    channels: Vec<String>,
    listens: bool,
    reason: Option<String>,
) {
    let name = name.clone();
    step.publish(match listens {
        true => BrokerEvent::ChannelSubscribed { name, channels },
        false => BrokerEvent::ChannelUnsubscribed {
            name,
            channels,
            reason,
        },
    });
}

/// The call by which an agent leaves channels at the engine has ended.
pub(in crate::dispatch) fn channels_left(name: &AgentName, done: &RestDone) {
    if *done != RestDone::Left {
        log::warn!(event = "channels_unchanged", agent:% = name; "{name} could not leave channels at the engine: {}", sentence(done));
    }
}

/// Refuses names that no engine takes for a channel's.
pub(super) fn check_channels(asked: &[String]) -> Result<(), Refusal> {
    let mut named = asked.iter().filter(|c| !plain(c).is_empty());
    named
        .try_for_each(|c| check_channel(c).map(drop))
        .map_err(|why| Refusal::new(RefusalKind::Invalid, why))
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
