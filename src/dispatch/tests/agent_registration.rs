//! How agents come by their identity, on every engine and without a link.

use super::*;
use crate::msg::{Refusal, RestCall, Secret, Wanted};
use crate::wire::up::{AgentRecover, AgentRegister};

fn ask(w: &mut World, name: &str) {
    w.call(ApiCall::Spawn(Box::new(request(name)), SpawnSource::Api));
}

fn asked(w: &mut World) -> AgentRegister {
    let mut frames = w.sent().into_iter().filter_map(|up| match up {
        Up::AgentRegister(frame) => Some(frame),
        _ => None,
    });
    let one = frames.next().expect("it asks for an identity");
    assert_eq!(frames.next(), None, "once");
    one
}

fn recovered(w: &mut World) -> Option<AgentRecover> {
    w.sent().into_iter().find_map(|up| match up {
        Up::AgentRecover(frame) => Some(frame),
        _ => None,
    })
}

fn refuse(w: &mut World, id: Option<&str>, code: &str) {
    w.frame(json!({"type":"error","id":id,"ok":false,"code":code,"message":"no"}));
}

fn reply(w: &mut World, id: Option<&str>, token: &str) {
    w.frame(json!({"type":"reply","id":id,"ok":true,
        "data":{"agent_id":"id_w1","token":token,"name":"w1"}}));
}

/// The programs that were started, with their tokens.
fn programs(w: &mut World) -> Vec<String> {
    let specs = w.done().into_iter().filter_map(|e| match e {
        Effect::Spawn(_, spec) => Some(spec.token.expect("a token").reveal().to_owned()),
        _ => None,
    });
    specs.collect()
}

fn rest_job(w: &mut World) -> Option<(JobId, Wanted)> {
    w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Identify(wanted)) => Some((id, *wanted)),
        _ => None,
    })
}

fn identity(token: &str) -> RestDone {
    RestDone::Identified(Identified {
        agent_id: AgentId::new("id_w1"),
        token: Secret::new(token),
        acked: None,
    })
}

fn failed(status: Option<u16>, code: &str) -> RestDone {
    RestDone::Failed {
        status,
        code: code.into(),
        message: "no".into(),
    }
}

fn refusal(effects: &[Effect]) -> Option<Refusal> {
    effects.iter().find_map(|e| match e {
        Effect::Reply(_, Err(refusal)) => Some(refusal.clone()),
        _ => None,
    })
}

fn farewells(w: &mut World) -> usize {
    let sent = w.sent();
    let is = |up: &&Up| matches!(up, Up::AgentDeregister(_));
    sent.iter().filter(is).count()
}

/// A world in which `w1` was here, ended, and is wanted again by an engine that gives each name once.
fn known() -> World {
    let (mut w, run) = World::with_agent("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    ask(&mut w, "w1");
    w
}

/// N18: replies belong to requests, never to names.
#[test]
fn two_wishes_for_one_name_are_told_apart_by_their_requests() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w, "w1");
    let first = asked(&mut w);
    // Its caller gives up.
    w.pass(Duration::from_secs(21));
    w.done();
    ask(&mut w, "w1");
    let second = asked(&mut w);
    reply(&mut w, first.id.as_deref(), "at_live_first");
    assert_eq!(
        w.done(),
        [],
        "not ours to use, and the name is wanted: nothing to undo"
    );
    reply(&mut w, second.id.as_deref(), "at_live_second");
    assert_eq!(programs(&mut w), ["at_live_second"]);
}

/// N18: late replies are undone.
#[test]
fn an_answer_that_comes_after_the_caller_was_told_no_is_undone() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w, "w1");
    let request = asked(&mut w);
    w.pass(Duration::from_secs(21));
    let why = refusal(&w.done()).expect("the caller hears");
    assert!(why.message.contains("has not answered"), "{}", why.message);
    reply(&mut w, request.id.as_deref(), "at_live_late");
    assert_eq!(farewells(&mut w), 1);
}

