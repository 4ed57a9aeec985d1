//! Which row of the profile table an agent goes by: the one its treatment names, else the one of its program. The operator's
//! own rows come before those that were measured.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::profile::{self, GENERIC, Profile};
use crate::agent::repl;
use crate::known_clis::started;
use crate::msg::{AgentSpec, Treatment};

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
            tools: row.tools.filter(|_| wish.tools != Some(false)),
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
