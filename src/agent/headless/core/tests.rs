use serde_json::{Value, json};

use super::*;
use crate::ids::{AgentName, Ticket};
use crate::msg::{Size, Treatment};
use crate::time::Wall;

/// A core with what it has done since somebody last looked.
struct Pipes {
    core: HeadlessCore,
    now: Mono,
    wrote: Vec<Value>,
    reports: Vec<AgentReport>,
    shown: Vec<String>,
}

impl Pipes {
    fn new(cli: HeadlessCli) -> Self {
        let spec = AgentSpec {
            name: AgentName::new("ada"),
            argv: vec!["program".into()],
            cwd: None,
            env: Default::default(),
            env_allow: None,
            token: None,
            size: Size::default(),
            idle_after: Some(Duration::from_secs(30)),
            treatment: Treatment::default(),
            headless: Some(cli),
        };
        let mut pipes = Self {
            core: HeadlessCore::new(&spec, cli, Vec::new(), "salt".into(), Mono(0)),
            now: Mono(0),
            wrote: Vec::new(),
            reports: Vec::new(),
            shown: Vec::new(),
        };
        pipes.feed(Event::Began);
        assert!(matches!(pipes.told()[..], [AgentReport::Ready { .. }]));
        pipes
    }

    fn feed(&mut self, event: Event) {
        let mut out = Out::default();
        let now = Now {
            mono: self.now,
            wall: Wall(0),
        };
        self.core.step(now, event, &mut out);
        for effect in out.effects {
            match effect {
                Effect::Write(bytes) => {
                    assert!(bytes.ends_with(b"\n"));
                    let line = serde_json::from_slice(&bytes).expect("a line of JSON");
                    self.wrote.push(line);
                    self.feed(Event::Wrote(bytes.len()));
                }
                Effect::Report(report) => self.reports.push(report),
                Effect::Show(text) | Effect::ShowError(text) => self.shown.push(text),
                Effect::Signal(ending) => self.shown.push(format!("{ending:?}")),
            }
        }
    }

    fn give(&mut self, id: &str, mode: Mode) {
        let injection = Injection {
            delivery_id: DeliveryId::new(id),
            text: format!("words of {id}"),
            mode,
            raw: false,
        };
        self.feed(Event::Command(AgentCommand::Inject(Box::new(injection))));
    }

    fn says(&mut self, line: &Value) {
        self.feed(Event::Output(format!("{line}\n").into_bytes()));
    }

    fn told(&mut self) -> Vec<AgentReport> {
        std::mem::take(&mut self.reports)
    }

    /// What it was last written, of those lines that are messages.
    fn key(&self) -> String {
        let mut keys = self.wrote.iter().rev();
        let key = keys.find_map(|line| line["uuid"].as_str().or(line["run"].as_str()));
        key.expect("a message").to_owned()
    }

    fn replays(&mut self, key: &str) {
        self.says(
            &json!({"type": "user", "uuid": key, "isReplay": true, "message": {"role": "user"}}),
        );
    }

    fn begins(&mut self) {
        self.says(&json!({"type": "system", "subtype": "init", "session_id": "s1"}));
    }
}

fn id(text: &str) -> DeliveryId {
    DeliveryId::new(text)
}

fn landed(text: &str) -> AgentReport {
    AgentReport::Landed(id(text), Proof::Hook, None)
}

fn idle() -> AgentReport {
    AgentReport::Idle {
        silent: Duration::ZERO,
    }
}

