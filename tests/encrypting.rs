//! Engines behind encryption: calls and the link over TLS, with an authority of one's own and without.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::support::{KEY, Node, Scratch, Scripted, command, until};

/// A server in front of an engine that speaks TLS to the outside. Its certificate vouches for itself.
struct Terminator {
    url: String,
    pem: String,
}

fn terminator(engine: &str) -> Terminator {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("usable");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().expect("bound").port()
    );
    let target = engine.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let inside = TcpStream::connect(&target).expect("the engine");
            let connection = ServerConnection::new(config.clone()).expect("usable");
            std::thread::spawn(move || carry(StreamOwned::new(connection, client), inside));
        }
    });
    Terminator {
        url,
        pem: cert.pem(),
    }
}

/// Carries bytes both ways until one side has ended.
fn carry(mut outside: StreamOwned<ServerConnection, TcpStream>, mut inside: TcpStream) {
    let pause = Some(Duration::from_millis(2));
    let _ = (
        outside.sock.set_read_timeout(pause),
        inside.set_read_timeout(pause),
    );
    let mut bytes = vec![0; 64 * 1024];
    let moved = |from: &mut dyn Read, to: &mut dyn Write, bytes: &mut [u8]| match from.read(bytes) {
        Ok(0) => false,
        Ok(n) => to.write_all(&bytes[..n]).and_then(|()| to.flush()).is_ok(),
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    while moved(&mut outside, &mut inside, &mut bytes)
        && moved(&mut inside, &mut outside, &mut bytes)
    {}
}

/// A start that fails: the exit code and what was said.
fn fails(folder: &Scratch, url: &str, bundle: Option<&str>) -> (Option<i32>, String) {
    let args = ["up", "--engine", url, "--workspace-key", KEY];
    let mut command = command(folder.path(), &args);
    command.envs(bundle.map(|path| ("SSL_CERT_FILE", path)));
    let out = command.output().expect("the program starts");
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

#[test]
fn an_engine_behind_an_authority_of_ones_own_is_spoken_to_over_tls_by_calls_and_link() {
    let engine = Scripted::willing();
    let outside = terminator(&engine.url);
    let folder = Scratch::new();
    let bundle = folder.path().join("authority.pem");
    std::fs::write(&bundle, &outside.pem).expect("ours");
    let bundle = bundle.to_str().expect("text");
    let flags = ["--engine", outside.url.as_str(), "--workspace-key", KEY];
    let node = Node::up_in(folder.path(), &flags, &[("SSL_CERT_FILE", bundle)]);
    let mut link = engine.link();
    link.register();
    until("connected", || {
        (node.get("/health")["nodeConnected"] == true).then_some(())
    });
    link.with_agent(&node);
    // More than a record of TLS, a buffer and a socket hold, and many small ones that come together.
    let long = "x".repeat(3000);
    for seq in 1..=200 {
        let text = format!("{seq} {long}");
        link.send(json!({"v": 1, "type": "deliver", "delivery_id": format!("d{seq}"), "agent_id": "7", "agent": "w1",
            "msg_id": format!("m{seq}"), "seq": seq, "mode": "wait",
            "payload": {"type": "dm.received", "data": {"from_name": "lead", "text": text}}}));
    }
    while link.next_of("delivery.ack")["up_to_seq"] != 200 {}
    link.close("bye");
    engine.link().register();
}

#[test]
fn an_engine_whose_certificate_nobody_vouches_for_is_not_spoken_to_and_the_reason_is_said() {
    let engine = Scripted::willing();
    let outside = terminator(&engine.url);
    let folder = Scratch::new();
    let (code, said) = fails(&folder, &outside.url, None);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("certificate"), "{said}");
    assert!(said.contains("SSL_CERT_FILE"), "{said}");
    assert_eq!(engine.requests("/v1/"), [""; 0], "nothing was said to it");
}

#[test]
fn a_bundle_that_cannot_be_read_or_holds_nothing_stops_the_start_and_is_named() {
    let folder = Scratch::new();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "nothing\n").expect("ours");
    for (path, why) in [
        ("/nowhere.pem", "cannot be read"),
        (empty.to_str().expect("text"), "holds no certificate"),
    ] {
        let (code, said) = fails(&folder, "https://localhost:1", Some(path));
        assert_eq!(code, Some(78), "{said}");
        assert!(
            said.contains("SSL_CERT_FILE") && said.contains(path) && said.contains(why),
            "{said}"
        );
    }
}
