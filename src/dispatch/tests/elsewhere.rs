//! Agents that the engine has on another node.

use super::*;
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

fn refuse(w: &mut World, list: &InventorySync) {
    let id = list.id.as_deref().expect("an id");
    w.frame(json!({"v": 1, "id": id, "type": "error", "ok": false, "code": "agent_location_conflict", "message": "no"}));
}

fn take(w: &mut World, list: &InventorySync, data: Value) {
    let id = list.id.as_deref().expect("an id");
    w.frame(json!({"v": 1, "id": id, "type": "reply", "ok": true, "data": data}));
}

/// Two agents that run, one of which has mail, and the list that a new link begins with.
fn world() -> (World, InventorySync) {
    let mut w = World::new();
    w.link_up();
    w.spawn("w1");
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

#[test]
fn an_agent_that_the_engine_only_does_not_know_goes_on() {
    let (mut w, list) = world();
    let rejected = json!([{"agent_id": "id_w1", "name": "w1", "code": "agent_identity_mismatch"}]);
    take(&mut w, &list, json!({"rejected_agents": rejected}));
    refuse(&mut w, &list);
    assert!(w.done().is_empty(), "and an old answer says nothing");
}
