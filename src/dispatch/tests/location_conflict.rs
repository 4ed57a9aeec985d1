//! Agents that the engine has on another node.

use super::*;
use crate::msg::RestCall;
use crate::wire::up::InventorySync;

fn lists(effects: &[Effect]) -> Vec<InventorySync> {
    let lists = effects.iter().filter_map(|e| match e {
        Effect::Send(Up::InventorySync(list)) => Some(list.clone()),
        _ => None,
    });
    lists.collect()
}

fn names(list: &InventorySync) -> Vec<&str> {
    list.agents.iter().map(|a| a.name.as_str()).collect()
}

/// An agent that signs itself off at the engine goes on running, so the engine hears that it is here: once between two
/// heartbeats, and not of others.
#[test]
fn an_agent_that_the_engine_thinks_gone_is_listed_again() {
    let (mut w, _) = World::with_agent("w1");
    w.pass(QUIET);
    w.done();
    let id = w.d.agents.listed()[0].agent_id.clone();
    let news = |w: &mut World, id: &str, status: &str| {
        w.frame(
            json!({"v": 1, "type": "context.update", "topic": "presence", "event": format!("agent.status.{status}"),
            "channel_id": null, "agent_ids": [id], "data": {"agent_id": id, "agent_name": "w1", "status": status}}),
        );
        w.pass(QUIET);
        lists(&w.done()).len()
    };
    assert_eq!(news(&mut w, "4711", "offline"), 0, "somebody elsewhere");
    assert_eq!(news(&mut w, id.as_str(), "active"), 0);
    assert_eq!(news(&mut w, id.as_str(), "offline"), 1);
    assert_eq!(news(&mut w, id.as_str(), "offline"), 0, "said a moment ago");
    w.pass(HEARTBEAT);
    w.done();
    assert_eq!(news(&mut w, id.as_str(), "offline"), 1);
}

fn refuse(w: &mut World, list: &InventorySync) {
    refuse_with(w, list, "agent_location_conflict", "no");
}

fn refuse_with(w: &mut World, list: &InventorySync, code: &str, message: &str) {
    let id = list.id.as_deref().expect("an id");
    w.frame(
        json!({"v": 1, "id": id, "type": "error", "ok": false, "code": code, "message": message}),
    );
}

fn take(w: &mut World, list: &InventorySync, data: Value) {
    let id = list.id.as_deref().expect("an id");
    w.frame(json!({"v": 1, "id": id, "type": "reply", "ok": true, "data": data}));
}

/// Two agents that run, one of which has mail, and the list that a new link begins with.
fn world() -> (World, InventorySync) {
    let (mut w, _) = World::with_agent("w1");
    w.spawn("w2");
    w.mail("w1", 1);
    w.mail("w1", 2);
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.done();
    w.link_up();
    let list = lists(&w.done()).pop().expect("a list");
    assert_eq!(names(&list), ["w1", "w2"]);
    (w, list)
}

/// The program that is somebody else's is ended, without a word to the engine.
fn w1_is_ended_alone(w: &mut World, effects: &[Effect]) {
    let stopped: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Agent(name, _, AgentCommand::Stop { .. }) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(stopped, ["w1"]);
    assert_eq!(w.d.ledger().mail().waiting(&AgentName::new("w1")), 0);
    w.done();
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    let told: Vec<Up> = w.sent();
    let about_w1 = |up: &Up| match up {
        Up::AgentDeregister(_) => true,
        Up::DeliveryAck(ack) => ack.agent.as_str() == "w1",
        Up::InventorySync(list) => names(list) != ["w2"],
        _ => false,
    };
    assert!(!told.iter().any(about_w1), "{told:?}");
}

#[test]
fn an_agent_that_the_engine_has_on_another_node_is_ended_here_and_its_mail_left_to_the_other() {
    let (mut w, list) = world();
    let rejected = json!([{"agent_id": "id_w1", "name": "w1", "code": "agent_location_conflict"}]);
    take(&mut w, &list, json!({"rejected_agents": rejected}));
    let effects = w.done();
    w1_is_ended_alone(&mut w, &effects);
}

#[test]
fn an_engine_that_refuses_the_whole_list_is_asked_for_each_agent() {
    let (mut w, list) = world();
    refuse(&mut w, &list);
    let singles = lists(&w.done());
    let asked: Vec<_> = singles.iter().flat_map(names).collect();
    assert_eq!(asked, ["w1", "w2"]);
    refuse(&mut w, &singles[0]);
    assert!(w.done().is_empty(), "not before all are answered");
    take(&mut w, &singles[1], json!({}));
    let effects = w.done();
    let whole = lists(&effects);
    assert_eq!(
        whole.iter().map(names).collect::<Vec<_>>(),
        [["w2"]],
        "the other is listed again"
    );
    w1_is_ended_alone(&mut w, &effects);
}

