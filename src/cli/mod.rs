//! The command line: one function per command, all of them clients of a running broker but for `up`, `engine` and
//! `demo`. Errors are one line on standard error, with `--json` one of JSON; the exit codes are those of [`Sysexit`].

mod actions;
mod agent_lines;
mod args;
mod attach;
mod backup;
mod check;
mod client;
mod context;
mod demo;
mod demo_agent;
mod demo_life;
mod demo_show;
mod demo_stage;
mod detach;
mod doctor;
#[cfg(feature = "engine")]
mod engine;
#[cfg(not(feature = "engine"))]
#[path = "no_engine.rs"]
mod engine;
mod engine_folder;
mod events;
mod exit_with;
mod explain;
mod failure;
mod find;
mod fleet;
mod generate;
mod health;
mod if_not_running;
mod init;
mod journal;
mod log_lines;
mod logs;
mod logs_cast;
mod mcp;
mod mcp_config;
mod nodes;
mod query;
mod reload;
mod render;
mod results;
mod run;
mod send;
mod service;
mod signals;
mod spawn_on;
mod trace;
mod tty;
mod up;
mod upstream_name;
mod wait;

use std::process::ExitCode;
use std::time::Duration;

use failure::Failure;

use crate::agent::{exec, hook, runs};
use crate::sys::sysexit::Sysexit;
use crate::sys::{memory, signal, stdio};

/// How long the last lines may take when nobody reads them.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The commands that the command line knows, those below others as two words; without hidden ones.
pub fn commands() -> Vec<String> {
    args::commands()
}

/// Runs the program.
pub fn main() -> ExitCode {
    signal::settle();
    memory::give_back_large_pieces();
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Agents are started through this very program; that way must not depend on the command line's grammar.
    if args.get(1).is_some_and(|word| word == exec::SUBCOMMAND) {
        exec::run(args.into_iter().skip(2));
    }
    if args.get(1).is_some_and(|word| word == hook::SUBCOMMAND) {
        hook::run(args.into_iter().skip(2));
    }
    if args.get(1).is_some_and(|word| word == runs::SUBCOMMAND) {
        runs::run(args.into_iter().skip(2));
    }
    log_lines::foresee(&args);
    if args::wants_json(&args) {
        render::tell_programs();
    }
    let done = args::parse(&args).and_then(run::run);
    let failed = matches!(&done, Err(failure) if failure.code != Sysexit::Success);
    let code = finish(done);
    stdio::flush(LAST_LINES);
    if failed {
        init::linger(&args);
    }
    code
}

/// What is left to say, and the exit code.
fn finish(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.code == Sysexit::Success => match failure.text.is_empty() {
            true => ExitCode::SUCCESS,
            false => finish(render::print(&failure.text)),
        },
        Err(failure) => {
            if !failure.text.is_empty() {
                render::last_word(&log_lines::reason(&failure));
            }
            failure.code.into()
        }
    }
}