#[test]
fn a_message_has_arrived_when_the_program_replays_it_and_by_nothing_else() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.give("d1", Mode::Wait);
    assert_eq!(claude.told(), [AgentReport::Typed(id("d1"))]);
    assert_eq!(
        claude.wrote[0]["message"]["content"][0]["text"],
        "words of d1"
    );
    let key = claude.key();
    claude.begins();
    claude.replays("11111111-1111-4111-8111-111111111111");
    claude.says(&json!({"type": "user", "uuid": key, "message": {"role": "user"}}));
    claude.says(&json!({"type": "assistant", "message": {"content": [{"type": "text", "text": "working"}]}}));
    claude.feed(Event::Output(b"no JSON, but ".to_vec()));
    claude.feed(Event::Output(format!("{key}\n").into_bytes()));
    assert_eq!(claude.told(), [AgentReport::Session("s1".into())]);
    claude.replays(&key);
    assert_eq!(
        claude.told(),
        [
            landed("d1"),
            AgentReport::TurnStarted(id("d1"), Proof::Hook)
        ]
    );
    claude.replays(&key);
    assert_eq!(claude.told(), [], "once");
    claude.says(&json!({"type": "result", "subtype": "success", "is_error": false}));
    assert_eq!(claude.told(), [idle()]);
    assert_eq!(claude.shown[0], "working");
}

#[test]
fn a_replay_is_heard_however_it_is_torn_and_whatever_stands_around_it() {
    let template = Pipes::new(HeadlessCli::Claude);
    drop(template);
    let line_of = |key: &str| {
        let replay = json!({"type": "user", "uuid": key, "isReplay": true, "message": {"content": "ä\u{2028}"}});
        format!("\nwarning: {{\n{replay}\n{{\"type\":\n").into_bytes()
    };
    let whole = line_of(&"k".repeat(36)).len();
    for at in 0..=whole {
        let mut claude = Pipes::new(HeadlessCli::Claude);
        claude.give("d1", Mode::Wait);
        let line = line_of(&claude.key());
        claude.feed(Event::Output(line[..at].to_vec()));
        claude.feed(Event::Output(line[at..].to_vec()));
        assert!(claude.told().contains(&landed("d1")), "torn at {at}");
    }
}

#[test]
fn lines_without_end_are_passed_over_and_what_follows_is_heard() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.give("d1", Mode::Wait);
    let key = claude.key();
    claude.feed(Event::Output(b"{\"type\":\"assistant\",\"x\":\"".to_vec()));
    for _ in 0..12 {
        claude.feed(Event::Output(vec![b'A'; 1024 * 1024]));
    }
    claude.feed(Event::Output(b"\"}\n".to_vec()));
    claude.replays(&key);
    assert!(claude.told().contains(&landed("d1")));
}

#[test]
fn a_program_that_ends_between_writing_and_replay_has_not_got_the_message() {
    for torn in ["", "{\"type\":\"user\",\"isReplay\":true,\"uu"] {
        let mut claude = Pipes::new(HeadlessCli::Claude);
        claude.give("d1", Mode::Wait);
        claude.told();
        claude.begins();
        claude.feed(Event::Output(torn.as_bytes().to_vec()));
        claude.feed(Event::Errors(b"API Error: out of luck".to_vec()));
        claude.feed(Event::Exited(How {
            code: Some(1),
            ..How::default()
        }));
        let told = claude.told();
        let [AgentReport::Session(_), AgentReport::Exited(how)] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(
            how.last.last().map(String::as_str),
            Some("API Error: out of luck")
        );
    }
}

#[test]
fn a_message_that_comes_while_it_works_is_written_at_once_and_one_that_interrupts_stops_it_first() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.give("d1", Mode::Wait);
    let first = claude.key();
    claude.begins();
    claude.replays(&first);
    claude.give("d2", Mode::Wait);
    assert_ne!(claude.key(), first);
    let second = claude.key();
    claude.told();
    // The dispatcher asks for it back, because one that interrupts has come.
    claude.feed(Event::Command(AgentCommand::Withdraw(id("d2"))));
    let request = claude.wrote.last().expect("asked").clone();
    assert_eq!(request["request"]["message_uuid"], second.as_str());
    claude
        .says(&json!({"type": "command_lifecycle", "command_uuid": second, "state": "cancelled"}));
    assert_eq!(claude.told(), [], "the answer counts");
    claude.says(&json!({"type": "control_response", "response":
        {"subtype": "success", "request_id": request["request_id"], "response": {"cancelled": true}}}));
    assert_eq!(claude.told(), [AgentReport::Withdrawn(id("d2"))]);
    claude.give("d3", Mode::Steer);
    let wrote: Vec<&Value> = claude.wrote.iter().rev().take(2).collect();
    assert_eq!(wrote[1]["request"]["subtype"], "interrupt");
    assert_eq!(wrote[0]["type"], "user");
    let third = claude.key();
    claude.says(&json!({"type": "result", "subtype": "error_during_execution", "is_error": true}));
    claude.begins();
    claude.replays(&third);
    claude.give("d2", Mode::Wait);
    assert_ne!(
        claude.key(),
        second,
        "one that was given back counts as known"
    );
    let told = claude.told();
    assert!(told.contains(&landed("d3")), "{told:?}");
    assert!(!told.contains(&idle()), "{told:?}");
}

