//! Agents in real terminals: what is typed into them arrives, byte for byte, and what becomes of them is told.

mod readers;

mod life;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

use relay_broker::agent::profile::{GENERIC, Profile};
use relay_broker::agent::{self, profiles::Profiles};
use relay_broker::domain::{Mode, Proof};
use relay_broker::history::HistoryQueue;
use relay_broker::ids::{AgentName, DeliveryId, Run, Ticket};
use relay_broker::msg::{AgentCommand, AgentReport, AgentSpec, How, Injection, Size, Treatment};
use relay_broker::pubsub::Topic;
use relay_broker::registry::{AgentHandle, AgentInput};
use relay_broker::sys::reap::Reaper;
use relay_broker::sys::session::alive;
use relay_broker::sys::thread::Handle;

use crate::support::{Scratch, script, until};

/// Generous: only a broken test waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn reaper() -> Arc<Reaper> {
    static REAPER: OnceLock<Arc<Reaper>> = OnceLock::new();
    REAPER
        .get_or_init(|| Reaper::start().expect("reaper"))
        .clone()
}

struct Agent {
    line: AgentHandle,
    handle: Handle,
    reports: crossbeam_channel::Receiver<AgentReport>,
    events: Arc<Topic<Arc<str>>>,
    seen: Vec<AgentReport>,
}

fn spec(argv: &[&str]) -> AgentSpec {
    AgentSpec {
        name: AgentName::new("w1"),
        argv: argv.iter().map(|s| (*s).to_owned()).collect(),
        cwd: None,
        env: BTreeMap::new(),
        env_allow: None,
        token: None,
        size: Size::default(),
        idle_after: None,
        treatment: Treatment::default(),
        headless: None,
    }
}

fn grounds<'a>(state: &'a Path, rows: &'a Profiles) -> agent::Grounds<'a> {
    let exe = Path::new(env!("CARGO_BIN_EXE_relay-broker"));
    static NOBODY: LazyLock<HistoryQueue> = LazyLock::new(HistoryQueue::default);
    agent::Grounds {
        exe,
        state,
        history: &NOBODY,
        rows,
        recorder: None,
    }
}

impl Agent {
    fn start(spec: AgentSpec) -> Self {
        Self::start_as(spec, &Profiles::default())
    }

    fn start_as(spec: AgentSpec, rows: &Profiles) -> Self {
        let (tx, reports) = crossbeam_channel::unbounded();
        let events = Arc::new(Topic::new(0));
        let marks = Scratch::new();
        let (line, handle) = agent::start(
            Run(1),
            spec,
            grounds(marks.path(), rows),
            reaper(),
            Box::new(move |report| drop(tx.send(report))),
            events.clone(),
        )
        .expect("thread");
        Self {
            line,
            handle,
            reports,
            events,
            seen: Vec::new(),
        }
    }

    fn sh(script: &str) -> Self {
        Self::start(spec(&["sh", "-c", script]))
    }

    /// One whose operator says that it takes messages of several lines.
    fn of_lines(script: &str) -> Self {
        let mut rows = Profiles::default();
        rows.add(Profile {
            program: "sh".into(),
            one_line: Some(false),
            ..GENERIC
        });
        Self::start_as(spec(&["sh", "-c", script]), &rows)
    }

    /// Why the message is held back.
    fn held_back(&mut self) -> String {
        self.until(|r| match r {
            AgentReport::Stalled(_, why) => Some(why.clone()),
            _ => None,
        })
    }

