//! Programs that read what commands print: with `--json` each command, as the command line's own definitions list them,
//! prints what `docs/json.md` says, and an error has one shape on one stream.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Node, Process, Scratch, run};

/// The tables of `docs/json.md`: what each command prints, and the shapes that they share.
struct Shapes(BTreeMap<String, Vec<Table>>);

/// One table: fields by name, each with its types and whether it may be absent.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    /// More fields than those are allowed.
    open: bool,
}

struct Field {
    path: Vec<Step>,
    types: Vec<String>,
}

#[derive(Clone, PartialEq)]
enum Step {
    /// A key, and whether it may be absent.
    Key(String, bool),
    /// Each element of a list.
    Each,
}

/// `a?.b[]` as steps.
fn steps(name: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for part in name.split('.') {
        let each = part.ends_with("[]");
        let key = part.trim_end_matches("[]");
        steps.push(Step::Key(
            key.trim_end_matches('?').into(),
            key.ends_with('?'),
        ));
        if each {
            steps.push(Step::Each);
        }
    }
    steps
}

impl Shapes {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
        let text = std::fs::read_to_string(path).expect("the page");
        let mut shapes: BTreeMap<String, Vec<Table>> = BTreeMap::new();
        let (mut at, mut inside) = ("errors".to_owned(), false);
        for line in text.lines() {
            if let Some(title) = line.strip_prefix("### ") {
                at = title.trim_start_matches("Shape ").trim_matches('`').into();
            } else if line.starts_with("## ") {
                at = "errors".into();
            }
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            match cells[..] {
                ["field", "type", _] => {
                    shapes.entry(at.clone()).or_default().push(Table::default());
                    inside = true;
                }
                ["---", ..] => {}
                [field, types, _] if inside => {
                    let table = shapes.get_mut(&at).and_then(|tables| tables.last_mut());
                    table.expect("its head came before").add(field, types);
                }
                _ => inside = false,
            }
        }
        Self(shapes)
    }

    /// Why this line is none that the command may print; `None` when it is one.
    fn objection(&self, name: &str, line: &Value) -> Option<String> {
        let Some(tables) = self.0.get(name) else {
            return Some(format!("docs/json.md has no section `{name}`"));
        };
        let mut objections = Vec::new();
        for table in tables {
            objections.push(table.objection(self, &[], line)?);
        }
        Some(objections.join("; or "))
    }
}

impl Table {
    fn add(&mut self, field: &str, types: &str) {
        let field = field.trim_matches('`');
        if field == "..." {
            self.open = true;
            return;
        }
        self.fields.push(Field {
            path: steps(field),
            types: types.split(" or ").map(str::to_owned).collect(),
        });
    }

    /// What is wrong with the value that stands at `at`.
    fn objection(&self, shapes: &Shapes, at: &[Step], value: &Value) -> Option<String> {
        let below = |field: &&Field| field.path.starts_with(at);
        if let Some(leaf) = self.fields.iter().find(|field| field.path == at) {
            return leaf.objection(shapes, value);
        }
        let next: Vec<&Step> = (self.fields.iter().filter(below))
            .map(|f| &f.path[at.len()])
            .collect();
        let deeper = |step: &Step| [at, std::slice::from_ref(step)].concat();
        if next.contains(&&Step::Each) {
            let Some(list) = value.as_array() else {
                return Some(format!("{} is no list: {value}", name(at)));
            };
            return list
                .iter()
                .find_map(|item| self.objection(shapes, &deeper(&Step::Each), item));
        }
        let Some(object) = value.as_object() else {
            return Some(format!("{} is no object: {value}", name(at)));
        };
        for step in &next {
            let Step::Key(key, optional) = step else {
                continue;
            };
            let wrong = match object.get(key) {
                Some(inner) => self.objection(shapes, &deeper(step), inner),
                None if *optional => None,
                None => Some(format!("{}{key} is missing", name(at))),
            };
            if wrong.is_some() {
                return wrong;
            }
        }
        let told = |key: &&String| {
            (next.iter()).any(|step| matches!(step, Step::Key(known, _) if known == *key))
        };
        let strange = object.keys().find(|key| !told(key)).filter(|_| !self.open);
        strange.map(|key| format!("{}{key} is in no table", name(at)))
    }
}

impl Field {
    fn objection(&self, shapes: &Shapes, value: &Value) -> Option<String> {
        let mut fits = false;
        for word in &self.types {
            fits |= match word.as_str() {
                "any" => true,
                "string" => value.is_string(),
                "number" => value.is_number(),
                "boolean" => value.is_boolean(),
                "null" => value.is_null(),
                shape if value.is_object() => return shapes.objection(shape, value),
                _ => false,
            };
        }
        (!fits).then(|| format!("{} should be {:?}: {value}", name(&self.path), self.types))
    }
}

fn name(path: &[Step]) -> String {
    let word = |step: &Step| match step {
        Step::Key(key, _) => format!("{key}."),
        Step::Each => "[].".to_owned(),
    };
    path.iter().map(word).collect()
}

/// Every line that the command printed is as its section says; how many there were.
#[track_caller]
fn hold(shapes: &Shapes, name: &str, out: &str) -> usize {
    let mut lines = 0;
    for line in out.lines() {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{name}: {e}: {line}"));
        if let Some(wrong) = shapes.objection(name, &value) {
            panic!("{name}: {wrong}\n{line}");
        }
        lines += 1;
    }
    lines
}

