//! The core against made-up terminals, in made-up time.

mod drawn; // drafts of every shape
mod hostile; // bodies made of trouble
mod interrupting; // programs that are stopped without a message
mod put_back; // words that a program puts back into its input line
mod swallowed; // texts that vanish
mod terminals; // who has the terminal, and with which settings
mod withdrawing; // messages to be forgotten

mod landing;

use std::collections::BTreeMap;

use super::*;
use crate::agent::profile;
use crate::agent::profiles::Profiles;
use crate::agent::tty_state::Front;
use crate::domain::{Mode, Proof};
use crate::ids::{AgentName, DeliveryId};
use crate::msg::Treatment;
use crate::time::Wall;

/// A program and its terminal.
trait Program {
    /// Settings; `unread` is filled in by the world.
    fn settings(&self) -> TtyState;
    /// It reads: what it shows in answer.
    fn read(&mut self, bytes: &[u8]) -> Vec<u8>;
    /// Whether it waits for input, as the kernel tells.
    fn awaits(&self) -> Option<bool> {
        Some(true)
    }
    /// What it keeps of what it was asked.
    fn history(&self) -> &[String] {
        &[]
    }
}

const COOKED: TtyState = TtyState {
    line_mode: true,
    echo: true,
    enter: Some(b'\r'),
    unread: None,
    front: Front::Own,
};
const RAW: TtyState = TtyState {
    line_mode: false,
    echo: false,
    enter: Some(b'\r'),
    unread: None,
    front: Front::Own,
};

/// Reads lines and says nothing.
struct Lines;

impl Program for Lines {
    fn settings(&self) -> TtyState {
        COOKED
    }
    fn read(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

/// Raw mode; gives every byte back.
struct Parrot;

impl Program for Parrot {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }
}

/// Raw mode; shows nothing.
struct Mute;

impl Program for Mute {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, _: &[u8]) -> Vec<u8> {
        Vec::new()
    }
}

/// A full-screen program with a composer, which may have a dialog open, and may swallow Enters.
#[derive(Default)]
struct Composer {
    draft: String,
    submitted: Vec<String>,
    dialog: bool,
    answered: Vec<u8>,
    swallow: usize,
    in_paste: Vec<u8>,
    /// A dialog opens just before the next paste comes.
    ambush: bool,
    /// So many Enters only begin another row.
    newlines: usize,
    stash: String,
    /// What stands below its input line, and what does after each Escape that it reads.
    footer: &'static str,
    after_escape: VecDeque<&'static str>,
    /// What it puts back into its input line at an Escape, and draws only with the next that it reads.
    puts_back: String,
    /// Ctrl-U takes away one row, or the end of the row above where it is empty.
    kills_rows: bool,
    /// Nothing stands between what was submitted and the input line.
    bare: bool,
    /// It writes down what is submitted.
    keeps_history: bool,
    /// What it says of itself when something is submitted.
    says: &'static str,
}

impl Composer {
    fn draw(&self) -> Vec<u8> {
        let mut text = String::from("\x1b[2J\x1b[H");
        for line in &self.submitted {
            text += &format!("❯ {line}\r\n{}", if self.bare { "" } else { "\r\n" });
        }
        if self.dialog {
            text += "Do you want to proceed?\r\n❯ 1. Yes\r\n  2. No\x1b[1A\x1b[3G";
        } else {
            let rule = if self.bare {
                ""
            } else {
                "────────\r\n"
            };
            text += &format!("{rule}❯ {}", self.draft.replace('\n', "\r\n  "));
            if !self.footer.is_empty() {
                text += &format!("\x1b7\r\n{}\x1b8", self.footer);
            }
        }
        text.into_bytes()
    }
}

