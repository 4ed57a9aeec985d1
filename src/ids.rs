//! Names and numbers of things. Each is its own type, so that a sequence number cannot be passed where a ticket
//! belongs. This file owns validation of names that come from outside; it knows no protocol.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::words;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Wraps a value that came from a trusted place (the engine, the journal, ourselves).
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text as it goes on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// The node's identity at the engine, `node_` and 32 hex digits unless an operator pinned another
    /// ([engine-protocol 7](crate::docs::engine_protocol#7)).
    NodeId
}
text_id! {
    /// The engine's immutable id of an agent. Sequence numbers count per `AgentId`, never per name
    /// ([engine-protocol 4.2](crate::docs::engine_protocol#4.2)).
    AgentId
}
text_id! {
    /// The name an agent is addressed by. Unique among the agents of one node at one time; see [`AgentName::check`].
    AgentName
}
text_id! {
    /// The engine's id of a message (`msg_id`), or our own `http_…` id of a local send. Deduplication goes by it.
    MsgId
}
text_id! {
    /// One message for one agent: `del_<message>_<agent>` from the engine, our own `del_…` for local sends.
    DeliveryId
}
text_id! {
    /// One run of an action; answered once ([engine-protocol 5](crate::docs::engine_protocol#5)).
    InvocationId
}
text_id! {
    /// The workspace's id at the engine.
    WorkspaceId
}
text_id! {
    /// One life of an agent, from its spawn to its end, in the form of a UUID: clients of 11.x tell the events of lives of
    /// one name apart by it ([local-api 2.3](crate::docs::local_api#2.3)).
    Generation
}

impl NodeId {
    /// Its last eight letters, for telling namesakes apart.
    pub fn tail(&self) -> &str {
        let start = self.0.char_indices().rev().nth(7).map_or(0, |(at, _)| at);
        &self.0[start..]
    }
}

/// Behind the name of an agent that did not say it: whoever has the operator's key did.
pub const BY_OPERATOR: &str = " (by operator)";

/// The longest agent name we take, in bytes. Names appear in paths, thread names and every relay line.
pub const AGENT_NAME_MAX: usize = 128;

impl AgentName {
    /// The name of the agent whom somebody means, perhaps with letters and accents written apart.
    pub fn meant(text: &str) -> Self {
        Self(words::composed(text.to_owned()))
    }

