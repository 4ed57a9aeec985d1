//! Agents that end, and come back or do not.

use super::*;
use crate::wire::local::{RestartPolicy, RestartWhen};

fn wish(name: &str, policy: Option<RestartPolicy>) -> local::SpawnRequest {
    local::SpawnRequest {
        task: Some("begin".into()),
        agent_token: Some("at_live_secret".into()),
        restart_policy: policy,
        ..request(name)
    }
}

fn policy() -> RestartPolicy {
    RestartPolicy {
        cooldown_ms: 1000,
        ..RestartPolicy::default()
    }
}

fn ended(code: i32) -> AgentReport {
    AgentReport::Exited(How {
        code: Some(code),
        ..How::default()
    })
}

/// Spawned, registered and running, but not ready yet.
fn started(w: &mut World, name: &str, policy: Option<RestartPolicy>) -> Run {
    w.call(ApiCall::Spawn(
        Box::new(wish(name, policy)),
        SpawnSource::Api,
    ));
    w.registered(name);
    let run = w.run_of(name);
    w.report(name, run, AgentReport::Started { pid: 7 });
    run
}

fn make_ready(w: &mut World, name: &str) {
    let run = w.run_of(name);
    w.report(
        name,
        run,
        AgentReport::Ready {
            evidence: "quiet".into(),
        },
    );
}

/// Its program is started once more: with the identity it has, or, in a new life of the broker, with one it asks for.
fn runs_again(w: &mut World, name: &str) -> Run {
    if !w.d.agents.is_starting(&AgentName::new(name)) {
        w.registered(name);
    }
    let run = w.run_of(name);
    w.report(name, run, AgentReport::Started { pid: 8 });
    run
}

fn said(effects: &[Effect], is: impl Fn(&BrokerEvent) -> bool) -> bool {
    effects
        .iter()
        .any(|e| matches!(e, Effect::Publish(_, event) if is(event)))
}

fn given_up(e: &BrokerEvent) -> bool {
    matches!(e, BrokerEvent::AgentPermanentlyDead { .. })
}

#[test]
fn the_first_task_is_typed_first_also_before_mail_that_came_during_the_start() {
    let mut w = World::new();
    w.link_up();
    started(&mut w, "w1", None);
    w.mail("w1", 1);
    w.done();
    make_ready(&mut w, "w1");
    let task = w.injected().expect("the task");
    assert!(task.text.ends_with(": begin"), "{}", task.text);
    w.land("w1", &task.delivery_id);
    assert!(w.injected().expect("the mail").text.ends_with("text 1"));
}

#[test]
fn an_agent_that_fails_is_started_again_after_its_cooldown_and_gets_its_mail() {
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", Some(policy()));
    make_ready(&mut w, "w1");
    let task = w.injected().expect("the task");
    w.land("w1", &task.delivery_id);
    w.mail("w1", 1);
    w.done();
    w.report("w1", run, ended(3));
    let restarting = |e: &BrokerEvent| {
        matches!(
            e,
            BrokerEvent::AgentRestarting {
                code: Some(3),
                restart_count: 1,
                delay_ms: 1000,
                ..
            }
        )
    };
    assert!(said(&w.done(), restarting));
    w.pass(Duration::from_millis(999));
    assert!(w.done().is_empty(), "not yet");
    w.pass(Duration::from_millis(1));
    runs_again(&mut w, "w1");
    assert!(said(&w.done(), |e| matches!(
        e,
        BrokerEvent::AgentRestarted {
            restart_count: 1,
            ..
        }
    )));
    make_ready(&mut w, "w1");
    let mail = w.injected().expect("its mail, and not its task once more");
    assert!(mail.text.ends_with("text 1"), "{}", mail.text);
}

#[test]
fn an_agent_that_is_done_stays_ended_unless_it_is_to_run_always() {
    for (when, again) in [(RestartWhen::OnFailure, false), (RestartWhen::Always, true)] {
        let mut w = World::new();
        w.link_up();
        let run = started(&mut w, "w1", Some(RestartPolicy { when, ..policy() }));
        w.report("w1", run, ended(0));
        assert_eq!(w.d.agents.is_here(&AgentName::new("w1")), again);
    }
}

#[test]
fn an_agent_that_keeps_failing_is_given_up_with_the_reason() {
    let mut w = World::new();
    w.link_up();
    let mut run = started(&mut w, "w1", Some(policy()));
    for _ in 0..2 {
        w.report("w1", run, ended(1));
        w.pass(Duration::from_secs(1));
        run = runs_again(&mut w, "w1");
    }
    w.done();
    w.report("w1", run, ended(1));
    let effects = w.done();
    assert!(said(&effects, |e| {
        matches!(e, BrokerEvent::AgentPermanentlyDead { reason, .. } if reason.contains("3 times in a row"))
    }));
    assert!(w.d.agents.is_empty());
    let letters: Vec<_> =
        w.d.ledger()
            .dead()
            .iter()
            .map(|d| d.reason.clone())
            .collect();
    assert_eq!(
        letters,
        ["the agent ended before its first task was seen to arrive"]
    );
}

