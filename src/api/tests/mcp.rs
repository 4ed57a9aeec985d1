//! The tools over HTTP, with a made-up dispatcher: who may use which, what is asked of whom, what a model is told.

use super::calls::spawned;
use super::*;
use crate::ids::MsgId;
use crate::ids::Run;
use crate::msg::Right;
use crate::registry::AgentHandle;
use crate::sys::wake::mailbox;

const TOKEN: &str = "at_live_w1";

/// A world in which `w1` runs, with a token of its own.
fn with_agent() -> World {
    let w = world();
    let (input, _inbox) = mailbox(4).expect("descriptors");
    let handle = AgentHandle {
        activity: Arc::default(),
        run: Run(1),
        token: Some(Secret::new(TOKEN)),
        input,
        output: Arc::new(Topic::new(0)),
        seats: Arc::default(),
        has_terminal: true,
    };
    w.api.context.registry.put(w1(), handle);
    w
}

fn as_agent(method: &str, target: &str, body: &str) -> Request {
    let mut request = request(method, target, body);
    for (name, value) in &mut request.headers {
        if name == "x-api-key" {
            TOKEN.clone_into(value);
        }
    }
    request
}

impl World {
    /// One message to `POST /mcp` in the agent's name.
    fn mcp(&self, message: &Value) -> (u16, Value) {
        self.send(&as_agent("POST", "/mcp", &message.to_string()))
    }

    /// One tool, while the dispatcher answers with these, in order, to whatever it is asked.
    fn tool(&self, name: &str, arguments: &Value, answers: Vec<Answer>) -> Value {
        let _earlier = self.calls.try_iter().count();
        self.answers.lock().extend(answers.into_iter().rev());
        let params = json!({"name": name, "arguments": arguments});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let (status, answer) = self.mcp(&call);
        assert_eq!(status, 200, "{answer}");
        self.answers.lock().clear();
        answer["result"].clone()
    }
}

fn said(result: &Value) -> &str {
    result["content"][0]["text"].as_str().unwrap_or_default()
}

fn sent() -> Answer {
    Ok(Reply::Sent(local::Sent {
        success: true,
        event_id: MsgId::new("http_1"),
        delivered: 1,
        local: true,
        relaycast_published: None,
        targets: vec!["bob".into()],
        workspace_id: None,
        workspace_alias: None,
        waits: None,
        suspended: false,
        steer_refused: false,
    }))
}

#[test]
fn an_agent_writes_as_itself_and_the_receipt_never_repeats_its_words() {
    let w = with_agent();
    let arguments = json!({"to": "bob", "text": "the secret plan", "mode": "steer"});
    let result = w.tool("send_dm", &arguments, vec![sent()]);
    assert_eq!(result["isError"], false);
    assert_eq!(
        result["structuredContent"],
        json!({"status": "queued", "message_id": "http_1", "to": "bob"})
    );
    assert!(!result.to_string().contains("secret"), "{result}");
    let Ok(ApiCall::Send(send)) = w.calls.try_recv() else {
        panic!("a message");
    };
    assert_eq!(
        (send.from.as_deref(), send.mode.as_deref()),
        (Some("w1"), Some("steer"))
    );
}

#[test]
fn a_receipt_says_who_keeps_a_message_back_and_that_a_steer_waits_its_turn() {
    let w = with_agent();
    let sent_and = |change: fn(&mut local::Sent)| {
        let mut answer = sent();
        if let Ok(Reply::Sent(sent)) = &mut answer {
            change(sent);
        }
        let arguments = json!({"to": "bob", "text": "x", "mode": "steer"});
        w.tool("send_dm", &arguments, vec![answer])
    };
    let held = sent_and(|sent| sent.suspended = true);
    assert_eq!(held["structuredContent"]["status"], "held");
    let why = "held: you and bob have answered each other very often, so bob gets this once a person has looked";
    assert!(said(&held).starts_with(why), "{held}");
    let waits = sent_and(|sent| sent.steer_refused = true);
    assert_eq!(waits["structuredContent"]["mode"], "wait");
    assert!(
        said(&waits).contains("only people may interrupt here"),
        "{waits}"
    );
}