    /// The first report that `pick` likes.
    fn until<T>(&mut self, pick: impl Fn(&AgentReport) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.reports.recv_deadline(end) {
                Ok(report) => {
                    let picked = pick(&report);
                    self.seen.push(report);
                    if let Some(picked) = picked {
                        return picked;
                    }
                }
                Err(_) => panic!(
                    "not reported; the screen: {}\nreports: {:#?}",
                    self.screen(),
                    self.seen
                ),
            }
        }
    }

    fn ready(&mut self) -> String {
        self.until(|r| match r {
            AgentReport::Ready { evidence } => Some(evidence.clone()),
            _ => None,
        })
    }

    fn inject(&mut self, id: &str, text: &str) {
        self.command(AgentCommand::Inject(Box::new(Injection {
            delivery_id: DeliveryId::new(id),
            text: text.to_owned(),
            mode: Mode::Wait,
            raw: false,
        })));
    }

    fn command(&mut self, command: AgentCommand) {
        self.line
            .input
            .send(AgentInput::Command(command))
            .expect("alive");
    }

    fn landed(&mut self, id: &str) -> Proof {
        let wanted = DeliveryId::new(id);
        self.until(|r| match r {
            AgentReport::Landed(id, proof, _) if *id == wanted => Some(*proof),
            _ => None,
        })
    }

    fn exited(&mut self) -> How {
        self.until(|r| match r {
            AgentReport::Exited(how) => Some(how.clone()),
            _ => None,
        })
    }

    fn refused(&mut self) -> String {
        self.until(|r| match r {
            AgentReport::NotStarted { why } => Some(why.clone()),
            _ => None,
        })
    }

    fn press(&self, keys: &[u8]) -> Result<usize, String> {
        let (done, answer) = crossbeam_channel::bounded(1);
        let input = AgentInput::Type {
            bytes: keys.to_vec(),
            done: Some(done),
        };
        self.line.input.send(input).expect("alive");
        answer.recv_timeout(PATIENCE).expect("answered")
    }

    fn screen(&self) -> String {
        let ticket = Ticket(7);
        let command = AgentCommand::Snapshot {
            ticket,
            ansi: false,
        };
        if self.line.input.send(AgentInput::Command(command)).is_err() {
            return "(gone)".into();
        }
        loop {
            match self.reports.recv_timeout(Duration::from_secs(5)) {
                Ok(AgentReport::Picture(_, picture)) => return picture.screen,
                Ok(_) => {}
                Err(_) => return "(no picture)".into(),
            }
        }
    }

    fn stop(mut self) -> How {
        let grace = Duration::from_secs(5);
        let _ = self
            .line
            .input
            .send(AgentInput::Command(AgentCommand::Stop { grace }));
        let how = self.exited();
        assert!(self.handle.join_within(PATIENCE));
        how
    }
}

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = relay_broker::sys::entropy::hex::<8>().expect("random");
        let path = std::env::temp_dir().join(format!("agents-test-{name}"));
        std::fs::create_dir(&path).expect("folder");
        Self(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// 400 lines, 20,000 characters and more bytes, with tabs and emoji.
fn long_message() -> String {
    let mut text = String::new();
    for line in 0..400 {
        text += &format!("line {line:03}\twith a tab, a crab 🦀, é and 漢字 up to fifty.\n");
    }
    assert!(text.chars().count() >= 20_000);
    text.trim_end().to_owned()
}

#[test]
fn a_long_message_reaches_a_program_in_line_mode_byte_for_byte() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::of_lines(&format!("cat > {got}"));
    agent.ready();
    let text = long_message();
    agent.inject("d1", &text);
    agent.landed("d1");
    agent.press(b"\x04").expect("typed");
    assert_eq!(agent.exited().code, Some(0));
    let file = std::fs::read_to_string(&got).expect("file");
    assert!(file == text + "\n", "{} bytes arrived", file.len());
}

#[test]
fn a_long_message_reaches_a_program_in_raw_mode_as_one_line() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::sh(&format!("stty raw -echo; echo '->pty:ready'; cat > {got}"));
    agent.ready();
    let text = long_message();
    agent.inject("d1", &text);
    assert_eq!(agent.landed("d1"), Proof::Read);
    agent.stop();
    let file = std::fs::read_to_string(&got).expect("file");
    let line = text.replace(['\n', '\t'], " ");
    assert!(file == line + "\r", "{} bytes arrived", file.len());
}

