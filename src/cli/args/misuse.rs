//! A command line that is not understood, put in one line with what may have been meant, and whose help to read.

use serde_json::json;

use crate::cli::failure::Failure;

/// How many letters a slip of the fingers gets wrong: one more, one less, another, or two that changed places.
const SLIP: usize = 2;

/// Commands that end something. A slip of the fingers keeps the first letter; whoever says `start` means no `restart`.
const ENDING: [&str; 3] = ["release", "restart", "stop"];

/// Words of other tools, and of this kind of tool in general, with what says it here.
const OTHER_WORDS: [(&str, &str); 12] = [
    ("start", "up"),
    ("run", "up"),
    ("serve", "up"),
    ("daemon", "up --detach"),
    ("--daemon", "up --detach"),
    ("--daemonize", "up --detach"),
    ("--background", "up --detach"),
    ("validate", "check"),
    ("list", "agents"),
    ("logs", "events"),
    ("inject", "send"),
    ("message", "send"),
];

/// A command line that cannot be meant, as one line with a way out; help and version as they are.
pub(super) fn failure(
    program: &clap::Command,
    error: &clap::Error,
    args: &[std::ffi::OsString],
) -> Failure {
    use clap::error::ErrorKind;
    let text = error.to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return shown(error.kind(), text, args);
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            return incomplete(program, args);
        }
        _ => {}
    }
    let mut line = String::new();
    let meant = command_meant(program, &text, args);
    let tips = [
        close_commands(error),
        close_flags(error),
        said_elsewhere(program, error),
        behind_dashes(error, &meant, args),
    ];
    let parts = text
        .lines()
        .map(str::trim)
        .take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
        .filter(|part| {
            let ours = part.contains("similar subcommand")
                || part.contains("similar argument")
                || part.contains("as a value, use '-- ");
            !(part.is_empty() || part.starts_with("tip: ") && ours)
        });
    for part in parts.chain(tips.iter().flatten().map(String::as_str)) {
        let part = part.strip_prefix("error: ").unwrap_or(part);
        if !line.is_empty() {
            line.push_str(if line.ends_with(':') { " " } else { "; " });
        }
        line.push_str(part);
    }
    Failure::usage(format!("{line}; see `{meant} --help`"))
}

/// Whether `--json` is among the arguments, up to where those of another program begin: also of a command line that cannot be
/// meant.
pub fn wants_json(args: &[std::ffi::OsString]) -> bool {
    let own = args.iter().take_while(|arg| *arg != "--");
    own.into_iter().any(|arg| arg == "--json")
}

/// Help and version, as text or as one line of JSON.
fn shown(kind: clap::error::ErrorKind, text: String, args: &[std::ffi::OsString]) -> Failure {
    use clap::error::ErrorKind::DisplayVersion;
    let facts = match (wants_json(args), kind) {
        (false, _) => return Failure::shown(text),
        (true, DisplayVersion) => {
            json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")})
        }
        (true, _) => json!({"help": text}),
    };
    Failure::shown(format!("{facts}\n"))
}

/// A command line without a command, or with one that only leads to others.
fn incomplete(program: &clap::Command, args: &[std::ffi::OsString]) -> Failure {
    let words: Vec<&str> = args
        .iter()
        .skip(1)
        .filter_map(|word| word.to_str())
        .collect();
    let command = words.iter().find_map(|word| program.find_subcommand(word));
    let Some(command) = command else {
        return Failure::usage("no command given; see `relay-broker --help`");
    };
    let meant = format!("{} {}", program.get_name(), command.get_name());
    let shown = command.get_subcommands().filter(|one| !one.is_hide_set());
    let below: Vec<String> = shown
        .map(|one| format!("`{meant} {}`", one.get_name()))
        .collect();
    Failure::usage(format!(
        "write {}; see `{meant} --help`",
        below.join(" or ")
    ))
}

/// What two dashes are good for, where one word too many stands: `spawn` has a command behind them and `send` words that
/// begin with a dash. No other command takes anything there that it would not take without.
fn behind_dashes(
    error: &clap::Error,
    command: &str,
    args: &[std::ffi::OsString],
) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let unknown = error.kind() == clap::error::ErrorKind::UnknownArgument;
    let misspelt = error.get(ContextKind::SuggestedArg).is_some();
    if !unknown || misspelt || args.iter().any(|arg| arg == "--") {
        return None;
    }
    match command.rsplit(' ').next()? {
        "spawn" => Some("tip: write the command as `-- CMD`".to_owned()),
        "send" if word.starts_with('-') => {
            Some(format!("tip: to send '{word}' as text, use '-- {word}'"))
        }
        _ => None,
    }
}

/// The commands that a misspelt one is a slip of the fingers away from. A word that is merely alike is none of them: whoever
/// says `reload` must not be led to `release`, which stops an agent.
fn close_commands(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(said)) = error.get(ContextKind::InvalidSubcommand) else {
        return None;
    };
    let Some(ContextValue::Strings(alike)) = error.get(ContextKind::SuggestedSubcommand) else {
        return None;
    };
    let same_start = |name: &str| said.chars().next() == name.chars().next();
    let slip = |name: &&String| {
        strsim::osa_distance(said, name) <= SLIP
            && (!ENDING.contains(&name.as_str()) || same_start(name))
    };
    let close: Vec<String> = alike
        .iter()
        .filter(slip)
        .map(|n| format!("'{n}'"))
        .collect();
    (!close.is_empty()).then(|| format!("tip: a similar subcommand exists: {}", close.join(", ")))
}

/// The flag that a misspelt one is a slip of the fingers away from.
fn close_flags(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(said)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let Some(ContextValue::String(alike)) = error.get(ContextKind::SuggestedArg) else {
        return None;
    };
    let close = strsim::osa_distance(said, alike) <= SLIP;
    close.then(|| format!("tip: a similar argument exists: '{alike}'"))
}

/// What a word of other tools is called here, if this program has such a thing.
fn said_elsewhere(program: &clap::Command, error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue};
    let said = [ContextKind::InvalidSubcommand, ContextKind::InvalidArg]
        .into_iter()
        .find_map(|kind| match error.get(kind) {
            Some(ContextValue::String(said)) => Some(said.as_str()),
            _ => None,
        })?;
    let (_, here) = OTHER_WORDS.iter().find(|(word, _)| *word == said)?;
    let command = here.split(' ').next().unwrap_or_default();
    program.find_subcommand(command)?;
    Some(format!("tip: here that is `{} {here}`", program.get_name()))
}

/// The program and the command whose usage an error shows, or else the one on the command line.
fn command_meant(program: &clap::Command, text: &str, args: &[std::ffi::OsString]) -> String {
    let usage = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("Usage: "));
    if let Some(usage) = usage {
        let is_name = |word: &&str| word.starts_with(|c: char| c.is_ascii_lowercase());
        let words: Vec<&str> = usage.split(' ').take_while(is_name).collect();
        return words.join(" ");
    }
    let mut words = args.iter().skip(1).filter_map(|word| word.to_str());
    let mut meant = vec![program.get_name()];
    if let Some(command) = words.find_map(|word| program.find_subcommand(word)) {
        meant.push(command.get_name());
        let inner = words.next().and_then(|word| command.find_subcommand(word));
        meant.extend(inner.map(clap::Command::get_name));
    }
    meant.join(" ")
}