#[test]
fn a_receipt_comes_with_the_event_that_tells_the_end() {
    let mut w = with_agent();
    // Far more than the test may take: only the event ends the wait.
    let api = Arc::get_mut(&mut w.api).expect("nobody else has it");
    api.receipt_limit = Duration::from_secs(3600);
    let (events, calls) = (w.api.context.events.clone(), w.calls.clone());
    let teller = std::thread::spawn(move || {
        let asked = calls.recv().expect("it is sent");
        assert!(matches!(asked, ApiCall::Send(_)), "{asked:?}");
        let told =
            r#"{"kind":"message_delivery_failed","event_id":"http_1","lastError":"it ended"}"#;
        events.publish(Some(1), &told.into());
    });
    let result = w.tool("send_dm", &json!({"to": "bob", "text": "x"}), vec![sent()]);
    teller.join().expect("it tells");
    assert_eq!(said(&result), "bob did not get it: it ended");
}

#[test]
fn an_agent_can_speak_as_nobody_else_by_any_way() {
    let w = with_agent();
    let result = w.tool(
        "send_dm",
        &json!({"to": "bob", "text": "x", "as": "eve"}),
        vec![],
    );
    assert_eq!(result["isError"], true);
    assert!(said(&result).contains("you are w1"), "{result}");
    let body = r#"{"to":"bob","text":"x","from":"eve"}"#;
    let (status, refusal) = w.send(&as_agent("POST", "/api/send", body));
    assert_eq!((status, &refusal["code"]), (403, &json!("not_permitted")));
    let raw = r#"{"to":"bob","text":"/quit","raw":true}"#;
    assert_eq!(w.send(&as_agent("POST", "/api/send", raw)).0, 403);
    let asked_for = w
        .calls
        .try_iter()
        .filter(|call| matches!(call, ApiCall::Send(_)));
    assert_eq!(asked_for.count(), 0);
    w.answers.lock().push(sent());
    assert_eq!(
        w.send(&as_agent("POST", "/api/send", r#"{"to":"bob","text":"x"}"#))
            .0,
        200
    );
}

#[test]
fn an_agents_token_opens_no_door_into_others_and_the_operators_key_opens_all() {
    let w = with_agent();
    for (method, target) in [
        ("GET", "/api/session"),
        ("POST", "/api/shutdown"),
        ("GET", "/api/spawned/bob/pending"),
        ("GET", "/api/spawned/bob/snapshot"),
        ("POST", "/api/input/bob"),
        ("POST", "/api/input/w1"),
        ("DELETE", "/api/spawned/bob"),
        ("GET", "/api/threads"),
        ("GET", "/api/dead-letters"),
        ("POST", "/api/actions/spawn/invoke"),
        ("GET", "/api/attach/bob"),
        ("GET", "/api/input/bob/stream"),
        ("GET", "/api/fleet/ws"),
    ] {
        let (status, body) = w.send(&as_agent(method, target, "{}"));
        assert_eq!(
            (status, &body["code"]),
            (403, &json!("not_permitted")),
            "{target}"
        );
    }
    // Whether it started the agent that it wants to end is looked up, and nothing else asked for.
    let mut calls = w.calls.try_iter();
    assert!(calls.all(|call| matches!(call, ApiCall::Agents)) && w.stops.is_empty());
    assert_eq!(w.ask("GET", "/api/session", "").0, 200);
}

#[test]
fn starting_agents_is_a_right_and_without_it_the_tool_is_not_even_listed() {
    let names = |w: &World| {
        let (_, answer) = w.mcp(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}));
        answer["result"]["tools"].to_string()
    };
    let mut w = with_agent();
    let wish = json!({"name": "w2", "cli": "cat", "task": "sing"});
    assert!(!names(&w).contains("\"add_agent\""));
    let refused = w.tool("add_agent", &wish, vec![]);
    assert!(
        said(&refused).contains("agents_may = [\"spawn\"]"),
        "{refused}"
    );
    let by_action = w.tool("invoke_action", &json!({"name": "spawn:cat"}), vec![]);
    assert_eq!(by_action["isError"], true);

    let api = Arc::get_mut(&mut w.api).expect("nobody else has it");
    api.context.agents_may = vec![Right::Spawn];
    assert!(names(&w).contains("\"add_agent\""));
    let _ = w.calls.try_iter().count();
    let done = w.tool("add_agent", &wish, vec![Ok(Reply::Spawned(spawned()))]);
    assert_eq!(done["isError"], false, "{done}");
    let call = w.calls.try_recv().expect("asked");
    assert!(matches!(call, ApiCall::Spawn(r, _) if r.task.as_deref() == Some("sing")));
}

