//! What a terminal is given for a delivery ([local-api 4.1](crate::docs::local_api#4.1)).

use crate::ledger::{Delivery, Origin, Pending};
use crate::msg::Injection;
use crate::words;

/// The most letters of a name that the line shows.
const NAME_SHOWN: usize = 128;

/// Behind the name of an agent that did not say it: whoever has the operator's key did.
const BY_OPERATOR: &str = " (by operator)";

/// A name as the line may show it: on one line, from left to right, and without the brackets that end it, so that nobody
/// can write a header.
fn plain(name: &str) -> String {
    let letter = |c: char| match c {
        '[' => '(',
        ']' => ')',
        '\u{2028}' | '\u{2029}' => ' ',
        c if c.is_control() => ' ',
        c => c,
    };
    words::marked(name, " ")
        .chars()
        .take(NAME_SHOWN)
        .map(letter)
        .collect()
}

/// What a terminal is given for a delivery.
pub(super) fn injection(pending: &Pending, workspace: Option<&str>) -> Injection {
    Injection {
        delivery_id: pending.delivery.id.clone(),
        text: relay_line(&pending.delivery, workspace),
        mode: pending.delivery.mode,
        raw: is_raw(&pending.delivery),
    }
}

/// Never mail from the engine, whatever a record says.
fn is_raw(delivery: &Delivery) -> bool {
    delivery.raw && matches!(delivery.origin, Origin::Local)
}

/// The line an agent reads ([local-api 4.1](crate::docs::local_api#4.1)): who, where, which message, the words.
fn relay_line(delivery: &Delivery, workspace: Option<&str>) -> String {
    let body = delivery.body.trim_end_matches(['\n', '\r']);
    if is_raw(delivery) {
        return body.to_owned();
    }
    // Who speaks on this machine may write the line himself; a peer may not write it in another's name.
    let ours = matches!(delivery.origin, Origin::Local | Origin::Task);
    if ours && body.trim_start().starts_with("Relay message from ") {
        return body.trim().to_owned();
    }
    let sender = plain(
        delivery
            .from
            .strip_prefix("human:")
            .unwrap_or(&delivery.from),
    );
    let sender = match delivery.by_operator {
        true => format!("{sender}{BY_OPERATOR}"),
        false => sender,
    };
    let id = plain(delivery.msg_id.as_str());
    let context = match workspace {
        Some(workspace) => format!("{workspace} / {id}"),
        None => id,
    };
    match delivery.target.strip_prefix('#') {
        Some(channel) => {
            let channel = plain(channel);
            format!("Relay message from {sender} in #{channel} [{context}]: {body}")
        }
        None => format!("Relay message from {sender} [{context}]: {body}"),
    }
}