/// Which agents were asked for anew, under which request.
fn renewals(effects: &[Effect]) -> Vec<(String, Option<String>)> {
    let asked = effects.iter().filter_map(|e| match e {
        Effect::Send(Up::AgentRegister(frame)) => Some((frame.name.to_string(), frame.id.clone())),
        _ => None,
    });
    asked.collect()
}

fn told(effects: &[Effect], code: &str) -> bool {
    let is = |event: &BrokerEvent| matches!(event, BrokerEvent::WorkerError { code: c, .. } if c == code);
    effects
        .iter()
        .any(|e| matches!(e, Effect::Publish(_, event) if is(event)))
}

/// The engine is asked for `w1` anew; the request.
fn w1_is_asked_for_anew(effects: &[Effect]) -> Option<String> {
    let stopped = |e: &Effect| matches!(e, Effect::Agent(_, _, AgentCommand::Stop { .. }));
    assert!(!effects.iter().any(stopped), "it goes on meanwhile");
    let mut asked = renewals(effects);
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (name, id) = asked.remove(0);
    assert_eq!(name, "w1");
    id
}

fn given(w: &mut World, id: Option<String>) {
    w.frame(json!({"type":"reply","id":id,"ok":true,
        "data":{"agent_id":"id_new","token":"at_live_new","name":"w1"}}));
}

fn not_given(w: &mut World, id: Option<String>, code: &str) {
    w.frame(json!({"type":"error","id":id,"ok":false,"code":code,"message":"no"}));
}

/// How each age says it of `w1` (engine-protocol 3.9), and whether in a whole refusal.
fn say_that_w1_is_not_ours(w: &mut World, list: &InventorySync, how: &str) {
    match how {
        "object" => {
            let one =
                json!([{"agent_id": "id_w1", "name": "w1", "code": "agent_identity_mismatch"}]);
            take(w, list, json!({"rejected_agents": one}));
        }
        "name" => take(w, list, json!({"rejected_agents": ["w1"]})),
        "number" | "too few" => {
            let rejected = u32::from(how == "number");
            take(
                w,
                list,
                json!({"rejected_agents": rejected, "rebound_agents": 1}),
            );
            let asked = w.effects.iter().find_map(|e| match e {
                Effect::RestJob(id, RestCall::Bound { node_name }) => {
                    assert_eq!(node_name, "box-1");
                    Some(*id)
                }
                _ => None,
            });
            let bound = crate::wire::rest::NodeAgent {
                agent_id: AgentId::new("id_w2"),
                agent_name: Some("w2".into()),
            };
            let done = RestDone::Bound(vec![bound]);
            w.tell(Event::RestJob(asked.expect("it looks who is"), done));
        }
        code => refuse_with(w, list, code, "Agent \"w1\" belongs to \"w2\""),
    }
}

const SHAPES: [&str; 6] = [
    "object",
    "name",
    "number",
    "too few",
    "agent_identity_mismatch",
    "agent_provider_conflict",
];

/// One bad identity mutes nobody else, whatever the engine's age says of it, and is healed.
#[test]
fn an_agent_that_the_engine_does_not_know_as_ours_is_registered_anew_and_goes_on() {
    for how in SHAPES {
        let (mut w, list) = world();
        say_that_w1_is_not_ours(&mut w, &list, how);
        let effects = w.done();
        if how.starts_with("agent_") {
            let without = lists(&effects);
            assert_eq!(
                without.iter().map(names).collect::<Vec<_>>(),
                [["w2"]],
                "{how}"
            );
        }
        let id = w1_is_asked_for_anew(&effects);
        given(&mut w, id);
        let effects = w.done();
        assert!(told(&effects, "agent_registered_anew"), "{how}");
        let again = lists(&effects).pop().expect("a list of all");
        let ids: Vec<_> = again.agents.iter().map(|a| a.agent_id.as_str()).collect();
        assert_eq!(ids, ["id_new", "id_w2"], "{how}");
        assert!(w.d.agents.is_running(&AgentName::new("w1")));
    }
}

/// N32: whoever has it is not robbed of it, and no program here works for an agent that is somebody else's.
#[test]
fn an_agent_that_the_engine_does_not_give_us_anew_is_ended_and_told() {
    for how in SHAPES {
        let (mut w, list) = world();
        say_that_w1_is_not_ours(&mut w, &list, how);
        let id = w1_is_asked_for_anew(&w.done());
        not_given(&mut w, id, "agent_location_conflict");
        let effects = w.done();
        assert!(told(&effects, "agent_moved"), "{how}");
        w1_is_ended_alone(&mut w, &effects);
    }
}

#[test]
fn an_agent_that_another_provider_of_this_node_had_is_had_back() {
    let (mut w, list) = world();
    say_that_w1_is_not_ours(&mut w, &list, "agent_provider_conflict");
    let id = w1_is_asked_for_anew(&w.done());
    not_given(&mut w, id, "agent_already_exists");
    let recover = w.done().into_iter().find_map(|e| match e {
        Effect::Send(Up::AgentRecover(frame)) => Some(frame),
        _ => None,
    });
    let recover = recover.expect("it was ours");
    assert_eq!(recover.expected_agent_id.as_str(), "id_w1");
    given(&mut w, recover.id);
    assert!(told(&w.done(), "agent_registered_anew"));
}