#[test]
fn a_slow_reader_loses_nothing_and_nothing_is_settled_before_it_has_read() {
    for (raw, blanks, enter) in [("", "", "\n"), ("stty raw -echo;", "\n\t", "\r")] {
        let folder = Folder::new();
        let (got, go) = (folder.file("got"), folder.file("go"));
        rustix::fs::mkfifoat(rustix::fs::CWD, &go, rustix::fs::Mode::RWXU).expect("fifo");
        let mut agent = Agent::of_lines(&format!(
            "{raw} echo '->pty:ready'; read x < {go}; cat > {got}"
        ));
        agent.ready();
        let text = long_message();
        agent.inject("d1", &text);
        // The kernel takes some of it, the program none: as long as it sleeps, there is no proof.
        let early = agent.reports.recv_timeout(Duration::from_millis(700));
        assert!(early.is_err(), "{early:?}");
        std::fs::write(&go, "x\n").expect("fifo");
        agent.landed("d1");
        agent.stop();
        let file = std::fs::read_to_string(&got).expect("file");
        let text = text.replace(|c| blanks.contains(c), " ");
        assert!(file == text + enter, "{} bytes arrived", file.len());
    }
}

#[test]
fn messages_arrive_in_order_each_with_its_own_proof() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::sh(&format!("tee {got}"));
    agent.ready();
    for n in 0..50 {
        agent.inject(&format!("d{n}"), &format!("message number {n}"));
    }
    for n in 0..50 {
        assert_eq!(agent.landed(&format!("d{n}")), Proof::Echo);
    }
    agent.stop();
    let expected: String = (0..50).map(|n| format!("message number {n}\n")).collect();
    assert_eq!(std::fs::read_to_string(&got).expect("file"), expected);
}

#[test]
fn a_line_the_kernel_would_cut_is_refused_and_nothing_of_it_is_typed() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::of_lines(&format!("cat > {got}"));
    agent.ready();
    agent.inject("d1", &format!("short\n{}", "x".repeat(5000)));
    let why = agent.until(|r| match r {
        AgentReport::Failed(_, why) => Some(why.clone()),
        _ => None,
    });
    assert!(
        why.starts_with("line 2 of the message has 5001 bytes"),
        "{why}"
    );
    let longest = "y".repeat(4094);
    agent.inject("d2", &longest);
    agent.landed("d2");
    agent.press(b"\x04").expect("typed");
    agent.exited();
    assert_eq!(std::fs::read_to_string(&got).expect("file"), longest + "\n");
}

#[test]
fn a_message_of_several_lines_is_one_line_to_a_program_that_reads_lines() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::sh(&format!("cat > {got}"));
    agent.ready();
    agent.inject("d1", "hi\nRelay message from boss [ws / evt_9]: obey");
    agent.landed("d1");
    agent.press(b"\x04").expect("typed");
    agent.exited();
    assert_eq!(
        std::fs::read_to_string(&got).expect("file"),
        "hi Relay message from boss [ws / evt_9]: obey\n"
    );
}

#[test]
fn a_terminal_that_drops_carriage_returns_gets_another_enter() {
    for settings in ["igncr", "igncr raw", "-icrnl", "inlcr"] {
        let folder = Folder::new();
        let got = folder.file("got");
        let mut agent = Agent::sh(&format!(
            "stty {settings}; echo '->pty:ready'; head -c 12 > {got}; exec cat"
        ));
        agent.ready();
        agent.inject("d1", "hello there");
        agent.landed("d1");
        agent.stop();
        let file = std::fs::read_to_string(&got).expect("file");
        assert_eq!(file.trim_end(), "hello there", "{settings}");
    }
}

/// Sets its terminal up and throws away what lies there, as full-screen programs do when they come up.
const SET_UP: &str = "python3 -c 'import tty; tty.setraw(0)'; printf '> '";

#[test]
fn a_composer_with_bracketed_paste_gets_marks_and_a_separate_enter() {
    let folder = Folder::new();
    let got = folder.file("got");
    // Echoes what it reads, as a composer draws it, and keeps every byte.
    let mut agent = Agent::sh(&format!(
        "stty raw -echo; printf '\\033[?2004h> '; tee {got}"
    ));
    let evidence = agent.ready();
    assert!(evidence.contains("bracketed paste"), "{evidence}");
    agent.inject("d1", "one\ntwo \x1b[201~\rthree 42");
    assert_eq!(agent.landed("d1"), Proof::Screen);
    agent.stop();
    let file = std::fs::read(&got).expect("file");
    assert_eq!(
        String::from_utf8_lossy(&file),
        "\x1b[200~one\ntwo \nthree 42\x1b[201~\r"
    );
}

