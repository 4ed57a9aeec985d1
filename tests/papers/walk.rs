//! The tables in `src/lib.rs` that name files and functions name those that are there.

use std::fs;

use super::root;

/// The files in a cell, each with the functions that stand behind it: `` `a.rs`: `f`, `g`; `b.rs` ``.
fn named(cell: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for word in cell.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            found.push((word.to_owned(), Vec::new()));
        } else if let Some((_, functions)) = found.last_mut() {
            functions.push(word.to_owned());
        }
    }
    found
}

/// What is missing of the files and functions that a cell names.
fn missing(cell: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (file, functions) in named(cell) {
        let Ok(text) = fs::read_to_string(root().join("src").join(&file)) else {
            missing.push(format!("there is no src/{file}"));
            continue;
        };
        let lacks = |name: &&String| {
            !["(", "<"]
                .iter()
                .any(|c| text.contains(&format!("fn {name}{c}")))
        };
        let absent = functions.iter().filter(lacks);
        missing.extend(absent.map(|name| format!("src/{file} has no function {name}")));
    }
    missing
}

/// The cells of the tables between two headings of the crate's documentation.
fn cells(text: &str) -> Vec<&str> {
    let (_, walk) = text
        .split_once("//! ## One message, step by step")
        .expect("the walk");
    let (walk, _) = walk.split_once("//! ## Glossary").expect("its end");
    let rows = walk.lines().filter_map(|line| line.strip_prefix("//! |"));
    rows.flat_map(|row| row.split('|'))
        .filter(|cell| cell.contains(".rs`"))
        .collect()
}

/// Whoever follows a message through the code finds each function where the page says.
#[test]
fn one_message_step_by_step_names_what_is_there() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("the crate's page");
    let cells = cells(&text);
    let missing: Vec<_> = cells.iter().flat_map(|cell| missing(cell)).collect();
    assert!(cells.len() > 20, "only {} steps were found", cells.len());
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// A file or a function that is not there is found.
#[test]
fn a_step_that_leads_nowhere_is_found() {
    assert_eq!(
        missing("`machine.rs`: `persist`, `decide`"),
        Vec::<String>::new()
    );
    assert_eq!(missing("`machine.rs`: `persist`, `turn`").len(), 1);
    assert_eq!(missing("`nowhere.rs`: `x`; `machine.rs`: `y`").len(), 2);
}