#[test]
fn what_the_engine_knows_is_asked_in_the_agents_own_name() {
    let w = with_agent();
    for (tool, arguments, expected) in [
        (
            "list_messages",
            json!({"channel": "#a b", "limit": 3}),
            "GET /v1/channels/a%20b/messages?limit=3",
        ),
        (
            "add_reaction",
            json!({"message_id": "7", "emoji": "👍"}),
            "POST /v1/messages/7/reactions",
        ),
        (
            "archive_channel",
            json!({"channel": "old"}),
            "DELETE /v1/channels/old",
        ),
        (
            "search_messages",
            json!({"query": "a&b"}),
            "GET /v1/search?limit=25&q=a%26b",
        ),
    ] {
        let result = w.tool(
            tool,
            &arguments,
            vec![Ok(Reply::Engine(json!([{"id": 1}])))],
        );
        assert_eq!(
            result["structuredContent"]["items"],
            json!([{"id": 1}]),
            "{tool}"
        );
        match w.calls.try_iter().next() {
            Some(ApiCall::AsAgent(name, request)) => {
                assert_eq!(name, w1());
                assert_eq!(format!("{} {}", request.method, request.path), expected);
            }
            other => panic!("{tool}: {other:?}"),
        }
    }
}

#[test]
fn an_answer_to_a_message_of_this_machine_goes_to_its_author() {
    let w = with_agent();
    let event = r#"{"seq":1,"kind":"relay_inbound","event_id":"http_9","from":"bob","target":"w1","body":"?","mode":"wait"}"#;
    w.api.context.events.publish(Some(1), &Arc::from(event));
    let arguments = json!({"message_id": "http_9", "text": "yes"});
    w.tool("reply_to_thread", &arguments, vec![sent()]);
    let Ok(ApiCall::Send(send)) = w.calls.try_recv() else {
        panic!("a message");
    };
    assert_eq!(
        (send.to.as_str(), send.thread_id.as_deref()),
        ("bob", Some("http_9"))
    );
    let lost = w.tool(
        "reply_to_thread",
        &json!({"message_id": "http_8", "text": "yes"}),
        vec![],
    );
    assert!(said(&lost).contains("send_dm"), "{lost}");
}

#[test]
fn a_part_of_an_id_means_the_message_and_an_unclear_one_is_told_with_all_it_may_mean() {
    let w = with_agent();
    for (seq, id, from, target) in [
        (1, "http_abcd1", "bob", "w1"),
        (2, "http_abcd2", "eve", "w1"),
        (3, "http_abcd3", "max", "w2"),
    ] {
        let event = json!({"seq": seq, "kind": "relay_inbound", "event_id": id, "from": from, "target": target,
                           "body": "?", "mode": "wait"});
        let event = event.to_string();
        w.api
            .context
            .events
            .publish(Some(seq), &Arc::from(event.as_str()));
    }
    for short in ["http_abcd2", "abcd2", "bcd2"] {
        let arguments = json!({"message_id": short, "text": "yes"});
        w.tool("reply_to_thread", &arguments, vec![sent()]);
        let Ok(ApiCall::Send(send)) = w.calls.try_recv() else {
            panic!("a message");
        };
        assert_eq!(
            (send.to.as_str(), send.thread_id.as_deref()),
            ("eve", Some("http_abcd2"))
        );
    }
    let unclear = w.tool(
        "reply_to_thread",
        &json!({"message_id": "abcd", "text": "yes"}),
        vec![],
    );
    assert_eq!(unclear["isError"], true);
    let text = said(&unclear);
    assert!(
        text.contains("http_abcd1 from bob") && text.contains("http_abcd2 from eve"),
        "{text}"
    );
    assert!(
        !text.contains("abcd3"),
        "what was for others is nobody's business: {text}"
    );
}

