//! A person's terminal joined to an agent's.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::{Node, Scratch, signal, until};

/// A terminal with `relay-broker attach` in it.
struct Terminal {
    master: Box<dyn MasterPty + Send>,
    // Held open, so that the terminal's modes can be looked at after the program has left.
    _slave: Box<dyn SlavePty + Send>,
    keys: Box<dyn Write + Send>,
    shown: Arc<Mutex<Vec<u8>>>,
    child: Box<dyn Child + Send + Sync>,
}

fn size(rows: u16, cols: u16) -> PtySize {
    PtySize {
        rows,
        cols,
        pixel_width: 0,
        pixel_height: 0,
    }
}

impl Terminal {
    fn run(dir: &Path, args: &[&str]) -> Self {
        let pair = native_pty_system()
            .openpty(size(30, 90))
            .expect("a terminal");
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_relay-broker"));
        command.args(args);
        command.cwd(dir);
        command.env("TERM", "xterm-256color");
        command.env_remove("RELAY_BROKER_STATE_DIR");
        let child = pair
            .slave
            .spawn_command(command)
            .expect("the program starts");
        let mut out = pair.master.try_clone_reader().expect("a reader");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let sink = shown.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut buffer) {
                sink.lock()
                    .expect("no panics")
                    .extend_from_slice(&buffer[..n]);
            }
        });
        let keys = pair.master.take_writer().expect("a writer");
        Self {
            master: pair.master,
            _slave: pair.slave,
            keys,
            shown,
            child,
        }
    }

    fn shows(&self, text: &str) {
        until(&format!("{text:?} on the terminal"), || {
            let shown = self.shown.lock().expect("no panics");
            String::from_utf8_lossy(&shown).contains(text).then_some(())
        });
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys
            .write_all(keys)
            .and_then(|()| self.keys.flush())
            .expect("the terminal takes keys");
    }

    /// The program's exit code.
    fn end(&mut self) -> u32 {
        until("the end of attach", || self.child.try_wait().ok().flatten()).exit_code()
    }

    /// Whether the terminal collects lines and echoes, as it did before.
    fn is_as_before(&self) -> bool {
        let name = self.master.tty_name().expect("a name");
        let tty = std::fs::File::open(name).expect("the terminal is there");
        let modes = tcgetattr(&tty).expect("it is a terminal").local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }
}

fn node_with_shell(folder: &Scratch) -> Node {
    let node = Node::up(folder.path(), &["--agent", "ada=sh"]);
    node.ready("ada");
    node
}

#[test]
fn keys_reach_the_agent_its_size_follows_and_it_outlives_the_visit() {
    let folder = Scratch::new();
    let node = node_with_shell(&folder);
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada"]);
    terminal.shows("\x1b[H\x1b[2J");
    terminal.press(b"stty size; echo so''far\r");
    terminal.shows("30 90\r\nsofar");
    assert!(!terminal.is_as_before());

    terminal.master.resize(size(41, 101)).expect("a new size");
    until("the new size at the agent", || {
        let snapshot = node.get("/api/spawned/ada/snapshot?format=plain");
        (snapshot["rows"] == 41 && snapshot["cols"] == 101).then_some(())
    });
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    terminal.shows("detached; ada goes on");
    assert!(terminal.is_as_before());
    assert_eq!(node.agent("ada").expect("still here")["phase"], "ready");
}

#[test]
fn a_viewer_types_nothing() {
    let folder = Scratch::new();
    let node = node_with_shell(&folder);
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada", "--view"]);
    terminal.shows("\x1b[H\x1b[2J");
    terminal.press(b"echo lost\r");
    terminal.press(b"\x03");
    assert_eq!(terminal.end(), 0);
    let snapshot = node.get("/api/spawned/ada/snapshot?format=plain");
    assert!(!snapshot["screen"].as_str().expect("text").contains("lost"));
}

#[test]
fn the_terminal_is_restored_when_the_agent_ends_or_a_signal_comes() {
    let folder = Scratch::new();
    let _node = node_with_shell(&folder);
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada"]);
    terminal.shows("\x1b[H\x1b[2J");
    let pid = terminal.child.process_id().expect("it runs");
    signal(pid, "TERM");
    assert_eq!(terminal.end(), 1);
    assert!(terminal.is_as_before());

    let mut terminal = Terminal::run(folder.path(), &["attach", "ada"]);
    terminal.shows("\x1b[H\x1b[2J");
    terminal.press(b"exit\r");
    assert_eq!(terminal.end(), 0);
    terminal.shows("ada has ended");
    assert!(terminal.is_as_before());
}
