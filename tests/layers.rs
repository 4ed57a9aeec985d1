//! Holds the program to its architecture: reads the `use` lines and paths of `src/` and checks who imports whom, and who
//! alone may ask for the time, read the environment and start threads. Reads text, not the compiler's view: code in
//! macros is judged as it is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::sources::{imports, is_word, module_of_file, program, top, without_tests};

/// Whole folders and single files by level; imports go strictly downward. The longest entry that fits counts.
const LEVELS: &[(&str, u8)] = &[
    // vocabulary
    ("wire", 0),
    ("domain", 0),
    ("ids", 0),
    ("words", 0),
    ("known_clis", 0),
    ("time", 0),
    ("prng", 0),
    // pure
    ("msg", 1),
    ("ledger", 1),
    ("screen", 1),
    ("machine", 1),
    ("identity::derive", 1),
    ("json_schema", 1),
    // cores: every file of these folders that is not named below as an edge
    ("dispatch", 2),
    ("agent", 2),
    ("uplink", 2),
    ("engine", 2),
    // machinery that knows no domain
    ("net", 3),
    ("journal", 3),
    ("history", 3),
    ("pubsub", 3),
    ("recording", 3),
    ("registry", 3),
    ("sys", 3),
    // edges
    ("api", 4),
    ("agent::actor", 4),
    ("agent::pipe_actor", 4),
    ("agent::pipes", 4),
    ("agent::runs", 4),
    ("agent::start", 4),
    ("agent::pty", 4),
    ("agent::exec", 4),
    ("agent::landed_note", 4),
    ("agent::transcript", 4),
    ("agent::hook", 4),
    ("agent::given_tools", 4),
    ("agent::running", 4),
    ("agent::seen_note", 4),
    ("handlers", 4),
    ("uplink::socket", 4),
    ("uplink::rest", 4),
    ("uplink::enrol", 4),
    ("uplink::identify", 4),
    ("uplink::leftovers", 4),
    ("uplink::proxy", 4),
    ("uplink::resolve", 4),
    ("uplink::roots", 4),
    ("identity", 4),
    ("engine::server", 4),
    // assembly
    ("broker", 5),
    ("config", 5),
    ("cli", 5),
    ("docs", 5),
    ("main", 5),
    ("lib", 5),
];
/// The faces of the folders that hold both cores and edges: `mod.rs` is an edge there.
const FACES: &[&str] = &["agent", "uplink", "engine", "identity"];
/// What the embedded engine knows nothing of.
const NOT_FOR_ENGINE: &[&str] = &["broker", "dispatch", "ledger", "agent", "uplink"];

/// What the ledger knows nothing of: its records lie on disk, and must not change with what crosses sockets or threads.
const NOT_FOR_LEDGER: &[&str] = &["wire", "msg"];

/// What only one place may say: the words, the file that may, and why.
const WORDS: &[(&[&str], &str, &str)] = &[
    (
        &["Instant::now", "SystemTime::now"],
        "sys/clock.rs",
        "only sys/clock.rs asks for the time",
    ),
    (
        &["thread::spawn", "thread::Builder", "thread::scope"],
        "sys/thread.rs",
        "only sys/thread.rs starts threads",
    ),
];
/// What of `std::env` is a variable, and so the business of `config` alone; `{` for an import of several.
const VARIABLES: &[&str] = &[
    "var",
    "vars",
    "var_os",
    "vars_os",
    "set_var",
    "remove_var",
    "{",
];
/// What is a fact of the command line: the business of `cli` and `main`.
const COMMAND_LINE: &[&str] = &["args", "args_os", "current_exe"];

