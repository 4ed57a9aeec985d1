//! The link to an engine: what goes over it first, what may come over it, and how it is had again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use serde_json::json;
use tungstenite::Message;

use crate::support::{KEY, Link, Node, Scratch, Scripted, until};

fn refused_frames(node: &Node) -> u64 {
    let status = node.get("/api/status");
    status["counters"]["engine_frames_refused"]
        .as_u64()
        .expect("a number")
}

#[test]
fn whatever_an_engine_sends_the_node_passes_over_what_it_cannot_read_and_keeps_the_link() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let mut link = engine.link();
    link.register();
    let junk = [
        "",
        "{",
        "[]",
        "null",
        "{\"v\":1}",
        "{\"v\":2,\"type\":\"deliver\"}",
        "{\"v\":\"1\",\"type\":\"ping\"}",
        "{\"v\":1,\"type\":5}",
        "{\"v\":1,\"type\":\"planet.aligned\"}",
        "{\"v\":1,\"type\":\"deliver\",\"agent\":\"w1\"}",
        "{\"v\":1,\"type\":\"deliver\",\"agent\":\"w1\",\"msg_id\":\"m\",\"seq\":-1}",
        "{\"v\":1,\"type\":\"deliver\",\"agent\":{},\"msg_id\":\"m\",\"seq\":1}",
        "{\"v\":1,\"type\":\"action.invoke\"}",
    ];
    for text in junk {
        link.say(Message::text(text));
    }
    link.say(Message::text("[".repeat(200_000)));
    link.say(Message::text(format!(
        "{{\"v\":1,\"type\":\"ping\",\"pad\":\"{}\"}}",
        "x".repeat(5 * 1024 * 1024)
    )));
    link.say(Message::binary(vec![0xff; 100]));
    let count = junk.len() as u64 + 3;
    until("all of it counted", || {
        (refused_frames(&node) == count).then_some(())
    });
    // What is optional to us may be wrong or missing; these are frames all the same.
    for frame in [
        json!({"v": 1, "type": "error"}),
        json!({"v": 1, "type": "reply", "id": 7, "ok": "yes"}),
        json!({"v": 1, "type": "context.update", "channel_id": 5, "agent_ids": "x", "data": []}),
        json!({"v": 1, "type": "deliver", "delivery_id": null, "agent_id": 5, "agent": "../../x", "msg_id": "m",
            "seq": 1, "mode": 7, "payload": "text"}),
        json!({"v": 1, "type": "action.invoke", "invocation_id": "i1", "action": "release", "agent_name": null,
            "agent_id": 9, "input": {"name": "../../etc"}}),
    ] {
        link.send(frame);
    }
    let answer = link.next_of("action.result");
    assert_eq!(answer["invocation_id"], "i1", "{answer}");
    assert_eq!(refused_frames(&node), count);
    assert_eq!(node.get("/health")["nodeConnected"], true);
    assert!(
        node.events("node_link")
            .iter()
            .all(|e| e["connected"] == true)
    );
    let log = std::fs::read_to_string(folder.path().join("stderr.log")).expect("a log");
    let said = log
        .lines()
        .filter(|line| line.contains("passed over"))
        .count();
    assert!((1..=6).contains(&said), "each kind once: {log}");
    assert!(!folder.path().join("x").exists());
}

#[test]
fn messages_that_are_too_large_become_dead_letters_and_what_comes_behind_them_is_read() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let mut link = engine.link();
    link.register();
    // As an engine writes it: what it is and for whom comes before the words (engine-protocol 3.5).
    for (seq, mib) in [(1, 5), (2, 20)] {
        let words = "x".repeat(mib << 20);
        link.say(Message::text(format!(
            r#"{{"v":1,"type":"deliver","delivery_id":"d{seq}","agent_id":"7","agent":"w1","msg_id":"m{seq}","seq":{seq},
            "mode":"wait","payload":{{"type":"dm.received","data":{{"from_name":"lead","text":"{words}"}}}}}}"#
        )));
    }
    let words = "x".repeat(5 << 20);
    link.say(Message::text(format!(
        r#"{{"v":1,"type":"action.invoke","invocation_id":"i1","action":"echo","input":"{words}"}}"#
    )));
    let answer = link.next_of("action.result");
    assert!(
        answer["error"].as_str().unwrap_or("").contains("too_large"),
        "{answer}"
    );
    let letters = until("both", || {
        let letters = node.events("dead_letter_added");
        (letters.len() == 2).then_some(letters)
    });
    for letter in letters {
        assert_eq!(letter["from"], "lead");
        let reason = letter["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("4 MiB"), "{letter}");
    }
    assert!(
        node.events("node_link")
            .iter()
            .all(|e| e["connected"] == true)
    );
}