#[test]
fn what_cannot_be_given_back_or_interrupted_is_waited_for_and_said() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.give("d1", Mode::Wait);
    claude.begins();
    claude.feed(Event::Command(AgentCommand::Withdraw(id("d1"))));
    let request = claude.wrote.last().expect("asked")["request_id"].clone();
    claude.says(&json!({"type": "control_response", "response":
        {"subtype": "error", "request_id": request, "error": "Unsupported control request subtype"}}));
    assert_eq!(
        claude.wrote.last().expect("interrupted")["request"]["subtype"],
        "interrupt"
    );
    let request = claude.wrote.last().expect("asked")["request_id"].clone();
    claude.says(&json!({"type": "control_response", "response":
        {"subtype": "error", "request_id": request, "error": "not now"}}));
    let key = claude.key();
    claude.replays(&key);
    let told = claude.told();
    let reason = told.iter().find_map(|report| match report {
        AgentReport::Landed(_, Proof::Hook, reason) => reason.clone(),
        _ => None,
    });
    assert!(reason.expect("said").contains("not now"), "{told:?}");
}

#[test]
fn work_is_stopped_without_a_message_and_rest_is_not() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    let interrupt = || Event::Command(AgentCommand::Interrupt(Ticket(7)));
    claude.feed(interrupt());
    assert!(matches!(
        claude.told()[..],
        [AgentReport::Interrupted(Ticket(7), Err(_))]
    ));
    claude.begins();
    claude.feed(interrupt());
    let request = &claude.wrote.last().expect("asked")["request"];
    assert_eq!(request["subtype"], "interrupt");
    assert!(
        claude
            .told()
            .contains(&AgentReport::Interrupted(Ticket(7), Ok(())))
    );
}

#[test]
fn what_the_program_asks_somebody_is_answered_that_nobody_is_there() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.says(&json!({"type": "control_request", "request_id": "q1", "request": {"subtype": "can_use_tool"}}));
    let answer = &claude.wrote.last().expect("answered")["response"];
    assert_eq!(
        (&answer["subtype"], &answer["request_id"]),
        (&json!("error"), &json!("q1"))
    );
}

#[test]
fn a_run_of_its_own_takes_each_message_and_the_next_goes_on_with_its_session() {
    let mut opencode = Pipes::new(HeadlessCli::Opencode);
    opencode.give("d1", Mode::Wait);
    let key = opencode.key();
    assert_eq!(opencode.wrote[0]["more"], json!([]));
    assert_eq!(opencode.wrote[0]["input"], "words of d1");
    assert_eq!(opencode.told(), [AgentReport::Typed(id("d1"))]);
    opencode.says(&json!({"type": "step_start", "sessionID": "ses_1", "part": {}}));
    assert_eq!(
        opencode.told(),
        [
            AgentReport::Session("ses_1".into()),
            landed("d1"),
            AgentReport::TurnStarted(id("d1"), Proof::Hook)
        ]
    );
    opencode.give("d2", Mode::Wait);
    assert_eq!(opencode.wrote.len(), 1, "one run at a time");
    opencode.says(&json!({"type": "text", "sessionID": "ses_1", "part": {"text": "done"}}));
    opencode.says(&json!({"relay_run": key, "failed": null}));
    assert_eq!(opencode.wrote[1]["more"], json!(["--session", "ses_1"]));
    assert_eq!(opencode.shown, ["done"]);
    opencode.give("d3", Mode::Steer);
    assert_eq!(
        opencode.wrote.len(),
        2,
        "nothing runs that is known to work"
    );
}

