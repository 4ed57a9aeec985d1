use super::life::{MessageFate, lives};
use super::recorded::{JournalMemory, joined};
use crate::domain::Proof;
use crate::history::{HistoryFact, HistoryStep, MessageWay};
use crate::ids::{AgentName, DeliveryId, MsgId};
use crate::time::Wall;

fn step(at: u64, delivery: &str, fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        at: Wall(at),
        agent: Some(AgentName::new("ada")),
        delivery: Some(DeliveryId::new(delivery)),
        message: Some(MsgId::new(delivery.replace('d', "m"))),
        fact,
    }
}

fn accepted(at: u64, delivery: &str, seq: Option<u64>) -> HistoryStep {
    let fact = HistoryFact::Accepted {
        from: "bob".into(),
        target: "ada".into(),
        way: MessageWay::Engine,
        seq,
        bytes: 2,
        text: "hi".into(),
        disk_ms: 1,
    };
    step(at, delivery, fact)
}

fn settled(at: u64, delivery: &str, proof: Proof) -> HistoryStep {
    step(
        at,
        delivery,
        HistoryFact::Settled {
            proof,
            reason: None,
        },
    )
}

fn of_agent(at: u64, fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        delivery: None,
        message: None,
        ..step(at, "d", fact)
    }
}

fn of_broker(at: u64, fact: HistoryFact) -> HistoryStep {
    HistoryStep {
        agent: None,
        ..of_agent(at, fact)
    }
}

fn times(steps: &[&HistoryStep]) -> Vec<u64> {
    steps.iter().map(|step| step.at.0).collect()
}

#[test]
fn a_message_has_its_own_steps_and_the_first_acknowledgement_after_its_end() {
    let all = [
        accepted(1, "d1", Some(4)),
        accepted(2, "d2", Some(5)),
        step(3, "d1", HistoryFact::Given { bytes: 9 }),
        of_agent(4, HistoryFact::Acknowledged { up_to: 4 }),
        settled(5, "d1", Proof::Echo),
        of_agent(6, HistoryFact::Acknowledged { up_to: 4 }),
        step(7, "d2", HistoryFact::Given { bytes: 9 }),
        of_agent(8, HistoryFact::Acknowledged { up_to: 5 }),
    ];
    let lives = lives(&all);
    assert_eq!(times(&lives[0].steps(&all)), [1, 3, 5, 6]);
    assert_eq!(lives[0].end(&all), MessageFate::Arrived(Proof::Echo));
    assert_eq!(lives[1].end(&all), MessageFate::Waits);
    let behind = lives[1].behind(&lives, &all);
    assert_eq!(behind, [&lives[0]]);
    assert!(lives[0].behind(&lives, &all).is_empty());
    let verdict = lives[0].verdict(&all, MessageFate::Arrived(Proof::Echo));
    assert_eq!(
        verdict,
        "ada has message m1: verified by echo, 4 ms after it was accepted"
    );
}

#[test]
fn what_happens_to_its_agent_and_to_the_broker_meanwhile_belongs_to_it() {
    let all = [
        of_agent(1, HistoryFact::Ready),
        accepted(2, "d1", None),
        step(3, "d1", HistoryFact::Given { bytes: 9 }),
        of_broker(4, HistoryFact::Opened { pid: 7 }),
        of_agent(5, HistoryFact::Ready),
        step(6, "d1", HistoryFact::Given { bytes: 9 }),
        step(7, "d1", HistoryFact::Typed { redelivered: true }),
        settled(8, "d1", Proof::Read),
        of_broker(9, HistoryFact::Closed),
    ];
    let lives = lives(&all);
    assert_eq!(times(&lives[0].steps(&all)), [2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(lives[0].tries(&all), (2, 1));
    let verdict = lives[0].verdict(&all, MessageFate::Arrived(Proof::Read));
    assert!(verdict.contains("may have been read twice"), "{verdict}");
}

#[test]
fn a_dead_letter_that_waits_again_is_the_same_message() {
    let mut all = vec![
        accepted(1, "d1", None),
        step(
            2,
            "d1",
            HistoryFact::GivenUp {
                reason: "too long".into(),
            },
        ),
    ];
    let life = &lives(&all)[0];
    assert_eq!(life.end(&all), MessageFate::GivenUp);
    assert_eq!(
        life.verdict(&all, MessageFate::GivenUp),
        "message m1 for ada was given up: too long"
    );
    let anew = DeliveryId::new("redo");
    all.push(step(
        3,
        "d1",
        HistoryFact::Redelivered { anew: anew.clone() },
    ));
    let mut again = settled(4, "d1", Proof::Echo);
    again.delivery = Some(anew);
    all.push(again);
    let lives = lives(&all);
    assert_eq!(lives.len(), 1);
    assert!(lives[0].is_called("redo") && lives[0].begins("re") && !lives[0].is_called("re"));
    assert_eq!(lives[0].end(&all), MessageFate::Arrived(Proof::Echo));
}

#[test]
fn a_message_that_waits_says_for_what() {
    let why = "words stand in the input line of claude".to_owned();
    let all = [
        accepted(1, "d1", None),
        step(2, "d1", HistoryFact::Blocked { why }),
    ];
    let life = &lives(&all)[0];
    let verdict = life.verdict(&all, life.end(&all));
    assert_eq!(
        verdict,
        "message m1 waits for ada: words stand in the input line of claude"
    );
}

#[test]
fn the_journal_adds_what_a_kill_took_from_the_history_and_nothing_twice() {
    let recorded = JournalMemory {
        steps: vec![
            accepted(1, "d1", None),
            step(2, "d1", HistoryFact::Given { bytes: 0 }),
            settled(30_000, "d1", Proof::Echo),
        ],
        ..JournalMemory::default()
    };
    let history = vec![
        accepted(1, "d1", None),
        step(3, "d1", HistoryFact::Given { bytes: 9 }),
    ];
    let all = joined(history, &recorded);
    assert_eq!(
        all.iter().map(|step| step.at.0).collect::<Vec<_>>(),
        [1, 3, 30_000]
    );
    assert_eq!(lives(&all)[0].end(&all), MessageFate::Arrived(Proof::Echo));
}