#[test]
fn a_frame_that_nobody_sends_ends_the_link_and_the_node_comes_back() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &engine.flags());
    let mut link = engine.link();
    link.register();
    // The head of a frame of 2^40 bytes; nothing of that size may be made room for.
    let mut raw = vec![0x81, 127];
    raw.extend_from_slice(&(1u64 << 40).to_be_bytes());
    link.raw(&raw);
    engine.link().register();
}

#[test]
fn a_node_whose_place_was_taken_says_so() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let mut link = engine.link();
    link.register();
    link.close("superseded");
    let why = until("it says so", || {
        let why = node.get("/health")["degradedReason"].as_str()?.to_owned();
        why.contains("same node id").then_some(why)
    });
    assert!(why.contains("another process"), "{why}");
}

/// H4: the same process is back at once, as the instance that it was.
#[test]
fn a_node_whose_socket_a_hosted_engine_replaced_is_back_at_once_as_the_same_instance() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let six = json!({"accepted_capabilities": []});
    let mut link = engine.link();
    let plain = link.next();
    assert_eq!(
        plain["provider"],
        json!(null),
        "the engine may be an old one"
    );
    link.reply(&plain, six.clone());
    let named = link.next_of("node.register");
    link.reply(&named, six.clone());
    link.next_of("node.heartbeat");
    let hung_up = Instant::now();
    link.close_with(4000, "superseded");
    let mut link = engine.link();
    let again = link.next();
    assert!(hung_up.elapsed().as_secs() < 3, "{:?}", hung_up.elapsed());
    assert_eq!(again["provider"], named["provider"]);
    assert!(again["provider"]["instance_id"].is_string(), "{again}");
    link.reply(&again, six);
    until("ready again", || {
        (node.get("/health")["nodeConnected"] == true).then_some(())
    });
}

#[test]
fn each_new_link_begins_with_the_registration_whatever_the_last_one_left_behind() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    for n in 0..20 {
        let mut link = engine.link();
        link.register();
        // Much to answer at the very end of the link.
        for i in 0..50 {
            link.send(
                json!({"v": 1, "type": "action.invoke", "invocation_id": format!("i{n}-{i}"),
                "action": "release", "input": {"name": "nobody"}}),
            );
        }
        link.close("bye");
    }
    drop(node);
}

/// H1, H5: a heartbeat has these fields and no other, and no time; a stop says first that nobody serves, and at last that
/// the node leaves.
#[test]
fn a_node_that_stops_says_first_that_nobody_serves_here_and_at_last_that_it_leaves() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let flags = [
        &engine.flags()[..],
        &["--harness", "cat", "--name", "box", "--max-agents", "4"],
    ]
    .concat();
    let node = Node::up(folder.path(), &flags);
    let mut link = engine.link();
    let id = link.register()["node_id"].clone();
    link.with_agent(&node);
    let beat = loop {
        let beat = link.next_of("node.heartbeat");
        if beat["active_agents"] == 1 {
            break beat;
        }
    };
    let mut expected = json!({"v": 1, "type": "node.heartbeat", "name": "box", "node_id": id,
        "capabilities": [{"name": "spawn:cat", "kind": "capacity"}], "max_agents": 4,
        "version": concat!("relay-broker/", env!("CARGO_PKG_VERSION")), "load": 0.25, "active_agents": 1,
        "handlers_live": true});
    assert_eq!(beat, expected);

    let last = std::thread::scope(|scope| {
        let stop = scope.spawn(|| node.process.stop());
        let mut frames = vec![link.next()];
        while frames
            .last()
            .is_some_and(|frame| frame["type"] != "node.deregister")
        {
            frames.push(link.next());
        }
        assert_eq!(stop.join().expect("no panic"), Some(0));
        frames
    });
    expected["handlers_live"] = json!(false);
    assert_eq!(last[0], expected, "before the agents are told");
    assert!(
        !last.iter().any(|frame| frame["handlers_live"] == true),
        "{last:?}"
    );
}

