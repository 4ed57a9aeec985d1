//! `up` and `engine`: the two commands that stay. Starts things in order, says calmly what a user needs next, and waits
//! for a signal or the end.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::context::Context;
use super::engine;
use super::engine_folder::{ENGINE_DIR, LAST_ADDRESS, warn_if_open};
use super::failure::Failure;
use super::render::{Paint, clean, note, print};
use super::{args, events, find};
use crate::agent::{hook, landed_note, running};
use crate::broker::{Broker, Stopper, lock_exit};
use crate::config::{self, EngineChoice, Env, Flags, LogFormat, StartPlan, Surroundings};
use crate::journal::{Lock, Tenant};
use crate::msg::Secret;
use crate::pubsub::Topic;
use crate::sys::disk::{create_private_dir, read_small};
use crate::sys::signal::Stops;
use crate::sys::sysexit::Sysexit;
use crate::sys::trust::{self, Distrust};
use crate::sys::{clock, limits, stdio, thread};
use crate::wire::event::{BrokerEvent, Numbered};

const THREAD_KIB: usize = 256;

/// `up`.
pub fn up(c: &Context, flags: &Flags) -> Result<(), Failure> {
    let plan = config::plan(flags, &c.env, &place()?)?;
    if matches!(plan.engine, EngineChoice::Embedded { .. }) {
        engine::check()?;
    }
    start_log(&c.env, plan.log_format)?;
    limits::raise();
    #[cfg(debug_assertions)]
    if let Some(faults) = c.env.faults() {
        crate::sys::failpoint::arm(&faults).map_err(Failure::new)?;
    }
    let voice = Voice {
        paint: Paint::stderr(&c.env),
        format: plan.log_format,
    };
    let stops = Stops::listen().map_err(|e| Failure::new(format!("cannot take signals: {e}")))?;
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
    make_private(plan.state_dir(), &STATE_NAMES, plan.trust_state_dir)?;
    let (engine, url, key) = match &own_engine(&plan).unwrap_or(plan.engine.clone()) {
        EngineChoice::Remote { url, key } => (None, url.clone(), key.clone()),
        EngineChoice::Embedded { listen } => {
            // Asked here already, because the engine comes first and would complain about its own folder.
            drop(
                Lock::take(Tenant::Broker, plan.state_dir(), std::process::id())
                    .map_err(|e| Failure::with(lock_exit(&e), e.to_string()))?,
            );
            let engine = engine::embedded(&plan, *listen)?;
            let (url, key) = (engine.url(), Secret::new(engine.workspace_key()));
            (Some(engine), url, key)
        }
    };
    let broker = Broker::start(plan.settings(&url, &key))?;
    // Existing clients wait for exactly this line; one that closed its end early loses only the line.
    let _ = print(&format!(
        "[agent-relay] API listening on {}\n",
        broker.api_url()
    ));
    if let Some(address) = plan.api_beyond_this_machine() {
        voice.say(&format!(
            "note: the local API listens on {address}, beyond this machine, and without encryption; put a TLS proxy in \
             front of it or keep the network private"
        ));
    }
    voice.welcome(&plan, &url, engine.is_some());
    let topic = broker.events();
    let watcher = thread::start("progress", THREAD_KIB, move || {
        if let Err(e) = progress(voice, &topic) {
            log::debug!("no progress lines: {e}");
        }
    });
    let closer = stops.closer();
    let stopper = broker.stopper();
    let signals = thread::start("signals", THREAD_KIB, move || obey(stops, &stopper, &voice));
    if let Err(e) = watcher.and(signals) {
        broker.stopper().stop();
        broker.wait();
        return Err(Failure::new(format!("cannot start a thread: {e}")));
    }
    broker.wait();
    closer.close();
    drop(engine);
    voice.say("stopped");
    Ok(())
}

/// `engine`.
pub fn engine(c: &Context, args: &args::EngineArgs) -> Result<(), Failure> {
    engine::check()?;
    start_log(&c.env, LogFormat::Text)?;
    limits::raise();
    config::check_listen("--listen", args.listen, args.allow_plain_http)?;
    engine::check_words(&args.behave)?;
    let mut stops =
        Stops::listen().map_err(|e| Failure::new(format!("cannot take signals: {e}")))?;
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
    let _ = print(&format!(
        "[relay-broker] engine listening on {}\n",
        engine.url()
    ));
    note(&format!(
        "on the machines that may use it, set RELAY_BASE_URL={} and RELAY_WORKSPACE_KEY_FILE to a copy of {}",
        engine.url(),
        dir.join("workspace-key").display()
    ));
    warn_if_open("the engine", args.listen);
    let _ = stops.wait();
    drop(engine);
    Ok(())
}

fn place() -> Result<Surroundings, Failure> {
    let exe = own_program()
        .map_err(|e| Failure::new(format!("cannot tell where this program is: {e}")))?;
    let cwd = std::env::current_dir().ok();
    Ok(Surroundings { cwd, exe })
}

