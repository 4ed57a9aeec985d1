//! Agents as functions: they are started for a result, hand it in, and whoever started them reads it.

use std::path::Path;

use serde_json::{Value, json};

use crate::answering::{AgentEnv, McpClient};
use crate::support::{Node, Scratch, http, run, script, until};

/// A schema in a file.
fn sum(folder: &Path) -> String {
    let schema = json!({
        "type": "object",
        "properties": {"sum": {"type": "integer", "minimum": 0}},
        "required": ["sum"],
        "additionalProperties": false,
    });
    let path = folder.join("sum.json");
    std::fs::write(&path, schema.to_string()).expect("room");
    path.display().to_string()
}

/// A program that hands these in, one after the other, and goes on.
fn handing_in(folder: &Path, name: &str, results: &[&str]) -> String {
    let mut text = String::new();
    for result in results {
        let program = env!("CARGO_BIN_EXE_relay-broker");
        text.push_str(&format!("'{program}' submit-result {result}\n"));
    }
    script(folder, name, &format!("{text}exec cat"))
}

#[test]
fn a_script_calls_an_agent_and_reads_its_result() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let (schema, dir) = (sum(folder.path()), folder.path());
    let program = handing_in(
        dir,
        "adds",
        &["--interim '{\"sum\": 1}'", "'{\"sum\": 42}'"],
    );
    let args = [
        "spawn",
        "ada",
        "--wait-result=30s",
        "--result-schema",
        &schema,
        "--",
        &program,
    ];
    let (code, out, err) = run(dir, &args);
    assert_eq!((code, out.as_str()), (Some(0), "{\"sum\":42}\n"), "{err}");
    until("her release", || node.agent("ada").is_none().then_some(()));
    let told = node.events("agent_result");
    let finals: Vec<&Value> = told.iter().map(|event| &event["final"]).collect();
    assert_eq!(finals, [&json!(false), &json!(true)]);

    let program = handing_in(dir, "says", &["'\"done\"'"]);
    let args = [
        "spawn",
        "bob",
        "--wait-result",
        "--keep",
        "--json",
        "--",
        &program,
    ];
    let (code, out, err) = run(dir, &args);
    assert_eq!(code, Some(0), "{err}");
    let facts: Value = serde_json::from_str(&out).expect("one line");
    assert_eq!(
        (&facts["name"], &facts["data"]),
        (&json!("bob"), &json!("done"))
    );
    assert!(node.agent("bob").is_some(), "it was to be kept");
}

#[test]
fn whoever_waits_for_a_result_hears_why_none_came() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let args = [
        "spawn",
        "ada",
        "--wait-result",
        "--",
        "sh",
        "-c",
        "echo no idea; exit 3",
    ];
    let (code, out, err) = run(folder.path(), &args);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("ada ended without a result") && err.contains('3'),
        "{err}"
    );
    assert!(err.contains("no idea"), "{err}");

    let args = ["spawn", "bob", "--wait-result=1s", "--", "cat"];
    let (code, out, err) = run(folder.path(), &args);
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(
        err.contains("no result within 1s") && err.contains("release bob"),
        "{err}"
    );
    assert!(node.agent("bob").is_some(), "it runs on");

    let args = ["spawn", "eve", "--wait-result", "--", "/no/such/program"];
    assert_eq!(run(folder.path(), &args).0, Some(1));
    std::fs::write(folder.path().join("odd.json"), r#"{"type": "objekt"}"#).expect("room");
    let args = ["spawn", "eve", "--result-schema", "odd.json", "--", "cat"];
    let (code, _, err) = run(folder.path(), &args);
    assert_eq!(code, Some(2));
    assert!(
        err.contains("odd.json") && err.contains("/type: must be"),
        "{err}"
    );
}

