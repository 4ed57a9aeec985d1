//! `up` and `engine`: the two commands that stay. Starts things in order, says calmly what a user needs next, and waits
//! for a signal or the end.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use serde_json::{Value, json};

use super::context::Context;
use super::engine;
use super::engine_folder::{ENGINE_DIR, LAST_ADDRESS, open_address, warn_if_open};
use super::exit_with::AgentWatch;
use super::failure::Failure;
use super::log_lines::{self, LineFields, Voice};
use super::reload::SettingsReader;
use super::render::{Paint, print_json};
use super::service::Supervisor;
use super::signals::Obedience;
use super::{args, detach, events, find, if_not_running};
use crate::agent::{hook, landed_note, running};
use crate::broker::{self, Broker, MADE_WORKSPACE, lock_exit, made_workspace};
use crate::config::{self, EngineChoice, Flags, LogFormat, StartPlan, StateHome, Surroundings};
use crate::identity::copy;
use crate::journal::{Lock, Tenant};
use crate::msg::Secret;
use crate::pubsub::Topic;
use crate::sys::disk::{create_private_dir, read_small};
use crate::sys::signal::{SignalWish, Stops};
use crate::sys::sysexit::Sysexit;
use crate::sys::trust::{self, Distrust};
use crate::sys::{limits, thread};
use crate::wire::event::{BrokerEvent, Numbered};
use crate::wire::local::ConnectionFile;

const THREAD_KIB: usize = 256;
/// How long a broker may not answer before it counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(30);

/// `up`.
pub fn up(c: &Context, flags: &Flags) -> Result<(), Failure> {
    if flags.detached {
        detach::leave_session();
    }
    let start = || match flags.detach {
        true => start_detached(c, flags),
        false => run(c, flags),
    };
    // Whoever started the process that stays has looked, and looks again when that loses the folder to another.
    if !flags.if_not_running || flags.detached {
        return start();
    }
    let state_dir = config::state_dir(flags, &c.env, &place()?)?;
    let stuck_after = flags.stuck_after.unwrap_or(STUCK_AFTER);
    if if_not_running::up(&state_dir, stuck_after, start)? {
        return Ok(());
    }
    // Whoever starts it again and again wants to hear nothing, but a program that asks for facts.
    match c.json {
        true => print_json(&runs_already(&find::connection_in(&state_dir)?, &state_dir)),
        false => Ok(()),
    }
}

fn runs_already(file: &ConnectionFile, state_dir: &Path) -> Value {
    up_facts(false, &file.url, file.pid, &file.engine_url, state_dir)
}

/// What `up --json` says of the broker that runs now.
fn up_facts(started: bool, api: &str, pid: u32, engine: &str, state_dir: &Path) -> Value {
    json!({
        "started": started,
        "api_url": api,
        "pid": pid,
        "engine_url": engine,
        "state_dir": state_dir,
    })
}

/// Has another process do it, and waits until that is ready. Whatever is wrong with flags and folder is said at once.
fn start_detached(c: &Context, flags: &Flags) -> Result<(), Failure> {
    let place = place()?;
    let plan = config::plan(flags, &c.env, &place)?;
    check_place(&plan, Voice::new(Paint::stderr(&c.env)))?;
    make_private(plan.state_dir(), &STATE_NAMES, plan.trust_state_dir)?;
    let log = place.resolve(&detach::log_file(
        flags.log_file.as_deref(),
        plan.state_dir(),
    ))?;
    let unnamed = flags.log_file.is_none();
    detach::start(c, &place.exe, &log, unnamed.then_some(&*log))
}

