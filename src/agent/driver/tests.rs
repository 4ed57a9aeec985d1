//! The loop with a terminal of few bytes, and no program in it.

use super::*;
use crate::agent::profile::GENERIC;
use crate::agent::tty_state::Front;
use crate::domain::Mode;
use crate::ids::{AgentName, DeliveryId};
use crate::msg::{AgentCommand, AgentSpec, Injection, Treatment};

/// Takes so many bytes more, and notes what happens to it in order.
#[derive(Default)]
struct Terminal {
    room: usize,
    seen: Vec<String>,
}

impl AgentPorts for Terminal {
    fn tty_state(&mut self) -> TtyState {
        self.seen.push("asked".into());
        TtyState {
            line_mode: false,
            echo: false,
            enter: Some(b'\r'),
            unread: Some(false),
            front: Front::Own,
        }
    }

    fn awaited(&mut self) -> Option<bool> {
        None
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        let text = String::from_utf8_lossy(&bytes[..taken]).into_owned();
        self.seen.push(text);
        taken
    }

    fn resize(&mut self, size: Size) {
        self.seen.push(format!("{} rows", size.rows));
    }

    fn signal(&mut self, ending: Ending) {
        self.seen.push(format!("{ending:?}"));
    }

    fn note_history(&mut self, _: Source) {}

    fn is_in_history(&mut self, _: &MessageHead, _: bool) -> bool {
        false
    }

    fn report(&mut self, report: AgentReport) {
        self.seen.push(format!("{report:?}"));
    }

    fn pressed(&mut self, number: u64, result: Result<usize, String>) {
        self.seen.push(format!("{number}: {result:?}"));
    }
}

fn now() -> Now {
    Now {
        mono: Mono(1),
        wall: Wall(0),
    }
}

fn started(room: usize) -> AgentLoop<Terminal> {
    let spec = AgentSpec {
        name: AgentName::new("ada"),
        argv: vec!["program".into()],
        cwd: None,
        env: Default::default(),
        env_allow: None,
        token: None,
        size: Size::default(),
        idle_after: None,
        treatment: Treatment::default(),
        headless: None,
    };
    let terminal = Terminal {
        room,
        ..Terminal::default()
    };
    AgentLoop::new(AgentCore::new(&spec, GENERIC, Mono(1)), terminal)
}

fn seen(agent: &mut AgentLoop<Terminal>) -> Vec<String> {
    std::mem::take(&mut agent.ports().seen)
}

#[test]
fn what_a_full_terminal_does_not_take_is_kept_in_order_and_told_once_it_is_in() {
    let mut agent = started(3);
    agent.take(now(), Event::Keys(1, b"ab".to_vec()));
    agent.take(now(), Event::Keys(2, b"cd".to_vec()));
    assert!(
        seen(&mut agent).is_empty(),
        "nothing is written before the loop settles"
    );
    agent.settle(now);
    assert!(agent.has_unwritten());
    assert_eq!(seen(&mut agent), ["abc", "1: Ok(2)", ""]);
    agent.ports().room = 10;
    agent.settle(now);
    assert_eq!(seen(&mut agent), ["d", "2: Ok(2)"]);
    assert!(!agent.has_unwritten());
}

#[test]
fn what_the_core_asks_of_the_terminal_is_answered_before_anything_later_comes_in() {
    let mut agent = started(100);
    agent.take(now(), Event::Output(b"\x1b[s->pty:ready\x1b[2K\r".to_vec()));
    let message = Injection {
        delivery_id: DeliveryId::new("d1"),
        text: "hello 1234".into(),
        mode: Mode::Wait,
        raw: false,
    };
    agent.take(
        now(),
        Event::Command(AgentCommand::Inject(Box::new(message))),
    );
    agent.settle(now);
    // The message is being typed by now, so a person's key waits for its Enter.
    agent.take(now(), Event::Keys(1, b"k".to_vec()));
    agent.settle(now);
    let seen = seen(&mut agent);
    assert!(seen[0].starts_with("Ready"), "{seen:?}");
    assert_eq!(seen[1..3], ["asked", "hello 1234"]);
    assert!(!seen.contains(&"k".to_owned()), "{seen:?}");
}

#[test]
fn nothing_but_reports_leaves_once_the_program_is_gone() {
    let mut agent = started(1);
    agent.take(now(), Event::Keys(1, b"ab".to_vec()));
    agent.settle(now);
    seen(&mut agent);
    agent.let_go();
    let stop = AgentCommand::Stop {
        grace: Default::default(),
    };
    agent.take(now(), Event::Command(stop));
    agent.take(now(), Event::Resize(Size::default()));
    agent.end(now, How::default());
    let seen = seen(&mut agent);
    assert!(
        matches!(&seen[..], [exited] if exited.starts_with("Exited")),
        "{seen:?}"
    );
    assert!(!agent.has_unwritten());
}