/// What the list says of agents that are not here.
fn departed(w: &mut World) -> Vec<(String, String, bool)> {
    match w.call(ApiCall::Agents) {
        Some(Ok(Reply::Agents(list))) => {
            let row = |d: local::DepartedView| (d.name.to_string(), d.reason, d.given_up);
            list.departed.into_iter().map(row).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn given(policy: serde_json::Value) -> RestartPolicy {
    serde_json::from_value(policy).expect("a policy")
}

#[test]
fn an_agent_is_started_again_as_often_as_was_said_also_when_it_fails_each_time() {
    let mut w = World::new();
    w.link_up();
    let ten = given(json!({"max_restarts": 10, "cooldown_ms": 1000}));
    let mut run = started(&mut w, "w1", Some(ten));
    for _ in 0..10 {
        w.report("w1", run, ended(1));
        w.pass(Duration::from_secs(1));
        run = runs_again(&mut w, "w1");
    }
    w.report("w1", run, ended(1));
    assert!(w.d.agents.is_empty());
    let why = "it ended (exit code 1) and was started again 10 times already";
    assert_eq!(departed(&mut w), [("w1".into(), why.into(), true)]);
}

#[test]
fn a_policy_that_says_nothing_of_a_limit_keeps_the_usual_ones() {
    assert_eq!(given(json!({})), RestartPolicy::default());
    let both = given(json!({"maxRestarts": 10, "maxConsecutiveFailures": 2}));
    assert_eq!((both.max_restarts, both.max_consecutive_failures), (10, 2));
}

#[test]
fn an_agent_that_ended_stays_in_the_list_until_it_is_started_again_or_released_also_after_a_restart()
 {
    let mut w = World::new();
    w.link_up();
    for name in ["w1", "w2", "w3"] {
        let run = started(&mut w, name, None);
        w.report(name, run, ended(3));
    }
    let ends = |names: &[&str]| -> Vec<(String, String, bool)> {
        let row = |name: &&str| (name.to_string(), "exit code 3".to_string(), false);
        names.iter().map(row).collect()
    };
    assert_eq!(departed(&mut w), ends(&["w1", "w2", "w3"]));
    let mut w = World::after(w.journal);
    w.link_up();
    assert_eq!(departed(&mut w), ends(&["w1", "w2", "w3"]));
    started(&mut w, "w1", None);
    assert_eq!(departed(&mut w), ends(&["w2", "w3"]));
}

#[test]
fn whoever_looks_later_sees_how_an_agent_ended_and_what_it_showed_last() {
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", None);
    let how = How {
        code: Some(3),
        last: vec!["$ make".into(), "x".repeat(1000)],
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(how));
    let mut w = World::after(w.journal);
    let Some(Ok(Reply::Status(status))) = w.call(ApiCall::Status) else {
        panic!("no status");
    };
    assert!(status.agents.is_empty(), "it does not run");
    let [gone] = &status.departed[..] else {
        panic!("{:?}", status.departed);
    };
    assert_eq!((gone.code, gone.signal), (Some(3), None));
    assert_eq!(gone.last_lines[0], "$ make");
    assert!(gone.last_lines[1].len() < 1000, "no more than is of use");
}

#[test]
fn an_agent_that_ran_for_a_while_between_its_failures_has_a_limit_on_restarts_only() {
    let mut w = World::new();
    w.link_up();
    let mut run = started(&mut w, "w1", Some(policy()));
    for n in 1..=5 {
        w.pass(Duration::from_secs(61));
        w.report("w1", run, ended(1));
        w.pass(Duration::from_secs(1));
        assert!(!said(&w.done(), given_up), "restart {n}");
        run = runs_again(&mut w, "w1");
    }
    w.pass(Duration::from_secs(61));
    w.done();
    w.report("w1", run, ended(1));
    assert!(said(&w.done(), given_up), "five restarts are the limit");
}

#[test]
fn a_restart_that_cannot_start_its_program_counts_as_a_failure() {
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", Some(policy()));
    w.report("w1", run, ended(1));
    for last in [false, true] {
        w.pass(Duration::from_secs(1));
        let run = w.run_of("w1");
        w.done();
        w.report("w1", run, AgentReport::NotStarted { why: "gone".into() });
        assert_eq!(said(&w.done(), given_up), last);
    }
}

#[test]
fn a_broker_that_comes_back_brings_back_the_agents_it_was_told_to_keep() {
    let mut w = World::new();
    w.link_up();
    started(&mut w, "kept", Some(policy()));
    started(&mut w, "free", None);
    w.mail("kept", 1);
    let mut w = World::after(w.journal);
    assert!(said(&w.done(), |e| {
        matches!(e, BrokerEvent::AgentExited { name, .. } if name.as_str() == "free")
    }));
    w.link_up();
    runs_again(&mut w, "kept");
    assert!(!w.d.agents.is_here(&AgentName::new("free")));
    w.done();
    make_ready(&mut w, "kept");
    let task = w.injected().expect("the task had not been typed");
    assert!(task.text.ends_with(": begin"));
    w.land("kept", &task.delivery_id);
    let mail = w.injected().expect("its mail");
    w.land("kept", &mail.delivery_id);

    let mut w = World::after(w.journal);
    w.link_up();
    runs_again(&mut w, "kept");
    w.done();
    make_ready(&mut w, "kept");
    assert!(
        w.injected().is_none(),
        "the task was typed: it is not typed again"
    );
}

#[test]
fn no_token_gets_into_the_journal() {
    let mut w = World::new();
    w.link_up();
    started(&mut w, "w1", Some(policy()));
    let text = serde_json::to_string(&w.journal).expect("records are plain");
    assert!(text.contains("restart_policy"), "the wish is remembered");
    assert!(!text.contains("at_live_"), "{text}");
}

#[test]
fn a_release_ends_a_life_for_good_also_between_two_runs() {
    let release = || ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    };
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", Some(policy()));
    w.call(release());
    w.report("w1", run, ended(1));
    assert!(w.d.agents.is_empty(), "asked to end, it stays ended");

    w.engine_has_nothing();
    let run = started(&mut w, "w1", Some(policy()));
    w.report("w1", run, ended(1));
    w.call(release());
    w.engine_has_nothing();
    let answered = |e: &Effect| matches!(e, Effect::Reply(_, Ok(Reply::Released { .. })));
    assert!(w.effects.iter().filter(|e| answered(e)).count() > 1);
    w.pass(Duration::from_secs(5));
    assert!(w.d.agents.is_empty());
    let w = World::after(w.journal);
    assert!(
        w.d.agents.is_empty(),
        "and after a restart of the broker too"
    );
}

#[test]
fn stopping_leaves_the_same_lives_as_a_crash() {
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", Some(policy()));
    w.tell(Event::Shutdown {
        deadline: w.now.mono + Duration::from_secs(5),
    });
    w.report(
        "w1",
        run,
        AgentReport::Exited(How {
            signal: Some(1),
            ..How::default()
        }),
    );
    let w = World::after(w.journal);
    assert!(w.d.agents.is_here(&AgentName::new("w1")), "it comes back");
}

/// How many agents each heartbeat since the last look counted.
fn counted(w: &mut World) -> Vec<u64> {
    let beats = w.sent().into_iter().filter_map(|up| match up {
        Up::NodeHeartbeat(beat) => Some(beat.active_agents),
        _ => None,
    });
    beats.collect()
}

/// H3: one snapshot for a crash with its restart, and never a node that seems to be empty in between.
#[test]
fn an_agent_that_comes_back_at_once_never_seems_to_be_away() {
    let mut w = World::new();
    w.link_up();
    let at_once = RestartPolicy {
        cooldown_ms: 0,
        ..policy()
    };
    let run = started(&mut w, "w1", Some(at_once));
    assert_eq!(counted(&mut w).last(), Some(&1));
    w.report("w1", run, ended(1));
    w.pass(Duration::ZERO);
    assert_eq!(counted(&mut w), [0; 0], "not before it is back");
    runs_again(&mut w, "w1");
    assert_eq!(counted(&mut w), [1]);
}

/// H3: a restart that comes to nothing is a change, and told at once.
#[test]
fn an_agent_that_cannot_be_started_again_at_once_is_away_from_then_on() {
    let mut w = World::new();
    w.link_up();
    let once = RestartPolicy {
        cooldown_ms: 0,
        max_consecutive_failures: 2,
        ..policy()
    };
    let run = started(&mut w, "w1", Some(once));
    w.done();
    w.report("w1", run, ended(1));
    let run = w.run_of("w1");
    let why = "no such program".into();
    w.report("w1", run, AgentReport::NotStarted { why });
    assert_eq!(counted(&mut w), [0]);
}

/// H3: while it cools down it does not run, and the engine knows at once and once; the others are counted on.
#[test]
fn an_agent_that_comes_back_later_is_away_until_then() {
    let mut w = World::new();
    w.link_up();
    started(&mut w, "w2", None);
    let run = started(&mut w, "w1", Some(policy()));
    w.done();
    w.report("w1", run, ended(1));
    assert_eq!(counted(&mut w), [1]);
    w.pass(Duration::from_secs(1));
    assert_eq!(counted(&mut w), [0; 0]);
    runs_again(&mut w, "w1");
    assert_eq!(counted(&mut w), [2]);
}

// ---- restarts that somebody asks for ----------------------------------------------------------------------------

fn restart(w: &mut World, name: &str) -> Option<Answer> {
    w.call(ApiCall::Restart(AgentName::new(name)))
}

/// What was answered since the last look.
fn restarted(w: &mut World) -> Option<(String, u64)> {
    w.done().into_iter().find_map(|effect| match effect {
        Effect::Reply(_, Ok(Reply::Restarted(done))) => Some((done.was, done.pending_messages)),
        _ => None,
    })
}

#[test]
fn an_agent_whose_program_is_started_again_by_hand_goes_on_with_its_identity_and_its_mail() {
    let mut w = World::new();
    w.link_up();
    let run = started(&mut w, "w1", None);
    make_ready(&mut w, "w1");
    let task = w.injected().expect("the task");
    w.land("w1", &task.delivery_id);
    w.mail("w1", 1);
    let typed = w.injected().expect("the mail");
    assert!(restart(&mut w, "w1").is_none(), "not before it runs again");
    let stopped =
        |e: &Effect| matches!(e, Effect::Agent(_, r, AgentCommand::Stop { .. }) if *r == run);
    assert!(w.done().iter().any(stopped));
    w.report("w1", run, ended(143));
    assert_eq!(w.counters().agents_crashed, 0, "it was asked to end");
    assert!(w.sent().is_empty(), "the engine need not know");
    let again = runs_again(&mut w, "w1");
    assert_ne!(again, run);
    assert_eq!(restarted(&mut w), Some(("running".into(), 1)));
    make_ready(&mut w, "w1");
    let once_more = w
        .injected()
        .expect("what it had not read, and not its task");
    assert_eq!(once_more.delivery_id, typed.delivery_id);
}

#[test]
fn a_restart_by_hand_does_not_wait_for_the_cooldown_and_its_failures_count_anew() {
    let mut w = World::new();
    w.link_up();
    let mut run = started(&mut w, "w1", Some(policy()));
    for _ in 0..2 {
        w.report("w1", run, ended(1));
        restart(&mut w, "w1");
        run = runs_again(&mut w, "w1");
        assert_eq!(
            restarted(&mut w).map(|(was, _)| was),
            Some("restarting".into())
        );
    }
    w.report("w1", run, ended(1));
    assert!(
        !said(&w.done(), given_up),
        "the third, and the first that counts"
    );
}

#[test]
fn an_agent_that_was_given_up_is_started_as_it_was_by_one_word_also_after_a_restart_of_the_broker()
{
    let mut w = World::new();
    w.link_up();
    let run = started(
        &mut w,
        "w1",
        Some(given(json!({"max_consecutive_failures": 1}))),
    );
    w.report("w1", run, ended(1));
    w.mail("w1", 1);
    let mut w = World::after(w.journal);
    w.link_up();
    assert!(restart(&mut w, "w1").is_none());
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 9 });
    assert_eq!(restarted(&mut w), Some(("departed".into(), 1)));
    assert!(departed(&mut w).is_empty());
    make_ready(&mut w, "w1");
    assert!(w.injected().expect("its mail").text.ends_with("text 1"));
    w.report("w1", run, ended(1));
    assert!(said(&w.done(), given_up), "by the policy that it had");
}

