//! A journal of the broker that is kept as a file: each kind of record as it was written when it came to be. Whoever changes
//! a record, or something in one, sees here whether the journals that people have can still be read. The engine's are looked
//! after in `src/engine/tests/journal.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use relay_broker::domain::{DeliveryMode, Mode, Outcome, Proof};
use relay_broker::ids::{AgentId, AgentName, DeliveryId, InvocationId, MsgId, Seq};
use relay_broker::journal::{Journal, OpenError, Options};
use relay_broker::ledger::{Delivery, Departed, Ledger, Origin, Record, StoredSpawn};
use relay_broker::machine::Log;
use relay_broker::time::Wall;
use relay_broker::wire::local::{HarnessConfig, RestartPolicy, RestartWhen, SpawnRequest};
use serde_json::{Value, json};

use crate::support::{Scratch, fixture};

/// The word of a record in the journal. Names every kind, so that a new one is thought of here: it needs a journal of its
/// own under `fixtures/journal`, because those that are there stay as they are.
fn word(record: &Record) -> &'static str {
    use Record as R;
    match record {
        R::Opened { .. } => "opened",
        R::Asked { .. } => "asked",
        R::Bound { .. } => "bound",
        R::Accepted { .. } => "accepted",
        R::Noted { .. } => "noted",
        R::Waited { .. } => "waited",
        R::Attempted { .. } => "attempted",
        R::Suspended { .. } => "suspended",
        R::Resumed { .. } => "resumed",
        R::Settled { .. } => "settled",
        R::DeadLettered { .. } => "dead_lettered",
        R::Redelivered { .. } => "redelivered",
        R::Spawned { .. } => "spawned",
        R::Restarted { .. } => "restarted",
        R::Ended { .. } => "ended",
        R::Departed { .. } => "departed",
        R::Uncleared { .. } => "uncleared",
        R::Cleared { .. } => "cleared",
        R::Held { .. } => "held",
        R::Invoked { .. } => "invoked",
        R::Answered { .. } => "answered",
        R::Numbered { .. } => "numbered",
        R::Snapshot(_) => "snapshot",
    }
}
/// How many kinds [`word`] names.
const KINDS: usize = 23;

