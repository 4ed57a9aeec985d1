//! Which row of the profile table an agent goes by: the one its treatment names, else the one of its program. The operator's
//! own rows come before those that were measured.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::profile::{self, GENERIC, Profile};
use crate::agent::repl;
use crate::msg::{AgentSpec, Treatment};

/// Packages whose program bears another name.
const PACKAGES: [(&str, &str); 5] = [
    ("@anthropic-ai/claude-code", "claude"),
    ("@openai/codex", "codex"),
    ("@google/gemini-cli", "gemini"),
    ("@qwen-code/qwen-code", "qwen"),
    ("opencode-ai", "opencode"),
];

/// The operator's rows, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles(BTreeMap<String, Profile>);

impl Profiles {
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
            .unwrap_or_else(|| self.by_command(argv));
        Profile {
            trust_folder: wish.trust_folder.unwrap_or(row.trust_folder),
            permission: wish.permission.unwrap_or(row.permission),
            ..row
        }
    }

    /// The row for a command line.
    pub fn by_command(&self, argv: &[String]) -> Profile {
        let (program, args) = started(argv);
        self.get(program)
            .or_else(|| repl::of(program, args))
            .unwrap_or(GENERIC)
    }
}

/// The file name of the program that a command line starts, seen through `env` and `npx`, and its arguments.
pub fn started(argv: &[String]) -> (&str, &[String]) {
    let mut words = argv.iter();
    let mut word = words.next().map_or("", String::as_str);
    if file_name(word) == "env" {
        word = behind_env(&mut words);
    }
    if file_name(word) == "npx" {
        let flag = |word: &str| matches!(word, "-y" | "--yes" | "-q" | "--quiet" | "--");
        word = program_of(words.find(|word| !flag(word)).map_or("", String::as_str));
    }
    (file_name(word), words.as_slice())
}

/// The program that `env` becomes.
fn behind_env<'a>(words: &mut std::slice::Iter<'a, String>) -> &'a str {
    while let Some(word) = words.next() {
        match word.as_str() {
            "-u" | "-C" | "--unset" | "--chdir" => _ = words.next(),
            flag if flag.starts_with('-') || flag.contains('=') => {}
            program => return program,
        }
    }
    ""
}

/// The program that a package brings.
fn program_of(package: &str) -> &str {
    // The first letter may be the `@` of a scope.
    let version = package.rfind('@').filter(|at| *at > 0);
    let package = &package[..version.unwrap_or(package.len())];
    let listed = PACKAGES.iter().find(|(name, _)| *name == package);
    listed.map_or(package, |(_, program)| program)
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(line: &str) -> String {
        let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        started(&argv).0.to_owned()
    }

    #[test]
    fn a_program_is_known_by_its_file_name() {
        let row = |line: &str| {
            let argv: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            Profiles::default().by_command(&argv)
        };
        assert!(row("/usr/local/bin/claude --resume").composer);
        assert_eq!(row("env A=1 bash -i").one_line, Some(true));
        assert_eq!(row("cat"), GENERIC);
        assert_eq!(row(""), GENERIC);
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
            "env -i A=1 claude",
            "env -u VARIABLE -C /claude claude",
            "env A=1 npx --yes claude@latest",
        ] {
            assert_eq!(program(line), "claude", "{line}");
        }
        for (line, name) in [
            ("", ""),
            ("env", ""),
            ("npx", ""),
            ("npx -p claude other", "-p"),
            ("npx opencode-ai@1", "opencode"),
            ("npx @some/tool@1", "tool"),
        ] {
            assert_eq!(program(line), name, "{line}");
        }
    }
}
