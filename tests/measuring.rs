//! The numbers that monitoring reads: what a strict reader of both formats finds in them, who may read them, and whether
//! what is shipped for Prometheus and Grafana names numbers that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Node, Scratch, command, try_http, until};

/// One family of metrics, as a strict reader takes it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// Name and labels of each sample, and its value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The families of a text in one of the two formats, by name. Panics at anything that a reader need not understand.
fn parse(text: &str, open: bool) -> BTreeMap<String, Family> {
    let body = match open {
        true => text.strip_suffix("# EOF\n").expect("an end"),
        false => text,
    };
    assert!(
        body.ends_with('\n') && !body.contains("# EOF"),
        "whole lines"
    );
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            assert!(is_name(name) && help.ends_with('.'), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(name, helped, "HELP and TYPE belong together");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            let family = Family {
                kind: kind.to_owned(),
                samples: Vec::new(),
            };
            assert!(
                families.insert(name.to_owned(), family).is_none(),
                "{name} comes twice"
            );
            current = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (name, unit) = rest.split_once(' ').expect("a unit");
            assert!(
                open && name == current && name.ends_with(&format!("_{unit}")),
                "{line}"
            );
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&current).expect("a TYPE before samples");
            assert!(
                fits(&current, &family.kind, &name, open),
                "{line} in {current}"
            );
            let again = family
                .samples
                .iter()
                .any(|(n, l, _)| *n == name && *l == labels);
            assert!(!again, "{line} comes twice");
            family.samples.push((name, labels, value));
        }
    }
    families.values().for_each(check_histogram);
    families
}

/// Whether a sample of that name belongs to the family.
fn fits(family: &str, kind: &str, name: &str, open: bool) -> bool {
    match (kind, open) {
        ("counter", false) => name == family && name.ends_with("_total"),
        ("counter", true) => !family.ends_with("_total") && name == format!("{family}_total"),
        ("histogram", _) => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| name == format!("{family}{end}")),
        _ => name == family && !name.ends_with("_total"),
    }
}

fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
    assert!(value.is_finite() && value >= 0.0, "{line}");
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect("closed")),
        None => (series, ""),
    };
    assert!(is_name(name), "{line}");
    let mut found = BTreeMap::new();
    for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
        let (label, text) = pair.split_once("=\"").expect("a quoted label");
        assert!(is_name(label), "{line}");
        let text = text.strip_suffix('"').unwrap_or(text);
        assert!(
            found.insert(label.to_owned(), text.to_owned()).is_none(),
            "{line}"
        );
    }
    (name.to_owned(), found, value)
}

fn check_histogram(family: &Family) {
    if family.kind != "histogram" {
        return;
    }
    let of = |end: &str| {
        let all = family.samples.iter();
        all.filter(|(name, ..)| name.ends_with(end))
            .collect::<Vec<_>>()
    };
    let (mut bound, mut before) = (f64::NEG_INFINITY, 0.0);
    for (_, labels, value) in of("_bucket") {
        let le: f64 = labels["le"].parse().expect("a bound");
        assert!(le > bound && *value >= before, "{family:?}");
        (bound, before) = (le, *value);
    }
    assert_eq!(bound, f64::INFINITY);
    assert_eq!(of("_count")[0].2, before, "the last bucket holds all");
    assert_eq!(of("_sum").len(), 1);
}

/// The metrics in a format, with that key.
fn scrape(node: &Node, key: &str, accept: &str) -> (u16, String, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent
        .get(format!("{}/metrics", node.api))
        .header("authorization", format!("Bearer {key}"))
        .header("accept", accept)
        .call()
        .expect("an answer");
    let kind = answer.headers().get("content-type").cloned();
    let kind = kind.and_then(|kind| kind.to_str().ok().map(str::to_owned));
    let text = answer.body_mut().read_to_string().expect("text");
    (answer.status().as_u16(), kind.unwrap_or_default(), text)
}

const OPEN: &str = "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5";

fn value(families: &BTreeMap<String, Family>, family: &str, name: &str, label: &str) -> f64 {
    let samples = &families
        .get(family)
        .unwrap_or_else(|| panic!("{family}"))
        .samples;
    let found = samples.iter().find(|(n, labels, _)| {
        n == name && (label.is_empty() || labels.values().any(|l| l == label))
    });
    found
        .unwrap_or_else(|| panic!("{name} {label}: {samples:?}"))
        .2
}

