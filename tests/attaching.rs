//! A person's terminal joined to an agent's.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::{Node, Scratch, signal, until};

/// A terminal with `relay-broker attach` in it.
pub struct Terminal {
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
    pub fn run(dir: &Path, args: &[&str]) -> Self {
        Self::with(dir, args, &[])
    }

    /// The same with these variables.
    pub fn with(dir: &Path, args: &[&str], variables: &[(String, String)]) -> Self {
        let pair = native_pty_system()
            .openpty(size(30, 90))
            .expect("a terminal");
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_relay-broker"));
        command.args(args);
        command.cwd(dir);
        command.env("TERM", "xterm-256color");
        command.env_remove("RELAY_BROKER_STATE_DIR");
        variables
            .iter()
            .for_each(|(key, value)| command.env(key, value));
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

    pub fn shows(&self, text: &str) {
        until(&format!("{text:?} on the terminal"), || {
            let shown = self.shown.lock().expect("no panics");
            String::from_utf8_lossy(&shown).contains(text).then_some(())
        });
    }

    /// How often that was shown.
    fn count(&self, text: &str) -> usize {
        let shown = self.shown.lock().expect("no panics");
        String::from_utf8_lossy(&shown).matches(text).count()
    }

    pub fn press(&mut self, keys: &[u8]) {
        self.keys
            .write_all(keys)
            .and_then(|()| self.keys.flush())
            .expect("the terminal takes keys");
    }

    /// The program's exit code.
    pub fn end(&mut self) -> u32 {
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
fn a_program_that_attached_somebody_reads_how_that_ended() {
    let folder = Scratch::new();
    let _node = node_with_shell(&folder);
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada", "--json"]);
    terminal.shows("\x1b[H\x1b[2J");
    terminal.press(b"\x1d");
    assert_eq!(terminal.end(), 0);
    terminal.shows("{\"end\":\"detached\",\"name\":\"ada\"}");
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

/// A program that says something to its terminal when Enter is pressed, and writes down every byte that it reads.
fn node_with_program(folder: &Scratch, says: &str) -> Node {
    let node = Node::up(folder.path(), &[]);
    let program = format!(
        "stty raw -echo; printf 'here\\r\\n'; head -c 1 >/dev/null; printf '{says}'; exec dd bs=1 of=heard 2>/dev/null"
    );
    node.spawn("ada", &["sh", "-c", &program]);
    node
}

/// What the program has read, once it has read that.
fn heard(folder: &Scratch, last: &str) -> String {
    let path = folder.path().join("heard");
    until(&format!("{last:?} at the program"), || {
        let read = std::fs::read(&path).unwrap_or_default();
        let read = String::from_utf8_lossy(&read).into_owned();
        read.contains(last).then_some(read)
    })
}

#[test]
fn a_programs_questions_are_answered_once_whoever_watches() {
    let folder = Scratch::new();
    let node = node_with_program(&folder, "\\033[c\\033[6n\\033]11;?\\007\\033[>qasked");
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada"]);
    terminal.shows("here");
    terminal.press(b"\r");
    terminal.shows("asked");
    assert_eq!(
        terminal.count("\x1b[c") + terminal.count("\x1b[6n") + terminal.count("\x1b]11;?"),
        0
    );
    // A terminal that reports all the same, cut in two, and a person's keys around it.
    terminal.press(b"x\x1b[?62;22");
    terminal.press(b"c\x1b[12;4R\x1b]11;rgb:0000/0000/0000\x1b\\y\x1b[A.");
    let heard = heard(&folder, "\x1b[A.");
    assert_eq!(heard.matches("\x1b[?62;22c").count(), 1, "{heard:?}");
    assert_eq!(heard.matches('R').count(), 1, "{heard:?}");
    assert_eq!(heard.matches("]11;rgb").count(), 1, "{heard:?}");
    assert!(heard.ends_with("xy\x1b[A."), "{heard:?}");
    drop(node);
}

#[test]
fn whoever_leaves_gets_back_his_terminal_and_only_what_was_switched_is_switched_back() {
    let folder = Scratch::new();
    let says = "\\033[?1016h\\033[?2048h\\033[>1u\\033(0\\033[4h\\033]12;red\\007\\033]9;4;1;50\\007switched";
    let _node = node_with_program(&folder, says);
    let mut terminal = Terminal::run(folder.path(), &["attach", "ada"]);
    terminal.shows("here");
    terminal.shows("attached to ada; Ctrl-] leaves");
    terminal.press(b"\r");
    terminal.shows("switched");
    // As a terminal with the keyboard protocol sends it while Num Lock is on, in two reads.
    terminal.press(b"\x1b[93;1");
    terminal.press(b"33u");
    assert_eq!(terminal.end(), 0);
    terminal.shows("detached; ada goes on");
    for back in [
        "\x1b[?1016l",
        "\x1b[?2048l",
        "\x1b[<1u",
        "\x1b(B",
        "\x1b[4l",
        "\x1b]112\x1b\\",
        "\x1b]9;4;0\x1b\\",
    ] {
        assert_eq!(terminal.count(back), 1, "{back:?}");
    }
    for never in [
        "\x1b[?1000l",
        "\x1b[?2004l",
        "\x1b[?1049l",
        "\x1b>",
        "\x1b[<u",
        "\x1b[r",
    ] {
        assert_eq!(terminal.count(never), 0, "{never:?}");
    }
    terminal.shows("\x1b[3;1H\x1b[J");
    assert!(terminal.is_as_before());
}

#[test]
fn the_terminal_fits_all_who_are_there_and_gets_its_own_size_back_after_the_last() {
    let folder = Scratch::new();
    let node = node_with_shell(&folder);
    let size_is = |rows: u64, cols: u64| {
        until(&format!("{rows} rows and {cols} columns"), || {
            let snapshot = node.get("/api/spawned/ada/snapshot?format=plain");
            (snapshot["rows"] == rows && snapshot["cols"] == cols).then_some(())
        });
    };
    let own = node.get("/api/spawned/ada/snapshot?format=plain");
    let mut one = Terminal::run(folder.path(), &["attach", "ada"]);
    one.shows("attached to ada; Ctrl-] leaves");
    size_is(30, 90);
    let mut two = Terminal::run(folder.path(), &["attach", "ada"]);
    two.shows("is here; Ctrl-] leaves");
    two.master.resize(size(3, 20)).expect("a new size");
    size_is(3, 20);
    two.press(b"\x1d");
    assert_eq!(two.end(), 0);
    size_is(30, 90);
    // One that is killed leaves as well.
    signal(one.child.process_id().expect("it runs"), "KILL");
    one.end();
    size_is(
        own["rows"].as_u64().expect("rows"),
        own["cols"].as_u64().expect("columns"),
    );
}
