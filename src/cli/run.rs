//! From a parsed command to the function that does it.

use super::args::{Cli, Command};
use super::context::Context;
use super::failure::Failure;
use super::render::Paint;
use super::{
    attach, demo, demo_agent, events, fleet, generate, health, journal, query, send, up, wait,
};
use crate::config::Env;
use crate::domain::DeliveryMode;

/// Does what was asked.
///
/// # Errors
/// The command's failure.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let env = Env::process();
    let paint = Paint::stdout(&env);
    let context = Context {
        env,
        paint,
        state_dir: cli.state_dir,
    };
    let c = &context;
    match cli.command {
        Command::Up(flags) => up::up(c, &flags),
        Command::Engine(args) => up::engine(c, &args),
        Command::Demo(args) => demo::demo(c, args),
        Command::DemoAgent(args) => demo_agent::run(c, &args),
        Command::Attach(args) => attach::attach(c, &args),
        Command::Send(args) => send::send(c, &args),
        Command::Wait(args) => wait::wait(c, &args),
        Command::Events(args) => events::events(c, args),
        Command::Spawn(args) => query::spawn(c, &args),
        Command::Release(args) => fleet::release(c, &args.name),
        Command::Restart(args) => query::restart(c, &args.name, args.json),
        Command::Agents(args) => query::agents(c, args.json),
        Command::Status(args) => query::status(c, args.json),
        Command::Nodes(args) => fleet::nodes(c, &args),
        Command::Stop => query::stop(c),
        Command::Pending(args) => query::pending(c, &args.name, args.json),
        Command::Flush(args) => query::flush(c, &args.name),
        Command::Hold(args) => query::mode(c, &args.name, DeliveryMode::ManualFlush),
        Command::Auto(args) => query::mode(c, &args.name, DeliveryMode::AutoInject),
        Command::Dead(args) => query::dead(c, args.json),
        Command::Redeliver(args) => query::redeliver(c, &args),
        Command::Journal(args) => journal::journal(c, &args),
        Command::Snapshot(args) => query::snapshot(c, &args),
        Command::Env(args) => query::env(c, args.json),
        Command::Completions(args) => generate::completions(args.shell),
        Command::Manual(args) => generate::manual(&args.folder),
        Command::Health(args) => health::health(c, args),
    }
}