#[test]
fn whoever_wants_a_restart_hears_why_there_is_none() {
    let mut w = World::new();
    w.link_up();
    let refused = |answer: Option<Answer>| match answer {
        Some(Err(refusal)) => refusal.message,
        other => panic!("{other:?}"),
    };
    let why = refused(restart(&mut w, "nobody"));
    assert!(why.contains("no agent is named 'nobody'"), "{why}");

    let run = started(&mut w, "w1", None);
    restart(&mut w, "w1");
    w.report("w1", run, ended(1));
    let run = w.run_of("w1");
    w.report(
        "w1",
        run,
        AgentReport::NotStarted {
            why: "no such program in PATH".into(),
        },
    );
    let answers = |w: &mut World| -> Vec<String> {
        let of = |effect| match effect {
            Effect::Reply(_, Err(refusal)) => Some(refusal.message),
            _ => None,
        };
        w.done().into_iter().filter_map(of).collect()
    };
    assert_eq!(
        answers(&mut w),
        [
            "no agent is named 'nobody' (no agents run here)",
            "no such program in PATH"
        ]
    );

    let run = started(&mut w, "w2", None);
    restart(&mut w, "w2");
    w.call(ApiCall::Release {
        name: AgentName::new("w2"),
        reason: None,
    });
    w.done();
    w.report("w2", run, ended(1));
    assert_eq!(answers(&mut w), ["agent 'w2' was ended for good meanwhile"]);
    assert!(w.d.agents.is_empty(), "who releases it has the last word");
}
