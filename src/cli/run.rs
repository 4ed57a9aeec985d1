//! From a parsed command to the function that does it.

use super::args::{ActionsCommand, Cli, Command, ConfigCommand};
use super::context::Context;
use super::failure::Failure;
use super::render::Paint;
use super::{
    actions, attach, backup, check, demo, demo_agent, doctor, events, explain, fleet, generate,
    health, init, journal, logs, mcp, nodes, query, reload, results, send, trace, up, wait,
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
        json: cli.json,
    };
    let c = &context;
    match cli.command {
        Command::Up(flags) => up::up(c, &flags),
        Command::Init(args) => init::init(c, *args),
        Command::Check(args) => check::check(c, &args),
        Command::Config(args) => match args.command {
            ConfigCommand::Show(args) => check::show(c, &args),
        },
        Command::Doctor => doctor::doctor(c),
        Command::Reload => reload::reload(c),
        Command::Actions(args) => match args.command {
            ActionsCommand::Run(args) => actions::run(c, &args),
        },
        Command::Engine(args) => up::engine(c, &args),
        Command::Demo(args) => demo::demo(c, args),
        Command::DemoAgent(args) => demo_agent::run(c, &args),
        Command::Attach(args) => attach::attach(c, &args),
        Command::Send(args) => send::send(c, &args),
        Command::Wait(args) => wait::wait(c, &args),
        Command::Events(args) => events::events(c, &args),
        Command::Spawn(args) => query::spawn(c, &args),
        Command::SubmitResult(args) => results::submit(c, &args),
        Command::Release(args) => fleet::release(c, &args.name),
        Command::Restart(args) => query::restart(c, &args.name),
        Command::Agents => query::agents(c),
        Command::Status => query::status(c),
        Command::Explain(args) => explain::explain(c, &args),
        Command::Trace(args) => trace::trace(c, &args),
        Command::Nodes(args) => nodes::nodes(c, &args),
        Command::Stop => query::stop(c),
        Command::Pending(args) => query::pending(c, &args.name),
        Command::Flush(args) => query::flush(c, &args.name),
        Command::Hold(args) => query::mode(c, &args.name, DeliveryMode::ManualFlush),
        Command::Auto(args) => query::mode(c, &args.name, DeliveryMode::AutoInject),
        Command::Dead => query::dead(c),
        Command::Redeliver(args) => query::redeliver(c, &args),
        Command::Logs(args) => logs::logs(c, &args),
        Command::Journal(args) => journal::journal(c, &args),
        Command::Backup(args) => backup::backup(c, &args),
        Command::Snapshot(args) => query::snapshot(c, &args),
        Command::Env => query::env(c),
        Command::Completions(args) => generate::completions(c, args.shell),
        Command::Version => generate::version(c),
        Command::Manual(args) => generate::manual(&args.folder),
        Command::Mcp(args) => mcp::mcp(c, &args),
        Command::Health(args) => health::health(c, args),
    }
}