/// N16: a refused registration is a refused spawn, with the code.
#[test]
fn what_the_engine_says_no_to_is_told_in_words_that_help() {
    for (code, kind, words) in [
        (
            "agent_location_conflict",
            RefusalKind::NameTaken,
            "another node",
        ),
        (
            "node_capacity_exceeded",
            RefusalKind::Full,
            "as many agents",
        ),
        ("internal_error", RefusalKind::Engine, "refuses"),
    ] {
        let mut w = World::new();
        w.link_up();
        w.done();
        ask(&mut w, "w1");
        let request = asked(&mut w);
        refuse(&mut w, request.id.as_deref(), code);
        let said = refusal(&w.done()).expect("the caller hears");
        assert_eq!(said.kind, kind);
        assert!(said.message.contains(words) && said.message.contains(code));
        assert!(w.d.agents.is_empty());
    }
}

/// An engine from 8.5 on keeps a spawn's place besides its agent's until the result is there.
#[test]
fn a_spawn_without_a_place_while_another_keeps_two_is_asked_for_again_and_a_lone_one_is_refused() {
    let order = |w: &mut World, n: u8| {
        w.frame(
            json!({"type":"action.invoke","invocation_id":format!("i{n}"),"action":"spawn:x",
            "input":{"name":format!("w{n}"),"cli":"cat"}}),
        );
        asked(w)
    };
    let mut w = World::new();
    w.link_up();
    w.done();
    let first = order(&mut w, 1);
    reply(&mut w, first.id.as_deref(), "at_live_x");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 1 });
    let second = order(&mut w, 2);
    refuse(&mut w, second.id.as_deref(), "node_capacity_exceeded");
    assert_eq!(w.sent(), []);
    w.pass(Duration::from_millis(500));
    let again = w.sent().into_iter().find_map(|up| match up {
        Up::AgentRegister(frame) => Some(frame),
        _ => None,
    });
    let again = again.expect("the first spawn's result is there");
    refuse(&mut w, again.id.as_deref(), "node_capacity_exceeded");
    let refused = |up: &Up| {
        matches!(up, Up::ActionResult(r)
            if matches!(&r.outcome, Outcome::Error(why) if why.contains("as many agents")))
    };
    assert!(w.sent().iter().any(refused), "nothing else can pass");
}

#[test]
fn an_engine_that_gives_a_name_once_gives_it_back_to_the_node_that_had_it() {
    let mut w = known();
    let request = asked(&mut w);
    refuse(&mut w, request.id.as_deref(), "agent_already_exists");
    let recover = recovered(&mut w).expect("it asks to have it back");
    assert_eq!(recover.expected_agent_id.as_str(), "id_w1");
    reply(&mut w, recover.id.as_deref(), "at_live_back");
    assert_eq!(programs(&mut w), ["at_live_back"]);
}

#[test]
fn an_engine_known_to_give_names_once_is_asked_to_give_back_at_once() {
    let mut w = World::new();
    w.link_up_to(json!({"registration_contract":"relay:node-registration-v1"}));
    let run = w.spawn("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    ask(&mut w, "w1");
    assert!(recovered(&mut w).is_some());
}

#[test]
fn a_name_that_is_not_given_back_is_taken_over_by_http_with_its_place_here() {
    for code in ["agent_recovery_not_authorized", "invalid_message"] {
        let mut w = known();
        let request = asked(&mut w);
        refuse(&mut w, request.id.as_deref(), "agent_already_exists");
        let recover = recovered(&mut w).expect("it asks to have it back");
        // Who cannot read the frame does not know its id either.
        let id = if code == "invalid_message" {
            Some("77")
        } else {
            recover.id.as_deref()
        };
        refuse(&mut w, id, code);
        let (job, wanted) = rest_job(&mut w).expect("by HTTP");
        assert!(wanted.exists, "{code}");
        assert_eq!(wanted.node_id.as_str(), "node_0a1b");
        w.tell(Event::RestJob(job, identity("at_live_taken")));
        assert_eq!(programs(&mut w), ["at_live_taken"], "{code}");
    }
}

#[test]
fn a_name_that_somebody_else_had_before_is_taken_over_without_asking_for_it_back() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w, "w1");
    let request = asked(&mut w);
    refuse(&mut w, request.id.as_deref(), "agent_already_exists");
    let (id, wanted) = rest_job(&mut w).expect("by HTTP");
    assert!(wanted.exists);
    w.tell(Event::RestJob(
        id,
        failed(Some(409), "agent_location_conflict"),
    ));
    let said = refusal(&w.done()).expect("the caller hears");
    assert_eq!(said.kind, RefusalKind::NameTaken);
}

