//! The command line of `check`, of which everything that cannot be meant is told at once: the parser stops at the first, so
//! what it has named is taken away until it is content with the rest.

use std::ffi::OsString;

use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::misuse;
use crate::config::{ConfigError, SettingOrigin};
use crate::sys::sysexit::Sysexit;

/// What is left of a command line of `check` without the flags that cannot be meant, and those. `None` when it is another
/// command's, or when that is not all that is wrong.
pub(super) fn check(
    program: &clap::Command,
    args: &[OsString],
    first: &clap::Error,
) -> Option<(ArgMatches, Vec<ConfigError>)> {
    let lenient = program.clone().ignore_errors(true);
    let found = lenient.try_get_matches_from(args).ok()?;
    if found.subcommand_name() != Some("check") {
        return None;
    }
    let parse = |args: &[OsString]| -> Result<ArgMatches, clap::Error> {
        program.clone().try_get_matches_from(args)
    };
    let mut args = args.to_vec();
    let mut wrong = vec![fault(program, first, &args)?];
    args = without(&args, first)?;
    loop {
        match parse(&args) {
            Ok(found) => return Some((found, wrong)),
            Err(error) => {
                wrong.push(fault(program, &error, &args)?);
                args = without(&args, &error)?;
            }
        }
    }
}

/// What is said of a flag; `None` of everything else that a parser may end with.
fn fault(program: &clap::Command, error: &clap::Error, args: &[OsString]) -> Option<ConfigError> {
    let failure = misuse::failure(program, error, args);
    (failure.code == Sysexit::Usage).then_some(())?;
    Some(ConfigError {
        text: failure.text,
        exit: Sysexit::Usage,
        origin: SettingOrigin::Flag(flag(error)?),
    })
}

/// The flag that an error is about: the parser writes it as `--grace <TIME>`.
fn flag(error: &clap::Error) -> Option<String> {
    let said = match error.get(ContextKind::InvalidArg)? {
        ContextValue::String(said) => said,
        ContextValue::Strings(all) => all.first()?,
        _ => return None,
    };
    let end = said.find([' ', '=', '[']).unwrap_or(said.len());
    Some(said[..end].to_owned())
}

/// The command line without what the error is about, or with what it asks for.
fn without(args: &[OsString], error: &clap::Error) -> Option<Vec<OsString>> {
    let flag = flag(error)?;
    if error.kind() == ErrorKind::MissingRequiredArgument {
        return Some([args, &[flag.into()]].concat());
    }
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    let joined = format!("{flag}=");
    let is_it = |at: usize| {
        let word = args[at].to_string_lossy();
        let next = args.get(at + 1).map(|word| word.to_string_lossy());
        match (word.strip_prefix(&joined), value) {
            (Some(said), Some(value)) => said == value,
            (Some(_), None) => true,
            (None, Some(value)) if !value.is_empty() => {
                word == flag && next.is_some_and(|next| next == value)
            }
            (None, _) => word == flag,
        }
    };
    let at = (1..args.len()).find(|at| is_it(*at))?;
    // A value that stands apart goes with its flag, and so does what looks like one of a flag that may not be there twice.
    let apart = args[at].to_string_lossy() == flag;
    let taken = match error.kind() {
        ErrorKind::UnknownArgument => 1,
        ErrorKind::ArgumentConflict if apart => 1 + usize::from(has_value(args, at)),
        _ if apart && value.is_some_and(|value| !value.is_empty()) => 2,
        _ if apart && value.is_some() && has_empty_value(args, at) => 2,
        _ => 1,
    };
    Some([&args[..at], &args[at + taken..]].concat())
}

fn has_value(args: &[OsString], at: usize) -> bool {
    let next = args.get(at + 1).map(|word| word.to_string_lossy());
    next.is_some_and(|word| !word.starts_with('-'))
}

fn has_empty_value(args: &[OsString], at: usize) -> bool {
    args.get(at + 1).is_some_and(|word| word.is_empty())
}
