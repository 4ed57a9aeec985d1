//! Every section of a protocol that a comment cites stands in `docs/`, and the paper on the local API has all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use relay_broker::wire::event::BrokerEvent;

use super::{files, root};

/// The papers that comments cite, and the module of `src/docs.rs` that shows each in `cargo doc`.
const CITED: &[(&str, &str)] = &[
    ("engine-protocol", "engine_protocol"),
    ("local-api", "local_api"),
    ("injection", "injection"),
];

/// The sections of each cited paper, by the anchors in its headings.
fn sections() -> BTreeMap<&'static str, BTreeSet<String>> {
    let of = |paper: &str| {
        let text = fs::read_to_string(root().join(format!("docs/{paper}.md"))).expect("the paper");
        text.lines()
            .filter(|line| line.starts_with('#'))
            .filter_map(|line| line.split("<a id=\"").nth(1)?.split('"').next())
            .map(str::to_owned)
            .collect()
    };
    CITED.iter().map(|(paper, _)| (*paper, of(paper))).collect()
}

/// A section's number at the start of `text`: digits, perhaps a point and digits.
fn number(text: &str) -> Option<&str> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
    let whole = digits(text);
    let after = text[whole..].strip_prefix('.').map_or(0, digits);
    let end = if after > 0 { whole + 1 + after } else { whole };
    (whole > 0).then(|| &text[..end])
}

/// The sections that one comment names: `engine-protocol 4.7`, and those that follow it as `, 4.2` or `and 4.4`.
fn cited<'a>(text: &'a str, paper: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices(&format!("{paper} ")) {
        let mut rest = &text[at + paper.len() + 1..];
        while let Some(section) = number(rest) {
            found.push(section);
            rest = &rest[section.len()..];
            let Some(more) = rest
                .strip_prefix(", ")
                .or_else(|| rest.strip_prefix(" and "))
            else {
                break;
            };
            rest = more;
        }
    }
    found
}

/// The sections that links into the papers lead to, each with the text of its link.
fn linked<'a>(text: &'a str, module: &str) -> Vec<(&'a str, &'a str)> {
    let target = format!("](crate::docs::{module}#");
    text.match_indices(&target)
        .map(|(at, _)| {
            let label = text[..at].rsplit('[').next().unwrap_or_default();
            let section = text[at + target.len()..].split(')').next();
            (label, section.unwrap_or_default())
        })
        .collect()
}

/// What is wrong with the citations of one file.
fn broken_citations(
    text: &str,
    sections: &BTreeMap<&'static str, BTreeSet<String>>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (paper, module) in CITED {
        let known = &sections[paper];
        for section in cited(text, paper) {
            if !known.contains(section) {
                wrong.push(format!("{paper} has no section {section}"));
            }
        }
        for (label, section) in linked(text, module) {
            if !known.contains(section) {
                wrong.push(format!("{paper} has no section {section}"));
            }
            if label.rsplit(' ').next() != Some(section) {
                wrong.push(format!("the link \"{label}\" leads to section {section}"));
            }
        }
    }
    for old in ["engine-wire", "injection, rule"] {
        if text.contains(old) {
            wrong.push(format!(
                "\"{old}\" is no paper of this project; see src/docs.rs"
            ));
        }
    }
    wrong
}

/// The words in `snake_case` that stand in code marks in a section of a paper.
fn words_of<'a>(text: &'a str, section: &str) -> BTreeSet<&'a str> {
    let begins = format!("<a id=\"{section}\">");
    let part = text.split(&begins).nth(1).expect("the section");
    let part = part.split("<a id=").next().unwrap_or_default();
    part.split('`').skip(1).step_by(2).collect()
}