/// N14: by HTTP after a moment, and no second registration when the link comes.
#[test]
fn without_a_link_an_agent_is_registered_by_http_and_stays_registered_when_the_link_comes() {
    let mut w = World::new();
    w.tell(Event::Link(LinkReport::Lost("refused".into())));
    w.done();
    ask(&mut w, "w1");
    w.pass(Duration::from_millis(2_999));
    assert_eq!(rest_job(&mut w), None, "most links come back sooner");
    w.pass(Duration::from_millis(1));
    let (id, wanted) = rest_job(&mut w).expect("by HTTP");
    assert!(!wanted.exists);
    w.link_up();
    let sent = w.sent();
    assert!(
        !sent.iter().any(|up| matches!(up, Up::AgentRegister(_))),
        "an answer is on its way; a second one would kill its token"
    );
    w.tell(Event::RestJob(id, identity("at_live_http")));
    let run = w.run_of("w1");
    assert_eq!(programs(&mut w), ["at_live_http"]);
    w.report("w1", run, AgentReport::Started { pid: 7 });
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    let sent = w.sent();
    let listed = |up: &Up| matches!(up, Up::InventorySync(list) if list.agents.len() == 1);
    assert!(sent.iter().any(listed), "it is listed: {sent:?}");
    assert!(
        !sent.iter().any(|up| matches!(up, Up::AgentRegister(_))),
        "{sent:?}"
    );
}

/// N15: a bind that fails is a spawn that fails.
#[test]
fn a_place_that_the_engine_does_not_give_fails_the_spawn() {
    let mut w = World::new();
    ask(&mut w, "w1");
    w.pass(Duration::from_secs(3));
    let (id, _) = rest_job(&mut w).expect("by HTTP");
    w.tell(Event::RestJob(id, failed(Some(404), "node_not_found")));
    let said = refusal(&w.done()).expect("the caller hears");
    assert!(said.message.contains("node_not_found"));
    assert!(w.d.agents.is_empty());
}

#[test]
fn an_engine_that_is_away_altogether_is_asked_about_a_given_token_until_the_caller_gives_up() {
    let mut w = World::new();
    w.tell(Event::Link(LinkReport::Lost("connection refused".into())));
    let wish = local::SpawnRequest {
        agent_token: Some("at_live_given".into()),
        ..request("w1")
    };
    w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
    w.pass(Duration::from_secs(3));
    for _ in 0..3 {
        let (id, _) = rest_job(&mut w).expect("by HTTP");
        w.tell(Event::RestJob(id, failed(None, "unreachable")));
        w.pass(Duration::from_secs(5));
    }
    w.pass(Duration::from_secs(5));
    let said = refusal(&w.done()).expect("the caller hears");
    assert!(
        said.message.contains("connection refused"),
        "{}",
        said.message
    );
}

/// N18: also one that came by HTTP.
#[test]
fn an_identity_that_came_by_http_for_nobody_is_undone_on_the_next_link() {
    let mut w = World::new();
    ask(&mut w, "w1");
    w.pass(Duration::from_secs(3));
    let (id, _) = rest_job(&mut w).expect("by HTTP");
    w.pass(Duration::from_secs(20));
    assert!(w.d.agents.is_empty());
    w.tell(Event::RestJob(id, identity("at_live_late")));
    w.done();
    w.link_up();
    assert_eq!(farewells(&mut w), 1);
}

