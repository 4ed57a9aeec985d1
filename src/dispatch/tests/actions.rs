//! What the engine asks of the node: spawns, releases, and actions that programs serve.

mod described;
mod hosted;
mod open_work;
mod served;
mod sidecars;

use super::*;
use crate::msg::{
    ActionSpec, HandlerRun, Harness, ProgramTables, SidecarCall, SidecarPush, Treatment,
};

const S: crate::ids::SidecarId = crate::ids::SidecarId(1);

fn invoke(w: &mut World, id: &str, action: &str, input: Value) {
    w.tell(Event::Link(LinkReport::Frame(Down::ActionInvoke(
        ActionInvoke {
            invocation_id: InvocationId::new(id),
            action: action.into(),
            agent_id: None,
            agent_name: None,
            input,
        },
    ))));
}

/// An action that this agent serves.
fn invoke_hosted(w: &mut World, id: &str, agent_id: Option<&str>, agent: &str) {
    w.tell(Event::Link(LinkReport::Frame(Down::ActionInvoke(
        ActionInvoke {
            invocation_id: InvocationId::new(id),
            action: "echo".into(),
            agent_id: agent_id.map(AgentId::new),
            agent_name: Some(AgentName::new(agent)),
            input: json!({"q": 1}),
        },
    ))));
}

fn answers(sent: &[Up]) -> Vec<Outcome> {
    let answers = sent.iter().filter_map(|up| match up {
        Up::ActionResult(result) => Some(result.outcome.clone()),
        _ => None,
    });
    answers.collect()
}

fn spawned(name: &str) -> Outcome {
    Outcome::Output(json!({"spawned": true, "name": name}))
}

/// A spawn the engine asked for, whose program runs.
fn running(w: &mut World, id: &str, name: &str) -> Run {
    invoke(w, id, "spawn:claude", json!({"name": name, "cli": "cat"}));
    w.registered(name);
    let run = w.run_of(name);
    w.report(name, run, AgentReport::Started { pid: 9 });
    run
}

fn serving(concurrency: usize) -> World {
    let mut w = World::new();
    w.config().actions.insert(
        "deploy".into(),
        ActionSpec {
            command: vec!["./deploy.sh".into()],
            cwd: None,
            env: BTreeMap::new(),
            timeout: Duration::from_secs(5),
            concurrency,
            output_max: 100,
        },
    );
    w.link_up();
    w
}

fn runs(w: &mut World) -> Vec<(String, HandlerRun)> {
    let runs = w.done().into_iter().filter_map(|e| match e {
        Effect::Handle(id, run) => Some((id.to_string(), *run)),
        _ => None,
    });
    runs.collect()
}

fn sidecar(w: &mut World, call: SidecarCall) -> Option<Answer> {
    w.call(ApiCall::Sidecar(S, call))
}

/// A connected program that serves the named actions, with supervision if asked for.
fn connected(w: &mut World, names: &[&str], supervised: bool) {
    let manifest = local::Manifest {
        capabilities: names
            .iter()
            .map(|name| local::ManifestCapability {
                name: (*name).to_owned(),
                kind: Some("odd".into()),
                metadata: None,
            })
            .collect(),
        max_agents: Some(7),
        tags: vec!["gpu".into()],
        ..local::Manifest::default()
    };
    let supervision = supervised.then(|| {
        Box::new(local::Supervision {
            argv: vec!["./serve".into()],
            ..local::Supervision::default()
        })
    });
    sidecar(w, SidecarCall::Node(Box::new(manifest), supervision));
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    sidecar(w, SidecarCall::Handlers(names));
}

/// N30: a repeated invocation is one program and one answer, also for the next broker.
#[test]
fn a_spawn_asked_twice_by_the_engine_starts_once_and_is_answered_alike() {
    let again = |w: &mut World| {
        invoke(w, "inv_1", "spawn:claude", json!({"name":"w1","cli":"cat"}));
    };
    let mut w = World::new();
    w.link_up();
    running(&mut w, "inv_1", "w1");
    again(&mut w);
    let starts = |effects: &[Effect]| {
        let spawn = |e: &&Effect| matches!(e, Effect::Spawn(..));
        effects.iter().filter(spawn).count()
    };
    assert_eq!(starts(&w.done()), 1);
    w.pass(Duration::from_millis(250));
    assert_eq!(answers(&w.sent()), [spawned("w1")]);
    again(&mut w);
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "a repetition is answered alike"
    );
    let mut w = World::after(w.journal);
    w.link_up();
    w.done();
    again(&mut w);
    assert_eq!(
        answers(&w.sent()),
        [spawned("w1")],
        "also by the next broker"
    );
}

