//! The core before dialogs, in made-up time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::agent::core::{AgentCore, Effect, Event};
use crate::agent::profiles::Profiles;
use crate::agent::tty_state::{Front, TtyState};
use crate::ids::AgentName;
use crate::machine::{Machine, Out};
use crate::msg::{AgentReport, AgentSpec, Size, Treatment};
use crate::time::{Mono, Now, Wall};
use crate::wire::event::{Dialog, Policy};

const RAW: TtyState = TtyState {
    line_mode: false,
    echo: false,
    enter: Some(b'\r'),
    unread: Some(false),
    front: Front::Own,
};
const TRUST: &str = "\x1b[?2004h\x1b[2J\x1b[HQuick safety check: is it yours?\r\n\r\n ❯ 1. Yes, I trust this folder\r\n   2. No, exit\r\n\r\n Enter to confirm\x1b[3;2H";
const ASKS: &str =
    "\x1b[2J\x1b[HDo you want to proceed?\r\n ❯ 1. Yes\r\n   2. No\r\n\r\n Esc to cancel\x1b[2;2H";
const PROMPT: &str = "\x1b[?2004h\x1b[2J\x1b[H────────\r\n❯ ";

struct World {
    core: AgentCore,
    now: Mono,
    written: Vec<String>,
    reports: Vec<AgentReport>,
}

impl World {
    fn new(program: &str, treatment: Treatment) -> Self {
        let spec = AgentSpec {
            name: AgentName::new("w"),
            argv: vec![program.into()],
            cwd: None,
            env: BTreeMap::new(),
            env_allow: None,
            token: None,
            size: Size { rows: 24, cols: 60 },
            idle_after: None,
            treatment,
            headless: None,
        };
        Self {
            core: AgentCore::new(&spec, Profiles::default().of(&spec), Mono(1)),
            now: Mono(1),
            written: Vec::new(),
            reports: Vec::new(),
        }
    }

    fn event(&mut self, event: Event) {
        let mut out = Out::default();
        let now = Now {
            mono: self.now,
            wall: Wall(0),
        };
        self.core.step(now, event, &mut out);
        for effect in out.effects {
            match effect {
                Effect::Probe => self.event(Event::Tty(RAW)),
                Effect::Write(bytes) => {
                    let len = bytes.len();
                    self.written.push(String::from_utf8_lossy(&bytes).into());
                    self.event(Event::Wrote(len));
                }
                Effect::Report(report) => self.reports.push(report),
                Effect::Seek => self.event(Event::Awaited(Some(true))),
                Effect::NoteHistory(_)
                | Effect::AskHistory(..)
                | Effect::Keys(..)
                | Effect::Resize(_)
                | Effect::Signal(_) => {}
            }
        }
    }

    fn shows(&mut self, text: &str) {
        self.event(Event::Output(text.as_bytes().to_vec()));
    }

    /// Lets time pass, and says what was reported meanwhile.
    fn run(&mut self, ms: u64) -> Vec<AgentReport> {
        let end = self.now + Duration::from_millis(ms);
        while let Some(at) = self.core.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now + Duration::from_nanos(1));
            self.event(Event::Tick);
        }
        self.now = end;
        std::mem::take(&mut self.reports)
    }
}

fn policy(trust_folder: Policy, permission: Policy) -> Treatment {
    Treatment {
        profile: None,
        trust_folder: Some(trust_folder),
        permission: Some(permission),
        tools: None,
        record: None,
    }
}

fn told(reports: &[AgentReport]) -> Vec<Dialog> {
    let dialog = |report: &AgentReport| match report {
        AgentReport::Blocked(dialog, rows) if rows.iter().any(|row| row.contains("1.")) => {
            Some(*dialog)
        }
        _ => None,
    };
    reports.iter().filter_map(dialog).collect()
}

#[test]
fn a_dialog_at_the_start_is_told_within_three_seconds_and_left_alone() {
    let mut world = World::new("claude", Treatment::default());
    world.shows(TRUST);
    assert_eq!(told(&world.run(3000)), [Dialog::TrustFolder]);
    assert_eq!(world.run(20_000), [], "told once");
    assert_eq!(world.written, Vec::<String>::new());
    world.shows(PROMPT);
    let reports = world.run(1000);
    assert!(reports.contains(&AgentReport::Unblocked(Dialog::TrustFolder)));
    assert!(matches!(
        reports[..],
        [.., AgentReport::Ready { .. }] | [AgentReport::Ready { .. }, ..]
    ));
}

#[test]
fn a_folder_is_trusted_where_the_operator_said_so_and_nothing_else_is() {
    let mut world = World::new("claude", policy(Policy::Accept, Policy::Hold));
    world.shows(TRUST);
    let reports = world.run(1000);
    assert_eq!(
        reports,
        [AgentReport::Answered {
            dialog: Dialog::TrustFolder,
            policy: Policy::Accept,
            keys: "enter".into()
        }]
    );
    world.run(60_000);
    assert_eq!(world.written, ["\r"], "once, even if it does not go");
    world.shows(PROMPT);
    world.run(1000);
    world.shows(ASKS);
    assert_eq!(told(&world.run(3000)), [Dialog::Permission]);
    assert_eq!(world.written, ["\r"]);
}

#[test]
fn permission_is_denied_where_the_operator_said_so_but_not_while_somebody_types() {
    let mut world = World::new("claude", policy(Policy::Hold, Policy::Deny));
    world.shows(PROMPT);
    world.run(1000);
    world.event(Event::Keys(1, b"no".to_vec()));
    world.shows(ASKS);
    world.run(1900);
    assert_eq!(world.written, ["no"]);
    world.run(1000);
    assert_eq!(world.written, ["no", "\x1b"]);
    world.shows(PROMPT);
    world.run(50);
    world.shows(ASKS);
    world.run(1000);
    assert_eq!(world.written, ["no", "\x1b", "\x1b"], "another question");
}

#[test]
fn a_program_without_an_input_line_that_we_know_has_no_dialogs() {
    let mut world = World::new("cat", policy(Policy::Accept, Policy::Deny));
    world.shows(TRUST);
    world.run(60_000);
    world.shows(ASKS);
    assert_eq!(world.run(60_000), []);
    assert_eq!((world.written.len(), world.core.deadline()), (0, None));
}

#[test]
fn a_dialog_is_known_wherever_a_hidden_cursor_was_left() {
    let rows = [
        "  ┃  △ Permission required",
        "  ┃    # Shell command",
        "  ┃",
        "  ┃  $ touch a-file",
        "  ┃",
        "  ┃   Allow once   Allow always   Reject",
    ];
    for cursor in ["", "\x1b[4;6H", "\x1b[4;12H", "\x1b[5;6H"] {
        let mut world = World::new("opencode", policy(Policy::Hold, Policy::Deny));
        world.shows("\x1b[?2004h\x1b[2J\x1b[H  ┃  \x1b[1;6H");
        world.run(1000);
        world.shows(&format!("\x1b[2J\x1b[H{}{cursor}", rows.join("\r\n")));
        world.run(3000);
        assert_eq!(world.written, ["\x1b"], "{cursor:?}");
    }
}