impl Program for Composer {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes == b"\x1b"
            && let Some(footer) = self.after_escape.pop_front()
        {
            self.footer = footer;
            let shown = self.draw();
            self.draft += &std::mem::take(&mut self.puts_back);
            return shown;
        }
        for byte in bytes {
            self.in_paste.push(*byte);
            let text = String::from_utf8_lossy(&self.in_paste).into_owned();
            if text.starts_with("\x1b[200~") {
                if let Some(pasted) = text.strip_suffix("\x1b[201~") {
                    self.dialog |= std::mem::take(&mut self.ambush);
                    if !self.dialog {
                        self.draft += pasted.trim_start_matches("\x1b[200~");
                    }
                    self.in_paste.clear();
                }
            } else if text == "\x1b\x1b" {
                // The first was a key of its own.
                self.in_paste.pop();
            } else if !text.starts_with('\x1b') {
                self.in_paste.clear();
                match byte {
                    _ if self.dialog => {
                        self.answered.push(*byte);
                        self.dialog = false;
                    }
                    b'\r' if self.swallow > 0 => self.swallow -= 1,
                    b'\r' if self.newlines > 0 => {
                        self.newlines -= 1;
                        self.draft.push('\n');
                    }
                    b'\r' => {
                        let next = std::mem::take(&mut self.stash);
                        self.submitted
                            .push(std::mem::replace(&mut self.draft, next));
                    }
                    0x13 => self.stash = std::mem::take(&mut self.draft),
                    0x15 if self.kills_rows => {
                        let begin = self.draft.rfind('\n').map_or(0, |at| at + 1);
                        match begin == self.draft.len() {
                            true => drop(self.draft.pop()),
                            false => self.draft.truncate(begin),
                        }
                    }
                    0x15 => self.draft.clear(),
                    0x7f => drop(self.draft.pop()),
                    _ => self.draft.push(char::from(*byte)),
                }
            }
        }
        let mut shown = self.draw();
        if bytes.ends_with(b"\r") {
            shown.extend_from_slice(self.says.as_bytes());
        }
        shown
    }
    fn history(&self) -> &[String] {
        match self.keeps_history {
            true => &self.submitted,
            false => &[],
        }
    }
}

struct World<P> {
    core: AgentCore,
    now: Mono,
    program: P,
    /// In the terminal, unread.
    unread: Vec<u8>,
    /// Everything ever written, write by write.
    writes: Vec<Vec<u8>>,
    reports: Vec<(Mono, AgentReport)>,
    keys: Vec<(u64, Result<usize, String>)>,
    /// The terminal is full: what is written waits outside. So much does.
    full: bool,
    outside: usize,
    /// The program reads at all.
    reading: bool,
    /// Whether reading can be observed.
    observed: bool,
    /// How long the program's history was before Enter.
    noted: usize,
}

fn spec() -> AgentSpec {
    AgentSpec {
        name: AgentName::new("w"),
        argv: vec!["prog".into()],
        cwd: None,
        env: BTreeMap::new(),
        env_allow: None,
        token: None,
        size: Size { rows: 24, cols: 60 },
        idle_after: None,
        treatment: Treatment::default(),
        headless: None,
    }
}

impl<P: Program> World<P> {
    /// Ready, by the marker, and with `greeting` on its screen.
    fn ready(program: P, greeting: &[u8]) -> Self {
        let mut world = Self {
            core: AgentCore::new(&spec(), profile::GENERIC, Mono(1)),
            now: Mono(1),
            program,
            unread: Vec::new(),
            writes: Vec::new(),
            reports: Vec::new(),
            keys: Vec::new(),
            full: false,
            outside: 0,
            reading: true,
            observed: true,
            noted: 0,
        };
        world.event(Event::Output(greeting.to_vec()));
        world.event(Event::Output(b"\x1b[s->pty:ready\x1b[2K\r".to_vec()));
        assert!(matches!(world.reports[0].1, AgentReport::Ready { .. }));
        world.reports.clear();
        world
    }

    fn event(&mut self, event: Event) {
        let now = Now {
            mono: self.now,
            wall: Wall(0),
        };
        let mut events = VecDeque::from([event]);
        let mut wrote = 0;
        while let Some(event) = events.pop_front() {
            let mut out = Out::default();
            self.core.step(now, event, &mut out);
            for effect in out.effects {
                match effect {
                    Effect::Probe => {
                        let mut facts = self.program.settings();
                        facts.unread = self.observed.then_some(!self.unread.is_empty());
                        events.push_back(Event::Tty(facts));
                    }
                    Effect::Write(bytes) => {
                        wrote += bytes.len();
                        self.unread.extend_from_slice(&bytes);
                        self.writes.push(bytes);
                    }
                    Effect::Seek => events.push_back(Event::Awaited(self.program.awaits())),
                    Effect::NoteHistory(_) => self.noted = self.program.history().len(),
                    Effect::AskHistory(head, _) => {
                        let since = &self.program.history()[self.noted..];
                        if since.iter().any(|text| head.is_in(text)) {
                            events.push_back(Event::InHistory);
                        }
                    }
                    Effect::Report(report) => self.reports.push((self.now, report)),
                    Effect::Keys(number, result) => self.keys.push((number, result)),
                    Effect::Resize(_) | Effect::Signal(_) => {}
                }
            }
        }
        if self.full {
            self.outside += wrote;
        } else if wrote > 0 {
            self.event(Event::Wrote(wrote));
            let settings = self.program.settings();
            if settings.line_mode && settings.echo {
                let echo = self.unread[self.unread.len() - wrote..].to_vec();
                self.event(Event::Output(echo));
            }
        }
    }