/// The running program itself, whatever becomes of its file: agents are started through it, also after an upgrade.
fn own_program() -> io::Result<PathBuf> {
    let held = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    let file = |path: &Path| std::fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (file(&held), file(Path::new("/proc/self/exe"))) {
        (Ok(held_file), Ok(own)) if held_file == own => Ok(held),
        _ => std::env::current_exe(),
    }
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
const STATE_NAMES: [&str; 12] = [
    ENGINE_DIR,
    LAST_ADDRESS,
    "broker.lock",
    find::CONNECTION,
    "workspace.json",
    "identity.json",
    "journal",
    hook::FOLDER,
    landed_note::FOLDER,
    running::FOLDER,
    // Where there is no home.
    "machine-id",
    "node-tokens",
];
/// What an engine's folder holds that is believed.
const ENGINE_NAMES: [&str; 2] = ["workspace-key", "journal"];

/// Stops at the first signal, hurries at the second.
fn obey(mut stops: Stops, stopper: &Stopper, voice: &Voice) {
    let mut first = true;
    while stops.wait().is_some() {
        if first {
            voice.say("stopping; once more to hurry");
        }
        first = false;
        stopper.stop();
    }
}

/// Log lines on standard error: warnings for people, more for services, `RUST_LOG` for whoever asks.
fn start_log(env: &Env, format: LogFormat) -> Result<(), Failure> {
    use io::{IsTerminal, Write};
    stdio::queue(move |count| losses(format, count))
        .map_err(|e| Failure::new(format!("cannot start a thread: {e}")))?;
    let usual = if io::stderr().is_terminal() {
        "warn"
    } else {
        "info"
    };
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(&env.log_filter().unwrap_or_else(|| usual.to_owned()));
    // These write whole requests at their finest levels, keys included.
    for library in ["tungstenite", "ureq", "ureq_proto", "rustls"] {
        builder.filter_module(library, log::LevelFilter::Info);
    }
    builder.format(move |out, record| {
        let text = record.args().to_string();
        let line = log_line(format, record.level(), record.target(), &text);
        out.write_all(line.as_bytes())
    });
    builder.target(env_logger::Target::Pipe(Box::new(LogLines)));
    // A second logger in one process is a programming mistake that costs only log lines.
    let _ = builder.try_init();
    // The usual hook would wait for whoever reads standard error, and the thread with it.
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("nameless");
        log::error!(target: "panic", "thread {name} failed: {panic}");
    }));
    Ok(())
}

/// Where the logger's lines go, each in one write.
struct LogLines;

impl io::Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stdio::complain(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn losses(format: LogFormat, count: u64) -> String {
    let text = format!("{count} lines before this are lost: nobody read standard error");
    log_line(format, log::Level::Warn, "relay_broker::up", &text)
}

fn log_line(format: LogFormat, level: log::Level, target: &str, text: &str) -> String {
    let at = clock::now().wall.iso();
    match format {
        LogFormat::Json => format!("{}\n", log_object(&at, level.as_str(), target, text)),
        LogFormat::Text => format!("{at} {level:<5} {target}: {}\n", clean(text)),
    }
}

fn log_object(at: &str, level: &str, target: &str, text: &str) -> serde_json::Value {
    json!({"timestamp": at, "level": level.to_lowercase(), "target": target, "message": text})
}

/// What `up` tells its user, beside the log.
#[derive(Clone, Copy)]
struct Voice {
    paint: Paint,
    format: LogFormat,
}

impl Voice {
    fn say(self, line: &str) {
        match self.format {
            LogFormat::Text => note(line),
            LogFormat::Json => {
                let at = clock::now().wall.iso();
                note(&log_object(&at, "info", "relay_broker::up", line.trim()).to_string());
            }
        }
    }

    /// Two columns; programs get the second alone, which says it all.
    fn fact(self, what: &str, text: &str) {
        match self.format {
            LogFormat::Text => {
                self.say(&format!("{} {text}", self.paint.dim(&format!("{what:<8}"))))
            }
            LogFormat::Json => self.say(text),
        }
    }

    fn welcome(self, plan: &StartPlan, url: &str, embedded: bool) {
        let whose = if embedded {
            " (inside this process)"
        } else {
            ""
        };
        let state = plan.state_dir().display();
        if self.format == LogFormat::Json {
            self.say(&format!(
                "the engine is {url}{whose}, the state is kept in {state}"
            ));
            return;
        }
        self.fact("engine", &format!("{url}{whose}"));
        self.fact("state", &state.to_string());
        let agent = plan.agent_names().next().unwrap_or("NAME").to_owned();
        let agent = shell_words::quote(&agent).into_owned();
        if agent == "NAME" {
            self.fact("start", "relay-broker spawn ada -- claude");
        }
        self.fact(
            "attach",
            &format!("relay-broker attach {agent}      (Ctrl-] leaves, the agent goes on)"),
        );
        self.fact("send", &format!("relay-broker send {agent} 'hello' --wait"));
        self.fact("stop", "Ctrl-C here, or relay-broker stop");
        if !plan.is_usual_place() {
            self.fact(
                "find",
                &format!(
                    "export RELAY_BROKER_STATE_DIR={} in other terminals",
                    shell_words::quote(&plan.state_dir().display().to_string())
                ),
            );
        }
    }
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
    let what = match &event {
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
    voice.fact(what, &events::sentence(&event));
    seq
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_line_is_one_json_object() {
        let line = log_object("2026-06-28T10:00:00.000Z", "WARN", "t", "a \"b\"\nc").to_string();
        assert!(!line.contains('\n'));
        let back: serde_json::Value = serde_json::from_str(&line).expect("json");
        assert_eq!(
            (&back["level"], &back["message"]),
            (&json!("warn"), &json!("a \"b\"\nc"))
        );
    }
}