#[test]
fn an_engine_that_counts_and_does_not_say_who_is_bound_is_asked_for_each_agent() {
    let (mut w, list) = world();
    take(&mut w, &list, json!({"rejected_agents": 1}));
    let job = w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Bound { .. }) => Some(id),
        _ => None,
    });
    w.tell(Event::RestJob(job.expect("it looks"), RestDone::Busy));
    let singles = lists(&w.done());
    take(&mut w, &singles[0], json!({"rejected_agents": 1}));
    take(&mut w, &singles[1], json!({"rejected_agents": 0}));
    let effects = w.done();
    w1_is_asked_for_anew(&effects);
    let whole = lists(&effects);
    assert_eq!(whole.iter().map(names).collect::<Vec<_>>(), [["w2"]]);
}

/// Bindings do not name providers, so the one that another provider of this very node took looks like ours.
#[test]
fn an_engine_that_counts_one_who_is_bound_to_this_node_is_asked_for_each_agent() {
    let (mut w, list) = world();
    take(&mut w, &list, json!({"rejected_agents": 1}));
    let job = w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Bound { .. }) => Some(id),
        _ => None,
    });
    let bound = ["id_w1", "id_w2"].map(|id| crate::wire::rest::NodeAgent {
        agent_id: AgentId::new(id),
        agent_name: None,
    });
    let done = RestDone::Bound(bound.into());
    w.tell(Event::RestJob(job.expect("it looks"), done));
    let singles = lists(&w.done());
    assert_eq!(
        singles.iter().flat_map(names).collect::<Vec<_>>(),
        ["w1", "w2"]
    );
    refuse_with(&mut w, &singles[0], "agent_provider_conflict", "no");
    take(&mut w, &singles[1], json!({"rejected_agents": 0}));
    let id = w1_is_asked_for_anew(&w.done());
    given(&mut w, id);
    let effects = w.done();
    assert!(told(&effects, "agent_registered_anew"));
    assert_eq!(names(&lists(&effects)[0]), ["w1", "w2"]);
}

/// A hosted variant has no code for it (engine-protocol 3.10).
#[test]
fn a_conflict_that_is_told_in_words_only_is_understood() {
    let (mut w, list) = world();
    let words = "Agent \"w1\" is already active on another live location";
    refuse_with(&mut w, &list, "node_control_failed", words);
    let effects = w.done();
    w1_is_ended_alone(&mut w, &effects);
    let (mut w, list) = world();
    refuse_with(&mut w, &list, "node_control_failed", "database is locked");
    let effects = w.done();
    assert!(effects.is_empty(), "trouble of its own: {effects:?}");
}

#[test]
fn an_engine_that_never_takes_a_list_is_not_asked_for_ever() {
    for words in ["no", "Agent \"w1\" is not yours"] {
        let (mut w, list) = world();
        let mut refused = vec![list];
        let mut frames = 0;
        while let Some(list) = refused.pop() {
            frames += 1;
            assert!(frames < 50, "{words}");
            refuse_with(&mut w, &list, "agent_identity_mismatch", words);
            let effects = w.done();
            for (_, id) in renewals(&effects) {
                given(&mut w, id);
            }
            refused.extend(lists(&effects));
            refused.extend(lists(&w.done()));
        }
    }
}

#[test]
fn an_old_answer_says_nothing() {
    let (mut w, list) = world();
    take(
        &mut w,
        &list,
        json!({"rejected_agents": 0, "rebound_agents": 2}),
    );
    refuse(&mut w, &list);
    let rejected = json!([{"agent_id": "id_w1", "name": "w1", "code": "agent_location_conflict"}]);
    take(&mut w, &list, json!({"rejected_agents": rejected}));
    assert!(w.done().is_empty());
}

/// A count that leaves out those that were there before is no reason to ask again and again.
#[test]
fn an_engine_whose_count_means_something_else_is_looked_at_once() {
    let (mut w, list) = world();
    take(&mut w, &list, json!({"rebound_agents": 0}));
    let asked = |w: &mut World| {
        w.done().into_iter().find_map(|e| match e {
            Effect::RestJob(id, RestCall::Bound { .. }) => Some(id),
            _ => None,
        })
    };
    let id = asked(&mut w).expect("it looks");
    let bound = ["id_w1", "id_w2"].map(|id| crate::wire::rest::NodeAgent {
        agent_id: AgentId::new(id),
        agent_name: None,
    });
    w.tell(Event::RestJob(id, RestDone::Bound(bound.into())));
    w.call(ApiCall::Sidecar(
        crate::ids::SidecarId(1),
        crate::msg::SidecarCall::Node(Box::default(), None),
    ));
    let list = lists(&w.done()).pop().expect("a list");
    take(&mut w, &list, json!({"rebound_agents": 0}));
    assert_eq!(asked(&mut w), None);
}