/// Runs a broker in this process until it is told to stop.
fn run(c: &Context, flags: &Flags) -> Result<(), Failure> {
    let place = place()?;
    let plan = config::plan(flags, &c.env, &place)?;
    if matches!(plan.engine, EngineChoice::Embedded { .. }) {
        engine::check()?;
    }
    log_lines::start(
        &c.env,
        plan.log_format,
        plan.log_filter.as_deref(),
        flags.log_file.clone(),
    )?;
    limits::raise();
    #[cfg(debug_assertions)]
    if let Some(faults) = c.env.faults() {
        crate::sys::failpoint::arm(&faults).map_err(Failure::new)?;
    }
    let voice = Voice::new(Paint::stderr(&c.env));
    let stops = Stops::listen_as_daemon().map_err(|e| no_room("cannot take signals", &e))?;
    let supervisor = Supervisor::of(&c.env)?;
    check_place(&plan, voice)?;
    make_ours(&plan, flags)?;
    let (engine, url, key) = engine_of(&plan)?;
    let broker = Broker::start(plan.settings(&url, &key))?;
    if let (true, Some(log)) = (flags.detached, &flags.log_file) {
        detach::complain_into(log);
    }
    let silence = match flags.init {
        // Nobody reads along.
        Some(_) => Ok(None),
        None => report_progress(voice, &broker).map(Some),
    };
    let work = work(flags, &plan, &broker);
    let closer = stops.closer();
    let obeying = Obedience {
        stopper: broker.stopper(),
        reader: SettingsReader::of(&broker, place, flags, &plan, voice),
        voice,
        manager: supervisor.manager.clone(),
    };
    let signals = thread::start("signals", THREAD_KIB, move || obeying.obey(stops));
    let threads = signals.and(work).and_then(|work| Ok((work, silence?)));
    // Whoever calls needs one more thread, so that there is room for one is part of being ready.
    let room = || thread::start("room", THREAD_KIB, || ()).map(|room| room.join());
    let followed = |started| {
        supervisor
            .follow(&broker)
            .and_then(|()| room())
            .map(|()| started)
    };
    let (work, silence) = match threads.and_then(followed) {
        Ok(started) => started,
        Err(e) => {
            broker.stopper().stop();
            broker.wait();
            return Err(no_room("cannot start", &e));
        }
    };
    let (api, pid) = (broker.api_url(), std::process::id());
    let facts = up_facts(true, &api, pid, &url, plan.state_dir());
    announce(c, flags, &facts, &api);
    if let Some(address) = plan.api_beyond_this_machine() {
        voice.say(&open_address("the local API", address));
    }
    if let Some(silence) = silence {
        voice.welcome(&plan, &url, engine.is_some());
        drop(silence);
    }
    broker.wait();
    closer.close();
    drop(engine);
    if flags.init.is_none() {
        voice.tell(LineFields::of("broker_stopped"), "stopped");
    }
    work.map_or(Ok(()), |work| work.outcome())
}

/// Says that the broker is ready, to whoever started it: by now it has all its threads.
fn announce(c: &Context, flags: &Flags, facts: &Value, api: &str) {
    // Existing clients wait for exactly this line; one that closed its end early loses only the line.
    let _ = c.tell(facts, &format!("[agent-relay] API listening on {api}\n"));
    if flags.detached {
        detach::fall_silent();
    }
}

/// The end of a start for which the system has no room, with the name of the limit.
fn no_room(what: &str, e: &io::Error) -> Failure {
    let exit = match limits::is_reached(e) {
        true => Sysexit::OsError,
        false => Sysexit::Failure,
    };
    Failure::with(exit, format!("{what}: {}", limits::explain(e)))
}

/// The engine inside this process, if that is the one, and how to reach whichever it is.
fn engine_of(plan: &StartPlan) -> Result<(Option<impl Sized + use<>>, String, Secret), Failure> {
    match &own_engine(plan).unwrap_or(plan.engine.clone()) {
        EngineChoice::Remote { url, key } => Ok((None, url.clone(), key.clone())),
        EngineChoice::Keyless { url } => {
            check_free(plan)?;
            let key = made_workspace(url, plan.node())?;
            Ok((None, url.clone(), key))
        }
        EngineChoice::Embedded { listen } => {
            // Asked here already, because the engine comes first and would complain about its own folder.
            check_free(plan)?;
            let engine = engine::embedded(plan, *listen)?;
            let (url, key) = (engine.url(), Secret::new(engine.workspace_key()));
            Ok((Some(engine), url, key))
        }
    }
}

/// Whether no other broker has the state folder.
fn check_free(plan: &StartPlan) -> Result<(), Failure> {
    broker::check_free(plan.state_dir())?;
    Lock::take(Tenant::Broker, plan.state_dir(), std::process::id())
        .map(drop)
        .map_err(|e| Failure::with(lock_exit(&e), e.to_string()))
}

/// What has the broker end with its agents, if that is wanted.
fn work(flags: &Flags, plan: &StartPlan, broker: &Broker) -> io::Result<Option<AgentWatch>> {
    let names = plan.agent_names().map(str::to_owned).collect();
    let follow = |which| AgentWatch::follow(which, names, broker);
    flags.exit_with_agents.map(follow).transpose()
}

/// Whether the state folder is where the operator thinks it is.
fn check_place(plan: &StartPlan, voice: Voice) -> Result<(), Failure> {
    if plan.require_state_dir && !plan.state_dir().is_dir() {
        return Err(Failure::with(
            Sysexit::CantCreate,
            format!(
                "the state folder {} is not there, and --require-state-dir says that it must be; mount its volume, or make the \
             folder for a first start",
                plan.state_dir().display()
            ),
        ));
    }
    if let Some(above) = plan.state_dir_above() {
        voice.say(&format!(
            "note: there is a state folder {} above this one already; this starts another broker, with agents and mail of \
             its own, in {}",
            above.display(),
            plan.state_dir().display()
        ));
    }
    Ok(())
}

