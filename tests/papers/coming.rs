//! The page for those who come from agent-relay-broker: each line of its tables names what holds it, which is there, and
//! variables that are said not to be read are not.

use std::fs;

use super::{files, root};

const PAGE: &str = "docs/from-agent-relay-broker.md";

/// The rows of all tables below headings that `wanted` takes, as cells.
fn rows(text: &str, wanted: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    let (mut rows, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            inside = wanted(heading);
        }
        let row = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"));
        if let (true, Some(row)) = (inside, row) {
            rows.push(row.split(" | ").collect());
        }
    }
    // Without the heads of the tables.
    rows.retain(|row: &Vec<&str>| !matches!(row[0], "What" | "Variable"));
    rows
}

/// Why a row is not held by anything, if so.
fn objection(row: &[&str]) -> Option<String> {
    let named = row.last().copied().unwrap_or_default();
    let marks: Vec<&str> = named.split('`').collect();
    let ["", path, ": ", name, ""] = marks[..] else {
        return Some(format!("{:?} names no test", row[0]));
    };
    let Ok(code) = fs::read_to_string(root().join(path)) else {
        return Some(format!("there is no {path}"));
    };
    let there = match path.ends_with(".rs") {
        true => code.contains(&format!("fn {name}(")),
        false => code.contains(&format!("test('{name}'")),
    };
    (!there).then(|| format!("{path} has no test {name:?}"))
}

#[test]
fn each_line_of_the_page_for_newcomers_is_held_by_a_test() {
    let text = fs::read_to_string(root().join(PAGE)).expect("a page");
    let rows = rows(&text, |heading| heading.starts_with("What is"));
    assert!(rows.len() > 20, "{} lines were found", rows.len());
    let wrong: Vec<String> = rows.iter().filter_map(|row| objection(row)).collect();
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn variables_that_are_said_not_to_be_read_are_not() {
    let text = fs::read_to_string(root().join(PAGE)).expect("a page");
    let rows = rows(&text, |heading| {
        heading.starts_with("Variables that are not")
    });
    // The list of what is taken out of a child's environment names some that are not read.
    let read = |file: &str| {
        let code = fs::read_to_string(file).expect("a source");
        let listed = code.find("pub const VARIABLES").map(|from| {
            let to = from + code[from..].find("];").expect("an end");
            from..to
        });
        match listed {
            Some(list) => [&code[..list.start], &code[list.end..]].concat(),
            None => code,
        }
    };
    let config: String = files(&root().join("src"), ".rs")
        .iter()
        .map(|path| read(&path.to_string_lossy()))
        .collect();
    let names = rows
        .iter()
        .flat_map(|row| row[0].split('`').skip(1).step_by(2));
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    let read: Vec<&&str> = names
        .iter()
        .filter(|name| config.contains(&format!("\"{name}\"")))
        .collect();
    assert!(read.is_empty(), "{read:?}");
}

#[test]
fn a_line_that_names_nothing_or_something_that_is_not_there_is_found() {
    let held = |named: &'static str| objection(&["a claim", named]);
    assert_eq!(held("`tests/papers/coming.rs`: `objection`"), None);
    assert!(held("`tests/papers/coming.rs`: `objector`").is_some());
    assert!(held("`tests/papers/going.rs`: `objection`").is_some());
    assert!(held("nothing").is_some());
}
