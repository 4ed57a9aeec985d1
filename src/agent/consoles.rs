//! Which programs run what they read line by line: shells, languages' prompts, consoles of databases and debuggers. Knows them
//! by their names and arguments only.

/// Shells and languages read commands, unless they are given a program to run, which may be anything: as a file, or behind
/// an option with one of these letters.
const INTERPRETERS: [(&str, &[char]); 12] = [
    ("ash", &['c']),
    ("bash", &['c']),
    ("dash", &['c']),
    ("fish", &['c']),
    ("ipython", &['c', 'm']),
    ("ksh", &['c']),
    ("node", &['e', 'p']),
    ("python", &['c', 'm']),
    ("python3", &['c', 'm']),
    ("ruby", &['e']),
    ("sh", &['c']),
    ("zsh", &['c']),
];
/// Programs that read commands, whatever they are given.
const CONSOLES: [&str; 9] = [
    "bc",
    "gdb",
    "irb",
    "lua",
    "mariadb",
    "mysql",
    "psql",
    "redis-cli",
    "sqlite3",
];
/// Options of interpreters that are followed by a value.
const WITH_VALUE: [&str; 9] = [
    "+O",
    "--import",
    "--init-file",
    "--rcfile",
    "--require",
    "-O",
    "-W",
    "-X",
    "-o",
];

/// Whether a command line starts one of them.
pub fn runs_lines(argv: &[String]) -> bool {
    let mut words = argv.iter().map(String::as_str);
    let mut word = words.next().unwrap_or_default();
    if file_name(word) == "env" {
        word = words
            .find(|word| !word.contains('=') && !word.starts_with('-'))
            .unwrap_or_default();
    }
    let name = file_name(word);
    let interpreter = INTERPRETERS.iter().find(|(known, _)| *known == name);
    CONSOLES.contains(&name)
        || interpreter.is_some_and(|(_, letters)| reads_commands(words, letters))
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Whether an interpreter is given neither a file nor a text to run.
fn reads_commands<'a>(mut args: impl Iterator<Item = &'a str>, letters: &[char]) -> bool {
    while let Some(arg) = args.next() {
        if WITH_VALUE.contains(&arg) {
            args.next();
            continue;
        }
        let short = arg.starts_with('-') && !arg.starts_with("--");
        let long = ["--eval", "--print", "--command"];
        let given = short && arg.contains(letters) || long.iter().any(|name| arg.starts_with(name));
        if given || !arg.starts_with(['-', '+']) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reads_commands_is_told_from_what_runs_a_program() {
        let runs = |line: &str| {
            let argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
            runs_lines(&argv)
        };
        for line in [
            "bash",
            "/bin/sh -i",
            "bash -e --norc --rcfile mine -o vi",
            "env -i A=1 /usr/bin/python3 -q",
            "node -i",
            "psql -h there base",
            "sqlite3 file.db",
        ] {
            assert!(runs(line), "{line}");
        }
        for line in [
            "sh -c exec",
            "bash -lc exec",
            "bash agent.sh",
            "python3 -m agent",
            "env python3 agent.py",
            "node --no-warnings agent.js",
            "node --eval=1",
            "claude",
            "aider",
            "env",
            "",
        ] {
            assert!(!runs(line), "{line}");
        }
    }
}