/// `engine`.
pub fn engine(c: &Context, args: &args::EngineArgs) -> Result<(), Failure> {
    engine::check()?;
    let filter = c.env.log_filter();
    log_lines::start(&c.env, LogFormat::Text, filter.as_deref(), None)?;
    limits::raise();
    config::check_listen("--listen", args.listen, args.allow_plain_http)?;
    engine::check_words(&args.behave)?;
    let mut stops = Stops::listen_as_daemon().map_err(|e| no_room("cannot take signals", &e))?;
    let place = place()?;
    let state_dir = c.state_dir.clone().or_else(|| c.env.state_dir());
    let dir = match &args.dir {
        Some(dir) => place.resolve(dir)?,
        None => place
            .resolve(&state_dir.unwrap_or_else(|| config::STATE_DIR.into()))?
            .join(ENGINE_DIR),
    };
    make_private(&dir, &ENGINE_NAMES, args.trust_state_dir)?;
    let workspace_key = match c.env.workspace_key()? {
        Some((origin, key)) => {
            config::check_key(origin, &key)?;
            Some(key)
        }
        None => None,
    };
    let name = place.name().unwrap_or("project");
    let engine = engine::alone(&dir, args.listen, workspace_key, name, &args.behave)?;
    let facts = json!({
        "engine_url": engine.url(),
        "pid": std::process::id(),
        "workspace_key_file": dir.join("workspace-key"),
    });
    let _ = c.tell(
        &facts,
        &format!("[relay-broker] engine listening on {}\n", engine.url()),
    );
    Voice::new(Paint::stderr(&c.env)).say(&format!(
        "on the machines that may use it, set RELAY_BASE_URL={} and RELAY_WORKSPACE_KEY_FILE to a copy of {}",
        engine.url(),
        dir.join("workspace-key").display()
    ));
    warn_if_open("the engine", args.listen);
    while let Some(SignalWish::Reopen | SignalWish::Dump | SignalWish::Upgrade) = stops.wish() {}
    drop(engine);
    Ok(())
}

/// Where the program is started, and which file it is.
pub fn place() -> Result<Surroundings, Failure> {
    let exe = own_program().map_err(|e| unknown_program(&e))?;
    let cwd = std::env::current_dir().ok();
    Ok(Surroundings { cwd, exe })
}

/// The end of a start that does not know its own program.
fn unknown_program(e: &io::Error) -> Failure {
    match cfg!(target_os = "linux") && !Path::new("/proc/self").exists() {
        true => Failure::with(
            Sysexit::OsError,
            "/proc is not mounted: the broker finds there its own program, by which agents are started, and the processes \
             that agents leave behind; mount it (mount -t proc proc /proc)",
        ),
        false => Failure::new(format!("cannot tell where this program is: {e}")),
    }
}

/// The running program itself, whatever becomes of its file: agents are started through it, also after an upgrade. An
/// emulator of another machine shows a file of its own there, and tells the program's by name.
fn own_program() -> io::Result<PathBuf> {
    let held = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let file = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    let named = std::env::current_exe();
    let (held_file, own) = (file(&held).ok(), file(Path::new("/proc/self/exe")).ok());
    let by_name = named.as_deref().ok().and_then(|path| file(path).ok());
    match held_file.is_some() && held_file == own && by_name.is_none_or(|it| Some(it) == own) {
        true => Ok(held),
        false => named,
    }
}

/// The state folder, as whoever has started the broker wants it kept.
fn make_ours(plan: &StartPlan, flags: &Flags) -> Result<(), Failure> {
    let dir = plan.state_dir();
    let terms = flags.init.as_ref();
    if terms.is_some_and(|terms| terms.home == StateHome::Project) {
        // Other tools make it as open as they like, and it is no folder that anybody shares.
        trust::close(dir);
    }
    make_private(dir, &STATE_NAMES, plan.trust_state_dir)?;
    if terms.is_some() {
        trust::close(dir);
    }
    Ok(())
}

/// A folder only its owner may write in, with nothing in it that somebody else prepared: keys live in it, and whoever chose
/// them would decide what runs here.
fn make_private(dir: &Path, names: &[&str], trusted: bool) -> Result<(), Failure> {
    let made = || {
        create_private_dir(dir).map_err(|e| {
            Failure::with(
                Sysexit::CantCreate,
                format!("{e}; pass another --state-dir"),
            )
        })
    };
    if trusted {
        return made();
    }
    // Before anything is made, so that a refusal leaves nothing behind.
    trust::way(dir).map_err(|why| distrusted(dir, &why))?;
    made()?;
    trust::tighten(dir);
    trust::own(dir)
        .and_then(|()| trust::way(dir))
        .and_then(|()| trust::contents(dir, names))
        .map_err(|why| distrusted(dir, &why))
}