/// N12: whoever wants an agent, it is registered over the link, with its invocation and its program's session, and the list
/// of agents names both.
#[test]
fn every_spawn_is_registered_over_the_link_whoever_wants_it() {
    let served = InvocationId::new("i1");
    let sources = [
        (SpawnSource::Api, None),
        (SpawnSource::CommandLine, None),
        (SpawnSource::Restart, None),
        (SpawnSource::Served(served.clone()), Some(served.clone())),
        (SpawnSource::Invocation(served.clone()), Some(served)),
    ];
    for (source, invocation) in sources {
        let mut w = World::new();
        w.link_up();
        w.done();
        let wish = local::SpawnRequest {
            harness_config: Some(local::HarnessConfig {
                session_id: Some("sess-9".into()),
                ..Default::default()
            }),
            ..request("w1")
        };
        match &source {
            SpawnSource::Invocation(id) => w
                .frame(json!({"type":"action.invoke","invocation_id":id,
                "action":"spawn:claude","input":{"name":"w1","cli":"cat","session_ref":"sess-9"}})),
            _ => drop(w.call(ApiCall::Spawn(Box::new(wish), source.clone()))),
        }
        let frame = asked(&mut w);
        let said = (
            frame.session_ref.as_deref(),
            frame.resumable,
            &frame.invocation_id,
        );
        assert_eq!(
            said,
            (Some("sess-9"), Some(true), &invocation),
            "{source:?}"
        );
        reply(&mut w, frame.id.as_deref(), "at_live_1");
        let run = w.run_of("w1");
        assert_eq!(programs(&mut w), ["at_live_1"], "{source:?}");
        w.report("w1", run, AgentReport::Started { pid: 7 });
        let mut listed = w.d.agents.listed();
        let one = listed.pop().expect("it is listed");
        assert_eq!(
            (one.session_ref.as_deref(), &one.invocation_id),
            (Some("sess-9"), &invocation)
        );
    }
}

#[test]
fn a_spawn_of_the_engines_is_not_done_behind_its_back_when_the_link_breaks() {
    let mut w = World::new();
    w.link_up();
    w.frame(
        json!({"type":"action.invoke","invocation_id":"i1","action":"spawn:claude",
        "input":{"name":"w1","cli":"cat"}}),
    );
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.done();
    w.pass(Duration::from_secs(10));
    assert_eq!(rest_job(&mut w), None, "another node may have it by now");
}

#[test]
fn a_link_that_breaks_while_an_agent_is_registered_is_not_the_end_of_the_spawn() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask(&mut w, "w1");
    asked(&mut w);
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    let again = asked(&mut w);
    reply(&mut w, again.id.as_deref(), "at_live_2");
    assert_eq!(programs(&mut w), ["at_live_2"]);
}

#[test]
fn an_agent_that_is_started_again_keeps_its_identity_and_the_token_that_its_first_run_got() {
    let mut w = World::new();
    w.link_up();
    let wish = local::SpawnRequest {
        restart_policy: Some(local::RestartPolicy {
            cooldown_ms: 1000,
            ..Default::default()
        }),
        ..request("w1")
    };
    w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 7 });
    w.done();
    let crash = How {
        code: Some(1),
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(crash));
    assert_eq!(farewells(&mut w), 0, "it comes back");
    w.pass(Duration::from_secs(1));
    assert_eq!(programs(&mut w), ["at_live_x"]);
    // Released between two runs, it is gone for the engine too.
    let run = w.run_of("w1");
    w.report("w1", run, AgentReport::Started { pid: 8 });
    let crash = How {
        code: Some(1),
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(crash));
    w.done();
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    assert_eq!(farewells(&mut w), 1);
}

fn ask_with_token(w: &mut World) {
    let wish = local::SpawnRequest {
        agent_token: Some("at_live_given".into()),
        ..request("w1")
    };
    w.call(ApiCall::Spawn(Box::new(wish), SpawnSource::Api));
}

/// N13: the agent exists already, and registering it again would kill its token on engines of the 5 to 8.1 lines.
#[test]
fn a_token_that_comes_with_the_wish_is_used_and_its_agent_only_bound_to_this_node() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask_with_token(&mut w);
    let effects = w.done();
    let registers = |e: &Effect| {
        matches!(
            e,
            Effect::Send(Up::AgentRegister(_)) | Effect::Send(Up::AgentRecover(_))
        )
    };
    assert!(!effects.iter().any(registers), "{effects:?}");
    w.effects = effects;
    let (id, wanted) = rest_job(&mut w).expect("by HTTP");
    assert_eq!(wanted.token, Some(Secret::new("at_live_given")));
    w.tell(Event::RestJob(id, identity("at_live_given")));
    assert_eq!(programs(&mut w), ["at_live_given"]);
}