/// What is run against a broker, in an order in which one works after another. `gone` ends when it is written to.
const RUNS: &str = "\
    spawn ada -- cat
    spawn gone -- sh -c 'read x; exit 3'
    spawn eve --on any -- cat
    spawn sum --result-schema any.json -- cat
    submit-result 42 --agent sum
    wait ada --until ready
    restart ada
    agents
    send ada hello --wait
    trace --last ada
    status
    nodes
    explain
    hold ada
    explain ada
    explain nobody
    send ada later
    pending ada
    flush ada
    auto ada
    snapshot ada
    health
    check
    config show
    reload
    doctor
    actions run echo --input 1
    health --live
    health --ready
    logs
    logs ada
    env
    mcp --print-config codex
    journal show
    journal check
    backup kept
    wait gone --until ready
    send gone bye --raw
    wait gone --until exit
    agents
    status
    hold ada
    send ada lost
    status
    release ada
    dead
    spawn ada -- cat
    redeliver --all
    events
    completions zsh
    version
    up --if-not-running
    stop
    demo";

/// Those that need more than a line, each with a test of its own.
const APART: [&str; 3] = ["attach", "nodes rm", "engine"];

#[test]
fn every_command_prints_the_json_that_its_page_says() {
    let (shapes, folder) = (Shapes::read(), Scratch::new());
    let action = "[action.echo]\ncommand = [\"cat\"]\n";
    std::fs::write(folder.path().join("relay-broker.toml"), action).expect("room");
    std::fs::write(folder.path().join("any.json"), "true").expect("room");
    let up = [
        "up",
        "--json",
        "--grace",
        "1s",
        "--engine-listen",
        "127.0.0.1:0",
        "--harness",
        "cat",
    ];
    let broker = Process::start(folder.path(), &up);
    assert_eq!(hold(&shapes, "up", &broker.first_line), 1);
    let all = relay_broker::cli::commands();
    let mut left: Vec<&str> = all.iter().map(String::as_str).collect();
    for line in RUNS.lines().map(str::trim) {
        let words = shell_words::split(line).expect("words");
        let args: Vec<&str> = ["--json"]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        let (code, out, err) = run(folder.path(), &args);
        assert_eq!(code, Some(0), "{line}: {out}{err}");
        hold(&shapes, "errors", &err);
        assert!(!err.contains("\"error\""), "{line}: {err}");
        let named = |name: &&String| line == **name || line.starts_with(&format!("{name} "));
        let command = all.iter().filter(named).max_by_key(|name| name.len());
        let command = command.expect("a command of the program");
        assert!(hold(&shapes, command, &out) > 0, "{line} printed nothing");
        left.retain(|name| name != command);
    }
    assert_eq!(left, APART, "a command has no run here");
}

#[test]
fn an_engine_alone_tells_a_program_where_it_is() {
    let folder = Scratch::new();
    let args = ["engine", "--listen", "127.0.0.1:0", "--json"];
    let engine = Process::start(folder.path(), &args);
    assert_eq!(hold(&Shapes::read(), "engine", &engine.first_line), 1);
}

#[test]
fn an_error_is_one_object_on_standard_error_whatever_went_wrong() {
    let (shapes, folder) = (Shapes::read(), Scratch::new());
    let refused = |line: &str, code: &str| {
        let args: Vec<&str> = line.split(' ').collect();
        let (exit, out, err) = run(folder.path(), &args);
        assert_eq!(out, "", "{line}");
        hold(&shapes, "errors", &err);
        let error: Value =
            serde_json::from_str(err.lines().last().unwrap_or_default()).expect("held");
        assert_eq!(error["error"]["code"], code, "{line}: {error}");
        assert_eq!(
            error["error"]["exit_code"].as_i64(),
            exit.map(i64::from),
            "{line}"
        );
    };
    refused("--json", "usage");
    refused("fly --json", "usage");
    refused("send --json", "usage");
    refused("send ada --json x --timeout soon", "usage");
    refused("agents --json", "no_broker");
    refused("stop --json", "no_broker");
    refused("journal show --json", "failed");
    refused("up --json --config missing.toml", "configuration");
    let node = Node::up(folder.path(), &[]);
    refused("up --json --engine-listen 127.0.0.1:0", "already_running");
    refused(
        "up --json --detach --engine-listen 127.0.0.1:0",
        "already_running",
    );
    for line in [
        "flush",
        "hold",
        "auto",
        "restart",
        "snapshot",
        "release",
        "attach --view",
    ] {
        let code = if line.starts_with("attach") {
            "failed"
        } else {
            "agent_not_found"
        };
        refused(&format!("{line} nobody --json"), code);
    }
    refused("wait nobody --timeout 1ms --json", "timeout");
    drop(node);
}

#[test]
fn what_is_behind_two_dashes_asks_for_no_json() {
    let folder = Scratch::new();
    let (code, _, err) = run(folder.path(), &["spawn", "ada", "--", "cat", "--json"]);
    assert_eq!(code, Some(1));
    assert!(
        err.starts_with("relay-broker: no broker is running here"),
        "{err}"
    );
}
