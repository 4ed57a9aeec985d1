use super::*;
use crate::msg::SpawnSource;

fn post(body: &str) -> Request {
    Request {
        method: "POST".into(),
        body: body.as_bytes().to_vec(),
        ..Request::default()
    }
}

fn sent(body: &str) -> SendRequest {
    match send(&post(body)).expect("a message") {
        ApiCall::Send(request) => request,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_route_is_found_by_its_own_method_and_path() {
    for (method, pattern, endpoint) in ROUTES {
        let request = Request {
            method: (*method).into(),
            path: pattern.replace("{name}", "a%20b"),
            ..Request::default()
        };
        let name = pattern.contains("{name}").then(|| "a b".to_owned());
        assert_eq!(
            find(&request),
            RouteMatch::Here(*endpoint, name),
            "{pattern}"
        );
    }
}

#[test]
fn an_agent_is_found_whichever_way_its_accents_are_written() {
    for spelling in ["café", "cafe\u{301}"] {
        assert_eq!(agent(Some(spelling)).ok(), Some(AgentName::new("café")));
    }
    assert!(agent(Some("ca\u{200b}fé")).is_err());
}

#[test]
fn a_message_is_understood_in_every_dialect() {
    assert_eq!(sent(r##"{"to":"#g","message":"hi"}"##).text, "hi");
    assert_eq!(sent(r#"{"to":"a","text":"hi","body":"no"}"#).text, "hi");
    assert_eq!(
        sent(r#"{"to":"a","text":null,"content":"hi","threadId":"t"}"#)
            .thread_id
            .as_deref(),
        Some("t")
    );
    assert_eq!(
        sent(r#"{"to":"a","text":"hi","injectionMode":"steer","priority":1}"#)
            .mode
            .as_deref(),
        Some("steer")
    );
}

#[test]
fn a_spawn_is_understood_in_every_dialect() {
    let wish = spawn(&post(
        r#"{"name":"w","cli":"cat","args":null,"transport":"pty","runtime":"pty","idleThresholdSecs":0,
           "harnessConfig":{"runtime":"pty","command":"cat","cwd":null,"sessionId":"s"},"spawnMode":"task_exit"}"#,
    ))
    .expect("a spawn");
    let ApiCall::Spawn(request, SpawnSource::Api) = wish.call else {
        panic!("{:?}", wish.call);
    };
    assert_eq!(request.idle_threshold_secs, Some(0));
    assert!(request.exit_after_task);
    let harness = request.harness_config.expect("it is there");
    assert_eq!(harness.session_id.as_deref(), Some("s"));
}
