//! The list of agents, and what is open here.

use super::*;

fn lists(sent: &[Up]) -> Vec<&crate::wire::up::InventorySync> {
    let lists = sent.iter().filter_map(|up| match up {
        Up::InventorySync(list) => Some(list),
        _ => None,
    });
    lists.collect()
}

/// A new agent is a change that a list tells of, at once or later.
fn a_change(w: &mut World) {
    w.spawn("new");
}

/// N31: an engine gives to another node what it has open on this one and does not find in a list, and two would do it
/// (engine-protocol 3.9).
#[test]
fn a_list_waits_until_nothing_that_the_engine_asked_for_runs_here() {
    let handler = |w: &mut World, over: bool| match over {
        false => invoke(w, "i1", "deploy", json!({})),
        true => w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!({})))),
    };
    let program = |w: &mut World, over: bool| match over {
        false => {
            connected(w, &["dance"], false);
            invoke(w, "i1", "dance", json!({}));
        }
        true => {
            let done = SidecarCall::Result(InvocationId::new("i1"), Outcome::Output(json!({})));
            sidecar(w, done);
        }
    };
    let release = |w: &mut World, over: bool| match over {
        false => invoke(w, "i1", "release", json!({"name": "old"})),
        true => {
            let run = w.run_of("old");
            w.report("old", run, AgentReport::Exited(How::default()));
        }
    };
    type Act<'a> = &'a dyn Fn(&mut World, bool);
    let kinds: [Act; 3] = [&handler, &program, &release];
    for (n, act) in kinds.iter().enumerate() {
        let mut w = serving(1);
        w.spawn("old");
        act(&mut w, false);
        w.done();
        a_change(&mut w);
        w.pass(Duration::from_secs(120));
        assert_eq!(lists(&w.sent()).len(), 0, "{n}: it may take its time");
        act(&mut w, true);
        w.quiet();
        let sent = w.sent();
        let result = sent.iter().position(|up| matches!(up, Up::ActionResult(_)));
        let list = sent
            .iter()
            .rposition(|up| matches!(up, Up::InventorySync(_)));
        assert!(result.is_some() && result < list, "{n}: {sent:?}");
    }
}

/// An order that crosses a list on its way looks as if nobody here knew of it, and is given to another node too.
#[test]
fn a_list_waits_for_the_orders_that_follow_a_registration_or_one_another() {
    let mut w = serving(2);
    w.spawn("old");
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.done();
    let moment = Duration::from_millis(100);
    let answered = |w: &mut World, id: &str| {
        w.tell(Event::Handled(InvocationId::new(id), Ok(json!({}))));
        let result = |up: &Up| matches!(up, Up::ActionResult(_));
        w.sent().iter().any(result)
    };
    w.link_opens();
    let id = w.sent().iter().find_map(|up| match up {
        Up::NodeRegister(frame) => frame.id.clone(),
        _ => None,
    });
    w.frame(json!({"type": "reply", "id": id, "ok": true, "data": {}}));
    w.pass(moment);
    // What had waited for this node comes behind the answer.
    invoke(&mut w, "i1", "deploy", json!({}));
    w.pass(moment);
    invoke(&mut w, "i2", "deploy", json!({}));
    assert!(lists(&w.sent()).is_empty());
    assert!(answered(&mut w, "i1") && answered(&mut w, "i2"));
    w.pass(moment);
    invoke(&mut w, "i3", "deploy", json!({}));
    w.pass(moment);
    assert!(answered(&mut w, "i3"));
    w.pass(moment);
    assert!(lists(&w.sent()).is_empty(), "one more may come");
    w.pass(moment);
    assert_eq!(lists(&w.sent()).len(), 1, "none came");
    a_change(&mut w);
    assert_eq!(lists(&w.sent()).len(), 1, "nothing is expected now");
}

/// With a list on its way that the engine has not answered, and an order that comes meanwhile.
fn crossed() -> World {
    let mut w = serving(2);
    w.spawn("old");
    w.orders_cross = true;
    w.done();
    invoke(&mut w, "i1", "deploy", json!({}));
    assert!(w.d.ledger().answer(&InvocationId::new("i1")).is_none());
    assert_eq!(
        runs(&mut w).len(),
        0,
        "the engine may give it to another node"
    );
    w
}

#[test]
fn an_order_that_crosses_a_list_is_done_once_the_engine_has_given_nothing_away() {
    let mut w = crossed();
    w.lists_answered(0);
    assert_eq!(runs(&mut w).len(), 1);
}

#[test]
fn an_order_that_crosses_a_list_and_is_given_out_again_is_done_only_if_it_comes_again() {
    let mut w = crossed();
    w.lists_answered(1);
    assert_eq!(runs(&mut w).len(), 0, "another node has it");
    invoke(&mut w, "i1", "deploy", json!({}));
    assert_eq!(runs(&mut w).len(), 1, "this one has it");
    invoke(&mut w, "i1", "deploy", json!({}));
    assert_eq!(runs(&mut w).len(), 0, "once");
}