#[test]
fn a_wrong_result_comes_back_with_its_faults_and_a_late_one_is_refused() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let schema = sum(folder.path());
    let ada = AgentEnv::with(&node, folder.path(), "ada", &["--result-schema", &schema]);
    let bob = AgentEnv::of(&node, folder.path(), "bob");
    let mut tools = McpClient::start(ada.command(folder.path(), &["mcp"]));
    tools.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let listed = tools.hear();
    let list = listed["result"]["tools"].as_array().expect("a list");
    let tool = list.iter().find(|tool| tool["name"] == "submit_result");
    let wanted = &tool.expect("it is wanted")["inputSchema"]["properties"]["data"];
    assert_eq!(wanted["required"], json!(["sum"]));

    let wrong = tools.tool("submit_result", &json!({"data": {"sum": "many", "x": 1}}));
    assert_eq!(wrong["isError"], true);
    let said = wrong["content"][0]["text"].to_string();
    for part in ["/sum must be integer", "must not have `x`"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(node.events("agent_result"), [] as [Value; 0]);
    let right = tools.tool(
        "submit_result",
        &json!({"data": {"sum": 7}, "metadata": "quick"}),
    );
    assert_eq!(right["isError"], false, "{right}");
    let told = node.events("agent_result");
    let id = &right["structuredContent"]["result_id"];
    assert_eq!(
        (&told[0]["result_id"], &told[0]["data"]),
        (id, &json!({"sum": 7}))
    );
    assert_eq!(
        (&told[0]["final"], &told[0]["metadata"]),
        (&json!(true), &json!("quick"))
    );
    let late = tools.tool("submit_result", &json!({"data": {"sum": 8}}));
    assert_eq!(late["isError"], true);
    assert!(
        late["content"][0]["text"].to_string().contains("already"),
        "{late}"
    );

    let mut others = McpClient::start(bob.command(folder.path(), &["mcp"]));
    others.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    assert!(
        !others.hear().to_string().contains("submit_result"),
        "nothing is wanted of bob"
    );
    let unasked = others.tool("submit_result", &json!({"data": 1}));
    assert!(
        unasked["content"][0]["text"]
            .to_string()
            .contains("no result is wanted"),
        "{unasked}"
    );
    let (code, said) = bob.run(
        folder.path(),
        &["submit-result", "{\"sum\": 7}", "--agent", "ada"],
    );
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = bob.run(folder.path(), &["submit-result", "sum"]);
    assert_eq!(code, Some(2), "{said}");
    assert_eq!(node.events("agent_result").len(), 1);
}

#[test]
fn a_result_over_http_needs_the_token_of_its_agent_and_each_refusal_has_its_status() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let schema = sum(folder.path());
    let ada = AgentEnv::with(&node, folder.path(), "ada", &["--result-schema", &schema]);
    let bob = AgentEnv::of(&node, folder.path(), "bob");
    let connection: Value = serde_json::from_slice(
        &std::fs::read(folder.path().join(".relay-broker/connection.json")).expect("readable"),
    )
    .expect("JSON");
    let url = format!(
        "{}/api/agent-result",
        connection["url"].as_str().expect("a URL")
    );
    let post = |token: &str, body: Value| {
        let (status, answer) = http("POST", &url, token, Some(body));
        (
            status,
            answer["code"].as_str().unwrap_or_default().to_owned(),
        )
    };
    let of = |agent: &AgentEnv| agent.get("RELAY_AGENT_TOKEN").to_owned();
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let good = json!({"result": {"sum": 1}, "final_result": true});
    assert_eq!(post("", good.clone()), refused(401, "missing_result_token"));
    assert_eq!(
        post("at_live_0", good.clone()),
        refused(401, "invalid_result_token")
    );
    assert_eq!(
        post(&of(&bob), good.clone()),
        refused(409, "no_result_wanted")
    );
    let named = json!({"name": "ada", "data": {"sum": 1}});
    assert_eq!(
        post(&of(&bob), named.clone()),
        refused(403, "not_permitted")
    );
    assert_eq!(post(&of(&ada), json!({})), refused(400, "invalid_request"));
    assert_eq!(
        post(&of(&ada), json!({"data": 1})),
        refused(400, "result_does_not_fit")
    );
    let nobody = json!({"name": "nobody", "data": {"sum": 1}});
    let (status, answer) = node.call("POST", "/api/agent-result", Some(nobody));
    assert_eq!((status, &answer["code"]), (404, &json!("agent_not_found")));
    assert_eq!(post(&of(&ada), good.clone()).0, 200);
    assert_eq!(
        post(&of(&ada), good.clone()),
        refused(409, "result_is_final")
    );
    let (status, _) = node.call("POST", "/api/agent-result", Some(named));
    assert_eq!(status, 409, "nor has the operator another one for her");

    node.call("DELETE", "/api/spawned/ada", None);
    until("the end of her token", || {
        (post(&of(&ada), good.clone()) == refused(401, "invalid_result_token")).then_some(())
    });
}

