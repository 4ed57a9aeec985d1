//! Holds the program to one meaning for each name: a type that several files use is declared once, and no
//! file grows beyond what can be read at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::sources::{imports, module_of_file, program, sources, without_tests};

/// Names that each state machine gives to its own; they are written with their module.
const OF_EACH_MACHINE: &[&str] = &["Event", "Effect", "Record", "State", "Out"];

/// How many lines a file may have. Tables of routes and fixtures are no code.
const LINES: usize = 600;

/// One declaration of a type.
#[derive(Debug)]
struct Declared {
    name: String,
    module: String,
}

/// The types that a file declares at its outer level or in a function, those of its tests apart.
fn declared(file: &str, code: &str) -> Vec<Declared> {
    let mut found = Vec::new();
    for line in code.lines() {
        let bare = line.trim_start();
        // An associated type is no type of its own.
        if bare.starts_with("type ") && bare.len() < line.len() {
            continue;
        }
        let bare = match bare.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(')').map_or(rest, |p| p.1),
            Some(rest) => rest,
            None => bare,
        };
        let mut words = bare.split_whitespace();
        let is_type = words
            .next()
            .is_some_and(|word| ["struct", "enum", "trait", "type", "union"].contains(&word));
        if let (true, Some(name)) = (is_type, words.next()) {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            found.push(Declared {
                name: name[..end.unwrap_or(name.len())].to_owned(),
                module: module_of_file(file),
            });
        }
    }
    found
}

/// What a file takes from others: whole paths, and `module::Name` as it is written in code.
fn taken(file: &str, code: &str) -> BTreeSet<String> {
    let module = module_of_file(file);
    let mut all: BTreeSet<String> = imports(&module, code).into_iter().map(|(_, p)| p).collect();
    for (at, _) in code.match_indices("::") {
        let before = code[..at]
            .rsplit(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        let behind = code[at + 2..]
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .next();
        if let (Some(before), Some(behind)) = (before, behind)
            && before.starts_with(char::is_lowercase)
            && behind.starts_with(char::is_uppercase)
        {
            all.insert(format!("…::{before}::{behind}"));
        }
    }
    all
}

/// Whether one of the paths that a file takes leads to the declaration, perhaps over a re-export further up.
fn leads_to(taken: &BTreeSet<String>, declared: &Declared) -> bool {
    let last = declared.module.rsplit("::").next().unwrap_or_default();
    if taken.contains(&format!("…::{last}::{}", declared.name)) {
        return true;
    }
    taken.iter().any(|path| match path.rsplit_once("::") {
        Some((from, name)) if name == declared.name && !from.starts_with('…') => {
            declared.module == from || declared.module.starts_with(&format!("{from}::"))
        }
        _ => false,
    })
}

/// Names that stand for more than one type although other files use one of them.
fn ambiguous(files: &[(String, String)]) -> Vec<String> {
    let mut by_name: BTreeMap<String, Vec<Declared>> = BTreeMap::new();
    for (file, code) in files {
        for one in declared(file, code) {
            by_name.entry(one.name.clone()).or_default().push(one);
        }
    }
    let taken: Vec<(String, BTreeSet<String>)> = files
        .iter()
        .map(|(file, code)| (module_of_file(file), taken(file, code)))
        .collect();
    let mut wrong = Vec::new();
    for (name, all) in by_name {
        let modules: BTreeSet<&str> = all.iter().map(|one| one.module.as_str()).collect();
        if modules.len() < 2 || OF_EACH_MACHINE.contains(&name.as_str()) {
            continue;
        }
        let is_used_outside = |one: &Declared| {
            taken
                .iter()
                .any(|(module, taken)| *module != one.module && leads_to(taken, one))
        };
        if all.iter().any(is_used_outside) {
            let modules: Vec<&str> = modules.into_iter().collect();
            wrong.push(format!("`{name}` is declared in {}", modules.join(" and ")));
        }
    }
    wrong
}

/// The sources without their tests.
fn product() -> Vec<(String, String)> {
    let without = |(file, text): (String, String)| {
        let (code, _) = without_tests(&file, &text);
        (file, code)
    };
    program().into_iter().map(without).collect()
}

#[test]
fn a_type_that_files_share_has_a_name_of_its_own() {
    let wrong = ambiguous(&product());
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn a_name_with_two_meanings_is_found_and_one_that_stays_at_home_is_not() {
    let files = |uses: &str| {
        [
            ("wire/up.rs", "pub struct Link {}"),
            ("net/link.rs", "pub(crate) enum Link {}"),
            ("api/mod.rs", uses),
        ]
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
    };
    for uses in [
        "use crate::net::link::Link;",
        "use crate::net::{Socket, Link};",
        "fn f(link: link::Link) {}",
    ] {
        let wrong = ambiguous(&files(uses));
        assert_eq!(
            wrong,
            ["`Link` is declared in net::link and wire::up"],
            "{uses}"
        );
    }
    assert!(ambiguous(&files("use crate::net::Socket;")).is_empty());
}

#[test]
fn no_file_is_longer_than_can_be_read_at_once() {
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        sources(&path, &format!("{folder}/"), &mut files);
    }
    let long: Vec<String> = files
        .iter()
        .map(|(file, text)| (file, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES)
        .map(|(file, lines)| format!("{file} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}
