//! What bad input gets: every route of the table, in every way in which a request can be wrong. A new route is asked for here
//! by the compiler.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::api::routes::{Endpoint, ROUTES};
use crate::api::server::serve;

/// What a route reads of a body.
enum Body {
    /// Nothing, so nothing in it is wrong.
    Ignored,
    /// An object, or nothing at all.
    Optional(Object),
    /// An object.
    Needed(Object),
}

/// A body that is right, and some that are not.
struct Object {
    good: &'static str,
    bad: &'static [&'static str],
}

fn object(good: &'static str, bad: &'static [&'static str]) -> Object {
    Object { good, bad }
}

fn body(endpoint: Endpoint) -> Body {
    use Endpoint as E;
    match endpoint {
        E::Health | E::Livez | E::Readyz | E::Exposition | E::Session | E::Renew | E::Config => {
            Body::Ignored
        }
        E::Shutdown | E::Agents | E::Restart | E::Pending | E::Flush | E::Mode => Body::Ignored,
        E::InputStream | E::Snapshot | E::Attach | E::Status | E::Metrics => Body::Ignored,
        E::CrashInsights | E::Inventory | E::DeadLetters | E::Nodes | E::Readers => Body::Ignored,
        E::Invocation | E::Replay | E::Threads | E::HistoryStats | E::AgentEvents => Body::Ignored,
        E::Events | E::Fleet | E::Interrupt => Body::Ignored,
        // Its errors are those of JSON-RPC.
        E::Mcp => Body::Ignored,
        E::RemoveNode | E::Whereabouts | E::Reload => Body::Ignored,
        E::Model => Body::Needed(object(
            r#"{"model":"m1"}"#,
            &[
                "{}",
                r#"{"model":7}"#,
                r#"{"model":" "}"#,
                r#"{"model":"a\nb"}"#,
            ],
        )),
        E::Preflight | E::Spawn | E::Release | E::Send => large(endpoint),
        E::SetMode => Body::Needed(object(
            r#"{"mode":"manual_flush"}"#,
            &[
                "{}",
                r#"{"mode":7}"#,
                r#"{"mode":"odd"}"#,
                r#"{"mode":"auto_inject","expected_revision":7}"#,
            ],
        )),
        E::Input => Body::Needed(object(r#"{"data":"x"}"#, &["{}", r#"{"data":7}"#])),
        E::Resize => Body::Needed(object(
            r#"{"rows":24,"cols":80}"#,
            &[
                "{}",
                r#"{"rows":24}"#,
                r#"{"rows":0,"cols":80}"#,
                r#"{"rows":"24","cols":"80"}"#,
                r#"{"rows":24,"cols":80,"session_id":7}"#,
                r#"{"rows":24,"cols":80,"release":"yes"}"#,
            ],
        )),
        E::Redeliver => Body::Needed(object(
            r#"{"all":true}"#,
            &[
                "{}",
                r#"{"id":7}"#,
                r#"{"all":"yes"}"#,
                r#"{"id":"d","all":true}"#,
            ],
        )),
        E::Subscribe | E::Unsubscribe => Body::Needed(object(
            r#"{"channels":["ops"]}"#,
            &["{}", r#"{"channels":"ops"}"#, r#"{"channels":[7]}"#],
        )),
        // What an action takes is known to whoever serves it.
        E::Invoke => Body::Needed(object(r#"{"input":{}}"#, &[])),
        E::AgentResult => Body::Needed(object(
            r#"{"name":"w1","data":{"sum":1}}"#,
            &[
                "{}",
                r#"{"name":"w1"}"#,
                r#"{"data":1}"#,
                r#"{"name":7,"data":1}"#,
                r#"{"name":"w1","data":1,"final":"yes"}"#,
            ],
        )),
        E::ObserverToken => Body::Optional(object(
            r#"{"name":"ui"}"#,
            &[r#"{"name":7}"#, r#"{"name":" "}"#],
        )),
    }
}

/// The same for what says most.
fn large(endpoint: Endpoint) -> Body {
    use Endpoint as E;
    match endpoint {
        E::Preflight => Body::Needed(object(
            r#"{"agents":[{"name":"w9","cli":"cat"}]}"#,
            &[
                "{}",
                r#"{"agents":{}}"#,
                r#"{"agents":[{}]}"#,
                r#"{"agents":[{"name":7}]}"#,
                r#"{"agents":[{"name":"a/b"}]}"#,
            ],
        )),
        E::Spawn => Body::Needed(object(
            r#"{"name":"w9","cli":"cat"}"#,
            &[
                "{}",
                r#"{"name":7}"#,
                r#"{"name":"w","cli":[]}"#,
                r#"{"name":"w","args":"x"}"#,
                r#"{"name":"w","channels":{}}"#,
                r#"{"name":"w","idleThresholdSecs":"soon"}"#,
                r#"{"name":"w","restartPolicy":7}"#,
                r#"{"name":"w","harnessConfig":"pty"}"#,
            ],
        )),
        E::Release => Body::Optional(object(r#"{"reason":"done"}"#, &[r#"{"reason":7}"#])),
        E::Send => Body::Needed(object(
            r#"{"to":"w1","text":"hi"}"#,
            &[
                "{}",
                r#"{"to":"w1"}"#,
                r#"{"text":"hi"}"#,
                r#"{"to":7,"text":"hi"}"#,
                r#"{"to":"w1","text":["hi"]}"#,
                r#"{"to":"w1","text":"hi","mode":"soon"}"#,
                r#"{"to":"w1","text":"hi","threadId":7}"#,
            ],
        )),
        other => panic!("{other:?} is none of these"),
    }
}

/// Whether `{name}` in the route's path is an agent's.
fn names_an_agent(endpoint: Endpoint) -> bool {
    !matches!(
        endpoint,
        Endpoint::RemoveNode | Endpoint::Readers | Endpoint::Invoke | Endpoint::Invocation
    )
}

/// The routes that read a body, each with the path to ask.
fn readers() -> impl Iterator<Item = (&'static str, String, Object, bool)> {
    ROUTES.iter().filter_map(|(method, pattern, endpoint)| {
        let path = pattern.replace("{name}", "w1");
        match body(*endpoint) {
            Body::Ignored => None,
            Body::Optional(object) => Some((*method, path, object, false)),
            Body::Needed(object) => Some((*method, path, object, true)),
        }
    })
}

#[test]
fn what_is_no_json_object_is_refused_by_every_route_that_reads_one() {
    let w = world();
    for (method, path, object, needed) in readers() {
        for text in ["{", "[]", "7", "nothing of the kind"] {
            let refused = w.refusal(method, &path, text);
            assert_eq!(
                refused,
                (400, "invalid_json".into()),
                "{method} {path} {text}"
            );
        }
        if needed {
            assert_eq!(w.refusal(method, &path, "").0, 400, "{method} {path}");
        }
        let mut other = request(method, &path, object.good);
        other.headers[2].1 = "text/plain".into();
        assert_eq!(w.send(&other).0, 415, "{method} {path}");
        other.headers[2].1 = "application/json".into();
        other.body = b"{\"a\":\"\xff\"}".to_vec();
        assert_eq!(w.send(&other).1["code"], "invalid_utf8", "{method} {path}");
    }
}

#[test]
fn a_field_that_is_missing_or_of_a_wrong_type_is_refused_with_a_code_and_a_sentence() {
    let w = world();
    for (method, path, object, _) in readers() {
        for text in object.bad {
            let (status, code) = w.refusal(method, &path, text);
            assert_eq!(status, 400, "{method} {path} {text}");
            assert!(
                code.starts_with("invalid_"),
                "{method} {path} {text}: {code}"
            );
        }
    }
}

#[test]
fn a_field_that_nobody_knows_changes_nothing() {
    let w = world();
    for (method, path, object, _) in readers() {
        let asked = |text: &str| {
            let status = w.ask(method, &path, text).0;
            (status, w.calls.try_iter().collect::<Vec<_>>())
        };
        let plain = asked(object.good);
        let more = object
            .good
            .replacen('{', r#"{"of_the_future":{"x":[1]},"#, 1);
        assert_eq!(asked(&more), plain, "{method} {path}");
        assert!(
            [404, 504].contains(&plain.0),
            "{method} {path}: {}",
            plain.0
        );
    }
}

#[test]
fn an_agent_that_is_not_here_is_not_found_by_any_route() {
    let w = world();
    for (method, pattern, endpoint) in ROUTES {
        if !pattern.contains("{name}") || !names_an_agent(*endpoint) {
            continue;
        }
        let good = match body(*endpoint) {
            Body::Ignored => "",
            Body::Optional(object) | Body::Needed(object) => object.good,
        };
        for name in ["a/b", "@w1", "w\n1"] {
            let mut r = request(method, &pattern.replace("{name}", "w1"), good);
            r.path = pattern.replace("{name}", &escaped(name));
            let (status, body) = w.send(&r);
            let code = body["code"].as_str().unwrap_or_default();
            match endpoint {
                // Without a socket these two need not look any further.
                Endpoint::InputStream | Endpoint::Attach => {
                    assert!([404, 426].contains(&status), "{method} {pattern} {name:?}");
                }
                _ => assert_eq!(
                    (status, code),
                    (404, "agent_not_found"),
                    "{method} {pattern} {name:?}"
                ),
            }
        }
        let unknown = Err(Refusal::new(
            RefusalKind::UnknownAgent,
            "no agent is named 'w1'",
        ));
        w.answers.lock().push(unknown);
        let (status, _) = w.ask(method, &pattern.replace("{name}", "w1"), good);
        assert!(
            [404, 426, 501].contains(&status),
            "{method} {pattern}: {status}"
        );
        w.answers.lock().clear();
    }
}

fn escaped(name: &str) -> String {
    name.bytes().map(|b| format!("%{b:02x}")).collect()
}

#[test]
fn a_query_that_cannot_be_meant_is_refused() {
    let w = world();
    for (target, code) in [
        ("/api/events/replay?sinceSeq=x", "invalid_request"),
        ("/api/events/replay?sinceSeq=-1", "invalid_request"),
        ("/api/spawned/w1/snapshot?format=odd", "invalid_format"),
        (
            "/api/spawned/w1/agent-events/history?sinceSequence=x",
            "invalid_request",
        ),
        ("/api/actions/build/invocation", "invalid_request"),
    ] {
        assert_eq!(w.refusal("GET", target, ""), (400, code.into()), "{target}");
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_by_every_route_before_it_is_read() {
    let w = world();
    let server = serve(
        TcpListener::bind("127.0.0.1:0").expect("a free port"),
        w.api.clone(),
    )
    .expect("threads");
    for (method, path, ..) in readers() {
        let mut socket = TcpStream::connect(server.addr()).expect("it listens");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\n\
             content-length: 99999999\r\nconnection: close\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        socket
            .read_to_string(&mut answer)
            .expect("it answers and closes");
        assert!(
            answer.starts_with("HTTP/1.1 413 "),
            "{method} {path}: {answer}"
        );
        assert!(
            answer.contains(r#""code":"body_too_large""#),
            "{method} {path}: {answer}"
        );
    }
    assert!(w.calls.is_empty());
}

#[test]
fn nobody_without_the_key_gets_past_any_route_that_needs_one() {
    let w = world();
    for (method, pattern, endpoint) in ROUTES.iter().filter(|route| !route.2.is_open()) {
        let mut r = request(method, &pattern.replace("{name}", "w1"), "");
        r.headers.retain(|(name, _)| name != "x-api-key");
        assert_eq!(w.send(&r).0, 401, "{method} {pattern} {endpoint:?}");
    }
    assert!(w.calls.is_empty());
}