    /// Takes a name from outside.
    ///
    /// # Errors
    /// Says what is wrong with an empty name, one over [`AGENT_NAME_MAX`] bytes, one with control characters, line ends,
    /// slashes or anything that nobody sees, one whose letters and accents are written apart (not NFC: it would look like
    /// another name), and one that starts with `@` or `#` (these mark targets, not names).
    pub fn check(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the agent name is empty; give one, for example `worker-1`".into());
        }
        if text.len() > AGENT_NAME_MAX {
            return Err(format!(
                "the agent name is {} bytes long; at most {AGENT_NAME_MAX} are allowed",
                text.len()
            ));
        }
        let ends_lines = |c| matches!(c, '\u{2028}' | '\u{2029}');
        if text
            .chars()
            .any(|c| c.is_control() || ends_lines(c) || c == '/' || c == '\\')
        {
            return Err(format!(
                "the agent name {text:?} has a slash, a line end or a control character; use letters, digits, `-`, `_` or `.`"
            ));
        }
        if words::visible(text) != text {
            return Err(format!(
                "the agent name {text:?} has characters that nobody sees or that turn the direction of reading; leave them out"
            ));
        }
        let composed = Self::meant(text);
        if composed.0 != text {
            return Err(format!(
                "the agent name {text:?} has letters and accents written apart, so that it looks like another name; write it \
                 {:?}",
                composed.0
            ));
        }
        if text.starts_with("human:") {
            return Err(format!(
                "the agent name {text:?} says that a person speaks; leave `human:` away"
            ));
        }
        if text.trim_end().ends_with(BY_OPERATOR.trim_start()) {
            return Err(format!(
                "the agent name {text:?} ends like the mark of who speaks in another's name; leave `(by operator)` away"
            ));
        }
        if text == "." || text == ".." {
            return Err(format!(
                "the agent name {text:?} means a folder; use letters, digits, `-` or `_`"
            ));
        }
        if text.starts_with(['@', '#']) || text.trim() != text {
            return Err(format!(
                "the agent name {text:?} may not start with `@`, `#` or a blank, nor end in one"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The longest name of a channel, in bytes.
pub const CHANNEL_NAME_MAX: usize = 80;

/// Whether an engine takes a channel's name, given without `#` ([engine-protocol 2.4](crate::docs::engine_protocol#2.4)).
pub fn is_channel_name(name: &str) -> bool {
    let mut chars = name.chars();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let first = chars.next().is_some_and(plain);
    first && chars.all(|c| plain(c) || c == '-') && name.len() <= CHANNEL_NAME_MAX
}

/// The plain name of a channel that somebody names, perhaps with `#`.
///
/// # Errors
/// Says what is wrong with one that no engine takes.
pub fn check_channel(text: &str) -> Result<String, String> {
    let name = text.trim().trim_start_matches('#');
    match is_channel_name(name) {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "no engine takes {text:?} for a channel; use up to {CHANNEL_NAME_MAX} small letters, digits and dashes, and no dash \
             first"
        )),
    }
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The number after this one. The very last, which only a hostile peer would send, has none but itself.
            pub fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number_id! {
    /// Position of a delivery in one agent's mail, from 1; 0 marks frames outside the sequence
    /// ([engine-protocol 4.2](crate::docs::engine_protocol#4.2)).
    Seq
}
number_id! {
    /// A caller of the local API who waits for an answer. The shell holds the channel; cores see only this number.
    Ticket
}
number_id! {
    /// An HTTP call to the engine that an REST thread performs.
    JobId
}
number_id! {
    /// A connected program that serves actions.
    SidecarId
}
number_id! {
    /// One life of one agent's process. Reports of an earlier life under the same name are told apart by it.
    Run
}

/// Lower-case hex digits of `bytes`, the spelling of ids and hashes.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_person_reads() {
        for name in ["worker-1", "漢字", "סוכן", "👩\u{200d}💻", "❤\u{fe0f}"] {
            assert_eq!(AgentName::check(name), Ok(AgentName::new(name)));
        }
        for name in [
            "ada\u{202e}ssob",
            "ada\u{200f}",
            "\u{61c}ada",
            "a\u{200b}da",
            "ad\u{ad}a",
            "ada\u{e0041}",
            "ada\u{fe0f}",
        ] {
            let why = AgentName::check(name).expect_err("hidden letters");
            assert!(why.contains("nobody sees"), "{why}");
        }
    }

    #[test]
    fn a_name_that_only_looks_like_another_is_refused_with_the_spelling_to_use() {
        for (apart, composed) in [
            ("cafe\u{301}", "café"),
            ("\u{1112}\u{1161}\u{11ab}", "한"),
            ("\u{212b}ngstrom", "Ångstrom"),
            ("a\u{323}\u{307}", "ạ\u{307}"),
        ] {
            assert_eq!(AgentName::check(composed), Ok(AgentName::new(composed)));
            let why = AgentName::check(apart).expect_err("a look-alike");
            assert_eq!(AgentName::meant(apart), AgentName::new(composed));
            assert!(why.contains(&format!("write it {composed:?}")), "{why}");
        }
    }

    #[test]
    fn channel_names_are_small_letters_digits_and_dashes() {
        for good in ["general", "a", "0-ops-1"] {
            assert!(is_channel_name(good), "{good}");
            assert_eq!(check_channel(&format!(" #{good}")), Ok(good.to_owned()));
        }
        let long = "a".repeat(CHANNEL_NAME_MAX + 1);
        for bad in [
            "",
            "-a",
            "Ops",
            "a b",
            "dm_1",
            "../x",
            "\u{1b}[31m",
            "é",
            &long,
        ] {
            assert!(!is_channel_name(bad), "{bad}");
            let why = check_channel(bad).expect_err("no engine takes it");
            assert!(why.contains(&format!("{bad:?}")), "{why}");
        }
    }

    #[test]
    fn a_name_is_one_line_without_keys_in_it() {
        for name in [
            "a\u{2028}da",
            "ada\u{2029}",
            "a\nda",
            "a\u{85}da",
            "a\u{9b}1mda",
            "ada\u{7f}",
        ] {
            let why = AgentName::check(name).expect_err("no one line");
            assert!(why.contains("a line end or a control character"), "{why}");
        }
    }
}
