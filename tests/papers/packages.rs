//! What comes in through `Cargo.toml` is what `deny.toml` allows: licences, sources, and no async runtime. `cargo deny` looks
//! at the same file and at known holes besides; this test needs nothing but cargo.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::root;

/// What `deny.toml` says, as far as this test holds to it.
struct Rules {
    licenses: Vec<String>,
    banned: Vec<String>,
    registries: Vec<String>,
}

impl Rules {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("deny.toml")).expect("deny.toml");
        let file: toml::Table = text.parse().expect("TOML");
        let list = |table: &str, key: &str| {
            let list = file[table][key].as_array().cloned();
            list.unwrap_or_else(|| panic!("deny.toml: [{table}] {key}"))
        };
        let words = |list: Vec<toml::Value>| {
            let words = list.iter().filter_map(|word| word.as_str());
            words.map(str::to_owned).collect::<Vec<_>>()
        };
        let bans = list("bans", "deny");
        let crates = bans.iter().filter_map(|ban| ban.get("crate")?.as_str());
        Self {
            licenses: words(list("licenses", "allow")),
            banned: crates.map(str::to_owned).collect(),
            registries: words(list("sources", "allow-registry")),
        }
    }

    /// What is wrong with one package.
    fn objection(&self, name: &str, license: Option<&str>, source: Option<&str>) -> Option<String> {
        if self.banned.iter().any(|banned| banned == name) {
            return Some(format!("{name} is banned"));
        }
        let license = license.unwrap_or_default();
        if !allows(license, &self.licenses) {
            return Some(format!("{name} has the licence {license:?}"));
        }
        let source = source?;
        let registry = source.strip_prefix("registry+").unwrap_or_default();
        let known = self.registries.iter().any(|known| known == registry);
        (!known).then(|| format!("{name} comes from {source}"))
    }
}

/// Whether a licence expression (`MIT OR Apache-2.0`) can be met with these licences. An exception makes a licence milder.
fn allows(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    let met = either(&mut words, allowed);
    met && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        met |= both(words, allowed);
    }
    met
}

fn both(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let mut met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut Words<'_>, allowed: &[String]) -> bool {
    let met = match words.next() {
        Some("(") => {
            let met = either(words, allowed);
            met & (words.next() == Some(")"))
        }
        Some(license) => allowed.iter().any(|known| known == license),
        None => false,
    };
    if words.next_if_eq(&"WITH").is_some() {
        words.next();
    }
    met
}

/// The packages that this machine builds from, tests included.
fn packages() -> Vec<Value> {
    let host = Command::new(option_env!("RUSTC").unwrap_or("rustc"))
        .arg("-vV")
        .output();
    let host = String::from_utf8(host.expect("rustc").stdout).expect("its version");
    let host = host.lines().find_map(|line| line.strip_prefix("host: "));
    let output = Command::new(env!("CARGO"))
        .current_dir(root())
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host.expect("a host")])
        .output()
        .expect("cargo");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().cloned().unwrap_or_default()
}

/// Nothing comes in that binds who ships the program, from elsewhere, or with a runtime.
#[test]
fn every_package_is_one_that_deny_toml_allows() {
    let rules = Rules::read();
    let packages = packages();
    let wrong: Vec<_> = packages
        .iter()
        .filter_map(|package| {
            let text = |key: &str| package[key].as_str();
            rules.objection(
                text("name").unwrap_or_default(),
                text("license"),
                text("source"),
            )
        })
        .collect();
    assert!(
        packages.len() > 50,
        "only {} packages were found",
        packages.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A licence, a source or a runtime that is not allowed is found.
#[test]
fn a_package_that_is_not_allowed_is_found() {
    let rules = Rules::read();
    let index = Some("registry+https://github.com/rust-lang/crates.io-index");
    let git = Some("git+https://example.com/x");
    for (name, license, source) in [
        ("x", Some("GPL-3.0-only"), index),
        ("x", Some("MIT AND GPL-3.0-only"), index),
        ("x", Some("(MIT OR ISC) AND GPL-3.0-only"), index),
        ("x", None, index),
        ("x", Some("MIT"), git),
        ("tokio", Some("MIT"), index),
    ] {
        assert!(
            rules.objection(name, license, source).is_some(),
            "{name} {license:?}"
        );
    }
    for license in [
        "MIT/GPL-3.0",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0-only",
        "(MIT OR GPL-3.0-only) AND ISC",
    ] {
        assert_eq!(
            rules.objection("x", Some(license), index),
            None,
            "{license}"
        );
    }
}