/// N31: the inventory comes after the result of the engine's own spawn, and never before it.
#[test]
fn a_spawn_counts_as_done_when_its_program_has_lived_for_a_moment_and_the_engine_knows_its_load_first()
 {
    let mut w = World::new();
    w.link_up();
    w.done();
    running(&mut w, "inv_1", "w1");
    let sent = w.sent();
    assert!(
        sent.iter()
            .any(|up| matches!(up, Up::NodeHeartbeat(h) if h.active_agents == 1))
    );
    let listed = |sent: &[Up]| sent.iter().any(|up| matches!(up, Up::InventorySync(_)));
    assert!(!listed(&sent) && answers(&sent).is_empty(), "{sent:?}");
    w.pass(Duration::from_millis(249));
    assert!(w.sent().is_empty());
    w.pass(Duration::from_millis(1));
    w.quiet();
    let sent = w.sent();
    assert!(
        matches!(&sent[..], [Up::ActionResult(_), Up::InventorySync(_)]),
        "a list without an open spawn would give it to another node: {sent:?}"
    );
}

/// N29: the program is named by the input or by the action's suffix, and the input may be flat or one level down.
#[test]
fn a_spawn_is_understood_in_every_form() {
    let flat = json!({"name": "w1", "cli": "cat -v"});
    let nested = json!({"agent": {"name": "w1", "cli": "cat -v"}});
    let by_suffix = [
        json!({"name": "w1"}),
        json!({"agent": {"agent_name": "w1"}}),
    ];
    let cases = [
        ("spawn", flat.clone(), "cat -v"),
        ("spawn", nested.clone(), "cat -v"),
        ("spawn:claude", flat, "cat -v"),
        ("spawn:claude", nested, "cat -v"),
        ("spawn:claude", by_suffix[0].clone(), "claude"),
        ("spawn:claude", by_suffix[1].clone(), "claude"),
        (
            "spawn",
            json!({"agent_name": "w1", "command": "top"}),
            "top",
        ),
        ("spawn", json!({"agent": "w1", "provider": "top"}), "top"),
    ];
    for (action, input, line) in cases {
        let mut w = World::new();
        w.link_up();
        w.done();
        invoke(&mut w, "i1", action, input.clone());
        w.registered("w1");
        let argv = w.done().into_iter().find_map(|e| match e {
            Effect::Spawn(_, spec) => Some(spec.argv),
            _ => None,
        });
        let mut argv = argv.expect("it is started");
        if line == "claude" {
            assert_eq!(argv.remove(1), "--session-id");
            argv.remove(1);
        }
        assert_eq!(argv.join(" "), line, "{action} {input}");
    }
}

/// N29: what is missing is named, and what is empty is missing.
#[test]
fn an_action_that_lacks_something_is_answered_with_what_it_lacks() {
    let cases = [
        ("spawn", json!({"cli": "cat"}), "spawn_missing_agent_name"),
        (
            "spawn:claude",
            json!({"name": ""}),
            "spawn_missing_agent_name",
        ),
        ("spawn:claude", json!(null), "spawn_missing_agent_name"),
        ("spawn", json!({"name": "w1"}), "spawn_missing_cli"),
        (
            "spawn:",
            json!({"name": "w1", "cli": ""}),
            "spawn_missing_cli",
        ),
        ("release", json!({}), "release_missing_agent_name"),
    ];
    for (action, input, lacks) in cases {
        let mut w = World::new();
        w.link_up();
        w.done();
        invoke(&mut w, "i1", action, input.clone());
        let said = answers(&w.sent());
        assert_eq!(said, [Outcome::Error(lacks.into())], "{action} {input}");
    }
}

/// N30: a name in use is told by a word of its own, and whoever bears it goes on.
#[test]
fn a_spawn_under_a_name_in_use_fails_and_leaves_its_bearer_alone() {
    let (mut w, run) = World::with_agent("w1");
    w.done();
    invoke(
        &mut w,
        "i1",
        "spawn:claude",
        json!({"name": "w1", "cli": "cat"}),
    );
    let in_use = Outcome::Error("spawn_agent_name_in_use".into());
    assert_eq!(answers(&w.sent()), [in_use]);
    assert_eq!(w.run_of("w1"), run);
}

/// N30: repeated over a new link while its program starts, it has that one program and one answer.
#[test]
fn a_spawn_that_is_asked_for_again_over_a_new_link_has_one_program_and_the_same_answer() {
    let mut w = World::new();
    w.link_up();
    running(&mut w, "inv_1", "w1");
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    invoke(
        &mut w,
        "inv_1",
        "spawn:claude",
        json!({"name":"w1","cli":"cat"}),
    );
    w.pass(Duration::from_millis(250));
    let effects = w.done();
    let spawns = effects.iter().filter(|e| matches!(e, Effect::Spawn(..)));
    assert_eq!(spawns.count(), 1);
    w.effects = effects;
    assert_eq!(answers(&w.sent()).last(), Some(&spawned("w1")));
}

