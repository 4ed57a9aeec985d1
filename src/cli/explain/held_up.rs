//! What stands in an agent's terminal in the way of its messages, and what to do about it.

use super::cause::{Cause, Commands};
use super::facts::AskedAgent;
use crate::wire::event::Dialog;
use crate::wire::local::AgentView;

/// A reason that the agent's thread gives, by what is found in it.
struct KnownReason {
    /// Stands in the thread's sentence.
    words: &'static str,
    cause: &'static str,
    ways: &'static [Way],
}

#[derive(Clone, Copy)]
enum Way {
    /// A person does it in the terminal.
    Attach(&'static str),
    /// The owner has looked and wants it to go on.
    Flush(&'static str),
    Restart,
    Snapshot,
}

const KNOWN: [KnownReason; 7] = [
    KnownReason {
        words: "words stand in the input line",
        cause: "draft",
        ways: &[
            Way::Attach(
                "submit or delete what stands in the input line; the message follows by itself",
            ),
            Way::Flush("types the message behind the words all the same"),
        ],
    },
    KnownReason {
        words: "somebody is typing",
        cause: "person_types",
        ways: &[
            Way::Snapshot,
            Way::Attach("shows who types; two seconds after the last key the message follows"),
        ],
    },
    KnownReason {
        words: "is not at its prompt",
        cause: "dialog",
        ways: &[
            Way::Attach("answer what it asks, or leave the menu; the message follows by itself"),
            Way::Snapshot,
        ],
    },
    KnownReason {
        words: "shows nothing of what is typed",
        cause: "password",
        ways: &[Way::Attach(
            "answer what it asks; the message follows by itself",
        )],
    },
    KnownReason {
        words: "another program that reads each key",
        cause: "other_program",
        ways: &[Way::Attach(
            "leave the program that has the terminal; the message follows by itself",
        )],
    },
    KnownReason {
        words: "does not take orders",
        cause: "not_reading",
        ways: &[Way::Restart],
    },
    KnownReason {
        words: "waits behind message",
        cause: "behind",
        ways: &[
            Way::Flush("has the one that is held up go on"),
            Way::Snapshot,
        ],
    },
];

/// For whatever else is in the way.
const OTHERS: KnownReason = KnownReason {
    words: "",
    cause: "held_up",
    ways: &[
        Way::Flush("goes on whatever the screen shows; look at it first"),
        Way::Attach("shows the terminal; make room for the message there"),
        Way::Restart,
    ],
};

/// What is in the way, if anything is.
pub(super) fn of(agent: &AskedAgent, view: &AgentView, commands: &Commands) -> Option<Cause> {
    let held = view.held_up_by.as_deref();
    if let Some(dialog) = view.blocked_on {
        return Some(of_dialog(dialog, held, commands));
    }
    let why = held?;
    let known = KNOWN.iter().find(|known| why.contains(known.words));
    let known = known.unwrap_or(&OTHERS);
    // The rows of the screen are shown on their own.
    let short = why.split("; the screen ").next().unwrap_or(why);
    let from = agent
        .pending
        .first()
        .map(|first| format!(" of {}", first.from));
    let sentence = format!(
        "the message{} is held up: {short}",
        from.unwrap_or_default()
    );
    let cause = Cause::stops(known.cause, sentence);
    Some(
        known
            .ways
            .iter()
            .fold(cause, |cause, way| add(cause, *way, commands)),
    )
}

fn add(cause: Cause, way: Way, commands: &Commands) -> Cause {
    match way {
        Way::Attach(does) => cause.way(commands.of("attach"), does),
        Way::Flush(does) => cause.way(commands.of("flush"), does),
        Way::Restart => cause.way(
            commands.of("restart"),
            "ends it and starts it again; what waits is typed then",
        ),
        Way::Snapshot => cause.way(commands.of("snapshot"), "shows its screen"),
    }
}

fn of_dialog(dialog: Dialog, held: Option<&str>, commands: &Commands) -> Cause {
    let waits = held.map_or("", |_| "; a message waits for the answer");
    let sentence = format!(
        "a dialog stands in its terminal: {}{waits}",
        dialog.sentence()
    );
    let cause = Cause::stops("dialog", sentence).way(
        commands.of("attach"),
        "answer it there (Ctrl-] leaves); what waits is typed by itself then",
    );
    let key = match dialog {
        Dialog::TrustFolder => "trust_folder",
        Dialog::Permission => "permission",
        Dialog::Unknown => return cause.way(commands.of("snapshot"), "shows what it asks"),
    };
    let does = format!(
        "starts it anew, which is of use once {key} = \"accept\" stands in the settings of its program"
    );
    cause.way(commands.of("restart"), does)
}