/// A journal that is kept, and what it was made of.
type KeptJournal = (&'static str, fn() -> Vec<Record>);

/// All of them.
const KEPT: [KeptJournal; 5] = [
    ("journal/broker", everything),
    ("journal/broker-clearing", clearing),
    ("journal/broker-declared", declared),
    ("journal/broker-suspended", suspended),
    ("journal/broker-unanswered", unanswered),
];

fn replayed(records: &[Record]) -> Ledger {
    let mut ledger = Ledger::default();
    records.iter().for_each(|record| ledger.apply(record));
    ledger
}

/// What a broker of these records knows, as it would write it down.
fn knows(records: &[Record]) -> Value {
    serde_json::to_value(replayed(records).image()).expect("plain data")
}

/// Opens a copy of a journal: opening writes.
fn open(kept: &str) -> Vec<Record> {
    let copy = Scratch::new();
    fs::copy(
        fixture(&format!("{kept}/journal.1")),
        copy.path().join("journal.1"),
    )
    .expect("on file");
    let opened = Journal::<Record>::open(copy.path(), "broker", Options::default()).expect("ours");
    opened.records
}

#[test]
fn a_journal_on_file_holds_every_kind_of_record_and_leads_to_what_it_led_to_then() {
    let mut words: BTreeSet<&str> = BTreeSet::new();
    for (kept, made_of) in KEPT {
        let records = open(kept);
        words.extend(records.iter().map(word));
        let then = fs::read(fixture(&format!("{kept}/state.json"))).expect("on file");
        let then: Value = serde_json::from_slice(&then).expect("JSON");
        assert_eq!(knows(&records), then);
        assert_eq!(records, made_of(), "each value means what it meant");
    }
    assert_eq!(words.len(), KINDS, "{words:?}");
}

/// So that the program before this one reads what this one writes.
#[test]
fn what_is_read_from_a_journal_on_file_is_written_in_the_same_bytes() {
    for (kept, _) in KEPT {
        let text = fs::read_to_string(fixture(&format!("{kept}/journal.1"))).expect("on file");
        let lines: Vec<&str> = text.lines().filter(|l| l.starts_with('{')).collect();
        let records = open(kept);
        assert_eq!(records.len(), lines.len());
        for (record, line) in records.iter().zip(lines) {
            assert_eq!(serde_json::to_string(record).expect("plain data"), line);
        }
    }
}

/// Each kind of record is made here as the broker makes it, from what clients and the engine say in their own spelling.
#[test]
fn what_is_written_today_is_the_file_that_was_written_then_byte_for_byte() {
    let dir = Scratch::new();
    let opened = Journal::<Record>::open(dir.path(), "broker", Options::default());
    let mut journal = opened.expect("empty").journal;
    for batch in everything().chunks(7) {
        journal.commit(batch).expect("room");
    }
    let then = fs::read_to_string(fixture("journal/broker/journal.1")).expect("on file");
    let now = fs::read_to_string(dir.path().join("journal.1")).expect("written");
    assert_eq!(now, then);
}

#[test]
fn a_journal_of_a_later_program_is_refused_in_one_line_and_left_alone() {
    let kind_of_tomorrow = json!({"t": "of_tomorrow", "x": 1});
    let text = fs::read_to_string(fixture("journal/broker/journal.1")).expect("on file");
    let later_version = text.replacen("relay-journal 1 ", "relay-journal 2 ", 1);
    let dir = Scratch::new();
    let mut journal = Journal::<Value>::open(dir.path(), "broker", Options::default())
        .expect("a new journal")
        .journal;
    journal.commit(&[kind_of_tomorrow]).expect("room");
    drop(journal);
    let later_record = fs::read_to_string(dir.path().join("journal.1")).expect("written");
    for (text, told) in [
        (
            later_version,
            "a journal of version 2; this program knows 1",
        ),
        (later_record, "a record this program does not understand"),
    ] {
        let dir = Scratch::new();
        let path = dir.path().join("journal.1");
        fs::write(&path, &text).expect("room");
        let opened = Journal::<Record>::open(dir.path(), "broker", Options::default());
        let said = opened.map(|_| ()).map_err(|e: OpenError| e.to_string());
        let said = said.expect_err("it is of tomorrow");
        assert!(said.contains(told) && !said.contains('\n'), "{said}");
        assert!(said.contains("Run the program that wrote it"), "{said}");
        assert_eq!(fs::read_to_string(&path).expect("there"), text);
    }
}

fn delivery(id: &str, agent: &str, origin: Origin) -> Delivery {
    Delivery {
        id: DeliveryId::new(id),
        msg_id: MsgId::new(format!("m_{id}")),
        agent: AgentName::new(agent),
        origin,
        from: "lead".into(),
        target: "#ops".into(),
        body: format!("body of {id}\nwith a second line"),
        thread_id: Some("t_1".into()),
        mode: Mode::Steer,
        raw: false,
        by_operator: false,
        queued_at: Wall(1_782_640_800_001),
    }
}

fn from_engine(seq: u64) -> Origin {
    Origin::Engine {
        agent_id: AgentId::new("a_ada"),
        seq: Seq(seq),
    }
}

/// A wish with every field that the first version wrote down.
fn request() -> SpawnRequest {
    SpawnRequest {
        name: "ada".into(),
        cli: Some("claude --continue".into()),
        args: vec!["--verbose".into()],
        cwd: Some("/srv/ships".into()),
        parent: None,
        task: Some("count them".into()),
        channels: vec!["general".into(), "ops".into()],
        model: Some("opus".into()),
        session_id: None,
        resume: None,
        continue_from: None,
        last_session: None,
        exit_after_task: false,
        skip_relay_prompt: false,
        team: Some("dock".into()),
        transport: Some("pty".into()),
        idle_threshold_secs: Some(30),
        harness_config: Some(HarnessConfig {
            runtime: Some("pty".into()),
            command: Some("claude".into()),
            args: vec!["-c".into()],
            cwd: Some("/srv".into()),
            env: BTreeMap::from([("A".into(), "1".into())]),
            session_id: Some("s_1".into()),
        }),
        agent_token: None,
        restart_policy: Some(RestartPolicy {
            enabled: true,
            when: RestartWhen::Always,
            max_restarts: 7,
            cooldown_ms: 1500,
            max_cooldown_ms: None,
            max_consecutive_failures: 2,
        }),
        mcp: None,
        record: None,
        agent_result_schema: None,
        profile: Some("claude".into()),
        env: BTreeMap::from([("B".into(), "2".into())]),
        env_allow: None,
        rows: Some(40),
        cols: Some(120),
    }
}

/// Everything that a broker writes down, once.
fn everything() -> Vec<Record> {
    let mut records = settled();
    let image = replayed(&records).image();
    records.push(Record::Snapshot(Box::new(image)));
    records.extend(after_the_snapshot());
    records
}

fn settled() -> Vec<Record> {
    let (at, ada) = (Wall(1_782_640_800_000), AgentName::new("ada"));
    let id = |name: &str| DeliveryId::new(name);
    let settled = |name: &str, proof| Record::Settled {
        id: id(name),
        proof,
    };
    let mut records = vec![
        Record::Opened { at },
        Record::Bound {
            agent: ada.clone(),
            agent_id: AgentId::new("a_ada"),
        },
        Record::Spawned {
            agent: ada.clone(),
            request: Box::new(request().into()),
            anew: false,
            declared: false,
            waiting: false,
        },
        Record::Spawned {
            agent: AgentName::new("bare"),
            request: Box::new(StoredSpawn {
                name: "bare".into(),
                ..StoredSpawn::default()
            }),
            anew: false,
            declared: false,
            waiting: false,
        },
        Record::Noted {
            agent_id: AgentId::new("a_ada"),
            seq: Seq(1),
            msg_id: MsgId::new("m_1"),
        },
    ];
    let proofs = [
        Proof::Hook,
        Proof::Transcript,
        Proof::Osc,
        Proof::Echo,
        Proof::Screen,
        Proof::Read,
        Proof::None,
    ];
    for (n, proof) in (2..).zip(proofs) {
        let name = format!("d_{n}");
        records.push(Record::Accepted {
            delivery: delivery(&name, "ada", from_engine(n)),
        });
        records.push(Record::Attempted { id: id(&name) });
        records.push(settled(&name, proof));
    }
    records.extend([
        Record::Accepted {
            delivery: delivery("d_20", "ada", from_engine(9)),
        },
        Record::Accepted {
            delivery: Delivery {
                mode: Mode::Wait,
                raw: true,
                by_operator: false,
                thread_id: None,
                ..delivery("d_21", "ada", Origin::Local)
            },
        },
        Record::Accepted {
            delivery: delivery("d_22", "bare", Origin::Task),
        },
        Record::DeadLettered {
            id: id("d_20"),
            reason: "gone".into(),
            at,
        },
    ]);
    records
}

fn after_the_snapshot() -> Vec<Record> {
    let (at, ada) = (Wall(1_782_640_800_000), AgentName::new("ada"));
    let id = |name: &str| DeliveryId::new(name);
    vec![
        Record::Redelivered {
            id: id("d_20"),
            delivery: delivery("d_23", "ada", Origin::Acknowledged),
        },
        Record::Accepted {
            delivery: delivery("d_24", "ada", from_engine(10)),
        },
        Record::DeadLettered {
            id: id("d_24"),
            reason: "too old".into(),
            at,
        },
        Record::Restarted {
            agent: ada.clone(),
            failures: 1,
        },
        Record::Waited {
            agent: AgentName::new("bare"),
            ms: 61_000,
        },
        Record::Held {
            agent: ada.clone(),
            mode: DeliveryMode::ManualFlush,
        },
        Record::Held {
            agent: AgentName::new("bare"),
            mode: DeliveryMode::AutoInject,
        },
        Record::Invoked {
            id: InvocationId::new("inv_1"),
        },
        Record::Answered {
            id: InvocationId::new("inv_1"),
            outcome: Outcome::Output(json!({"ok": [1, null]})),
        },
        Record::Answered {
            id: InvocationId::new("inv_2"),
            outcome: Outcome::Error("no".into()),
        },
        Record::Invoked {
            id: InvocationId::new("inv_3"),
        },
        Record::Numbered { upto: 5000 },
        Record::Ended {
            agent: AgentName::new("bare"),
            released: false,
        },
        Record::Departed {
            agent: AgentName::new("bare"),
            departed: Departed {
                reason: "exit code 1".into(),
                given_up: true,
                at,
                command: "claude".into(),
                ..Departed::default()
            },
        },
        Record::Ended {
            agent: AgentName::new("eve"),
            released: true,
        },
    ]
}

/// An agent that is declared, runs at last and is started again by hand; and one that ended, with all that is known of that.
fn declared() -> Vec<Record> {
    let policy = RestartPolicy {
        max_cooldown_ms: Some(60_000),
        ..RestartPolicy::default()
    };
    let wish = SpawnRequest {
        restart_policy: Some(policy),
        env_allow: Some(vec!["ANTHROPIC_*".into()]),
        ..request()
    };
    let spawned = |anew: bool, waiting: bool| Record::Spawned {
        agent: AgentName::new("ada"),
        request: Box::new(wish.clone().into()),
        anew,
        declared: true,
        waiting,
    };
    let mut records = vec![spawned(true, true)];
    let image = replayed(&records).image();
    records.push(Record::Snapshot(Box::new(image)));
    records.extend([spawned(false, false), spawned(true, false)]);
    records.push(Record::Departed {
        agent: AgentName::new("bob"),
        departed: Departed {
            reason: "exit code 3".into(),
            given_up: false,
            at: Wall(1_782_640_800_001),
            command: "sh".into(),
            code: Some(3),
            signal: Some(9),
            last_lines: vec!["no key".into()],
            request: Some(Box::new(wish.into())),
        },
    });
    records
}

/// What a release leaves with the engine is owed, and paid.
fn clearing() -> Vec<Record> {
    let names = ["ada", "eve"];
    let mut records: Vec<Record> = names
        .map(|name| Record::Uncleared {
            agent: AgentName::new(name),
            agent_id: AgentId::new(format!("a_{name}")),
        })
        .into();
    let image = replayed(&records).image();
    records.push(Record::Snapshot(Box::new(image)));
    records.push(Record::Cleared {
        agent: AgentName::new("ada"),
    });
    records
}

/// Registrations that the engine has not answered, of one that was released since and of one that was not.
fn unanswered() -> Vec<Record> {
    let asked = |name: &str| Record::Asked {
        agent: AgentName::new(name),
    };
    let mut records = vec![
        asked("ada"),
        asked("eve"),
        asked("bob"),
        Record::Ended {
            agent: AgentName::new("ada"),
            released: true,
        },
    ];
    let image = replayed(&records).image();
    records.push(Record::Snapshot(Box::new(image)));
    records.push(Record::Cleared {
        agent: AgentName::new("bob"),
    });
    records
}

/// Messages of agents that answered each other too often: one that waits for a person's word, one that goes on, and one that
/// was given up and has another chance.
fn suspended() -> Vec<Record> {
    let id = |name: &str| DeliveryId::new(name);
    let names = ["d_1", "d_2", "d_3"];
    let mut records: Vec<Record> = names
        .map(|name| Record::Accepted {
            delivery: delivery(name, "ada", Origin::Local),
        })
        .into();
    records.extend(names.map(|name| Record::Suspended { id: id(name) }));
    let image = replayed(&records).image();
    records.push(Record::Snapshot(Box::new(image)));
    records.push(Record::Resumed { id: id("d_2") });
    records.push(Record::DeadLettered {
        id: id("d_3"),
        reason: "gone".into(),
        at: Wall(1_782_640_800_002),
    });
    records.push(Record::Redelivered {
        id: id("d_3"),
        delivery: delivery("d_4", "ada", Origin::Local),
    });
    records
}

/// Made the journals that are kept, and makes those that are not there yet.
#[test]
#[ignore = "writes journals on file: what is there is there to stay"]
fn write_journals_of_the_broker_with_every_kind_of_record() {
    for (kept, made_of) in KEPT {
        let (records, dir) = (made_of(), fixture(kept));
        if dir.exists() {
            continue;
        }
        fs::create_dir_all(&dir).expect("room");
        let opened = Journal::<Record>::open(&dir, "broker", Options::default());
        let mut journal = opened.expect("empty").journal;
        for batch in records.chunks(7) {
            journal.commit(batch).expect("room");
        }
        let text = serde_json::to_string_pretty(&knows(&records)).expect("plain data");
        fs::write(dir.join("state.json"), text + "\n").expect("room");
    }
}