fn distrusted(dir: &Path, why: &Distrust) -> Failure {
    let quoted = shell_words::quote(&dir.display().to_string()).into_owned();
    let text = format!(
        "{why}: whoever can write there decides what runs here. Choose another folder with --state-dir; or, if you know \
         who wrote all that is in it, make it yours alone (chown -R {} {quoted}; chmod -R go-w {quoted}), or pass \
         --trust-state-dir",
        trust::me()
    );
    Failure::with(Sysexit::CantCreate, text)
}

/// The engine that a variable or flag names may be this very folder's own, which nobody runs yet: `relay-broker env` gives
/// its address and key to a shell, and `up` may come from that shell.
fn own_engine(plan: &StartPlan) -> Option<EngineChoice> {
    let EngineChoice::Remote { url, key } = &plan.engine else {
        return None;
    };
    let read = |path: &Path| String::from_utf8(read_small(path).ok()?).ok();
    let ours = read(&plan.state_dir().join(ENGINE_DIR).join("workspace-key"))?;
    let address = read(&plan.state_dir().join(LAST_ADDRESS))?;
    let address = address.trim();
    let same =
        ours.trim() == key.reveal() && url.split_once("://").is_some_and(|(_, at)| at == address);
    same.then(|| address.parse().ok())
        .flatten()
        .map(|listen| EngineChoice::Embedded {
            listen: Some(listen),
        })
}

/// What a state folder holds that is believed.
const STATE_NAMES: [&str; 14] = [
    ENGINE_DIR,
    LAST_ADDRESS,
    "broker.lock",
    find::CONNECTION,
    "workspace.json",
    MADE_WORKSPACE,
    "identity.json",
    "journal",
    hook::FOLDER,
    landed_note::FOLDER,
    running::FOLDER,
    // Where there is no home.
    "machine-id",
    "node-tokens",
    copy::PINNED,
];
/// What an engine's folder holds that is believed.
const ENGINE_NAMES: [&str; 2] = ["workspace-key", "journal"];

/// Tells a person how things go, once what this returns is dropped: nothing is said before the broker is ready.
fn report_progress(voice: Voice, broker: &Broker) -> io::Result<Sender<()>> {
    let topic = broker.events();
    let (silence, until_ready) = bounded::<()>(0);
    thread::start("progress", THREAD_KIB, move || {
        let _ = until_ready.recv();
        if let Err(e) = progress(voice, &topic) {
            log::debug!("no progress lines: {e}");
        }
    })?;
    Ok(silence)
}

/// Follows the broker's own events for as long as it lives.
fn progress(voice: Voice, topic: &Topic<Arc<str>>) -> io::Result<()> {
    let mut since = 0;
    loop {
        let happened = topic.subscribe_numbered(Some(since), worth_a_line)?;
        let earlier = happened.replay.iter().map(|(_, text)| text.clone());
        for text in earlier.chain(std::iter::from_fn(|| happened.items.recv())) {
            since = progress_line(voice, &text).unwrap_or(since);
        }
        if !happened.lagged() {
            return Ok(());
        }
    }
}

/// Most events are about messages, and not worth waking up for.
fn worth_a_line(text: &Arc<str>) -> bool {
    let ours = [
        "\"kind\":\"node_",
        "\"kind\":\"worker_ready",
        "\"kind\":\"agent_",
    ];
    ours.iter().any(|kind| text.contains(kind))
}

/// Says what a user wants to know; the event's number if it could be read.
fn progress_line(voice: Voice, text: &str) -> Option<u64> {
    let Numbered { seq, event, .. } = serde_json::from_str(text).ok()?;
    let fields = LineFields::of_event(text);
    let what = match &event {
        // People see by what follows that it was started.
        BrokerEvent::AgentSpawned { .. } | BrokerEvent::AgentRestarting { .. }
            if voice.speaks_to_programs() =>
        {
            "agent"
        }
        BrokerEvent::NodeRegistered { .. }
        | BrokerEvent::NodeLink {
            connected: false, ..
        } => "node",
        // Troubles with agents and messages are in the log already.
        BrokerEvent::WorkerReady { .. }
        | BrokerEvent::AgentExited { .. }
        | BrokerEvent::AgentReleased { .. } => "agent",
        _ => return seq,
    };
    voice.fact_about(fields, what, &events::sentence(&event));
    seq
}
