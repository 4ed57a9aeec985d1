//! What the first message to a program says besides: who speaks in such lines, and how to answer. One line, once for each
//! run of the program, and only where the program is known to be an agent with an input line: a shell would run it.

use crate::agent::profile::Profile;
use crate::ids::DeliveryId;
use crate::msg::Injection;

/// How every message begins that somebody speaks in.
const ENVELOPE: &str = "Relay message from ";
/// For programs that have the tools of `relay-broker mcp`.
const BY_TOOL: &str = "(This is from another agent or a person. To answer, call the tool send_dm with the name of the sender, \
     or reply_to_thread with the id at the end of the brackets; what you only print reaches nobody.)";
/// For programs that have none, and a shell's commands at best.
const BY_COMMAND: &str = "(This is from another agent or a person. To answer, run: relay-broker send NAME 'TEXT', with the \
     name of the sender; what you only print reaches nobody.)";

/// The hint for one run of a program, until a message with it has landed.
#[derive(Debug)]
pub struct FirstHint {
    words: &'static str,
    carrier: Option<DeliveryId>,
}

impl FirstHint {
    /// The hint for a program of that profile, if it gets any.
    pub fn of(profile: &Profile, has_tools: bool) -> Option<Self> {
        profile.hint.unwrap_or(profile.composer).then_some(Self {
            words: if has_tools { BY_TOOL } else { BY_COMMAND },
            carrier: None,
        })
    }

    /// Adds the hint below the words of a message in which somebody speaks.
    pub fn add(&mut self, injection: &mut Injection) {
        if injection.raw || !injection.text.starts_with(ENVELOPE) {
            return;
        }
        injection.text.push('\n');
        injection.text.push_str(self.words);
        self.carrier = Some(injection.delivery_id.clone());
    }

    /// Whether the message that landed is the one that carried the hint.
    pub fn is_told_by(&self, landed: &DeliveryId) -> bool {
        self.carrier.as_ref() == Some(landed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::profiles::Profiles;
    use crate::domain::Mode;

    fn profile(line: &str) -> Profile {
        let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Profiles::default().by_command(&argv)
    }

    fn message(text: &str, raw: bool) -> Injection {
        Injection {
            delivery_id: DeliveryId::new("d"),
            text: text.into(),
            mode: Mode::Wait,
            raw,
        }
    }

    #[test]
    fn the_four_clis_are_told_the_tool_and_shells_nothing() {
        for cli in ["claude", "codex", "gemini", "opencode"] {
            let hint = FirstHint::of(&profile(cli), true).expect("it is an agent");
            assert!(hint.words.contains("send_dm"), "{cli}");
        }
        let hint = FirstHint::of(&profile("claude"), false).expect("without tools");
        assert!(hint.words.contains("relay-broker send NAME"));
        for line in ["bash", "cat", "python3", "sqlite3", "./unknown"] {
            assert!(FirstHint::of(&profile(line), false).is_none(), "{line}");
        }
    }

    #[test]
    fn a_profile_switches_the_hint_off_and_on() {
        let said = |hint, line| {
            FirstHint::of(
                &Profile {
                    hint,
                    ..profile(line)
                },
                false,
            )
            .is_some()
        };
        assert!(!said(Some(false), "claude"));
        assert!(said(Some(true), "./unknown"));
    }

    #[test]
    fn the_hint_is_one_line_below_the_words_and_is_told_once_it_landed() {
        let mut hint = FirstHint::of(&profile("claude"), true).expect("an agent");
        let mut first = message("Relay message from bob [m1]: hi", false);
        hint.add(&mut first);
        let lines: Vec<&str> = first.text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "Relay message from bob [m1]: hi");
        assert!(lines[1].starts_with('(') && lines[1].ends_with(".)"));
        assert!(hint.is_told_by(&first.delivery_id));
        assert!(!hint.is_told_by(&DeliveryId::new("other")));
    }

    #[test]
    fn what_is_typed_as_it_is_carries_no_hint() {
        let mut hint = FirstHint::of(&profile("claude"), true).expect("an agent");
        for mut plain in [message("/model opus", true), message("no envelope", false)] {
            let before = plain.text.clone();
            hint.add(&mut plain);
            assert_eq!(plain.text, before);
        }
        assert!(!hint.is_told_by(&DeliveryId::new("d")));
    }
}