/// `WorkerReady` as events call it.
fn snake(variant: &str) -> String {
    let mut out = String::new();
    for (at, letter) in variant.char_indices() {
        if letter.is_uppercase() && at > 0 {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

/// A comment's words without its marks, so that a citation may go over a line's end.
fn comments_joined(text: &str) -> String {
    let marks = |c: char| c.is_whitespace() || c == '/' || c == '!';
    let lines = text.lines().map(|line| line.trim_start_matches(marks));
    lines.collect::<Vec<_>>().join(" ")
}

/// Whoever reads a comment that names a section of a protocol finds that section in `docs/`.
#[test]
fn every_section_that_a_comment_cites_stands_in_the_papers() {
    let (sections, mut wrong, mut seen) = (sections(), Vec::new(), 0);
    for folder in ["src", "tests"] {
        for file in files(&root().join(folder), ".rs") {
            if file.ends_with("papers/citations.rs") {
                continue;
            }
            let text = comments_joined(&fs::read_to_string(&file).expect("a source file"));
            seen += CITED
                .iter()
                .map(|(paper, _)| cited(&text, paper).len())
                .sum::<usize>();
            let broken = broken_citations(&text, &sections);
            wrong.extend(
                broken
                    .iter()
                    .map(|what| format!("{}: {what}", file.display())),
            );
        }
    }
    assert!(seen > 100, "only {seen} citations were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever writes a client finds every kind of event in the paper on the local API.
#[test]
fn every_kind_of_event_stands_in_the_paper() {
    let source = fs::read_to_string(root().join("src/wire/event.rs")).expect("the events");
    let (_, events) = source
        .split_once("pub enum BrokerEvent {")
        .expect("the list of events");
    let (events, _) = events.split_once("\n}\n").expect("its end");
    let kinds: Vec<_> = events
        .lines()
        .filter_map(|line| Some(line.strip_prefix("    ")?.split_once(" {")?.0))
        .filter(|name| name.starts_with(char::is_uppercase))
        .map(snake)
        .collect();
    assert_eq!(kinds, BrokerEvent::KINDS, "the list that --only goes by");
    let paper = fs::read_to_string(root().join("docs/local-api.md")).expect("the paper");
    let told = words_of(&paper, "3.2");
    let missing: Vec<_> = kinds
        .iter()
        .filter(|kind| !told.contains(kind.as_str()))
        .collect();
    assert!(kinds.len() > 30, "only {} kinds were found", kinds.len());
    assert!(missing.is_empty(), "not in local-api 3.2: {missing:?}");
}

/// And every route.
#[test]
fn every_route_stands_in_the_paper() {
    let source = fs::read_to_string(root().join("src/api/routes.rs")).expect("the routes");
    let (_, table) = source
        .split_once("const ROUTES: ")
        .expect("the table of routes");
    let (table, _) = table.split_once("];").expect("its end");
    let paper = fs::read_to_string(root().join("docs/local-api.md")).expect("the paper");
    let routes: Vec<_> = table
        .split('"')
        .filter(|text| text.starts_with('/'))
        .collect();
    let told = |route: &str| {
        let shown = route.replace("{name}", "NAME");
        let last = shown.rsplit('/').next().unwrap_or_default();
        let folder = &shown[..shown.len() - last.len()];
        let id = shown.replace("NAME", "ID");
        // Beside another one it is shortened: `…/unsubscribe`.
        paper.contains(&shown)
            || paper.contains(&id)
            || (paper.contains(folder) && paper.contains(&format!("…/{last}")))
    };
    let missing: Vec<_> = routes.iter().filter(|route| !told(route)).collect();
    assert!(routes.len() > 30, "only {} routes were found", routes.len());
    assert!(missing.is_empty(), "not in local-api 2: {missing:?}");
}

/// A citation that leads nowhere is found, in words, in a list and in a link.
#[test]
fn a_citation_that_leads_nowhere_is_found() {
    let sections = sections();
    for planted in [
        "(engine-protocol 99.1)",
        "(engine-protocol 4.2, 99.1)",
        "(local-api 2.1 and 2.99)",
        "[injection 1.99](crate::docs::injection#1.99)",
        "[injection 1.8](crate::docs::injection#1.9)",
        "(engine-wire 4.2)",
    ] {
        assert_ne!(
            broken_citations(planted, &sections),
            Vec::<String>::new(),
            "{planted}"
        );
    }
    assert!(broken_citations("(engine-protocol 4.2, 4.4 and 3.4).", &sections).is_empty());
}
