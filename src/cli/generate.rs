//! What shells and `man` read about the command line, made from the very definitions that parse it.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

use super::args::{Cli, CompletionShell};
use super::context::Context;
use super::failure::Failure;

/// Prints what a shell needs to complete the program's commands, flags and words.
///
/// # Errors
/// When standard output takes nothing.
pub fn completions(c: &Context, shell: CompletionShell) -> Result<(), Failure> {
    let script = completion_script(shell);
    let name = match shell {
        CompletionShell::Bash => "bash",
        CompletionShell::Zsh => "zsh",
        CompletionShell::Fish => "fish",
    };
    c.tell(&json!({"shell": name, "script": script}), &script)
}

/// Prints the program's name and version.
///
/// # Errors
/// When standard output takes nothing.
pub fn version(c: &Context) -> Result<(), Failure> {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    c.tell(
        &json!({"name": name, "version": version}),
        &format!("{name} {version}\n"),
    )
}

fn completion_script(shell: CompletionShell) -> String {
    let shell = match shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let mut program = shown(&Cli::command());
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    match shell {
        // clap_complete sets one name for a command of a program with a hyphen and asks for another.
        Shell::Bash => script.replace("relay__subcmd__broker__subcmd__", "relay__broker__subcmd__"),
        _ => script,
    }
}

/// Writes a manual page for the program and one for each of its commands, in section 1.
///
/// # Errors
/// When the folder cannot be made or written in.
pub fn manual(folder: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(folder).and_then(|()| write_pages(folder));
    written.map_err(|e| {
        Failure::new(format!(
            "manual pages cannot be written in {}: {e}",
            folder.display()
        ))
    })
}

fn write_pages(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), folder)
}

/// The program with what its help shows and nothing else; bash would be told of hidden commands, too.
fn shown(program: &clap::Command) -> clap::Command {
    let commands = program.get_subcommands();
    clap::Command::new(env!("CARGO_PKG_NAME"))
        .args(program.get_arguments().cloned())
        .subcommands(commands.filter(|command| !command.is_hide_set()).cloned())
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .version(env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands() -> (Vec<String>, Vec<String>) {
        let program = Cli::command();
        let (hidden, shown): (Vec<_>, Vec<_>) =
            program.get_subcommands().partition(|c| c.is_hide_set());
        let names = |list: Vec<&clap::Command>| {
            let names = list.iter().map(|command| command.get_name().to_owned());
            names.collect::<Vec<_>>()
        };
        (names(shown), names(hidden))
    }

    #[test]
    fn every_shell_is_told_every_command_and_none_that_is_hidden() {
        let (shown, hidden) = commands();
        for shell in [
            CompletionShell::Bash,
            CompletionShell::Zsh,
            CompletionShell::Fish,
        ] {
            let script = completion_script(shell);
            for name in &shown {
                assert!(script.contains(name), "{shell:?}: {name}");
            }
            for name in &hidden {
                assert!(!script.contains(name), "{shell:?}: {name}");
            }
        }
    }

    #[test]
    fn every_command_has_a_manual_page() {
        let folder = std::env::temp_dir().join(format!("relay-manual-{}", std::process::id()));
        manual(&folder).expect("room");
        let (shown, hidden) = commands();
        let page = |name: &str| folder.join(format!("relay-broker-{name}.1"));
        for name in &shown {
            let text = std::fs::read_to_string(page(name)).expect("a page");
            assert!(text.contains(".SH SYNOPSIS"), "{name}");
        }
        assert!(hidden.iter().all(|name| !page(name).exists()));
        let text = std::fs::read_to_string(folder.join("relay-broker.1")).expect("a page");
        assert!(shown.iter().all(|name| {
            text.contains(&format!("relay\\-broker\\-{}(1)", name.replace('-', "\\-")))
        }));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
