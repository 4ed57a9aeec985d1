//! Reads the text of the program: its files, what of them is no test, and which modules each imports. Text, not the
//! compiler's view: code in macros is read as it is written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The sources without the files that are tests as a whole.
pub fn program() -> Vec<(String, String)> {
    let mut files = Vec::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&src, "", &mut files);
    assert!(files.len() > 20, "the sources are read");
    let tests: BTreeSet<String> = files
        .iter()
        .flat_map(|(file, text)| without_tests(file, text).1)
        .collect();
    files.retain(|(file, _)| {
        let module = module_of_file(file);
        !tests
            .iter()
            .any(|t| module == *t || module.starts_with(&format!("{t}::")))
    });
    files
}

/// Every `.rs` file under `dir`, relative to it.
pub fn sources(dir: &Path, prefix: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("src is there") {
        let path = entry.expect("readable").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            sources(&path, &format!("{prefix}{name}/"), found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("text");
            found.push((format!("{prefix}{name}"), text));
        }
    }
}

pub fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or_default()
}

/// `agent/core.rs` is `agent::core`, `agent/mod.rs` is `agent`.
pub fn module_of_file(file: &str) -> String {
    let bare = file.strip_suffix(".rs").unwrap_or(file);
    bare.strip_suffix("/mod").unwrap_or(bare).replace('/', "::")
}

/// The text without comments and without what only tests see, line by line, and the modules that are tests as a whole.
pub fn without_tests(file: &str, text: &str) -> (String, BTreeSet<String>) {
    let (mut out, mut test_modules) = (String::new(), BTreeSet::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let test_only = ["#[cfg(test)]", "#[cfg(all(test,"];
        if !test_only.iter().any(|cfg| line.trim().starts_with(cfg)) {
            out.push_str(uncommented(line));
            out.push('\n');
            continue;
        }
        out.push('\n');
        let indent = &line[..line.len() - line.trim_start().len()];
        // The item ends with its own line, or with the brace that stands where the attribute stood: rustfmt sees to it.
        for item in lines.by_ref() {
            out.push('\n');
            if let Some(name) = item
                .trim()
                .strip_suffix(';')
                .and_then(|i| i.split("mod ").nth(1))
            {
                let module = format!("{}::{name}", module_of_file(file));
                test_modules.insert(module.trim_start_matches("lib::").to_owned());
            }
            let ends_here =
                item.trim_end().ends_with(';') && !item.starts_with(&format!("{indent} "));
            if ends_here
                || item
                    .strip_prefix(indent)
                    .is_some_and(|rest| rest.starts_with('}'))
            {
                break;
            }
        }
    }
    (out, test_modules)
}

fn uncommented(line: &str) -> &str {
    let trimmed = line.trim_start();
    if trimmed.starts_with("//") {
        return "";
    }
    // Behind code a comment has a blank before it, which a URL in a text has not.
    line.find(" // ").map_or(line, |at| &line[..at])
}

/// Every module a file imports from, with the line.
pub fn imports(module: &str, code: &str) -> Vec<(usize, String)> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = paths(code, "crate::");
    if module == "main" {
        found.extend(paths(code, "relay_broker::"));
    }
    for (line, path) in paths(code, "super::") {
        let mut base = parent.to_owned();
        let mut path = path.as_str();
        while let Some(rest) = path.strip_prefix("super::") {
            base = base
                .rsplit_once("::")
                .map_or(String::new(), |(up, _)| up.to_owned());
            path = rest;
        }
        let whole = [base.as_str(), path].into_iter().filter(|p| !p.is_empty());
        found.push((line, whole.collect::<Vec<_>>().join("::")));
    }
    found.sort();
    found
}

/// Every path in `code` that begins with `start` (such as `crate::`), braces expanded, with its line.
pub fn paths(code: &str, start: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let line = 1 + code[..at].matches('\n').count();
        let mut expanded = Vec::new();
        expand(&code[at + start.len()..], "", &mut expanded);
        found.extend(expanded.into_iter().map(|path| (line, path)));
    }
    found
}

/// Adds the paths of one use tree to `found`, and gives the text behind it.
fn expand<'a>(text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let mut rest = text.trim_start();
    let mut path = prefix.to_owned();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            rest = inside;
            loop {
                rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
                match rest.chars().next() {
                    None => return rest,
                    Some('}') => return &rest[1..],
                    Some(_) => {
                        let before = rest.len();
                        rest = expand(rest, &path, found);
                        // ` as other` and whatever else a tree may hold that is no path.
                        rest = &rest[rest.find([',', '}']).unwrap_or(rest.len())..];
                        if rest.len() == before {
                            return rest;
                        }
                    }
                }
            }
        }
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let name = &rest[..end];
        rest = &rest[end..];
        if !name.is_empty() && name != "self" {
            if !path.is_empty() {
                path.push_str("::");
            }
            path.push_str(name);
        }
        match rest.strip_prefix("::") {
            Some(more) if !name.is_empty() => rest = more,
            _ => break,
        }
    }
    found.push(path);
    rest
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
