//! Every table and key of the configuration file, with what each takes. The reading, its error messages and their
//! suggestions, `config show` and the tests go by this list.

use crate::domain::RecordForm;
use crate::recording::BYTES_LEAST;

/// A kind of table: `[log]`, or `[NAME.…]` where there may be several with names of their own.
pub(super) struct FileTable {
    pub(super) name: &'static str,
    /// Whether each has a name: `[agent.ada]`.
    pub(super) named: bool,
    pub(super) keys: &'static [FileKey],
}

/// A key of such a table.
pub(super) struct FileKey {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) required: bool,
    /// A value that can be meant, as the file spells it.
    pub(super) example: &'static str,
}

/// What a key takes.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Some text.
    Text,
    /// `true` or `false`.
    Switch,
    /// A whole number between these two.
    Count(i64, i64),
    /// A list of texts.
    Words,
    /// Texts by name.
    Variables,
    /// Texts by name, or the word `clean`.
    Environment,
    /// A time with a unit.
    Span,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `{ mark, gap }`.
    Prompt,
}

impl Shape {
    /// What it takes, in words.
    pub(super) fn words(self) -> String {
        match self {
            Self::Text => "a text in quotes".to_owned(),
            Self::Switch => "true or false".to_owned(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Words => "a list of texts".to_owned(),
            Self::Variables => "a table of texts".to_owned(),
            Self::Environment => "a table of texts, or \"clean\"".to_owned(),
            Self::Span => "a time, which is a text with a number and a unit".to_owned(),
            Self::OneOf(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Self::Prompt => "a table with mark and gap".to_owned(),
        }
    }
}

const fn may(name: &'static str, shape: Shape, example: &'static str) -> FileKey {
    FileKey {
        name,
        shape,
        required: false,
        example,
    }
}

const fn must(name: &'static str, shape: Shape, example: &'static str) -> FileKey {
    FileKey {
        required: true,
        ..may(name, shape, example)
    }
}

/// The largest number of a key that counts without a natural end.
const MANY: i64 = u32::MAX as i64;
/// More than any agent's output is worth.
const RECORDED: i64 = 256 * 1024 * 1024;
/// More handlers at once than any machine runs.
const HANDLERS: i64 = 10_000;
/// More than any handler may print.
const OUTPUT: i64 = 1024 * 1024 * 1024;

const TRUST_FOLDER: FileKey = may(
    "trust_folder",
    Shape::OneOf(&["hold", "accept"]),
    "\"hold\"",
);
const PERMISSION: FileKey = may("permission", Shape::OneOf(&["hold", "deny"]), "\"deny\"");
const CWD: FileKey = may("cwd", Shape::Text, "\"work\"");
const ARGS: FileKey = may("args", Shape::Words, "[\"--model\", \"opus\"]");
const ENV: FileKey = may("env", Shape::Variables, "{ STAGE = \"test\" }");
const HEADLESS: FileKey = may("headless", Shape::Switch, "true");
const MCP: FileKey = may("mcp", Shape::Switch, "false");
const RECORD: FileKey = may("record", Shape::OneOf(&RecordForm::WORDS), "\"plain\"");
const PROFILE: FileKey = may("profile", Shape::Text, "\"claude\"");

/// All of them.
pub(super) static TABLES: [FileTable; 11] = [
    FileTable {
        name: "log",
        named: false,
        keys: &[may("level", Shape::Text, "\"info\"")],
    },
    FileTable {
        name: "output",
        named: false,
        keys: &[
            RECORD,
            may(
                "record_bytes",
                Shape::Count(BYTES_LEAST as i64, RECORDED),
                "4194304",
            ),
        ],
    },
    FileTable {
        name: "notify",
        named: false,
        keys: &[
            may("command", Shape::Words, "[\"./tell-me\"]"),
            may("on", Shape::Words, "[\"blocked\", \"dead_letter\"]"),
            may("timeout", Shape::Span, "\"10s\""),
        ],
    },
    FileTable {
        name: "access",
        named: false,
        keys: &[may("agents_may", Shape::Words, "[\"spawn\"]")],
    },
    FileTable {
        name: "loops",
        named: false,
        keys: &[
            may("pair_limit", Shape::Count(0, MANY), "80"),
            may("pair_window", Shape::Span, "\"20m\""),
            may("chain_limit", Shape::Count(0, MANY), "450"),
            may("chain_pause", Shape::Span, "\"15m\""),
            may("steer_from", Shape::OneOf(&["all", "people"]), "\"people\""),
        ],
    },
    FileTable {
        name: "history",
        named: false,
        keys: &[
            may("mebibytes", Shape::Count(0, MANY), "16"),
            may("days", Shape::Count(1, MANY), "14"),
        ],
    },
    FileTable {
        name: "engine",
        named: false,
        keys: &[may("ca_file", Shape::Text, "\"ca.pem\"")],
    },
    FileTable {
        name: "harness",
        named: true,
        keys: &[
            must("command", Shape::Text, "\"claude\""),
            ARGS,
            ENV,
            PROFILE,
            HEADLESS,
            TRUST_FOLDER,
            PERMISSION,
            MCP,
            RECORD,
        ],
    },
    FileTable {
        name: "action",
        named: true,
        keys: &[
            must("command", Shape::Words, "[\"./program\", \"argument\"]"),
            CWD,
            ENV,
            may("timeout", Shape::Span, "\"20s\""),
            may("concurrency", Shape::Count(1, HANDLERS), "4"),
            may("max_output_bytes", Shape::Count(1, OUTPUT), "1048576"),
        ],
    },
    FileTable {
        name: "profile",
        named: true,
        keys: &[
            may("like", Shape::Text, "\"claude\""),
            may("composer", Shape::Switch, "true"),
            may("prompt", Shape::Prompt, "{ mark = \">\", gap = 2 }"),
            may("stash", Shape::Text, "\"ctrl-s\""),
            may("merges_while", Shape::Text, "\"✦\""),
            may("one_line", Shape::Switch, "true"),
            may("wraps", Shape::Switch, "false"),
            may("interrupts", Shape::Count(0, 3), "1"),
            may("hook", Shape::Switch, "false"),
            MCP,
            may("hint", Shape::Switch, "false"),
            may("enter_after", Shape::Span, "\"150ms\""),
            may("ready_within", Shape::Span, "\"30s\""),
            TRUST_FOLDER,
            PERMISSION,
        ],
    },
    FileTable {
        name: "agent",
        named: true,
        keys: &[
            may("command", Shape::Text, "\"claude\""),
            may("harness", Shape::Text, "\"reviewer\""),
            ARGS,
            CWD,
            may("env", Shape::Environment, "{ STAGE = \"test\" }"),
            may("env_allow", Shape::Words, "[\"ANTHROPIC_*\"]"),
            may(
                "restart",
                Shape::OneOf(&["never", "on-failure", "always"]),
                "\"on-failure\"",
            ),
            may("max_restarts", Shape::Count(0, MANY), "0"),
            may("max_failures", Shape::Count(0, MANY), "5"),
            may("cooldown", Shape::Span, "\"2s\""),
            may("task", Shape::Text, "\"Read TODO.md and start\""),
            PROFILE,
            HEADLESS,
            RECORD,
        ],
    },
];
