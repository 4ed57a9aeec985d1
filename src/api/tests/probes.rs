//! The probes of supervisors: what makes them fail, and what they tell whoever has no key.

use super::*;

/// A probe without a key, in the form with all checks; the dispatcher answers these, in order.
fn probe(w: &World, path: &str, answers: Vec<Answer>) -> (u16, String) {
    *w.answers.lock() = answers.into_iter().rev().collect();
    let mut asked = request("GET", &format!("{path}?verbose="), "");
    asked.headers.retain(|(name, _)| name != "x-api-key");
    let (status, body) = w.send(&asked);
    (status, body.as_str().expect("text").to_owned())
}

fn told(change: impl FnOnce(&mut local::Status)) -> Answer {
    let mut status = status();
    change(&mut status);
    Ok(Reply::Status(Box::new(status)))
}

/// The agents here, with the phase of the only one; and who ended.
fn agents(phase: Option<&str>, departed: &[&str]) -> Answer {
    let mut here = status().agents;
    match phase {
        Some(phase) => here[0].phase = phase.into(),
        None => here.clear(),
    }
    let gone = |name: &&str| local::DepartedView {
        name: AgentName::new(*name),
        reason: "exit code 1".into(),
        given_up: true,
        at: String::new(),
        command: "cat".into(),
        pending_messages: 0,
        code: Some(1),
        signal: None,
        last_lines: Vec::new(),
    };
    Ok(Reply::Agents(local::AgentList {
        agents: here,
        departed: departed.iter().map(gone).collect(),
    }))
}

#[test]
fn a_broker_in_order_is_alive_and_ready_and_says_so_in_two_words_or_all() {
    let w = world();
    let (status, text) = probe(&w, "/livez", vec![told(|_| {})]);
    assert_eq!(
        (status, text.as_str()),
        (200, "[+]dispatcher ok\n[+]journal ok\nlivez check passed\n")
    );
    let fine = || vec![told(|_| {}), agents(Some("ready"), &[])];
    let (status, text) = probe(&w, "/readyz", fine());
    assert_eq!(status, 200);
    for name in ["stage", "dispatcher", "journal", "link", "agents"] {
        assert!(text.contains(&format!("[+]{name} ok\n")), "{text}");
    }
    *w.answers.lock() = fine().into_iter().rev().collect();
    assert_eq!(w.ask("GET", "/readyz", ""), (200, "ok\n".into()));
    *w.answers.lock() = fine().into_iter().rev().collect();
    let mut asked = request("GET", "/readyz", "");
    asked
        .headers
        .push(("accept".into(), "application/json".into()));
    let (_, body) = w.send(&asked);
    assert_eq!(body["status"], "ok");
    assert_eq!(
        body["checks"][3],
        json!({"name": "link", "status": "ok", "reason": null})
    );
}

#[test]
fn an_engine_that_is_away_fails_readiness_after_a_while_and_liveness_never() {
    let w = world();
    let ready = |connected, lost: Option<u64>| {
        let status = told(|s| (s.node_connected, s.node_lost_secs) = (connected, lost));
        probe(&w, "/readyz", vec![status, agents(Some("ready"), &[])])
    };
    assert_eq!(ready(false, Some(59)).0, 200);
    let (status, text) = ready(false, Some(60));
    assert_eq!(status, 503, "{text}");
    assert!(
        text.contains("[-]link failed: the engine has been away for 60 s\n"),
        "{text}"
    );
    // Nobody has been served yet, so there is nothing to wait for.
    assert_eq!(ready(false, None).0, 503);
    let away = told(|s| (s.node_connected, s.node_lost_secs) = (false, Some(86_400)));
    assert_eq!(probe(&w, "/livez", vec![away]).0, 200);
}

#[test]
fn a_dispatcher_that_does_not_answer_and_a_journal_that_cannot_be_written_fail_both() {
    let w = world();
    for path in ["/livez", "/readyz"] {
        let (status, text) = probe(&w, path, vec![]);
        assert_eq!(status, 503, "{text}");
        assert!(text.contains("[-]dispatcher failed: "), "{text}");
    }
    let why = "/home/ada/.relay-broker/journal: no space left";
    w.api
        .context
        .published
        .update(|published| published.degraded = Some(why.into()));
    for path in ["/livez", "/readyz"] {
        let answers = vec![told(|_| {}), agents(Some("ready"), &[])];
        let (status, text) = probe(&w, path, answers);
        assert_eq!(status, 503, "{text}");
        assert!(
            text.contains("[-]journal failed: it cannot be written\n"),
            "{text}"
        );
        assert!(!text.contains("home"), "{text}");
    }
}

#[test]
fn a_declared_agent_that_is_not_there_fails_readiness_and_its_name_is_not_told() {
    let w = world();
    let ready = |answer| probe(&w, "/readyz", vec![told(|_| {}), answer]);
    for (answer, expected) in [
        (agents(Some("ready"), &[]), 200),
        (agents(Some("blocked"), &[]), 200),
        (agents(Some("starting"), &[]), 503),
        (agents(Some("restarting"), &[]), 503),
        (agents(None, &["w1"]), 503),
        // Somebody released it.
        (agents(None, &[]), 200),
        (agents(Some("ready"), &["other"]), 200),
    ] {
        let (status, text) = ready(answer.clone());
        assert_eq!(status, expected, "{answer:?}: {text}");
        assert!(!text.contains("w1"), "{text}");
    }
}

#[test]
fn a_broker_that_stops_is_alive_and_not_ready() {
    let w = world();
    w.api.context.life.set(BrokerStage::Stopping);
    assert_eq!(probe(&w, "/livez", vec![]).0, 200);
    let (status, text) = probe(
        &w,
        "/readyz",
        vec![told(|_| {}), agents(Some("ready"), &[])],
    );
    assert_eq!(status, 503);
    assert!(
        text.contains("[-]stage failed: the broker is stopping\n"),
        "{text}"
    );
}
