//! What an engine is told of this node, and what it makes of old and new engines.

use super::*;
use crate::wire::up::{AgentDeregister, NodeRegister};

fn word(up: &Up) -> &'static str {
    match up {
        Up::NodeRegister(_) => "register",
        Up::InventorySync(_) => "inventory",
        Up::NodeHeartbeat(_) => "heartbeat",
        Up::DeliveryAck(_) => "ack",
        Up::AgentDeregister(_) => "farewell",
        Up::AgentRegister(_) => "agent",
        _ => "other",
    }
}

fn words(sent: &[Up]) -> Vec<&'static str> {
    sent.iter().map(word).collect()
}

fn registrations(sent: Vec<Up>) -> Vec<NodeRegister> {
    let frames = sent.into_iter().filter_map(|up| match up {
        Up::NodeRegister(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}

fn registration(w: &mut World) -> NodeRegister {
    let mut all = registrations(w.sent());
    assert_eq!(all.len(), 1, "one registration: {all:?}");
    all.remove(0)
}

fn beats(sent: Vec<Up>) -> Vec<NodeHeartbeat> {
    let frames = sent.into_iter().filter_map(|up| match up {
        Up::NodeHeartbeat(frame) => Some(frame),
        _ => None,
    });
    frames.collect()
}

fn has_cursor(frame: &NodeRegister) -> bool {
    let mut names = frame.capabilities.iter().map(|c| c.name.as_str());
    names.any(|name| name == "relay:delivery-cursor-v1")
}

fn answer(w: &mut World, frame: &NodeRegister, data: Value) {
    w.frame(json!({"type":"reply","id":frame.id,"ok":true,"data":data}));
}

fn refuse(w: &mut World, id: Option<&str>, code: &str) {
    w.frame(json!({"type":"error","id":id,"ok":false,"code":code,"message":"no"}));
}

/// H4: a new link hears registration, list and heartbeat, in this order, and before the list what needs no repeating.
#[test]
fn a_new_link_hears_who_we_are_who_runs_here_how_we_are_and_what_was_read() {
    let (mut w, _) = World::with_agent("w1");
    w.mail("w1", 1);
    let injection = w.injected().expect("it is free");
    w.land("w1", &injection.delivery_id);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.link_up();
    let sent = w.sent();
    assert_eq!(words(&sent), ["register", "ack", "inventory", "heartbeat"]);
    assert_eq!(acks(&sent), [1]);
}

#[test]
fn a_node_without_agents_sends_no_list_and_nothing_to_acknowledge() {
    let mut w = World::new();
    w.link_up();
    assert_eq!(words(&w.sent()), ["register", "heartbeat"]);
}

#[test]
fn an_agent_that_ended_without_a_link_is_deregistered_on_the_next() {
    let (mut w, run) = World::with_agent("w1");
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert!(w.sent().is_empty(), "nothing is said into the void");
    w.link_up();
    let told = w.sent().into_iter().any(|up| {
        matches!(up, Up::AgentDeregister(AgentDeregister { agent_id, .. }) if agent_id.as_str() == "id_w1")
    });
    assert!(told);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.link_up();
    assert_eq!(words(&w.sent()), ["register", "heartbeat"], "once");
}

/// H1: exactly these fields. The engine takes the time of receipt, so that no clock of ours goes along.
#[test]
fn a_heartbeat_says_who_and_how_we_are_and_not_what_time_it_is() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    w.pass(Duration::from_secs(12));
    let beat = w.sent().pop().expect("a heartbeat").to_text();
    let beat: Value = serde_json::from_str(&beat).expect("JSON");
    let fields = json!({"v": 1, "type": "node.heartbeat", "name": "box-1", "node_id": "node_0a1b",
        "capabilities": [{"name": "spawn:claude", "kind": "capacity"}], "max_agents": 0,
        "version": VERSION, "load": 0.0, "active_agents": 1, "handlers_live": true});
    assert_eq!(beat, fields);
}

/// N9: at each start, and never with a bare `spawn`, which would catch every spawn of the workspace.
#[test]
fn a_node_that_offers_nothing_registers_with_an_empty_list() {
    let mut journal = Vec::new();
    for _ in 0..2 {
        let mut w = World::after(journal);
        w.config().harnesses.clear();
        w.link_up();
        let first = registrations(w.sent()).remove(0);
        let text = Up::NodeRegister(first).to_text();
        assert!(text.contains(r#""capabilities":[],"#), "{text}");
        journal = w.journal;
    }
}

/// H2: load and the limit are of one denominator; without a limit the load is the number 0.
#[test]
fn load_is_what_runs_over_the_limit_in_the_very_same_frame_and_nothing_without_a_limit() {
    let figures = |max: u64| {
        let mut w = World::new();
        w.config().max_agents = max;
        w.link_up();
        w.spawn("w1");
        w.done();
        w.pass(Duration::from_secs(12));
        let beat = beats(w.sent()).pop().expect("a heartbeat");
        (beat.load, beat.active_agents, beat.max_agents)
    };
    assert_eq!(figures(4), (Some(0.25), 1, Some(4)));
    assert_eq!(figures(1), (Some(1.0), 1, Some(1)));
    assert_eq!(figures(0), (Some(0.0), 1, Some(0)));
}

/// H3: one snapshot at once for a start, and one for an end.
#[test]
fn each_change_of_who_lives_is_told_at_once_and_once() {
    let mut w = World::new();
    w.link_up();
    w.done();
    let run = w.spawn("w1");
    let told = beats(w.sent());
    let counts: Vec<_> = told.iter().map(|beat| beat.active_agents).collect();
    assert_eq!(counts, [1], "the start");
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    assert!(beats(w.sent()).is_empty(), "its program still runs");
    w.report("w1", run, AgentReport::Exited(How::default()));
    let sent = w.sent();
    assert_eq!(words(&sent), ["farewell", "heartbeat"]);
    assert_eq!(beats(sent)[0].active_agents, 0, "the end");
}

#[test]
fn the_next_heartbeat_comes_12_s_after_the_last_and_a_list_every_minute() {
    let (mut w, _) = World::with_agent("w1");
    w.frame(json!({"type":"reply","id":"node_register_1","ok":true,"data":{}}));
    w.done();
    let mut lists = 0;
    for n in 1..=10 {
        w.pass(Duration::from_millis(11_999));
        assert_eq!(words(&w.sent()), [""; 0], "{n}");
        w.pass(Duration::from_millis(1));
        let sent = w.sent();
        assert_eq!(word(sent.last().expect("a heartbeat")), "heartbeat");
        lists += words(&sent).iter().filter(|w| **w == "inventory").count();
    }
    assert_eq!(lists, 2, "in two minutes");
}

#[test]
fn a_resumable_agent_is_listed_with_its_session() {
    let mut w = World::new();
    w.link_up();
    let mut wish = request("w1");
    wish.cli = None;
    wish.harness_config = Some(local::HarnessConfig {
        command: Some("cat".into()),
        session_id: Some("sess-9".into()),
        ..Default::default()
    });
    w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    w.done();
    w.report("w1", run, AgentReport::Started { pid: 7 });
    let listed = w.sent().into_iter().find_map(|up| match up {
        Up::InventorySync(list) => list.agents[0].session_ref.clone(),
        _ => None,
    });
    assert_eq!(listed.as_deref(), Some("sess-9"));
}

// ---- old and new engines ----------------------------------------------------------------------------------------

#[test]
fn an_engine_of_the_5_line_is_sent_nothing_that_it_does_not_know() {
    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    assert!(!has_cursor(&first));
    answer(&mut w, &first, json!({"id":"node_0a1b","name":"box-1"}));
    assert_eq!(words(&w.sent()), ["heartbeat"], "it is content");
    assert!(w.d.control.is_registered());
}

/// The answer of an engine from 6.0.
fn six() -> Value {
    json!({"accepted_capabilities": []})
}

fn told_registered(effects: &[Effect]) -> usize {
    let is = |e: &&Effect| matches!(e, Effect::Publish(_, BrokerEvent::NodeRegistered { .. }));
    effects.iter().filter(is).count()
}

#[test]
fn an_engine_from_6_is_asked_for_its_cursors_once_it_has_shown_its_age() {
    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    answer(&mut w, &first, six());
    let effects = w.done();
    assert_eq!(told_registered(&effects), 0, "half of it");
    w.effects = effects;
    let second = registration(&mut w);
    assert!(has_cursor(&second));
    answer(&mut w, &second, six());
    let effects = w.done();
    assert_eq!(told_registered(&effects), 1);
    w.effects = effects;
    let sent = w.sent();
    assert_eq!(words(&sent), ["heartbeat"]);
    assert!(beats(sent)[0].handlers_live, "a harness is served");
    w.pass(Duration::from_secs(12));
    let beat = beats(w.sent()).remove(0);
    let kept = beat.capabilities.into_iter().flatten();
    assert_eq!(kept.filter(|c| c.name.starts_with("relay:")).count(), 1);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.link_opens();
    let third = registration(&mut w);
    assert!(has_cursor(&third), "known by now");
    answer(&mut w, &third, six());
    assert_eq!(words(&w.sent()), ["heartbeat"], "in one step");
}

#[test]
fn asking_for_cursors_does_not_make_a_node_that_serves_nothing_look_as_if_it_did() {
    let mut w = World::new();
    w.config().harnesses.clear();
    w.link_up_to(six());
    assert!(!beats(w.sent())[0].handlers_live);
}

// ---- links that are half open -----------------------------------------------------------------------------------

/// A process that has registered at an engine from 6.0, and runs an agent.
fn known_to_six() -> World {
    let mut w = World::new();
    w.link_up_to(six());
    w.spawn("w1");
    w.done();
    w
}

fn lose(w: &mut World) {
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
}

/// H4: engines from 6.0.1 keep the place of an instance whose socket, perhaps half open, was heard of within 35 s. The same
/// instance gets it back at once (engine-protocol 3.8).
#[test]
fn a_process_is_the_same_instance_on_each_of_its_links_and_another_one_is_another() {
    let instance = |w: &mut World| {
        lose(w);
        w.link_opens();
        let provider = registration(w)
            .provider
            .expect("the engine knows instances");
        assert_eq!(provider.name, "default");
        provider.instance_id
    };
    let mut w = known_to_six();
    let first = instance(&mut w);
    assert_eq!(instance(&mut w), first);
    let mut w = known_to_six();
    w.d.common.started_at(Wall(2000));
    assert_ne!(instance(&mut w), first);
}

/// N-wire: an engine before 6.0 refuses a frame with a key that it does not know (engine-protocol 3.7).
#[test]
fn an_engine_of_the_5_line_hears_of_no_instance_even_where_a_newer_one_was_before() {
    let mut w = World::new();
    w.link_opens();
    assert_eq!(registration(&mut w).provider, None);
    let mut w = known_to_six();
    lose(&mut w);
    w.link_opens();
    w.done();
    for _ in 0..2 {
        refuse(&mut w, Some("77"), "invalid_message");
    }
    let last = registrations(w.sent()).pop().expect("it goes on asking");
    assert!(last.provider.is_none() && !has_cursor(&last));
    answer(&mut w, &last, json!({}));
    assert!(w.d.control.is_registered());
}

/// Engines from 6.0 refuse all for the sake of one (engine-protocol 3.11).
#[test]
fn an_action_that_another_provider_of_the_node_has_is_left_out_and_all_else_is_served() {
    let mut w = World::new();
    w.config().harnesses = vec!["x".into(), "y".into()];
    let names = |frame: &NodeRegister| -> Vec<String> {
        let names = frame.capabilities.iter().map(|c| c.name.clone());
        names.filter(|name| !name.starts_with("relay:")).collect()
    };
    w.link_opens();
    let first = registration(&mut w);
    assert_eq!(names(&first), ["spawn:x", "spawn:y"]);
    let conflict = |w: &mut World, id: Option<String>, message: &str| {
        w.frame(json!({"type":"error","id":id,"ok":false,"code":"action_name_conflict","message":message}));
    };
    let words = "Action \"spawn:y\" is already registered by provider \"spawn:x\" on this node";
    conflict(&mut w, first.id, words);
    let second = registration(&mut w);
    assert_eq!(names(&second), ["spawn:x"]);
    answer(&mut w, &second, json!({}));
    assert!(w.d.control.is_registered());
    let beat = beats(w.sent()).remove(0);
    assert_eq!(
        beat.capabilities.map(|c| c.len()),
        Some(1),
        "heartbeats neither"
    );
    lose(&mut w);
    w.link_opens();
    let third = registration(&mut w);
    assert_eq!(names(&third).len(), 2, "it may be free by now");
    conflict(&mut w, third.id, "Action \"other\" is taken");
    assert!(registrations(w.sent()).is_empty(), "nothing to leave out");
    w.pass(Duration::from_secs(30));
    assert_eq!(names(&registration(&mut w)).len(), 2);
}

/// H4: register, inventory, heartbeat; and none of the others while the engine has not taken the first, because it takes
/// them for the words of whoever is registered (engine-protocol 3.9).
#[test]
fn nothing_is_said_on_a_link_before_the_engine_took_the_registration() {
    let mut w = known_to_six();
    w.mail("w1", 1);
    let injection = w.injected().expect("it is free");
    lose(&mut w);
    w.link_opens();
    let refused = registration(&mut w);
    refuse(&mut w, refused.id.as_deref(), "provider_instance_conflict");
    w.land("w1", &injection.delivery_id);
    w.call(ApiCall::Spawn(Box::new(request("w2")), SpawnSource::Api));
    w.pass(Duration::from_secs(2));
    assert_eq!(words(&w.sent()), [""; 0], "nothing");
    w.pass(Duration::from_secs(1));
    let again = registration(&mut w);
    answer(&mut w, &again, six());
    w.quiet();
    let sent = w.sent();
    assert_eq!(
        words(&sent)[..3],
        ["ack", "inventory", "heartbeat"],
        "{sent:?}"
    );
    assert_eq!(acks(&sent), [1]);
}

/// N4 in spirit: another process with our identity keeps its place, and is not asked for it too often.
#[test]
fn whoever_keeps_our_place_for_long_is_asked_for_it_ever_more_rarely() {
    let mut w = known_to_six();
    lose(&mut w);
    w.link_opens();
    let mut asked = 0;
    for _ in 0..600 {
        for frame in registrations(w.sent()) {
            asked += 1;
            refuse(&mut w, frame.id.as_deref(), "provider_instance_conflict");
        }
        w.pass(Duration::from_secs(1));
    }
    assert!((20..45).contains(&asked), "{asked} times in ten minutes");
}

/// H4: what changes the instance makes the engine forget who is ready for mail, so each registration brings a list.
#[test]
fn every_registration_that_the_engine_takes_is_followed_by_a_list() {
    let mut w = known_to_six();
    let node = local::Manifest::default();
    let call = crate::msg::SidecarCall::Node(Box::new(node), None);
    w.call(ApiCall::Sidecar(crate::ids::SidecarId(1), call));
    assert_eq!(words(&w.sent()), ["register", "inventory", "heartbeat"]);
}

/// H4: the same where the engine takes a further registration only when it is asked for again.
#[test]
fn a_registration_that_is_taken_at_the_second_try_is_followed_by_a_list_too() {
    for (code, named, after) in [
        ("provider_instance_conflict", true, 3),
        ("node_control_failed", true, 30),
        // Engines do not name a frame that they cannot read. It is sent again at once, with less in it.
        ("invalid_message", false, 0),
    ] {
        let mut w = known_to_six();
        let call = crate::msg::SidecarCall::Node(Box::default(), None);
        w.call(ApiCall::Sidecar(crate::ids::SidecarId(1), call));
        let refused = registration(&mut w);
        let id = refused.id.filter(|_| named);
        refuse(&mut w, Some(id.as_deref().unwrap_or("77")), code);
        w.pass(Duration::from_secs(after));
        let again = registration(&mut w);
        answer(&mut w, &again, six());
        w.quiet();
        assert_eq!(words(&w.sent()), ["inventory", "heartbeat"], "{code}");
        w.call(ApiCall::Sidecar(
            crate::ids::SidecarId(1),
            crate::msg::SidecarCall::Handlers(vec!["dance".into()]),
        ));
        let taken = registration(&mut w);
        answer(&mut w, &taken, six());
        w.quiet();
        assert_eq!(words(&w.sent()), [""; 0], "{code}: once");
    }
}

/// N30: the answer may have been lost in a socket that was open at one end only, and a list before it would have the engine
/// give the work to another node.
#[test]
fn what_was_answered_on_a_link_that_broke_is_answered_again_before_the_list() {
    let mut w = known_to_six();
    w.frame(
        json!({"type":"action.invoke","invocation_id":"i1","action":"release",
        "input":{"name":"nobody"}}),
    );
    w.done();
    for _ in 0..2 {
        lose(&mut w);
        w.link_up_to(six());
        assert_eq!(words(&w.sent())[..3], ["register", "other", "inventory"]);
    }
}

#[test]
fn of_many_answers_the_last_are_given_again() {
    let mut w = known_to_six();
    for n in 0..70 {
        w.frame(
            json!({"type":"action.invoke","invocation_id":format!("i{n}"),"action":"release",
            "input":{"name":"nobody"}}),
        );
    }
    lose(&mut w);
    w.link_up_to(six());
    let again = w.sent().iter().filter(|up| word(up) == "other").count();
    assert_eq!(again, 16);
}

#[test]
fn an_engine_that_cannot_read_the_wish_for_cursors_is_registered_with_once_more_without_it() {
    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    answer(&mut w, &first, six());
    assert!(has_cursor(&registration(&mut w)));
    refuse(&mut w, Some("77"), "invalid_message");
    let third = registration(&mut w);
    assert!(!has_cursor(&third) && third.provider.is_some());
    answer(&mut w, &third, six());
    assert_eq!(words(&w.sent()), ["heartbeat"], "and not again");
}

#[test]
fn numbers_that_another_node_acknowledged_are_not_waited_for() {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 3);
    let injection = w.injected().expect("it is free");
    w.land("w1", &injection.delivery_id);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    let id = w.sent().into_iter().find_map(|up| match up {
        Up::AgentRegister(frame) => frame.id,
        _ => None,
    });
    w.frame(json!({"type":"reply","id":id,"ok":true,
        "data":{"agent_id":"id_w1","token":"t","name":"w1","delivery_ack_seq":9}}));
    w.mail("w1", 10);
    let name = AgentName::new("w1");
    let waiting = w.d.ledger().mail().of(&name).count();
    assert_eq!(waiting, 1, "taken in at once");
}

// ---- registrations that fail ------------------------------------------------------------------------------------

/// N11: after `node_id_mismatch` there is no other try, and health says what to do.
#[test]
fn a_registration_that_is_refused_for_good_says_what_to_do_and_one_that_may_pass_is_tried_again() {
    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    refuse(&mut w, first.id.as_deref(), "node_id_mismatch");
    w.done();
    w.pass(Duration::from_secs(60));
    assert!(registrations(w.sent()).is_empty(), "it would never succeed");
    let Some(Ok(Reply::Status(status))) = w.call(ApiCall::Status) else {
        panic!("a status");
    };
    let why = status.degraded_reason.expect("not ready");
    assert!(
        !status.node_connected && why.contains("RELAY_NODE_ID"),
        "{why}"
    );

    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    refuse(&mut w, first.id.as_deref(), "provider_instance_conflict");
    w.done();
    w.pass(Duration::from_secs(3));
    let second = registration(&mut w);
    answer(&mut w, &second, six());
    let Some(Ok(Reply::Status(status))) = w.call(ApiCall::Status) else {
        panic!("a status");
    };
    assert_eq!(
        (status.status.as_str(), status.degraded_reason),
        ("ok", None)
    );
}

#[test]
fn a_node_that_was_deleted_and_an_engine_that_does_not_answer_get_a_new_link() {
    let reconnects =
        |effects: Vec<Effect>| effects.contains(&Effect::Link(crate::msg::LinkCommand::Reconnect));
    let mut w = World::new();
    w.link_opens();
    let first = registration(&mut w);
    refuse(&mut w, first.id.as_deref(), "node_not_found");
    assert!(reconnects(w.done()));

    let mut w = World::new();
    w.link_opens();
    w.done();
    w.pass(Duration::from_secs(29));
    assert!(!reconnects(w.done()));
    w.pass(Duration::from_secs(1));
    assert!(reconnects(w.done()));
}

#[test]
fn frames_that_nobody_could_read_are_counted_and_change_nothing_else() {
    let mut w = World::new();
    w.link_up();
    w.done();
    for _ in 0..3 {
        w.tell(Event::Link(LinkReport::PassedOver));
    }
    assert!(w.done().is_empty());
    let Some(Ok(Reply::Status(status))) = w.call(ApiCall::Status) else {
        panic!("a status");
    };
    assert_eq!(status.counters.engine_frames_refused, 3);
}
