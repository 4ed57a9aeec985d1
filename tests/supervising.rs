//! Under a service manager: a stand-in for systemd's socket hears the whole conversation, and nobody else hears of it.

use std::ffi::OsString;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::support::{KEY, Node, Scratch, run, script, signal, until};

/// How long the stand-in waits for one message; generous, because machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// A service manager's socket, and what came in so far.
struct StandIn {
    socket: UnixDatagram,
    name: OsString,
    heard: Vec<String>,
}

impl StandIn {
    fn at_path(folder: &Scratch) -> Self {
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        Self::of(socket, path.into())
    }

    fn hidden(folder: &Scratch) -> Self {
        let name = folder.path().join("hidden");
        let name = name.to_str().expect("text");
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("a socket");
        Self::of(socket, format!("@{name}").into())
    }

    fn of(socket: UnixDatagram, name: OsString) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Self {
            socket,
            name,
            heard: Vec::new(),
        }
    }

    fn name(&self) -> &str {
        self.name.to_str().expect("text")
    }

    /// Listens until a message has what is looked for; that message.
    fn hears(&mut self, what: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|e| {
                panic!("{what:?} never came ({e}): {:?}", self.heard);
            });
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message.clone());
            if message.contains(what) {
                return message;
            }
        }
        panic!("{what:?} never came: {:?}", self.heard);
    }

    /// What has come in since, without waiting.
    fn rest(&mut self) -> &[String] {
        self.socket.set_nonblocking(true).expect("ours");
        let mut buffer = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
            self.heard.push(message);
        }
        &self.heard
    }
}

fn has_whole_conversation(folder: &Scratch, mut manager: StandIn) {
    let name = manager.name().to_owned();
    let variables = [("NOTIFY_SOCKET", &*name), ("WATCHDOG_USEC", "400000")];
    let node = Node::up_in(folder.path(), &[], &variables);
    assert_eq!(manager.hears("READY"), "READY=1\n");
    manager.hears("STATUS=no agents, ");
    node.spawn("ada", &["cat"]);
    manager.hears("STATUS=1 agent, linked to the engine, no messages wait");
    for _ in 0..3 {
        manager.hears("WATCHDOG=1");
    }
    signal(node.process.pid(), "HUP");
    let reloading = manager.hears("RELOADING");
    let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    assert!(
        at.is_some_and(|at| at.trim().parse::<u64>().is_ok()),
        "{reloading}"
    );
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    assert_eq!(node.process.stop(), Some(0));
    let stopping = manager.hears("STOPPING");
    // The agents' grace, which a manager's own limit may be shorter than.
    assert!(
        stopping.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC="),
        "{stopping}"
    );
}

#[test]
fn a_service_manager_hears_of_start_state_reload_and_end_and_is_fed() {
    let folder = Scratch::new();
    has_whole_conversation(&folder, StandIn::at_path(&folder));
}

#[test]
fn a_service_manager_with_an_abstract_name_hears_the_same() {
    let folder = Scratch::new();
    has_whole_conversation(&folder, StandIn::hidden(&folder));
}

#[test]
fn a_watchdog_that_is_none_or_watches_another_process_is_not_fed() {
    for variables in [
        &[][..],
        &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")][..],
    ] {
        let folder = Scratch::new();
        let mut manager = StandIn::at_path(&folder);
        let name = manager.name().to_owned();
        let variables = [&[("NOTIFY_SOCKET", &*name)], variables].concat();
        let node = Node::up_in(folder.path(), &[], &variables);
        node.spawn("ada", &["cat"]);
        manager.hears("STATUS=1 agent, ");
        // Over the API as well as by a signal.
        let (code, _, text) = run(folder.path(), &["stop"]);
        assert_eq!(code, Some(0), "{text}");
        manager.hears("STOPPING=1");
        let heard = manager.rest();
        assert!(!heard.concat().contains("WATCHDOG"), "{heard:?}");
    }
}

#[test]
fn a_service_manager_that_is_gone_keeps_nobody_from_running_and_a_wrong_watchdog_is_named() {
    let folder = Scratch::new();
    let gone = folder.path().join("gone");
    let variables = [("NOTIFY_SOCKET", gone.to_str().expect("text"))];
    let node = Node::up_in(folder.path(), &[], &variables);
    assert_eq!(node.process.stop(), Some(0));
    let log = fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    assert!(log.contains("NOTIFY_SOCKET"), "{log}");
    let mut up = crate::support::command(folder.path(), &["up"]);
    let out = up.env("WATCHDOG_USEC", "soon").output().expect("it starts");
    assert_eq!(out.status.code(), Some(78), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("WATCHDOG_USEC"), "{said}");
}

#[test]
fn nothing_of_the_service_reaches_an_agent() {
    let folder = Scratch::new();
    let manager = StandIn::at_path(&folder);
    let here = folder.path().to_str().expect("text").to_owned();
    let variables = [
        ("NOTIFY_SOCKET", manager.name()),
        ("WATCHDOG_USEC", "60000000"),
        ("WATCHDOG_PID", "1"),
        ("LISTEN_FDS", "0"),
        ("LISTEN_PID", "1"),
        ("LISTEN_FDNAMES", "none"),
        ("CREDENTIALS_DIRECTORY", &here),
        ("KEPT", "as it is"),
    ];
    let node = Node::up_in(folder.path(), &[], &variables);
    let report = script(folder.path(), "report", "env > seen; exec cat");
    node.spawn("ada", &[&report]);
    let seen = fs::read_to_string(folder.path().join("seen")).expect("written");
    let names: Vec<&str> = seen
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    assert!(names.contains(&"KEPT"), "{names:?}");
    for (name, _) in &variables[..7] {
        assert!(!names.contains(name), "{name}");
    }
}

#[test]
fn a_workspace_key_that_the_service_manager_keeps_opens_the_workspace() {
    let (theirs, ours) = (Scratch::new(), Scratch::new());
    let engine = Node::up(theirs.path(), &[]);
    let key = ours.path().join("workspace-key");
    fs::write(&key, format!("{}\n", engine.engine.key)).expect("room");
    let here = ours.path().to_str().expect("text").to_owned();
    let variables = [("CREDENTIALS_DIRECTORY", &*here)];
    let flags = ["--engine", &engine.engine.url];
    let node = Node::up_in(ours.path(), &flags, &variables);
    until("the link", || {
        (node.get("/health")["nodeConnected"] == true).then_some(())
    });
    assert_eq!(node.process.stop(), Some(0));
    // What is said more closely comes first.
    let variables = [variables[0], ("RELAY_WORKSPACE_KEY", "nonsense")];
    let mut up = crate::support::command(ours.path(), &["up", flags[0], flags[1]]);
    let out = up.envs(variables).output().expect("it starts");
    assert_eq!(out.status.code(), Some(78), "{out:?}");
    fs::write(&key, "no key").expect("room");
    let mut up = crate::support::command(ours.path(), &["up", flags[0], flags[1]]);
    let out = up.envs([variables[0]]).output().expect("it starts");
    assert_eq!(out.status.code(), Some(78), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        said.contains("the credential workspace-key") && !said.contains(KEY),
        "{said}"
    );
}
