//! The `relay-broker` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    relay_broker::cli::main()
}