/// N13: neither a link that comes nor one that breaks meanwhile leads to a registration.
#[test]
fn a_given_token_outlives_links_that_come_and_go_before_its_agent_has_a_place() {
    let mut w = World::new();
    ask_with_token(&mut w);
    w.link_up();
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    w.pass(Duration::from_secs(6));
    let effects = w.done();
    let registers = |e: &&Effect| matches!(e, Effect::Send(Up::AgentRegister(_)));
    assert_eq!(effects.iter().filter(registers).count(), 0);
    w.effects = effects;
    let (id, wanted) = rest_job(&mut w).expect("by HTTP");
    assert!(wanted.token.is_some());
    w.tell(Event::RestJob(id, identity("at_live_given")));
    assert_eq!(programs(&mut w), ["at_live_given"]);
}

/// N16: what is wrong with the token is said, and nothing is started.
#[test]
fn a_given_token_that_is_no_good_refuses_the_spawn_with_the_code() {
    let mut w = World::new();
    w.link_up();
    w.done();
    ask_with_token(&mut w);
    let (id, _) = rest_job(&mut w).expect("by HTTP");
    w.tell(Event::RestJob(id, failed(Some(401), "agent_token_invalid")));
    let said = refusal(&w.done()).expect("the caller hears").message;
    assert!(
        said.contains("agent_token_invalid") && said.contains("token that was given"),
        "{said}"
    );
    assert!(w.d.agents.is_empty());
}

/// The engine refuses the name as taken, and then knows nobody of that name.
fn is_there_and_not_there(w: &mut World) {
    let request = asked(w);
    refuse(w, request.id.as_deref(), "agent_already_exists");
    let recover = recovered(w).expect("it asks to have it back");
    refuse(w, recover.id.as_deref(), "agent_not_found");
}

/// Somebody deleted the agent at the engine, so its name is to be had as a new one.
#[test]
fn a_name_whose_agent_was_deleted_meanwhile_is_registered_anew() {
    let mut w = known();
    is_there_and_not_there(&mut w);
    let again = asked(&mut w);
    reply(&mut w, again.id.as_deref(), "at_live_new");
    assert_eq!(programs(&mut w), ["at_live_new"]);
}

/// An engine that contradicts itself is not asked for ever.
#[test]
fn a_name_that_is_there_and_not_there_is_asked_for_no_more_than_once_anew() {
    let mut w = known();
    is_there_and_not_there(&mut w);
    is_there_and_not_there(&mut w);
    assert!(rest_job(&mut w).is_some_and(|(_, wanted)| wanted.exists));
}

fn not_started(w: &mut World, name: &str) -> Option<JobId> {
    let run = w.run_of(name);
    let why = "no such program".into();
    w.report(name, run, AgentReport::NotStarted { why });
    w.done().into_iter().find_map(|e| match e {
        Effect::RestJob(id, RestCall::Forget { .. }) => Some(id),
        _ => None,
    })
}

/// N17: the name of a start that came to nothing is free at the engine too, and a second try waits for that.
#[test]
fn a_name_that_was_registered_for_nothing_is_given_back_before_it_is_asked_for_again() {
    let mut w = World::new();
    w.link_up();
    ask(&mut w, "w1");
    w.registered("w1");
    let job = not_started(&mut w, "w1").expect("it is taken back");
    ask(&mut w, "w1");
    let sent = w.sent();
    let registers = |up: &Up| matches!(up, Up::AgentRegister(_) | Up::AgentRecover(_));
    assert!(!sent.iter().any(registers), "{sent:?}");
    w.tell(Event::RestJob(job, RestDone::Forgotten));
    let again = asked(&mut w);
    reply(&mut w, again.id.as_deref(), "at_live_2");
    assert_eq!(programs(&mut w), ["at_live_2"]);
}

/// N17: whoever was here before keeps its identity and its mail.
#[test]
fn an_agent_that_was_here_before_is_not_deleted_for_a_start_that_came_to_nothing() {
    let mut w = known();
    let request = asked(&mut w);
    reply(&mut w, request.id.as_deref(), "at_live_2");
    assert_eq!(not_started(&mut w, "w1"), None);
    ask_with_token(&mut w);
    w.registered("w1");
    assert_eq!(
        not_started(&mut w, "w1"),
        None,
        "nor one that came with its token"
    );
}
