//! Engines behind encryption: calls and the link over TLS, with an authority of one's own and without.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
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
    terminate(engine, cert.der().clone(), key, cert.pem())
}

/// The same for a name elsewhere, with a certificate that an authority of one's own has signed.
fn behind_an_authority(engine: &str, name: &str) -> Terminator {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let keys = KeyPair::generate().expect("made");
    let pem = authority.self_signed(&keys).expect("made").pem();
    let issuer = Issuer::new(authority, keys);
    let keys = KeyPair::generate().expect("made");
    let server = CertificateParams::new([name.to_owned()]).expect("a name");
    let server = server.signed_by(&keys, &issuer).expect("made");
    let key = PrivateKeyDer::Pkcs8(keys.serialize_der().into());
    terminate(engine, server.der().clone(), key, pem)
}

/// The same as [`terminator`] with a certificate that is an authority's, as `openssl req -x509` makes it.
fn an_authority_itself(engine: &str) -> Terminator {
    let mut authority = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let keys = KeyPair::generate().expect("made");
    let certificate = authority.self_signed(&keys).expect("made");
    let key = PrivateKeyDer::Pkcs8(keys.serialize_der().into());
    terminate(engine, certificate.der().clone(), key, certificate.pem())
}

fn terminate(
    engine: &str,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
) -> Terminator {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
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
    Terminator { url, pem }
}

/// An HTTP proxy: its URL, and what it was asked for. Every tunnel ends at `target`, whatever its name.
fn proxy(target: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (target, told) = (target.to_owned(), asked.clone());
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && client.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let line = head.lines().next().unwrap_or_default().to_owned();
            told.lock().expect("no panic").push(line);
            let Ok(inside) = TcpStream::connect(&target) else {
                continue;
            };
            let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            for (mut from, mut to) in [
                (client.try_clone(), inside.try_clone()),
                (inside.try_clone(), client.try_clone()),
            ]
            .into_iter()
            .filter_map(|(from, to)| from.ok().zip(to.ok()))
            {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
            }
        }
    });
    (url, asked)
}

/// The name of an engine that only the proxy knows.
const ELSEWHERE: &str = "engine.internal";

#[test]
fn an_engine_behind_a_proxy_and_an_authority_of_ones_own_is_reached_by_calls_and_link() {
    let engine = Scripted::willing();
    let outside = behind_an_authority(&engine.url, ELSEWHERE);
    let (by, asked) = proxy(outside.url.trim_start_matches("https://"));
    let folder = Scratch::new();
    std::fs::write(folder.path().join("ca.pem"), &outside.pem).expect("ours");
    let url = format!("https://{ELSEWHERE}:8443");
    let flags = ["--engine", &url, "--workspace-key", KEY];
    let proxied = ("HTTPS_PROXY", by.as_str());
    let settings = [
        (vec!["--ca-file", "ca.pem"], vec![proxied], ""),
        (
            vec![],
            vec![proxied, ("RELAY_BROKER_CA_FILE", "ca.pem")],
            "",
        ),
        (vec![], vec![proxied], "[engine]\nca_file = \"ca.pem\"\n"),
    ];
    for (more, variables, file) in settings {
        std::fs::write(folder.path().join("relay-broker.toml"), file).expect("ours");
        let node = Node::up_in(folder.path(), &[&flags[..], &more].concat(), &variables);
        let mut link = engine.link();
        link.register();
        until("connected", || {
            (node.get("/health")["nodeConnected"] == true).then_some(())
        });
        assert_eq!(node.process.stop(), Some(0));
    }
    let asked = asked.lock().expect("no panic").clone();
    let wanted = format!("CONNECT {ELSEWHERE}:8443 HTTP/1.1");
    assert!(
        asked.len() > 2 && asked.iter().all(|line| *line == wanted),
        "{asked:?}"
    );
}

#[test]
fn an_authority_that_does_not_vouch_is_named_with_its_file_and_the_way_out() {
    let engine = Scripted::willing();
    let outside = behind_an_authority(&engine.url, ELSEWHERE);
    let (by, _) = proxy(outside.url.trim_start_matches("https://"));
    let another = behind_an_authority(&engine.url, ELSEWHERE);
    let folder = Scratch::new();
    std::fs::write(folder.path().join("other.pem"), &another.pem).expect("ours");
    let url = format!("https://{ELSEWHERE}:8443");
    let up = ["up", "--engine", &url, "--workspace-key", KEY];
    let fails = |more: &[&str]| {
        let mut up = command(folder.path(), &[&up[..], more].concat());
        let out = up.env("HTTPS_PROXY", &by).output().expect("it starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), said)
    };
    let (code, said) = fails(&["--ca-file", "other.pem"]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("--ca-file other.pem does not vouch"),
        "{said}"
    );
    let (code, said) = fails(&[]);
    assert_eq!(code, Some(69), "{said}");
    assert!(
        said.contains("with --ca-file or in SSL_CERT_FILE"),
        "{said}"
    );
    let (code, said) = fails(&["--ca-file", "missing.pem"]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("--ca-file names missing.pem, which cannot be read"),
        "{said}"
    );
    let file = "[engine]\n\nca_file = \"missing.pem\"\n";
    std::fs::write(folder.path().join("relay-broker.toml"), file).expect("ours");
    let (code, said) = fails(&[]);
    assert_eq!(code, Some(78), "{said}");
    assert!(
        said.contains("relay-broker.toml:3") && said.contains("missing.pem"),
        "{said}"
    );
    assert_eq!(engine.requests("/v1/"), [""; 0], "nothing was said to it");
}

#[test]
fn an_engine_that_shows_an_authoritys_own_certificate_is_told_so_with_the_way_out() {
    let engine = Scripted::willing();
    let outside = an_authority_itself(&engine.url);
    let folder = Scratch::new();
    std::fs::write(folder.path().join("ca.pem"), &outside.pem).expect("ours");
    let args = [
        "up",
        "--engine",
        &outside.url,
        "--workspace-key",
        KEY,
        "--ca-file",
        "ca.pem",
    ];
    let out = command(folder.path(), &args).output().expect("it starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(69), "{said}");
    assert!(
        said.contains("shows an authority's own certificate") && said.contains("CA:FALSE"),
        "{said}"
    );
    assert!(!said.contains("does not vouch"), "{said}");
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