#[test]
fn an_order_that_is_given_out_again_to_this_node_before_the_answer_is_done_once() {
    let mut w = crossed();
    invoke(&mut w, "i1", "deploy", json!({}));
    w.lists_answered(1);
    assert_eq!(runs(&mut w).len(), 1);
}

#[test]
fn orders_that_cross_a_list_keep_their_order() {
    let mut w = crossed();
    invoke(
        &mut w,
        "i2",
        "spawn:claude",
        json!({"name": "new", "cli": "cat"}),
    );
    invoke(&mut w, "i3", "release", json!({"name": "new"}));
    w.done();
    w.lists_answered(0);
    let said = answers(&w.sent());
    assert!(
        matches!(&said[..], [Outcome::Output(_), Outcome::Error(why)]
        if why.contains("released before it started")),
        "{said:?}"
    );
}

#[test]
fn a_list_that_is_refused_gives_nothing_away_and_one_that_is_never_answered_is_not_waited_for() {
    let mut w = crossed();
    let list = w.lists.pop();
    w.frame(
        json!({"type":"error","id":list,"ok":false,"code":"node_control_failed",
        "message":"database is locked"}),
    );
    assert_eq!(runs(&mut w).len(), 1);
    let mut w = crossed();
    w.pass(Duration::from_secs(4));
    assert_eq!(runs(&mut w).len(), 0);
    w.pass(Duration::from_secs(1));
    assert_eq!(runs(&mut w).len(), 1);
}

/// An engine gives out again what it has open on a node whose link it loses.
#[test]
fn orders_that_crossed_a_list_on_a_link_that_broke_are_not_done() {
    let mut w = crossed();
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.link_up();
    w.lists_answered(0);
    w.pass(Duration::from_secs(60));
    assert_eq!(runs(&mut w).len(), 0);
    invoke(&mut w, "i1", "deploy", json!({}));
    w.lists_answered(0);
    assert_eq!(runs(&mut w).len(), 1);
}

/// On a new link no mail flows before a list, and what runs here for longer than engines wait has gone elsewhere by then.
#[test]
fn mail_waits_for_slow_work_no_longer_than_the_engine_does() {
    let mut w = serving(1);
    w.spawn("old");
    invoke(&mut w, "i1", "deploy", json!({}));
    w.tell(Event::Link(LinkReport::Lost("cut".into())));
    w.done();
    w.link_up();
    w.pass(Duration::from_secs(44));
    assert_eq!(lists(&w.sent()).len(), 0);
    w.pass(Duration::from_secs(1));
    assert_eq!(lists(&w.sent()).len(), 1);
}

/// Missing mail is asked for with a list. A new link in its stead would have the work done twice.
#[test]
fn missing_mail_that_cannot_be_asked_for_yet_cuts_no_link() {
    let mut w = serving(1);
    w.spawn("old");
    w.mail("old", 1);
    invoke(&mut w, "i1", "deploy", json!({}));
    w.mail("old", 3);
    w.pass(Duration::from_secs(30));
    let reconnects = Effect::Link(crate::msg::LinkCommand::Reconnect);
    assert!(!w.done().contains(&reconnects));
    w.tell(Event::Handled(InvocationId::new("i1"), Ok(json!({}))));
    w.quiet();
    assert_eq!(lists(&w.sent()).len(), 1);
    w.pass(Duration::from_secs(10));
    assert!(w.done().contains(&reconnects), "the engine does not answer");
}

/// N12, N31: what a connected program spawns for an invocation that it serves is known to the engine by it, and the list
/// that shows the agent comes after the result.
#[test]
fn an_agent_that_a_connected_program_spawns_for_an_invocation_is_known_by_it() {
    let mut w = World::new();
    w.link_up();
    connected(&mut w, &["spawn:codex"], false);
    invoke(&mut w, "i1", "spawn:codex", json!({"name": "w1"}));
    w.done();
    let source = SpawnSource::Served(InvocationId::new("i1"));
    w.call(ApiCall::Spawn(Box::new(request("w1")), source));
    let born_of = w.effects.iter().find_map(|e| match e {
        Effect::Send(Up::AgentRegister(frame)) => frame.invocation_id.clone(),
        _ => None,
    });
    assert_eq!(born_of, Some(InvocationId::new("i1")));
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 9 });
    let sent = w.sent();
    assert!(
        lists(&sent).is_empty() && answers(&sent).is_empty(),
        "{sent:?}"
    );
    let done = SidecarCall::Result(InvocationId::new("i1"), spawned("w1"));
    sidecar(&mut w, done);
    w.quiet();
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::ActionResult(_), Up::InventorySync(_)]),
        "{sent:?}"
    );
    assert_eq!(lists(&sent)[0].agents[0].invocation_id, born_of);
}
