//! Agents that the operator declares: wanted from the start on, whatever is in the way at first.

use super::*;
use crate::wire::local::{AgentList, RestartPolicy};

fn declared(task: Option<&str>) -> local::SpawnRequest {
    let policy = RestartPolicy {
        max_restarts: 0,
        max_consecutive_failures: 4,
        cooldown_ms: 1000,
        max_cooldown_ms: Some(3000),
        ..RestartPolicy::default()
    };
    local::SpawnRequest {
        task: task.map(str::to_owned),
        restart_policy: Some(policy),
        ..request("ada")
    }
}

fn broker(journal: Vec<Record>, agents: Vec<local::SpawnRequest>) -> World {
    let mut w = World::after_declaring(journal, agents);
    w.link_up();
    w
}

fn list(w: &mut World) -> AgentList {
    match w.call(ApiCall::Agents) {
        Some(Ok(Reply::Agents(list))) => list,
        other => panic!("{other:?}"),
    }
}

fn cannot_start(w: &mut World) {
    let run = w.run_of("ada");
    let why = "no such program in PATH".into();
    w.report("ada", run, AgentReport::NotStarted { why });
}

fn starts(w: &mut World) {
    let run = w.run_of("ada");
    w.report("ada", run, AgentReport::Started { pid: 7 });
    let evidence = "quiet".into();
    w.report("ada", run, AgentReport::Ready { evidence });
}

#[test]
fn an_agent_that_cannot_start_yet_is_shown_with_the_reason_and_tried_ever_more_seldom() {
    let mut w = broker(Vec::new(), vec![declared(Some("begin"))]);
    w.registered("ada");
    for wait in [1000, 2000, 3000] {
        cannot_start(&mut w);
        let list = list(&mut w);
        let [ada] = &list.agents[..] else {
            panic!("{list:?}");
        };
        assert_eq!(ada.phase, "restarting");
        assert_eq!(ada.trouble.as_deref(), Some("no such program in PATH"));
        assert_eq!(ada.next_start_ms, Some(wait));
        w.pass(Duration::from_millis(wait));
    }
    starts(&mut w);
    let ada = list(&mut w).agents.remove(0);
    assert_eq!((ada.phase.as_str(), ada.trouble), ("ready", None));
    let task = w.injected().expect("its task, at its first start");
    assert!(task.text.ends_with(": begin"));
}

#[test]
fn an_agent_that_never_could_start_is_given_up_in_the_end_and_stays_in_the_list() {
    let mut w = broker(Vec::new(), vec![declared(Some("begin"))]);
    w.registered("ada");
    for _ in 0..4 {
        cannot_start(&mut w);
        w.pass(Duration::from_secs(3));
    }
    let gone = list(&mut w);
    assert!(gone.agents.is_empty());
    let [ada] = &gone.departed[..] else {
        panic!("{gone:?}");
    };
    let why = "it failed 4 times in a row, at last with: no such program in PATH";
    assert!(ada.given_up && ada.reason == why, "{ada:?}");

    w.call(ApiCall::Restart(AgentName::new("ada")));
    w.done();
    starts(&mut w);
    assert!(
        w.injected().is_some(),
        "its task, which nobody has read yet"
    );
}

#[test]
fn a_killed_broker_comes_back_with_each_declared_agent_once_and_its_task_typed_once() {
    let mut w = broker(Vec::new(), vec![declared(Some("begin"))]);
    w.registered("ada");
    cannot_start(&mut w);
    let mut w = broker(w.journal, vec![declared(Some("begin"))]);
    w.registered("ada");
    starts(&mut w);
    let task = w
        .injected()
        .expect("it was wanted, and never started until now");
    w.land("ada", &task.delivery_id);

    let mut w = broker(w.journal, vec![declared(Some("begin"))]);
    assert_eq!(list(&mut w).agents.len(), 1);
    assert!(list(&mut w).departed.is_empty(), "it goes on");
    w.registered("ada");
    starts(&mut w);
    assert!(w.injected().is_none(), "its task was typed");
}

#[test]
fn what_is_declared_now_counts_and_not_what_was() {
    let mut w = broker(Vec::new(), vec![declared(None)]);
    w.registered("ada");
    starts(&mut w);
    let other = local::SpawnRequest {
        cli: Some("cat -n".into()),
        ..declared(None)
    };
    let mut w = broker(w.journal, vec![other]);
    assert_eq!(list(&mut w).agents[0].cli, "cat -n");
    let mut w = broker(w.journal, Vec::new());
    let gone = list(&mut w);
    assert!(gone.agents.is_empty());
    assert_eq!(
        gone.departed[0].reason,
        "the configuration does not declare it any more"
    );
}

#[test]
fn who_is_released_by_hand_stays_away_until_the_next_start() {
    let mut w = broker(Vec::new(), vec![declared(None)]);
    w.registered("ada");
    cannot_start(&mut w);
    let release = ApiCall::Release {
        name: AgentName::new("ada"),
        reason: None,
    };
    w.call(release);
    w.pass(Duration::from_secs(60));
    let gone = list(&mut w);
    assert!(gone.agents.is_empty() && gone.departed.is_empty());
    let mut w = broker(w.journal, vec![declared(None)]);
    assert_eq!(list(&mut w).agents.len(), 1);
}

#[test]
fn one_of_the_command_line_that_cannot_start_is_in_the_list_with_the_reason() {
    let once = local::SpawnRequest {
        restart_policy: None,
        ..declared(None)
    };
    let mut w = broker(Vec::new(), vec![once]);
    w.registered("ada");
    cannot_start(&mut w);
    let gone = list(&mut w);
    assert!(gone.agents.is_empty());
    assert_eq!(gone.departed[0].reason, "no such program in PATH");
}