#[test]
fn a_run_that_fails_before_it_shows_its_message_gives_that_back_with_the_reason() {
    let mut opencode = Pipes::new(HeadlessCli::Opencode);
    opencode.give("d1", Mode::Wait);
    opencode.told();
    let key = opencode.key();
    opencode.says(&json!({"type": "error", "sessionID": "ses_1", "error":
        {"name": "UnknownError", "data": {"message": "no such model"}}}));
    opencode.says(&json!({"relay_run": key, "failed": "exit code 1"}));
    let why = "opencode run: UnknownError: no such model (exit code 1)".to_owned();
    assert_eq!(
        opencode.told(),
        [
            AgentReport::Session("ses_1".into()),
            AgentReport::Dropped(id("d1"), why)
        ]
    );
    opencode.give("d1", Mode::Wait);
    assert_ne!(opencode.key(), key);
}

#[test]
fn a_run_that_works_is_stopped_by_a_message_that_interrupts() {
    let mut opencode = Pipes::new(HeadlessCli::Opencode);
    opencode.give("d1", Mode::Wait);
    let key = opencode.key();
    opencode.says(&json!({"type": "step_start", "sessionID": "ses_1"}));
    opencode.give("d2", Mode::Steer);
    assert_eq!(opencode.wrote[1]["stop"], key.as_str());
    assert_eq!(opencode.wrote.len(), 2);
    opencode.says(&json!({"relay_run": key, "failed": "killed by signal 2"}));
    assert_eq!(opencode.wrote[2]["input"], "words of d2");
}

#[test]
fn it_falls_idle_where_nothing_was_asked_of_it_and_is_killed_where_it_will_not_go() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    assert_eq!(
        claude.core.deadline(),
        Some(Mono(0) + Duration::from_secs(30))
    );
    claude.now = Mono(0) + Duration::from_secs(30);
    claude.feed(Event::Tick);
    assert!(matches!(claude.told()[..], [AgentReport::Idle { .. }]));
    claude.give("d1", Mode::Wait);
    claude.begins();
    assert!(claude.told().contains(&AgentReport::Working));
    let grace = Duration::from_secs(1);
    claude.feed(Event::Command(AgentCommand::Stop { grace }));
    claude.now = claude.now + grace;
    claude.feed(Event::Tick);
    assert_eq!(claude.shown, ["HangUp", "Kill"]);
}

#[test]
fn a_first_run_alone_chooses_a_session() {
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let (argv, chosen) = crate::agent::headless::without_session(&words(
        "env -C /tmp opencode run --format json -s ses_9 --fork --agent x",
    ));
    assert_eq!(
        argv,
        words("env -C /tmp opencode run --format json --agent x")
    );
    assert_eq!(chosen, words("-s ses_9 --fork"));
}

fn hung(told: &[AgentReport]) -> Option<(&DeliveryId, &str)> {
    told.iter().find_map(|report| match report {
        AgentReport::Stalled(id, why) => Some((id, why.as_str())),
        _ => None,
    })
}

impl Pipes {
    fn pass(&mut self, secs: u64) {
        self.now = self.now + Duration::from_secs(secs);
        if self.core.deadline().is_some_and(|at| at <= self.now) {
            self.feed(Event::Tick);
            assert!(self.core.deadline().is_none_or(|at| at > self.now));
        }
    }
}

#[test]
fn a_program_that_shows_nothing_of_its_message_is_told_of_once_and_may_take_it_later() {
    for cli in [HeadlessCli::Claude, HeadlessCli::Opencode] {
        let mut program = Pipes::new(cli);
        program.give("d1", Mode::Wait);
        program.says(&json!({"type": "user", "uuid": "another", "isReplay": true}));
        program.pass(4);
        assert_eq!(hung(&program.told()), None);
        program.pass(1);
        let told = program.told();
        let (held, why) = hung(&told).expect("told");
        assert_eq!(*held, id("d1"));
        assert!(
            why.contains("within 5 s") && why.contains("restart"),
            "{why}"
        );
        program.pass(60);
        assert_eq!(hung(&program.told()), None, "once");
    }
}