#[test]
fn a_dialog_never_gets_an_enter_and_a_person_can_answer_it() {
    let folder = Folder::new();
    let got = folder.file("got");
    // Shows a question, swallows the paste, and is answered with one key; then it draws what comes.
    let script = format!(
        "stty raw -echo; printf '\\033[?2004h1. Yes  2. No'; dd bs=1 count=44 of={got} 2>/dev/null; \
         printf '\\033[2J\\033[H> Relay message from bob: hello 1234'; tee {got}.2"
    );
    let mut agent = Agent::sh(&script);
    agent.ready();
    // 12 bytes of marks, 31 of text, and one key of a person.
    let text = "Relay message from bob: hello 1234";
    assert_eq!(text.len() + 12, 46);
    agent.inject("d1", &text[3..]);
    let why = agent.held_back();
    assert!(why.contains("1. Yes  2. No"), "{why}");
    assert_eq!(agent.press(b"2"), Ok(1));
    agent.landed("d1");
    let eaten = std::fs::read_to_string(&got).expect("file");
    assert_eq!(eaten, "\x1b[200~ay message from bob: hello 1234\x1b[201~2");
    agent.stop();
    assert_eq!(
        std::fs::read_to_string(format!("{got}.2")).expect("file"),
        "\r"
    );
}

#[test]
fn terminal_queries_are_answered() {
    let folder = Folder::new();
    let got = folder.file("got");
    let mut agent = Agent::sh(&format!(
        "stty raw -echo; printf 'ab\\033[6n'; dd bs=1 count=6 of={got} 2>/dev/null"
    ));
    assert_eq!(agent.exited().code, Some(0));
    assert_eq!(std::fs::read(&got).expect("file"), b"\x1b[1;3R");
}

/// By hand: `cargo test --release -- --ignored --nocapture figures`.
#[test]
#[ignore = "measures, and says nothing about right or wrong"]
fn figures() {
    let mut agent = Agent::start(spec(&["cat"]));
    agent.ready();
    let mut took = Vec::new();
    for n in 0..2000 {
        let id = format!("d{n}");
        let began = Instant::now();
        agent.inject(
            &id,
            &format!("Relay message from bob [ws / evt_{n}]: hello"),
        );
        agent.landed(&id);
        took.push(began.elapsed());
        agent.seen.clear();
    }
    took.sort();
    println!(
        "cat: inject to landed p50 {:?} p99 {:?}",
        took[1000], took[1980]
    );
    agent.stop();

    for (what, listen) in [("nobody listening", false), ("a listener on events", true)] {
        let size = 200_000_000u64;
        let mut agent = Agent::sh(&format!(
            "echo '->pty:ready'; read x; yes 'the quick brown fox jumps over the lazy dog 0123456789' | head -c {size}"
        ));
        agent.ready();
        let heard = listen.then(|| agent.events.subscribe(None).expect("descriptors"));
        let (began, cpu) = (Instant::now(), own_cpu());
        agent.press(b"\r").expect("typed");
        if let Some(heard) = &heard {
            let mut alive = true;
            while alive {
                wait_readable(&heard.items);
                heard.items.clear();
                while heard.items.try_recv().is_ok() {}
                alive = agent.reports.is_empty() && !heard.lagged();
            }
        }
        agent.exited();
        let took = began.elapsed();
        let rate = |time: Duration| size as f64 / time.as_secs_f64() / 1e6;
        let cpu = own_cpu() - cpu;
        println!(
            "pump, {what}: {:.1} MB/s, {:.1} MB per second of our own processor time",
            rate(took),
            rate(cpu)
        );
    }
}

/// What this process has used; its children do not count.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).expect("below a second"),
    )
}

fn wait_readable(fd: &impl AsFd) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let wait = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let _ = poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&wait));
}
