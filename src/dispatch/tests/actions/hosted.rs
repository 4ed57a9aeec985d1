//! Actions that agents serve.

use super::*;

/// N34: actions hosted by an agent reach the agent.
#[test]
fn an_agent_that_serves_an_action_is_told_once_and_answers_by_itself() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    let told = w.injected().expect("it is told");
    for words in [
        "Action echo",
        "inv_1",
        r#"{"q":1}"#,
        "http://127.0.0.1:1/v1/actions/echo/invocations/inv_1/complete",
    ] {
        assert!(told.text.contains(words), "{}", told.text);
    }
    w.land("w1", &told.delivery_id);
    assert!(answers(&w.sent()).is_empty(), "the answer is the agent's");
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    assert!(w.injected().is_none(), "told once");
    invoke_hosted(&mut w, "inv_2", None, "w1");
    assert!(w.injected().is_some(), "by its name, where no id comes");
}

/// N34: what can never reach its agent has an error of its own; `handler_unavailable` would take the whole node's
/// handlers away (engine-protocol 5.3).
#[test]
fn an_action_of_an_agent_that_is_not_here_fails_by_itself() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    for (n, agent_id, name) in [
        (1, Some("id_w2"), "w2"),
        (2, None, "w2"),
        (3, Some("id_other"), "w1"),
    ] {
        invoke_hosted(&mut w, &format!("inv_{n}"), agent_id, name);
        let said = answers(&w.sent());
        let [Outcome::Error(why)] = &said[..] else {
            panic!("{said:?}");
        };
        assert!(why.starts_with("agent_unavailable: "), "{why}");
    }
}

/// N34: an agent that is released before it read of an invocation never answers it.
#[test]
fn an_invocation_that_its_agent_never_read_fails_with_the_reason() {
    let (mut w, run) = World::with_agent("w1");
    w.mail("w1", 1);
    w.done();
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    w.call(ApiCall::Release {
        name: AgentName::new("w1"),
        reason: None,
    });
    w.report("w1", run, AgentReport::Exited(How::default()));
    let said = answers(&w.sent());
    let [Outcome::Error(why)] = &said[..] else {
        panic!("one answer, without being asked again: {said:?}");
    };
    let reason = "agent_unavailable: the agent was released before it read the message";
    assert_eq!(why, reason);
    invoke_hosted(&mut w, "inv_1", Some("id_w1"), "w1");
    assert_eq!(answers(&w.sent()), said, "asked again, answered alike");
}
