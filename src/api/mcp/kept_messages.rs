//! Messages that came to agents lately, by the events that are kept: who wrote one, and which one a short id means.

use std::collections::BTreeMap;

use crate::api::state::Api;
use crate::ids::AgentName;
use crate::wire::event::{BrokerEvent, Numbered};

/// The fewest letters of an id that mean a message.
const SHORTEST: usize = 4;
/// How many messages an answer names.
const NAMED: usize = 5;

/// The author of each kept message with these letters in its id that an agent, or anybody for `None`, may have seen: one to
/// itself, or one in a channel.
fn seen_by(
    api: &Api,
    reader: Option<&AgentName>,
    letters: &str,
) -> Result<BTreeMap<String, (String, String)>, String> {
    let events = api.context.events.subscribe(Some(0));
    let events = events.map_err(|e| format!("the events cannot be read: {e}"))?;
    // Reading JSON takes longer than looking for letters.
    let kept = events.replay.iter();
    let kept = kept.filter(|(_, text)| text.contains("relay_inbound") && text.contains(letters));
    let parsed = kept.filter_map(|(_, text)| {
        let numbered: Numbered = serde_json::from_str(text).ok()?;
        match numbered.event {
            BrokerEvent::RelayInbound {
                event_id,
                from,
                target,
                ..
            } => Some((event_id.to_string(), (from, target))),
            _ => None,
        }
    });
    let is_seen = |target: &str| target.starts_with('#') || is_for(reader, target);
    Ok(parsed.filter(|(_, (_, target))| is_seen(target)).collect())
}

fn is_for(reader: Option<&AgentName>, target: &str) -> bool {
    reader.is_none_or(|own| AgentName::meant(target.trim_start_matches('@')) == *own)
}

/// Who wrote a message to this agent.
///
/// # Errors
/// When the message is not kept, or was not for the agent.
pub(super) fn author(api: &Api, reader: Option<&AgentName>, id: &str) -> Result<String, String> {
    let seen = seen_by(api, reader, id)?.remove(id);
    seen.filter(|(_, target)| is_for(reader, target))
        .map(|(from, _)| from)
        .ok_or_else(|| {
            format!(
                "{id} is not known any more, or was not for you; write to its author with send_dm"
            )
        })
}

/// The whole id of the message that a beginning or an end of an id means; what means none is left as it is, because the
/// engine may know it.
///
/// # Errors
/// When it means several, with those.
pub(super) fn whole_id(api: &Api, reader: Option<&AgentName>, id: &str) -> Result<String, String> {
    if id.len() < SHORTEST {
        return Ok(id.to_owned());
    }
    let seen = seen_by(api, reader, id)?;
    if seen.contains_key(id) {
        return Ok(id.to_owned());
    }
    let bare = |whole: &str| whole.strip_prefix("http_").unwrap_or(whole).starts_with(id);
    let meant: Vec<(String, (String, String))> = seen
        .into_iter()
        .filter(|(whole, _)| whole.starts_with(id) || whole.ends_with(id) || bare(whole))
        .collect();
    match meant.as_slice() {
        [] => Ok(id.to_owned()),
        [(whole, _)] => Ok(whole.clone()),
        several => {
            let named = several.iter().rev().take(NAMED);
            let named: Vec<String> = named
                .map(|(whole, (from, _))| format!("{whole} from {from}"))
                .collect();
            Err(format!(
                "{id:?} means {} messages: {}; give one id whole",
                several.len(),
                named.join(", ")
            ))
        }
    }
}
