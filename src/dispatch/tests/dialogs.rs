//! What stands in an agent's terminal instead of its input line.

use super::*;
use crate::wire::event::{Dialog, Policy};

fn view(w: &mut World) -> local::AgentView {
    match w.call(ApiCall::Agents) {
        Some(Ok(Reply::Agents(list))) => list.agents[0].clone(),
        other => panic!("{other:?}"),
    }
}

fn published(w: &mut World) -> Vec<BrokerEvent> {
    let events = w.done().into_iter().filter_map(|e| match e {
        Effect::Publish(_, event) => Some(event),
        _ => None,
    });
    events.collect()
}

#[test]
fn an_agent_that_asks_something_is_blocked_until_it_is_answered() {
    let mut w = World::new();
    w.link_up();
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 4242 });
    w.mail("w1", 1);
    w.done();
    let rows = vec!["Do you trust it?".to_owned()];
    w.report("w1", run, AgentReport::Blocked(Dialog::TrustFolder, rows));
    let events = published(&mut w);
    assert!(
        matches!(
            &events[..],
            [BrokerEvent::AgentBlocked { dialog: Dialog::TrustFolder, screen, pending_delivery_count: 1, .. }]
                if screen == &["Do you trust it?"]
        ),
        "{events:?}"
    );
    let seen = view(&mut w);
    assert_eq!((seen.phase.as_str(), seen.ready), ("blocked", false));
    assert_eq!(seen.current_state, "blocked_on_send");
    assert_eq!(seen.blocked_on, Some(Dialog::TrustFolder));
    let Some(Ok(Reply::Status(status))) = w.call(ApiCall::Status) else {
        panic!("no status");
    };
    let why = status.pending_deliveries[0].last_error.as_deref();
    assert_eq!(
        why,
        Some("it asks whether to trust the files of its folder")
    );
    w.done();
    let answered = AgentReport::Answered {
        dialog: Dialog::TrustFolder,
        policy: Policy::Accept,
        keys: "enter".into(),
    };
    w.report("w1", run, answered);
    w.report("w1", run, AgentReport::Unblocked(Dialog::TrustFolder));
    assert!(matches!(
        published(&mut w)[..],
        [
            BrokerEvent::DialogAnswered { .. },
            BrokerEvent::AgentUnblocked { .. }
        ]
    ));
    let seen = view(&mut w);
    assert_eq!((seen.phase.as_str(), seen.blocked_on), ("starting", None));
    let counters = w.counters();
    assert_eq!((counters.agents_blocked, counters.dialogs_answered), (1, 1));
}

#[test]
fn how_an_agent_is_comes_with_since_when() {
    let (mut w, run) = World::with_agent("w1");
    let begun = view(&mut w).state_since;
    w.pass(Duration::from_secs(60));
    assert_eq!(
        (
            view(&mut w).current_state.as_str(),
            view(&mut w).state_since
        ),
        ("working", begun)
    );
    let silent = Duration::from_secs(30);
    w.report("w1", run, AgentReport::Idle { silent });
    w.pass(Duration::from_secs(60));
    let seen = view(&mut w);
    assert_eq!(seen.current_state, "idle");
    let ago = |secs: u64| Wall(w.now.wall.0 - secs * 1000).iso();
    assert_eq!(seen.state_since, ago(90));
}