#[test]
fn a_result_ends_with_what_is_unread() {
    let w = with_agent();
    let message = json!({"delivery_id": "d", "from": "bob", "body": "?", "target": "w1", "priority": 1,
                         "mode": "wait", "queued_at_ms": 0});
    let pending = json!({"pending": [message.clone(), message]});
    let pending = serde_json::from_value(pending).expect("a list");
    let arguments = json!({"to": "bob", "text": "x"});
    let result = w.tool(
        "send_dm",
        &arguments,
        vec![sent(), Ok(Reply::Pending(pending))],
    );
    let last = result["content"][1]["text"].as_str().unwrap_or_default();
    assert!(last.starts_with("Unread: 2 from bob;"), "{result}");
    // Claude Code and Codex show their models this alone.
    assert_eq!(result["structuredContent"]["unread"], last);
    let nothing = Ok(Reply::Pending(local::PendingList::default()));
    let result = w.tool("send_dm", &arguments, vec![sent(), nothing]);
    assert_eq!(
        result["content"].as_array().map(Vec::len),
        Some(1),
        "{result}"
    );
}

#[test]
fn an_object_says_too_what_only_words_can() {
    let w = with_agent();
    let arguments = json!({"to": "bob", "text": "x"});
    let Ok(Reply::Sent(held)) = sent() else {
        panic!("a receipt");
    };
    let held = local::Sent {
        suspended: true,
        ..held
    };
    let result = w.tool("send_dm", &arguments, vec![Ok(Reply::Sent(held))]);
    let note = result["structuredContent"]["note"].as_str();
    assert!(
        note.is_some_and(|note| note.contains("do not send it again")),
        "{result}"
    );
}

#[test]
fn requests_of_no_meaning_get_the_protocols_own_answers() {
    let w = with_agent();
    let call = |method: &str, params: Value| {
        w.mcp(&json!({"jsonrpc": "2.0", "id": "a", "method": method, "params": params}))
    };
    let (status, answer) = call("tools/call", json!({"name": "fly"}));
    assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32602)));
    assert_eq!(call("prompts/list", json!({})).1["error"]["code"], -32601);
    assert_eq!(
        call("resources/read", json!({"uri": "relay://nothing"})).1["error"]["code"],
        -32002
    );
    let (status, answer) = w.send(&as_agent("POST", "/mcp", "{"));
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32700)));
    let (status, _) = w.mcp(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!(status, 202);
}

#[test]
fn since_2026_headers_must_say_what_the_body_says() {
    let w = with_agent();
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                      "io.modelcontextprotocol/clientCapabilities": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                      "params": {"name": "list_agents", "_meta": meta}});
    let mut request = as_agent("POST", "/mcp", &body.to_string());
    let (status, answer) = w.send(&request);
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(-32020)));
    for (name, value) in [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/call"),
        ("mcp-name", "send_dm"),
    ] {
        request.headers.push((name.into(), value.into()));
    }
    assert_eq!(
        w.send(&request).1["error"]["code"],
        -32020,
        "another tool in the header"
    );
    request.headers.pop();
    request
        .headers
        .push(("mcp-name".into(), "=?base64?bGlzdF9hZ2VudHM=?=".into()));
    w.answers
        .lock()
        .push(Ok(Reply::Agents(local::AgentList::default())));
    let (status, answer) = w.send(&request);
    assert_eq!(
        (status, &answer["result"]["resultType"]),
        (200, &json!("complete"))
    );
}