    /// Lets time pass: the program reads a little later than it is written to, ticks come when they are due.
    fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        let mut turns = 0;
        while self.now < end {
            turns += 1;
            assert!(
                turns < 100_000,
                "no progress: deadline {:?}",
                self.core.deadline()
            );
            let reads_at = (self.reading && !self.unread.is_empty())
                .then(|| self.now + Duration::from_micros(50));
            let next = soonest(self.core.deadline(), reads_at).filter(|at| *at <= end);
            self.now = next.unwrap_or(end).max(self.now + Duration::from_nanos(1));
            if reads_at.is_some_and(|at| at <= self.now) {
                let bytes = std::mem::take(&mut self.unread);
                let shown = self.program.read(&bytes);
                if !shown.is_empty() {
                    self.event(Event::Output(shown));
                }
            }
            if self.core.deadline().is_some_and(|at| at <= self.now) {
                self.event(Event::Tick);
            }
        }
    }

    fn inject(&mut self, text: &str, mode: Mode) {
        self.event(Event::Command(AgentCommand::Inject(Box::new(Injection {
            delivery_id: DeliveryId::new("d1"),
            text: text.into(),
            mode,
            raw: false,
        }))));
    }

    fn written(&self) -> Vec<&str> {
        self.writes
            .iter()
            .map(|w| std::str::from_utf8(w).expect("text"))
            .collect()
    }

    fn reported(&self) -> Vec<&AgentReport> {
        self.reports.iter().map(|(_, report)| report).collect()
    }
}

fn typed() -> AgentReport {
    AgentReport::Typed(DeliveryId::new("d1"))
}

fn landed(proof: Proof) -> AgentReport {
    AgentReport::Landed(DeliveryId::new("d1"), proof, None)
}

const TEXT: &str = "Relay message from bob [ws / evt_1]: hello 42";

const COMPOSER: &[u8] = b"\x1b[?2004h";

#[test]
fn messages_wait_for_each_other_and_for_the_agent() {
    let mut world = World::ready(Parrot, b"");
    world.inject("first 1111", Mode::Wait);
    world.inject("second 2222", Mode::Wait);
    world.run(100);
    assert_eq!(world.written(), ["first 1111", "\r", "second 2222", "\r"]);

    let mut early = World {
        core: AgentCore::new(&spec(), profile::GENERIC, Mono(1)),
        now: Mono(1),
        ..World::ready(Lines, b"")
    };
    early.inject(TEXT, Mode::Wait);
    early.run(400);
    assert!(early.writes.is_empty());
    early.run(200);
    assert_eq!(early.writes.len(), 1);
}

#[test]
fn a_message_without_words_fails_and_the_next_goes_on() {
    let mut world = World::ready(Lines, b"");
    world.inject("\x1b[0m\r\n", Mode::Wait);
    world.inject(TEXT, Mode::Wait);
    world.run(10);
    assert!(matches!(world.reported()[0], AgentReport::Failed(..)));
    assert_eq!(world.reported()[2], &landed(Proof::Echo));
}

#[test]
fn silence_and_its_end_are_reported_once_each() {
    let mut world = World::ready(Lines, b"");
    world.core.idle_after = Some(Duration::from_secs(30));
    world.run(100_000);
    assert_eq!(
        world.reported(),
        [&AgentReport::Idle {
            silent: Duration::from_secs(30)
        }]
    );
    world.event(Event::Output(b"x".to_vec()));
    world.event(Event::Output(b"y".to_vec()));
    assert_eq!(world.reported()[1..], [&AgentReport::Working]);
}

#[test]
fn a_quiet_agent_needs_no_wake_ups() {
    let mut world = World::ready(Lines, b"");
    assert_eq!(world.core.deadline(), None);
    world.inject(TEXT, Mode::Wait);
    world.run(1000);
    assert_eq!(world.core.deadline(), None);
}