/// The level of a module, by its path without `crate::`.
fn level(module: &str) -> Option<u8> {
    if FACES.contains(&module) {
        return Some(4);
    }
    let fits = |entry: &str| {
        module
            .strip_prefix(entry)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    LEVELS
        .iter()
        .filter(|(entry, _)| fits(entry))
        .max_by_key(|(entry, _)| entry.len())
        .map(|(_, level)| *level)
}

/// The module that `path` (without `crate::`, perhaps with items behind) leads to, as far as levels care.
fn module_of(path: &str) -> String {
    let mut names = path.split("::");
    let top = names.next().unwrap_or_default();
    match names.next() {
        // Inside a mixed folder a lower-case name is taken for a file. A function of its `mod.rs` looks the same and is
        // judged too kindly: the text alone does not tell them apart.
        Some(inner) if FACES.contains(&top) && inner.starts_with(char::is_lowercase) => {
            format!("{top}::{inner}")
        }
        _ => top.to_owned(),
    }
}

/// Why a file of module `from` may not import from `to`; `None` when it may.
fn objection(from: &str, to: &str) -> Option<String> {
    let (from_top, to_top) = (top(from), top(to));
    let Some(low) = level(to) else {
        return Some(format!(
            "`{to}` is no module with a level; name it in tests/layers.rs"
        ));
    };
    let Some(high) = level(from) else {
        return Some("this file has no level; name it in tests/layers.rs".to_owned());
    };
    if from_top == to_top {
        return (high <= 2 && low > 2).then(|| {
            format!("`{from}` is pure and may not import the edge `{to}` of its own folder")
        });
    }
    if from_top == "engine" && NOT_FOR_ENGINE.contains(&to_top) {
        return Some(format!(
            "the engine is a neighbour and never imports `{to_top}`"
        ));
    }
    if from_top == "ledger" && NOT_FOR_LEDGER.contains(&to_top) {
        return Some(format!(
            "what lies on disk is spelled by the ledger itself, which never imports `{to_top}`"
        ));
    }
    if to_top == "engine" && from_top != "cli" {
        return Some("only `cli` knows the embedded engine".to_owned());
    }
    let allowed = match (high, low) {
        (0, 0) => true,
        // Every pure module may speak of what crosses threads, which itself speaks of none of them.
        (1, 1) => to_top == "msg",
        (3, _) => low == 3 || low <= 1,
        (5, 5) => from_top != "broker" && to_top != "main",
        _ => low < high,
    };
    (!allowed).then(|| format!("`{from}` (level {high}) may not import `{to}` (level {low})"))
}

/// Everything wrong with one file, as `file:line: rule`.
fn judge(file: &str, text: &str) -> Vec<String> {
    let module = module_of_file(file);
    let (code, _) = without_tests(file, text);
    let mut wrong = Vec::new();
    for (line, path) in imports(&module, &code) {
        if let Some(why) = objection(&module, &module_of(&path)) {
            wrong.push(format!("src/{file}:{line}: {why}"));
        }
    }
    // `use crate::api::{A, B}` is one mistake.
    wrong.dedup();
    for (index, text) in code.lines().enumerate() {
        let place = format!("src/{file}:{}", index + 1);
        for (words, home, why) in WORDS {
            if file != *home && words.iter().any(|word| text.contains(word)) {
                wrong.push(format!("{place}: {why}"));
            }
        }
        for why in misuses_of_env(&module, text) {
            wrong.push(format!("{place}: {why}"));
        }
    }
    wrong
}

fn misuses_of_env<'a>(module: &'a str, line: &'a str) -> impl Iterator<Item = &'static str> + 'a {
    line.match_indices("env::").filter_map(move |(at, _)| {
        if line[..at].ends_with(is_word) {
            return None;
        }
        let rest = &line[at + "env::".len()..];
        let end = rest
            .find(|c| !is_word(c))
            .unwrap_or(rest.len())
            .max(1)
            .min(rest.len());
        let name = &rest[..end];
        if VARIABLES.contains(&name) {
            (top(module) != "config").then_some("only config reads the environment")
        } else if COMMAND_LINE.contains(&name) {
            (!matches!(top(module), "cli" | "main"))
                .then_some("only cli and main read the command line")
        } else {
            level(module)
                .is_some_and(|l| l <= 2)
                .then_some("a pure module has no surroundings")
        }
    })
}

#[test]
fn every_file_keeps_to_its_layer() {
    let files = program();
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| judge(file, text))
        .collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_check_finds_what_is_wrong_and_says_where() {
    let cases = [
        (
            "wire/up.rs",
            "\nuse crate::msg::Event;",
            "src/wire/up.rs:2: `wire::up` (level 0) may not import `msg` (level 1)",
        ),
        (
            "msg.rs",
            "use crate::ledger::Record;",
            "may not import `ledger`",
        ),
        (
            "ledger/mod.rs",
            "use crate::screen::Screen;",
            "`ledger` (level 1) may not import `screen` (level 1)",
        ),
        (
            "dispatch/mod.rs",
            "use crate::agent::core::Agent;",
            "`dispatch` (level 2) may not import `agent::core` (level 2)",
        ),
        (
            "dispatch/calls.rs",
            "fn f(j: crate::journal::Journal) {}",
            "may not import `journal`",
        ),
        (
            "pubsub.rs",
            "use crate::dispatch::Dispatcher;",
            "`pubsub` (level 3) may not import `dispatch` (level 2)",
        ),
        (
            "sys/disk.rs",
            "use crate::{\n    ids::Run,\n    api::{self, Server},\n};",
            "src/sys/disk.rs:1: `sys::disk` (level 3) may not import `api`",
        ),
        (
            "agent/core.rs",
            "use super::pty::Pty;",
            "`agent::core` is pure and may not import the edge `agent::pty`",
        ),
        (
            "agent/inject.rs",
            "use super::{core::X, actor};",
            "edge `agent::actor`",
        ),
        (
            "engine/core.rs",
            "use crate::engine::Server;",
            "edge `engine`",
        ),
        (
            "engine/server.rs",
            "use crate::ledger::Ledger;",
            "never imports `ledger`",
        ),
        (
            "ledger/record.rs",
            "use crate::wire::up::Outcome;",
            "spelled by the ledger itself, which never imports `wire`",
        ),
        (
            "ledger/mailbox.rs",
            "fn f(how: &crate::msg::How) {}",
            "never imports `msg`",
        ),
        (
            "broker.rs",
            "use crate::engine::Engine;",
            "only `cli` knows the embedded engine",
        ),
        (
            "broker.rs",
            "use crate::config::Config;",
            "`broker` (level 5) may not import `config` (level 5)",
        ),
        (
            "api/routes.rs",
            "use crate::uplink::rest;",
            "`api::routes` (level 4) may not import `uplink::rest` (level 4)",
        ),
        (
            "identity/derive.rs",
            "use super::store::Seed;",
            "edge `identity::store`",
        ),
        (
            "identity/store.rs",
            "use crate::cli::Command;",
            "may not import `cli`",
        ),
        (
            "novelty.rs",
            "use crate::ids::Run;",
            "this file has no level",
        ),
        (
            "broker.rs",
            "use crate::novelty::New;",
            "`novelty` is no module with a level",
        ),
        (
            "pubsub.rs",
            "let t = std::time::Instant::now();",
            "only sys/clock.rs asks for the time",
        ),
        (
            "cli/run.rs",
            "let key = std::env::var(\"KEY\");",
            "only config reads the environment",
        ),
        (
            "broker.rs",
            "let exe = std::env::current_exe();",
            "only cli and main read the command line",
        ),
        (
            "net/server.rs",
            "use std::env::{self, var};",
            "only config reads the environment",
        ),
        (
            "ledger/mod.rs",
            "std::env::temp_dir()",
            "a pure module has no surroundings",
        ),
        (
            "api/server.rs",
            "thread::Builder::new()",
            "only sys/thread.rs starts threads",
        ),
        (
            "ids.rs",
            "#[cfg(test)]\nuse crate::msg::X;\nuse crate::msg::Y;",
            "src/ids.rs:3: ",
        ),
        (
            "ids.rs",
            "#[cfg(test)]\nmod tests {\n    use a;\n}\nuse crate::msg::Y;",
            "src/ids.rs:5: ",
        ),
    ];
    for (file, text, expected) in cases {
        let wrong = judge(file, text);
        assert_eq!(wrong.len(), 1, "{file}: {text}\n{wrong:?}");
        assert!(
            wrong[0].contains(expected),
            "{}\nshould say {expected}",
            wrong[0]
        );
    }
}