#[test]
fn a_pipe_that_nobody_reads_is_said_to_be_full_and_no_interrupt_to_have_been_heard() {
    let mut core = Pipes::new(HeadlessCli::Claude).core;
    let step = |core: &mut HeadlessCore, at: u64, event| {
        let (mut out, wall) = (Out::default(), Wall(0));
        let mono = Mono(0) + Duration::from_secs(at);
        core.step(Now { mono, wall }, event, &mut out);
        let reports = out.effects.into_iter().filter_map(|effect| match effect {
            Effect::Report(report) => Some(report),
            _ => None,
        });
        reports.collect::<Vec<_>>()
    };
    let injection = Injection {
        delivery_id: id("d1"),
        text: "words".into(),
        mode: Mode::Wait,
        raw: false,
    };
    step(
        &mut core,
        0,
        Event::Command(AgentCommand::Inject(Box::new(injection))),
    );
    step(&mut core, 0, Event::Wrote(3));
    let told = step(&mut core, 5, Event::Tick);
    assert!(
        hung(&told).expect("told").1.contains("pipe is full"),
        "{told:?}"
    );
    let told = step(
        &mut core,
        6,
        Event::Command(AgentCommand::Interrupt(Ticket(7))),
    );
    assert!(
        matches!(&told[..], [AgentReport::Interrupted(_, Err(why))] if why.contains("restart")),
        "{told:?}"
    );
}

#[test]
fn one_that_works_is_given_longer_and_counts_as_hung_by_its_silence() {
    let mut claude = Pipes::new(HeadlessCli::Claude);
    claude.give("d1", Mode::Wait);
    claude.begins();
    claude.pass(20);
    claude.says(&json!({"type": "assistant", "message": {"content": []}}));
    claude.pass(29);
    assert_eq!(hung(&claude.told()), None);
    claude.pass(1);
    let told = claude.told();
    assert!(
        hung(&told).expect("told").1.contains("nothing for 30 s"),
        "{told:?}"
    );
    let mut opencode = Pipes::new(HeadlessCli::Opencode);
    opencode.give("d1", Mode::Wait);
    opencode.says(&json!({"type": "step_start", "sessionID": "ses_1"}));
    opencode.give("d2", Mode::Wait);
    opencode.pass(30);
    assert_eq!(*hung(&opencode.told()).expect("told").0, id("d2"));
}

#[test]
fn a_run_that_hangs_is_stopped_by_whoever_asks_and_by_a_message_that_interrupts() {
    let mut opencode = Pipes::new(HeadlessCli::Opencode);
    opencode.give("d1", Mode::Wait);
    let key = opencode.key();
    opencode.told();
    opencode.feed(Event::Command(AgentCommand::Interrupt(Ticket(7))));
    assert_eq!(
        opencode.told(),
        [AgentReport::Interrupted(Ticket(7), Ok(()))]
    );
    let stop = json!({"stop": key});
    assert_eq!(opencode.wrote.last(), Some(&stop));
    opencode.feed(Event::Command(AgentCommand::Interrupt(Ticket(8))));
    let stops = opencode.wrote.iter().filter(|line| **line == stop);
    assert_eq!(stops.count(), 2, "it did not stop by the first");
    opencode.says(&json!({"relay_run": key, "failed": "killed by signal 9"}));
    opencode.told();
    opencode.give("d1", Mode::Wait);
    let key = opencode.key();
    // The dispatcher wants it back for one that interrupts.
    opencode.feed(Event::Command(AgentCommand::Withdraw(id("d1"))));
    assert_eq!(opencode.wrote.last().expect("a run")["run"], key.as_str());
    opencode.pass(5);
    assert_eq!(opencode.wrote.last(), Some(&json!({"stop": key})));
    opencode.says(&json!({"relay_run": key, "failed": "killed by signal 2"}));
    assert!(
        matches!(opencode.told().last(), Some(AgentReport::Dropped(dropped, _)) if *dropped == id("d1"))
    );
}
