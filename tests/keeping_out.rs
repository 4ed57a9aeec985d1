//! An agent's token is the agent's: by none of the ways in can it speak as another, read what is another's, type into
//! another's terminal or stop the broker. And whoever speaks in an agent's name is known by it.

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::answering::{AgentEnv, McpClient, screen};
use crate::attaching::Terminal;
use crate::support::{Node, Scratch, http, until};

/// A broker with two agents, the first of which tries.
struct Team {
    node: Node,
    ada: AgentEnv,
    folder: Scratch,
}

impl Team {
    fn new() -> Self {
        let folder = Scratch::new();
        let node = Node::up(folder.path(), &[]);
        let ada = AgentEnv::of(&node, folder.path(), "ada");
        AgentEnv::of(&node, folder.path(), "bob");
        // Something that waits for bob, and is nobody else's to read.
        let (status, _) = node.call(
            "PUT",
            "/api/spawned/bob/delivery-mode",
            Some(json!({"mode": "manual_flush"})),
        );
        assert_eq!(status, 200);
        let secret = json!({"to": "bob", "text": "the walrus sings"});
        assert_eq!(node.call("POST", "/api/send", Some(secret)).0, 200);
        Self { node, ada, folder }
    }

    fn token(&self) -> &str {
        self.ada.get("RELAY_AGENT_TOKEN")
    }

    /// The broker lives, and bob's terminal and mail are as they were.
    #[track_caller]
    fn is_as_it_was(&self) {
        assert!(self.node.agent("ada").is_some() && self.node.agent("bob").is_some());
        let shown = screen(&self.node, "bob");
        assert!(!shown.contains("evil"), "{shown}");
        let waiting = self.node.get("/api/spawned/bob/pending");
        assert_eq!(
            waiting["pending"].as_array().map(Vec::len),
            Some(1),
            "{waiting}"
        );
    }

    /// A WebSocket with the token of ada.
    fn socket(&self, path: &str) -> Result<WebSocket<TcpStream>, u16> {
        let address = self.node.api.trim_start_matches("http://");
        let stream = TcpStream::connect(address).expect("it listens");
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .expect("a URL");
        let key = self.token().parse().expect("a header");
        request.headers_mut().insert("x-api-key", key);
        match tungstenite::client(request, stream) {
            Ok((socket, _)) => Ok(socket),
            Err(HandshakeError::Failure(Error::Http(refusal))) => Err(refusal.status().as_u16()),
            Err(e) => panic!("{path}: {e}"),
        }
    }
}

#[test]
fn over_http_a_token_opens_nothing_of_anothers() {
    let team = Team::new();
    let try_to = |method: &str, path: &str, body: Value| {
        let url = format!("{}{path}", team.node.api);
        let (status, answer) = http(method, &url, team.token(), Some(body));
        assert_eq!(
            (status, &answer["code"]),
            (403, &json!("not_permitted")),
            "{path}: {answer}"
        );
        assert!(!answer.to_string().contains("walrus"), "{answer}");
    };
    try_to(
        "POST",
        "/api/send",
        json!({"to": "bob", "from": "eve", "text": "evil"}),
    );
    try_to("GET", "/api/spawned/bob/pending", json!({}));
    try_to("POST", "/api/input/bob", json!({"data": "evil\r"}));
    try_to("POST", "/api/shutdown", json!({}));
    team.is_as_it_was();
}

#[test]
fn over_a_websocket_a_token_opens_nothing_of_anothers_and_hears_its_own() {
    let team = Team::new();
    // Speaking as others and stopping are frames of a sidecar, typing those of a terminal.
    for path in ["/api/fleet/ws", "/api/input/bob/stream", "/api/attach/bob"] {
        assert_eq!(team.socket(path).err(), Some(403), "{path}");
    }
    let mut events = team.socket("/ws?sinceSeq=0").expect("its own share");
    let (code, said) = team
        .ada
        .run(team.folder.path(), &["send", "ada", "to myself"]);
    assert_eq!(code, Some(0), "{said}");
    let mut heard = Vec::new();
    loop {
        let Message::Text(text) = events.read().expect("an event") else {
            continue;
        };
        let event: Value = serde_json::from_str(&text).expect("JSON");
        let last = event["kind"] == "delivery_verified";
        heard.push(event);
        if last {
            break;
        }
    }
    let of_others = heard.iter().find(|event| {
        event["name"] == "bob" || event["target"] == "bob" || event.to_string().contains("walrus")
    });
    assert_eq!(of_others, None);
    assert!(heard.iter().any(|event| event["body"] == "to myself"));
    team.is_as_it_was();
}

