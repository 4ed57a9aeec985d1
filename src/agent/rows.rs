//! Which row of the profile table an agent goes by: the one its treatment names, else the one of its program. The operator's
//! own rows come before those that were measured.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::profile::{self, GENERIC, Profile};
use crate::msg::{AgentSpec, Treatment};

/// Packages whose program bears another name.
const PACKAGES: [(&str, &str); 4] = [
    ("@anthropic-ai/claude-code", "claude"),
    ("@openai/codex", "codex"),
    ("@google/gemini-cli", "gemini"),
    ("opencode-ai", "opencode"),
];

/// The operator's rows, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows(BTreeMap<String, Profile>);

impl Rows {
    /// One more, under the program name that it bears.
    pub fn add(&mut self, row: Profile) {
        self.0.insert(row.program.to_string(), row);
    }

    /// The row of that name.
    pub fn get(&self, name: &str) -> Option<Profile> {
        self.0.get(name).cloned().or_else(|| profile::known(name))
    }

    /// The names of all rows.
    pub fn names(&self) -> BTreeSet<String> {
        let measured = profile::table().into_iter();
        let measured = measured.map(|row| row.program.into_owned());
        self.0.keys().cloned().chain(measured).collect()
    }

    /// The row for an agent.
    pub fn of(&self, spec: &AgentSpec) -> Profile {
        let named = spec.treatment.profile.as_deref();
        if let Some(name) = named.filter(|name| self.get(name).is_none()) {
            log::warn!("agent {}: there is no profile {name:?} any more", spec.name);
        }
        self.find(&spec.treatment, &spec.argv)
    }

    /// The row for a program, with what its treatment says besides.
    pub fn find(&self, wish: &Treatment, argv: &[String]) -> Profile {
        let row = wish
            .profile
            .as_deref()
            .and_then(|name| self.get(name))
            .or_else(|| self.get(program(argv)))
            .unwrap_or(GENERIC);
        Profile {
            trust_folder: wish.trust_folder.unwrap_or(row.trust_folder),
            permission: wish.permission.unwrap_or(row.permission),
            ..row
        }
    }
}

/// The file name of the program that a command line starts, seen through `env` and `npx`.
pub fn program(argv: &[String]) -> &str {
    let mut words = argv.iter().map(String::as_str);
    let mut word = words.next().unwrap_or_default();
    if file_name(word) == "env" {
        word = words.find(|word| !word.contains('=')).unwrap_or_default();
    }
    if file_name(word) != "npx" {
        return file_name(word);
    }
    let flag = |word: &&str| matches!(*word, "-y" | "--yes" | "-q" | "--quiet" | "--");
    let package = words.find(|word| !flag(word)).unwrap_or_default();
    // The first letter may be the `@` of a scope.
    let version = package.rfind('@').filter(|at| *at > 0);
    let package = &package[..version.unwrap_or(package.len())];
    let listed = PACKAGES.iter().find(|(name, _)| *name == package);
    listed.map_or_else(|| file_name(package), |(_, program)| program)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(line: &str) -> String {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        program(&argv).to_owned()
    }

    #[test]
    fn a_cli_is_known_behind_env_and_npx_too() {
        for line in [
            "claude --resume",
            "/usr/local/bin/claude",
            "env claude",
            "/usr/bin/env A=1 B=two=3 /opt/claude -p x",
            "npx @anthropic-ai/claude-code",
            "npx -y @anthropic-ai/claude-code@2.1.197 --resume",
            "env A=1 npx --yes claude@latest",
        ] {
            assert_eq!(started(line), "claude", "{line}");
        }
        for (line, name) in [
            ("", ""),
            ("env", ""),
            ("env -i claude", "-i"),
            ("npx", ""),
            ("npx -p claude other", "-p"),
            ("npx opencode-ai@1", "opencode"),
            ("npx @some/tool@1", "tool"),
        ] {
            assert_eq!(started(line), name, "{line}");
        }
    }
}
