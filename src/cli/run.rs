//! From a parsed command to the function that does it.

use super::args::{Cli, Command};
use super::client::Client;
use super::failure::Failure;
use super::render::Paint;
use super::{ask, attach, demo, demo_agent, events, find, fleet, journal, send, up, wait};
use crate::config::Env;

/// What every command gets.
pub struct Context {
    /// The environment.
    pub env: Env,
    /// Colours for standard output.
    pub paint: Paint,
    /// `--state-dir`.
    pub state_dir: Option<std::path::PathBuf>,
}

impl Context {
    /// The running broker's connection file.
    ///
    /// # Errors
    /// When there is no broker.
    pub fn connection(&self) -> Result<crate::wire::local::ConnectionFile, Failure> {
        find::running(self.state_dir.as_deref(), &self.env)
    }

    /// A client of the running broker.
    ///
    /// # Errors
    /// When there is none.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.connection()?))
    }
}

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
        Command::Spawn(args) => ask::spawn(c, &args),
        Command::Release(args) => fleet::release(c, &args.name),
        Command::Agents(args) => ask::agents(c, args.json),
        Command::Status(args) => ask::status(c, args.json),
        Command::Nodes(args) => fleet::nodes(c, &args),
        Command::Stop => ask::stop(c),
        Command::Pending(args) => ask::pending(c, &args.name, args.json),
        Command::Flush(args) => ask::flush(c, &args.name),
        Command::Hold(args) => {
            ask::mode(c, &args.name, crate::wire::event::DeliveryMode::ManualFlush)
        }
        Command::Auto(args) => {
            ask::mode(c, &args.name, crate::wire::event::DeliveryMode::AutoInject)
        }
        Command::Dead(args) => ask::dead(c, args.json),
        Command::Redeliver(args) => ask::redeliver(c, &args),
        Command::Journal(args) => journal::journal(c, &args),
        Command::Snapshot(args) => ask::snapshot(c, &args),
        Command::Env(args) => ask::env(c, args.json),
        Command::Health(args) => ask::health(c, args.json),
    }
}