#[test]
fn a_known_cli_without_its_composer_is_not_typed_to() {
    let mut world = World::ready(Lines, b"");
    world.core.profile = Profiles::default().by_command(&["claude".into()]);
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert!(world.writes.is_empty());
    assert!(
        matches!(world.reported()[..], [AgentReport::Stalled(_, why)] if why.contains("not at its prompt"))
    );
}

/// A composer that the broker knows, with its input line drawn.
fn known() -> World<Composer> {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.core.profile = Profiles::default().by_command(&["claude".into()]);
    world.core.profile.asks_after = Duration::ZERO;
    world.event(Event::Output(world.program.draw()));
    world
}

fn blocked<'a>(reports: &[&'a AgentReport]) -> Vec<&'a str> {
    let why = |report: &&'a AgentReport| match report {
        AgentReport::Stalled(_, why) => Some(why.as_str()),
        _ => None,
    };
    reports.iter().filter_map(why).collect()
}

#[test]
fn nothing_is_typed_into_an_open_dialog_and_the_message_arrives_once_it_is_answered() {
    let mut world = known();
    world.program.dialog = true;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Steer);
    world.run(3_600_000);
    assert!(world.writes.is_empty(), "{:?}", world.written());
    let reports = world.reported();
    assert!(matches!(blocked(&reports)[..], [why] if why.contains("2. No")));
    world.event(Event::Keys(1, b"2".to_vec()));
    world.run(5000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.program.answered, b"2");
    let arrived = [&typed(), &landed(Proof::Screen)];
    assert!(
        world.reported().ends_with(&arrived),
        "{:?}",
        world.reported()
    );
}

#[test]
fn a_text_that_a_dialog_swallowed_is_typed_again_after_it_and_is_submitted_once() {
    let mut world = known();
    world.program.ambush = true;
    world.inject(TEXT, Mode::Wait);
    world.run(600_000);
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.program.answered, b"");
    assert_eq!(blocked(&world.reported()).len(), 1);
    world.event(Event::Keys(1, b"1".to_vec()));
    world.run(900);
    assert_eq!(
        world.writes.len(),
        2,
        "not before the picture has settled: {:?}",
        world.written()
    );
    world.run(3000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.program.answered, b"1");
}

#[test]
fn a_message_waits_until_a_half_typed_line_is_sent() {
    let mut world = known();
    world.event(Event::Keys(1, b"half a line".to_vec()));
    world.run(500);
    world.inject(TEXT, Mode::Wait);
    world.run(6000);
    assert_eq!(world.written(), ["half a line"]);
    assert!(matches!(blocked(&world.reported())[..], [why] if why.contains("words stand")));
    world.event(Event::Keys(2, b" and more\r".to_vec()));
    world.run(1000);
    assert_eq!(world.program.submitted, ["half a line and more", TEXT]);
}

#[test]
fn a_line_left_half_typed_is_put_aside_and_stands_there_again_afterwards() {
    let mut world = known();
    world.event(Event::Keys(1, b"half a line".to_vec()));
    world.run(500);
    world.inject(TEXT, Mode::Wait);
    world.run(20_000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.program.draft, "half a line");
}

#[test]
fn a_person_in_the_middle_of_a_word_is_not_interrupted_anywhere() {
    let mut world = World::ready(Parrot, b"");
    world.event(Event::Keys(1, b"ec".to_vec()));
    world.inject(TEXT, Mode::Wait);
    world.run(1000);
    world.event(Event::Keys(2, b"ho\r".to_vec()));
    world.run(10);
    assert_eq!(world.written(), ["ec", "ho\r", TEXT, "\r"]);
}

#[test]
fn an_enter_that_only_begins_another_row_is_not_taken_for_a_submission() {
    let mut world = known();
    world.program.newlines = 1;
    world.inject(TEXT, Mode::Wait);
    world.run(600);
    assert_eq!(world.program.draft, format!("{TEXT}\n"));
    assert_eq!(world.reported(), [&typed()]);
    world.run(2000);
    assert_eq!(world.program.submitted, [format!("{TEXT}\n")]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
}

#[test]
fn a_composer_that_merges_what_is_queued_gets_a_message_only_when_it_is_idle() {
    let mut world = known();
    world.core.profile.merges_while = Some('✦');
    world.event(Event::Output("\x1b]0;✦  Working…\x07".into()));
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert!(world.writes.is_empty());
    assert!(world.reports.is_empty(), "busy is not blocked");
    world.event(Event::Output("\x1b]0;◇  Ready\x07".into()));
    world.run(1000);
    assert_eq!(world.program.submitted, [TEXT]);
}

mod proofs;
