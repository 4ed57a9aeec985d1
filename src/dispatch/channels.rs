//! Channels that an agent listens to: joined and left at the engine, and remembered for the agent's restarts.

use super::calls::RestJob;
use super::{Dispatcher, Out};
use crate::ids::AgentName;
use crate::msg::{Answer, Refusal, RefusalKind, Reply, RestCall};
use crate::wire::event::BrokerEvent;
use crate::wire::local;

impl Dispatcher {
    /// Has an agent listen to further channels, or to some no longer. What is so already changes nothing
    /// ([local-api 2.4](crate::docs::local_api#2.4)).
    pub(super) fn change_channels(
        &mut self,
        name: &AgentName,
        channels: &[String],
        listens: bool,
        out: &mut Out,
    ) -> Answer {
        let Some(member) = self.members.get(name) else {
            return Err(self.unknown(name));
        };
        let mut now = channels_of(&member.request.channels);
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
            self.channels_changed(name, now.clone(), changed, listens, out);
        }
        Ok(Reply::Channels(local::ChannelsChanged {
            name: name.clone(),
            channels: now,
        }))
    }

    fn channels_changed(
        &mut self,
        name: &AgentName,
        now: Vec<String>,
        changed: Vec<String>,
        listens: bool,
        out: &mut Out,
    ) {
        let Some(member) = self.members.get_mut(name) else {
            return;
        };
        member.request.channels = now;
        let (request, token) = (member.request.clone(), member.token.clone());
        // One that is still being started is remembered, and joins, when its program runs.
        if self.ledger.lives().get(name).is_some() {
            self.remember(name, &request, out);
            if let Some(token) = token {
                let channels = changed.clone();
                let call = match listens {
                    true => RestCall::Join { token, channels },
                    false => RestCall::Leave { token, channels },
                };
                self.rest_job(call, RestJob::Channels(name.clone()), out);
            }
        }
        let (name, channels) = (name.clone(), changed);
        let event = match listens {
            true => BrokerEvent::ChannelSubscribed { name, channels },
            false => BrokerEvent::ChannelUnsubscribed { name, channels },
        };
        self.publish(event, out);
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