#[test]
fn the_check_lets_pass_what_is_right() {
    let cases = [
        (
            "wire/up.rs",
            "use super::{Parsed, WireError};\nuse crate::ids::{AgentId, AgentName};",
        ),
        ("screen/mod.rs", "use crate::msg::Size;"),
        (
            "agent/core.rs",
            "use crate::agent::inject::{self, Frame};\nuse super::ready::Watch;\nuse crate::screen::Screen;",
        ),
        (
            "agent/actor.rs",
            "use super::core::AgentCore;\nuse crate::registry::Registry;\nuse crate::sys::{clock, thread};",
        ),
        (
            "registry.rs",
            "use crate::pubsub::Topic;\nuse crate::msg::Size;",
        ),
        (
            "engine/server.rs",
            "use crate::net::Server;\nuse super::core::EngineCore;",
        ),
        (
            "cli/run.rs",
            "use crate::engine;\nuse crate::broker::Broker;\nlet exe = std::env::current_exe()?;\nenv_logger::init();",
        ),
        (
            "config.rs",
            "let home = std::env::var_os(\"HOME\");\nuse crate::broker::Settings;",
        ),
        ("main.rs", "use relay_broker::cli;"),
        ("cli/up.rs", "log(\"relay_broker::up\")"),
        ("agent/exec.rs", "std::env::set_current_dir(dir)"),
        (
            "ids.rs",
            "// use crate::msg::X\n//! [`crate::broker`]\n#[cfg(test)]\nmod tests {\n    use crate::broker;\n}",
        ),
        ("sys/clock.rs", "Instant::now()"),
        (
            "net/mod.rs",
            "let e = env!(\"CARGO_PKG_VERSION\"); // crate::api in words",
        ),
    ];
    for (file, text) in cases {
        assert_eq!(judge(file, text), Vec::<String>::new(), "{file}: {text}");
    }
    let (_, tests) = without_tests("journal/mod.rs", "#[cfg(test)]\nmod fake_disk;\nmod frame;");
    assert_eq!(tests, BTreeSet::from(["journal::fake_disk".to_owned()]));
}

/// What a journal holds is applied by functions that name every kind of record: with a catch-all, a new kind would
/// compile, be written, and be lost on replay.
#[test]
fn whoever_applies_the_journals_records_names_each_kind() {
    let is_catch_all = |line: &&str| {
        let pattern = line.trim_start().split(" =>").next().unwrap_or_default();
        line.contains("_ =>") || (line.contains(" =>") && is_lower_word(pattern))
    };
    for file in ["src/engine/apply.rs", "src/ledger/apply.rs"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(path).expect("a source file");
        let catches: Vec<_> = text.lines().filter(is_catch_all).collect();
        assert!(catches.is_empty(), "{file} has {catches:?}");
    }
}

/// Whether a pattern is a name for whatever comes.
fn is_lower_word(pattern: &str) -> bool {
    !pattern.is_empty() && pattern.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}