/// N30: a release is answered when its program has ended, at once where it had ended by itself, and alike when repeated.
#[test]
fn a_release_by_the_engine_tells_what_became_of_the_agent() {
    let released = || Outcome::Output(json!({"released": true, "name": "w1"}));
    let release = |w: &mut World, id: &str| invoke(w, id, "release", json!({"name": "w1"}));
    let (mut w, run) = World::with_agent("w1");
    w.done();
    release(&mut w, "i1");
    assert!(answers(&w.sent()).is_empty(), "its program still runs");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.engine_has_nothing();
    assert_eq!(answers(&w.sent()), [released()]);
    release(&mut w, "i1");
    assert_eq!(answers(&w.sent()), [released()], "repeated");

    let run = w.spawn("w1");
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    release(&mut w, "i2");
    assert_eq!(answers(&w.sent()), [released()], "ended already");
}

/// N30: a program that ended at once is a failed spawn, with its last words.
#[test]
fn a_program_that_ends_at_once_fails_its_spawn_with_its_status_and_last_words() {
    let mut w = World::new();
    w.link_up();
    let run = running(&mut w, "inv_1", "w1");
    w.done();
    let how = How {
        code: Some(2),
        last: vec!["claude: unknown option --x".into()],
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(how));
    let said = "spawn_failed: exit code 2: claude: unknown option --x";
    assert_eq!(answers(&w.sent()), [Outcome::Error(said.into())]);
}

#[test]
fn a_spawn_that_is_released_before_it_counts_says_so() {
    let mut w = World::new();
    w.link_up();
    let run = running(&mut w, "inv_1", "w1");
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    w.done();
    w.report("w1", run, AgentReport::Exited(How::default()));
    assert_eq!(
        answers(&w.sent()),
        [Outcome::Error("spawn_released_before_ready".into())]
    );
}

#[test]
fn a_spawn_of_the_engine_goes_on_with_a_session_under_each_name_of_the_key() {
    for (n, key) in ["resume", "session_ref", "sessionRef", "session"]
        .iter()
        .enumerate()
    {
        let mut w = World::new();
        w.link_up();
        let id = format!("i{n}");
        invoke(
            &mut w,
            &id,
            "spawn",
            json!({"name": "e5", "cli": "claude", *key: "s-1"}),
        );
        w.registered("e5");
        let started = w.done().into_iter().find_map(|e| match e {
            Effect::Spawn(_, spec) => Some(spec.argv),
            _ => None,
        });
        let argv = started.expect("it is started");
        assert!(
            argv.windows(2).any(|w| w == ["--resume", "s-1"]),
            "{key}: {argv:?}"
        );
    }
}

#[test]
fn a_spawn_of_the_engine_that_cannot_be_meant_is_refused_with_the_reason() {
    for (input, word) in [
        (json!({"model": "m x"}), "without blanks"),
        (json!({"model": 7}), "`model`"),
        (json!({"runtime": "native"}), "native"),
        (json!({"channels": 5}), "`channels`"),
        (json!({"channels": ["Ops Team"]}), "Ops Team"),
        (json!({"session_ref": {}}), "`session_ref`"),
        (json!({"args": "-v"}), "`args`"),
    ] {
        let mut w = World::new();
        w.link_up();
        w.done();
        let mut whole = json!({"name": "e5", "cli": "claude"});
        for (key, value) in input.as_object().expect("an object") {
            whole[key] = value.clone();
        }
        invoke(&mut w, "i1", "spawn", whole);
        let answers = answers(&w.sent());
        assert!(
            matches!(&answers[..], [Outcome::Error(why)] if why.starts_with("spawn_failed: ") && why.contains(word)),
            "{input}: {answers:?}"
        );
    }
}

#[test]
fn a_spawn_of_the_engine_names_a_session_also_of_a_program_that_has_none() {
    let mut w = World::new();
    w.link_up();
    let input = json!({"name": "cat1", "cli": "cat", "sessionRef": "s1"});
    invoke(&mut w, "i1", "spawn", input);
    w.registered("cat1");
    let run = w.run_of("cat1");
    w.report("cat1", run, AgentReport::Started { pid: 9 });
    w.pass(Duration::from_secs(1));
    assert_eq!(answers(&w.sent()), [spawned("cat1")]);
}