/// N10: neither at a start, nor for agents and their mail, nor on a new link.
#[test]
fn nothing_opens_the_socket_that_is_there_for_other_clients() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let node = Node::up(folder.path(), &engine.flags());
    let mut link = engine.link();
    link.register();
    link.with_agent(&node);
    link.send(json!({"v": 1, "type": "deliver", "delivery_id": "d1", "agent_id": "7", "agent": "w1", "msg_id": "m1",
        "seq": 1, "mode": "wait", "payload": {"type": "dm.received", "data": {"from_name": "lead", "text": "hello"}}}));
    while link.next_of("delivery.ack")["up_to_seq"] != 1 {}
    link.close("bye");
    engine.link().register();
    assert!(!engine.requests("/v1/").is_empty(), "it keeps count");
    assert_eq!(engine.requests("/v1/ws"), [""; 0]);
}

/// An engine behind a proxy that is the only way to it: what callers of the proxy want, and what comes of it.
fn proxy_to(engine: &str) -> (String, crossbeam_channel::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "http://ann:secret@{}",
        listener.local_addr().expect("bound")
    );
    let target = engine.trim_start_matches("http://").to_owned();
    let (told, asked) = crossbeam_channel::unbounded();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let (target, told) = (target.clone(), told.clone());
            std::thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if client.read_exact(&mut byte).is_err() {
                        return;
                    }
                    head.push(byte[0]);
                }
                let _ = told.send(String::from_utf8_lossy(&head).into_owned());
                let mut server = TcpStream::connect(target).expect("the engine");
                let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                let (mut back, mut forth) = (
                    server.try_clone().expect("descriptors"),
                    client.try_clone().expect("descriptors"),
                );
                std::thread::spawn(move || std::io::copy(&mut back, &mut forth));
                let _ = std::io::copy(&mut client, &mut server);
            });
        }
    });
    (url, asked)
}

#[test]
fn an_engine_behind_a_proxy_is_reached_through_it_over_http_and_websocket() {
    let engine = Scripted::willing();
    let (proxy, asked) = proxy_to(&engine.url);
    let folder = Scratch::new();
    let flags = [
        "--engine",
        "http://engine.invalid:8787",
        "--workspace-key",
        KEY,
    ];
    let variables = [
        ("HTTP_PROXY", proxy.as_str()),
        ("NO_PROXY", "other.invalid"),
    ];
    let node = Node::up_in(folder.path(), &flags, &variables);
    let mut link = engine.link();
    link.register();
    until("ready", || {
        (node.get("/health")["nodeConnected"] == true).then_some(())
    });
    let tunnels: Vec<_> = asked.try_iter().collect();
    assert!(tunnels.len() >= 2, "calls and the link");
    for head in tunnels {
        assert!(head.starts_with("CONNECT engine.invalid:8787 "), "{head}");
        let login = head
            .to_lowercase()
            .contains("proxy-authorization: basic yw5uonnly3jlda==");
        assert!(login, "{head}");
    }
}

#[test]
#[ignore = "measures; run it alone, in release"]
fn figures() {
    let engine = Scripted::willing();
    let folder = Scratch::new();
    let _node = Node::up(folder.path(), &engine.flags());
    let mut times = Vec::new();
    let mut link: Link = engine.link();
    link.register();
    for _ in 0..20 {
        // What the node has to say at a start is over.
        link.next_of("node.heartbeat");
        link.close("bye");
        let lost = Instant::now();
        link = engine.link();
        link.register();
        times.push(lost.elapsed());
    }
    times.sort();
    println!(
        "registered again after: median {:?}, most {:?}",
        times[10], times[19]
    );
}