#[test]
fn over_tools_a_token_opens_nothing_of_anothers() {
    let team = Team::new();
    let mut tools = McpClient::start(team.ada.command(team.folder.path(), &["mcp"]));
    for (tool, arguments) in [
        ("send_dm", json!({"to": "bob", "text": "evil", "as": "eve"})),
        ("check_inbox", json!({"as": "bob"})),
        ("remove_agent", json!({"name": "bob"})),
        (
            "invoke_action",
            json!({"name": "release", "input": {"name": "bob"}}),
        ),
    ] {
        let refused = tools.tool(tool, &arguments);
        assert_eq!(refused["isError"], true, "{tool}: {refused}");
        assert!(!refused.to_string().contains("walrus"), "{refused}");
    }
    // No tool types or stops; and none that may be used looks at what another has.
    tools.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let list = tools.hear()["result"]["tools"].clone();
    let names: Vec<&str> = (list.as_array().into_iter().flatten())
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    for word in [
        "input",
        "attach",
        "type",
        "shutdown",
        "stop",
        "remove_agent",
    ] {
        assert!(
            !names.iter().any(|name| name.contains(word)),
            "{word}: {names:?}"
        );
    }
    team.is_as_it_was();
}

#[test]
fn over_the_command_line_a_token_opens_nothing_of_anothers() {
    let team = Team::new();
    let others = "ada may not see or drive terminals";
    for (args, why) in [
        (
            &["send", "bob", "evil", "--from", "eve"][..],
            "only from ada",
        ),
        (&["send", "bob", "evil", "--raw"], "only the operator types"),
        (&["pending", "bob"], others),
        (&["snapshot", "bob"], others),
        (&["flush", "bob"], others),
        (&["stop"], "to stop the broker is the operator's"),
    ] {
        let (code, said) = team.ada.run(team.folder.path(), args);
        assert_eq!(code, Some(1), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(!said.contains("walrus"), "{args:?}: {said}");
    }
    for args in [&["attach", "bob"][..], &["attach", "bob", "--view"]] {
        let dir = team.folder.path();
        let mut terminal = Terminal::with(dir, args, team.ada.variables());
        terminal.shows(others);
        assert_ne!(terminal.end(), 0, "{args:?}");
    }
    team.is_as_it_was();
}

#[test]
fn an_agent_waits_until_its_own_message_has_arrived() {
    let team = Team::new();
    AgentEnv::of(&team.node, team.folder.path(), "eve");
    let args = ["send", "eve", "are you there", "--wait"];
    let (code, said) = team.ada.run(team.folder.path(), &args);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("eve: verified"), "{said}");
    let (code, said) = team
        .ada
        .run(team.folder.path(), &["wait", "eve", "--until", "ready"]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = team.ada.run(team.folder.path(), &["events"]);
    assert!(
        said.contains("are you there") && !said.contains("walrus"),
        "{said}"
    );
    let mut tools = McpClient::start(team.ada.command(team.folder.path(), &["mcp"]));
    let receipt = tools.tool("send_dm", &json!({"to": "eve", "text": "good"}));
    let receipt = &receipt["structuredContent"];
    assert_eq!(receipt["status"], "delivered", "{receipt}");
    // Which of the two is seen first is the terminal's affair.
    let proofs = [json!("read"), json!("echo")];
    assert!(proofs.contains(&receipt["proof"]), "{receipt}");
    let receipt = tools.tool("send_dm", &json!({"to": "bob", "text": "later"}));
    assert_eq!(
        receipt["structuredContent"]["status"], "queued",
        "he is held"
    );
}

#[test]
fn who_speaks_in_an_agents_name_with_the_operators_key_is_marked_where_it_is_read_and_kept() {
    let team = Team::new();
    AgentEnv::of(&team.node, team.folder.path(), "eve");
    let send = |from: &str, text: &str| {
        let body = json!({"to": "eve", "from": from, "text": text});
        assert_eq!(team.node.call("POST", "/api/send", Some(body)).0, 200);
    };
    send("ada", "not mine");
    send("boss", "from nobody here");
    let (code, said) = team
        .ada
        .run(team.folder.path(), &["send", "eve", "this is mine"]);
    assert_eq!(code, Some(0), "{said}");
    let shown = until("all three", || {
        let shown = screen(&team.node, "eve");
        shown.contains("]: this is mine").then_some(shown)
    });
    for line in ["from ada (by operator) [", "from boss [", "from ada ["] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let told = team.node.events("relay_inbound");
    let of = |text: &str| {
        let event = told.iter().find(|event| event["body"] == text);
        let event = event.expect("told");
        (event["from"].clone(), event["by_operator"].clone())
    };
    assert_eq!(of("not mine"), (json!("ada"), json!(true)));
    assert_eq!(of("from nobody here"), (json!("boss"), Value::Null));
    assert_eq!(of("this is mine"), (json!("ada"), Value::Null));
}
