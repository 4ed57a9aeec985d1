//! Every link in a Markdown file leads somewhere: to a file of the project, and there to a heading. Addresses in the net
//! are not tried.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::markdown::Paper;
use super::{files, papers, root};

/// `docs/../README.md` is `README.md`; `None` for what lies outside.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => clean.pop().then_some(())?,
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    Some(clean)
}

/// Why a link of this paper leads nowhere.
fn objection(paper: &Paper, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = paper.path.parent().unwrap_or(Path::new(""));
    let there = match path {
        "" => paper.path.clone(),
        path => match inside(&folder.join(path)) {
            Some(path) => path,
            None => return Some(format!("{target} leads out of the project")),
        },
    };
    if !root().join(&there).exists() {
        return Some(format!("there is no {}", there.display()));
    }
    if anchor.is_empty() {
        return None;
    }
    let text = fs::read_to_string(root().join(&there)).ok()?;
    let anchors = Paper::new(there.clone(), text).anchors();
    (!anchors.contains(anchor)).then(|| format!("{} has no heading {anchor}", there.display()))
}

/// Files that are named in code marks, such as `src/lib.rs`.
fn paths(paper: &Paper) -> Vec<(usize, String)> {
    let ours = [
        "src/",
        "tests/",
        "docs/",
        "scripts/",
        "fixtures/",
        "packaging/",
        ".ci/",
    ];
    let code = paper.code().into_iter();
    let named = code.filter(|code| code.language.is_none());
    let words = named.filter_map(|code| {
        let word = code.text.split_whitespace().next()?.to_owned();
        Some((code.line, word))
    });
    words
        .filter(|(_, word)| ours.iter().any(|folder| word.starts_with(folder)))
        .collect()
}

/// Whoever follows a link finds what it names.
#[test]
fn every_link_in_a_markdown_file_leads_somewhere() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for paper in papers() {
        for (line, target) in paper.targets() {
            seen += 1;
            let what = objection(&paper, &target);
            wrong.extend(what.map(|what| format!("{}:{line}: {what}", paper.path.display())));
        }
    }
    assert!(seen > 50, "only {seen} links were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// And whoever opens a file that is named finds it. The changelog also speaks of what was.
#[test]
fn every_file_that_a_markdown_file_names_is_there() {
    let mut wrong = Vec::new();
    for paper in papers() {
        if paper.path.ends_with("CHANGELOG.md") {
            continue;
        }
        for (line, path) in paths(&paper) {
            if !root().join(&path).exists() {
                wrong.push(format!(
                    "{}:{line}: there is no {path}",
                    paper.path.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A link that leads nowhere is found: a file that is not there, a heading that is not there, a way out.
#[test]
fn a_link_that_leads_nowhere_is_found() {
    let paper = Paper::new("docs/guide.md", "");
    for target in [
        "nowhere.md",
        "../nowhere/",
        "../README.md#nowhere",
        "../../etc",
        "#nowhere",
    ] {
        assert!(objection(&paper, target).is_some(), "{target}");
    }
    for target in [
        "../README.md#two-commands",
        "engine-protocol.md#4.7",
        "https://example.com/#x",
    ] {
        assert_eq!(objection(&paper, target), None, "{target}");
    }
}

/// Comments keep to the width that CONTRIBUTING.md names; a table's row is one line, however long.
#[test]
fn no_comment_is_wider_than_is_agreed() {
    let folders = ["src", "tests"].map(|folder| files(&root().join(folder), ".rs"));
    let mut wide = Vec::new();
    for file in folders.iter().flatten() {
        let text = fs::read_to_string(file).expect("a source file");
        for (at, line) in text.lines().enumerate() {
            let width = line.chars().count();
            let line = line.trim_start_matches(' ');
            let is_row = line.starts_with("//! |") || line.starts_with("/// |");
            if line.starts_with("//") && !is_row && width > 126 {
                wide.push(format!("{}:{}", file.display(), at + 1));
            }
        }
    }
    assert!(
        wide.is_empty(),
        "wider than 126 columns:\n{}",
        wide.join("\n")
    );
}