#[test]
fn what_happened_is_counted_and_both_formats_tell_the_same() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    // By way of the engine, so that it is told of the end.
    let token = node.engine.register("bob");
    node.engine.dm(&token, "ada", "hello");
    until("the message's whole way", || {
        let (_, _, text) = scrape(&node, &node.key, "*/*");
        let all = parse(&text, false);
        let acked = "relay_broker_delivery_acked_seconds";
        (value(&all, acked, &format!("{acked}_count"), "") == 1.0).then_some(())
    });
    let (status, kind, text) = scrape(&node, &node.key, "text/plain");
    assert_eq!(
        (status, kind.as_str()),
        (200, "text/plain; version=0.0.4; charset=utf-8")
    );
    let plain = parse(&text, false);
    let (status, kind, text) = scrape(&node, &node.key, OPEN);
    assert_eq!(
        (status, kind.as_str()),
        (
            200,
            "application/openmetrics-text; version=1.0.0; charset=utf-8"
        )
    );
    let open = parse(&text, true);
    for families in [&plain, &open] {
        let one = |family: &str, label: &str| value(families, family, family, label);
        assert_eq!(one("relay_broker_link_up", ""), 1.0);
        assert_eq!(one("relay_broker_journal_writable", ""), 1.0);
        assert!(one("relay_broker_journal_bytes", "") > 100.0);
        assert_eq!(one("relay_broker_agents", "ready"), 1.0);
        assert_eq!(one("relay_broker_agent_ready", "ada"), 1.0);
        assert_eq!(one("relay_broker_agent_deliveries_pending", "ada"), 0.0);
        assert!(one("process_open_fds", "") > 3.0);
        for step in ["typed", "verified", "acked"] {
            let family = format!("relay_broker_delivery_{step}_seconds");
            let count = value(families, &family, &format!("{family}_count"), "");
            assert_eq!(count, 1.0, "{step}");
        }
        let sync = "relay_broker_journal_sync_seconds";
        assert!(value(families, sync, &format!("{sync}_count"), "") > 1.0);
    }
    let total = "relay_broker_deliveries_verified_total";
    assert_eq!(value(&plain, total, total, ""), 1.0);
    let family = total.trim_end_matches("_total");
    assert_eq!(value(&open, family, total, ""), 1.0);
    assert_eq!(plain.len(), open.len());
}

#[test]
fn nobody_reads_them_without_a_key_and_their_own_key_opens_nothing_else() {
    let folder = Scratch::new();
    std::fs::write(folder.path().join("metrics-key"), "a-key-of-prometheus\n").expect("room");
    let node = Node::up(folder.path(), &["--metrics-key-file", "metrics-key"]);
    let (status, _, text) = scrape(&node, "", "*/*");
    assert_eq!(status, 401, "{text}");
    assert!(!text.contains("relay_broker_"), "{text}");
    assert_eq!(scrape(&node, "another", "*/*").0, 401);
    assert_eq!(scrape(&node, "a-key-of-prometheus", "*/*").0, 200);
    assert_eq!(scrape(&node, &node.key, "*/*").0, 200);
    for path in ["/api/status", "/api/spawned", "/api/metrics"] {
        let url = format!("{}{path}", node.api);
        let (status, _) = try_http("GET", &url, "a-key-of-prometheus", None).expect("an answer");
        assert_eq!(status, 401, "{path}");
    }
    let missing = command(
        folder.path(),
        &[
            "--state-dir",
            "other",
            "up",
            "--metrics-key-file",
            "missing",
        ],
    )
    .output()
    .expect("it starts");
    assert_eq!(missing.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("--metrics-key-file"));
}

#[test]
fn the_alerts_and_the_dashboard_that_are_shipped_name_numbers_that_exist() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let (_, _, text) = scrape(&node, &node.key, "*/*");
    let names: BTreeSet<String> = parse(&text, false)
        .into_values()
        .flat_map(|family| family.samples.into_iter().map(|(name, ..)| name))
        .collect();
    let rules = include_str!("../packaging/prometheus/relay-broker.rules.yml");
    let dashboard = include_str!("../packaging/grafana/relay-broker.json");
    serde_json::from_str::<serde_json::Value>(dashboard).expect("JSON");
    assert_eq!(rules.matches("- alert: ").count(), 5);
    for (what, text) in [("the alerts", rules), ("the dashboard", dashboard)] {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let named: BTreeSet<&str> = words
            .filter(|word| word.starts_with("relay_broker_") || word.starts_with("process_"))
            .collect();
        assert!(named.len() >= 5, "{what}");
        for name in named {
            assert!(names.contains(name), "{what}: {name}");
        }
    }
}

/// What Prometheus's own tool says of a file, or of the text on its standard input; `None` where it is not installed.
fn promtool(args: &[&str], input: &str) -> Option<String> {
    let mut tool = Command::new("promtool");
    tool.args(args).stdin(Stdio::piped());
    let started = tool.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut tool) = started else {
        eprintln!("promtool is not installed: {args:?} is NOT tried");
        return None;
    };
    let mut stdin = tool.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads all");
    drop(stdin);
    let out = tool.wait_with_output().expect("ours");
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success(), "promtool {args:?}: {said}");
    Some(said)
}

#[test]
fn prometheus_itself_takes_the_metrics_and_the_alerts() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &["--agent", "ada=cat"]);
    node.ready("ada");
    let (_, _, text) = scrape(&node, &node.key, "text/plain");
    if let Some(said) = promtool(&["check", "metrics"], &text) {
        assert_eq!(said, "", "not even a word on style");
    }
    let rules =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus/relay-broker.rules.yml");
    if let Some(said) = promtool(&["check", "rules", rules.to_str().expect("text")], "") {
        assert!(said.contains("5 rules found"), "{said}");
    }
}