/// What an agent allowed to start others has.
fn lead(folder: &Path, node_flags: &[&str]) -> (Node, AgentEnv) {
    let config = "[access]\nagents_may = [\"spawn\"]\n";
    std::fs::write(folder.join("relay-broker.toml"), config).expect("written");
    let node = Node::up(folder, node_flags);
    let ada = AgentEnv::of(&node, folder, "ada");
    (node, ada)
}

#[test]
fn an_agent_calls_another_one_as_a_function_and_is_its_parent() {
    let folder = Scratch::new();
    let dir = folder.path();
    let (node, ada) = lead(dir, &[]);
    let program = handing_in(dir, "three", &["3"]);
    let args = [
        "spawn",
        "kid",
        "--wait-result=30s",
        "--task",
        "count",
        "--",
        &program,
    ];
    let (code, said) = ada.run(dir, &args);
    assert_eq!((code, said.as_str()), (Some(0), "3\n"));
    until("its end", || node.agent("kid").is_none().then_some(()));
    let spawned = node.events("agent_spawned");
    let kid = spawned.iter().find(|event| event["name"] == "kid");
    assert_eq!(kid.expect("told")["parent"], "ada");
    let tasks = node.events("relay_inbound");
    let task = tasks.iter().find(|event| event["target"] == "kid");
    assert_eq!(task.expect("told")["from"], "ada");

    // What the operator started is not its to end.
    node.spawn("bob", &["cat"]);
    node.ready("bob");
    let (code, said) = ada.run(dir, &["release", "bob"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(node.agent("bob").is_some());
}

#[test]
fn an_agent_is_not_started_under_a_name_that_looks_like_the_operators() {
    let folder = Scratch::new();
    let (node, ada) = lead(folder.path(), &["--name", "box"]);
    for name in ["box", "Box", "ada (by operator)"] {
        let args = ["spawn", name, "--", "cat"];
        let (code, said) = ada.run(folder.path(), &args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("operator"), "{said}");
        let (code, _, err) = run(folder.path(), &args);
        assert_eq!(code, Some(1), "{err}");
        assert!(node.agent(name).is_none());
    }
}

#[test]
fn the_engine_inside_lets_agents_do_what_the_broker_lets_them() {
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &[]);
    let ada = AgentEnv::of(&node, folder.path(), "ada");
    node.spawn("bob", &["cat"]);
    node.ready("bob");
    let (base, token) = (ada.get("RELAY_BASE_URL"), ada.get("RELAY_AGENT_TOKEN"));
    for (path, body, right) in [
        ("agents/release", json!({"name": "bob"}), "release"),
        (
            "agents/spawn",
            json!({"name": "eve", "cli": "codex"}),
            "spawn",
        ),
    ] {
        let (status, told) = http("POST", &format!("{base}/v1/{path}"), token, Some(body));
        assert_eq!(status, 403, "{told}");
        let told = told.to_string();
        assert!(
            told.contains(&format!("agents_may = [\\\"{right}\\\"]")),
            "{told}"
        );
    }
    assert!(node.agent("bob").is_some() && node.agent("eve").is_none());
}

#[test]
fn a_task_that_never_arrives_ends_the_wait_for_its_result() {
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &[]);
    let task = "w ".repeat(3000);
    let args = [
        "spawn",
        "ada",
        "--wait-result",
        "--task",
        &task,
        "--",
        "cat",
    ];
    let (code, _, err) = run(folder.path(), &args);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("ada never got its task: "), "{err}");
}

#[test]
fn a_result_may_be_null_and_a_schema_that_nothing_fits_is_refused() {
    let folder = Scratch::new();
    let dir = folder.path();
    let _node = Node::up(dir, &[]);
    let program = handing_in(dir, "nothing", &["null"]);
    let args = ["spawn", "ada", "--wait-result=0s", "--", &program];
    let (code, out, err) = run(dir, &args);
    assert_eq!((code, out.as_str()), (Some(0), "null\n"), "{err}");
    for schema in ["false", "{\"type\": 3}"] {
        let file = dir.join("schema.json");
        std::fs::write(&file, schema).expect("room");
        let file = file.display().to_string();
        let args = [
            "spawn",
            "bob",
            "--wait-result=9s",
            "--result-schema",
            &file,
            "--",
            "cat",
        ];
        let (code, _, err) = run(dir, &args);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(&file), "{err}");
    }
}
