//! The changelog has the form that it claims: Keep a Changelog, newest first.

use std::fs;

use super::root;

/// The kinds of change that the form has.
const KINDS: [&str; 6] = [
    "Added",
    "Changed",
    "Deprecated",
    "Removed",
    "Fixed",
    "Security",
];

/// What is wrong with the headings of a changelog, for a program of this version.
fn objections(text: &str, version: &str) -> Vec<String> {
    let (mut wrong, mut versions, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("### ") {
            if !KINDS.contains(&kind) || kinds.contains(&kind) {
                wrong.push(format!(
                    "{kind:?} is no kind of change, or stands twice in one version"
                ));
            }
            kinds.push(kind);
        } else if let Some(heading) = line.strip_prefix("## ") {
            kinds.clear();
            versions.push(heading);
        } else if line.starts_with("####") {
            wrong.push(format!("{line:?} is too deep"));
        }
    }
    if versions.first() != Some(&"[Unreleased]") {
        wrong.push("what is not released yet comes first, under [Unreleased]".to_owned());
    }
    let newest = versions.get(1).copied().unwrap_or_default();
    if !newest.starts_with(&format!("[{version}] - ")) {
        wrong.push(format!("{version} is not the newest version: {newest:?}"));
    }
    for heading in versions.iter().skip(1) {
        let date = heading
            .split_once("] - ")
            .map(|(_, date)| date)
            .unwrap_or_default();
        let shape: String = date
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        if shape != "0000-00-00" {
            wrong.push(format!("{heading:?} is not [VERSION] - YYYY-MM-DD"));
        }
    }
    wrong
}

/// Whoever looks for what is new finds it where the form says.
#[test]
fn the_changelog_has_the_form_that_it_claims() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).expect("the changelog");
    let wrong = objections(&text, env!("CARGO_PKG_VERSION"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A changelog of another form is found.
#[test]
fn a_changelog_of_another_form_is_found() {
    let fine = "## [Unreleased]\n### Fixed\n## [1.2.0] - 2026-01-02\n### Added\n### Fixed\n";
    assert_eq!(objections(fine, "1.2.0"), Vec::<String>::new());
    for (from, to) in [
        ("[Unreleased]", "Next"),
        ("2026-01-02", "soon"),
        ("1.2.0", "1.1.0"),
        ("### Added", "### Fixed"),
        ("### Added", "#### Added"),
        ("### Added", "### News"),
    ] {
        let other = fine.replacen(from, to, 1);
        assert_ne!(
            objections(&other, "1.2.0"),
            Vec::<String>::new(),
            "{from} -> {to}"
        );
    }
}
