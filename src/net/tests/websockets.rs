//! WebSockets on the server.

use super::*;

fn socket(w: &World) -> tungstenite::WebSocket<TcpStream> {
    let stream = TcpStream::connect(w.server.addr()).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let request = format!("ws://{}/socket", w.server.addr())
        .into_client_request()
        .expect("an address");
    tungstenite::client(request, stream).expect("a handshake").0
}

#[test]
fn websockets_take_no_place_from_callers_and_one_too_many_is_told_how_many_there_may_be() {
    let w = world(ServerLimits {
        connections: 1,
        sockets: 3,
        ..ServerLimits::default()
    });
    let _links: Vec<_> = (0..3).map(|_| socket(&w)).collect();
    let mut caller = Client::of(&w);
    caller.say("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(caller.hear().1, "GET / [] ");
    caller.say(
        "GET /socket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    let (status, body) = caller.hear();
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains("all 3 WebSockets"), "{body}");
}

#[test]
fn a_websocket_is_opened_and_echoes() {
    let w = world(ServerLimits::default());
    let mut s = socket(&w);
    s.send(Message::text("hello")).expect("open");
    assert_eq!(s.read().expect("open"), Message::text("hello"));
    s.close(None).expect("open");
    assert!(s.read().expect("their goodbye").is_close());
}

#[test]
fn a_message_over_the_limit_closes_the_websocket_with_1009() {
    let w = world(ServerLimits {
        frame_bytes: 100,
        ..ServerLimits::default()
    });
    let mut s = socket(&w);
    s.send(Message::binary(vec![0; 100])).expect("open");
    assert_eq!(s.read().expect("open").len(), 100);
    s.send(Message::binary(vec![0; 101])).expect("open");
    match s.read().expect("a close") {
        Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1009),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_path_that_is_a_websocket_tells_a_plain_client_so() {
    let w = world(ServerLimits::default());
    let (status, body) = ask(&w, "GET /socket HTTP/1.1\r\n\r\n");
    assert_eq!(status, "HTTP/1.1 426 Upgrade Required");
    assert!(body.contains("ws://"), "{body}");
    let old = "GET /socket HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n";
    assert!(ask(&w, old).0.contains("426"));
    let keyless = old.replace("Version: 8", "Version: 13");
    assert!(ask(&w, &keyless).0.contains("400"));
}

#[test]
fn stopping_wakes_everybody_and_lets_answers_finish() {
    let w = world(ServerLimits::default());
    let mut idle = Client::of(&w);
    idle.say("GET / HTTP/1.1\r\n\r\n").hear();
    let mut s = socket(&w);
    let mut busy = Client::of(&w);
    busy.say("GET /wait HTTP/1.1\r\n\r\n");
    w.begun.recv_timeout(PATIENCE).expect("it is at work");
    w.go.send(()).expect("it waits");
    let began = clock::now().mono;
    drop(w.server);
    assert!(clock::now().mono.since(began) < Duration::from_secs(2));
    assert_eq!(busy.hear().1, "done");
    assert_eq!(idle.ends(), "");
    assert!(s.read().is_err());
}

#[test]
fn a_closed_link_says_why() {
    let (send, told) = bounded(1);
    struct Once(Sender<Option<(u16, String)>>);
    impl Handler for Once {
        fn handle(&self, _: Request) -> HandlerOutcome {
            let told = self.0.clone();
            HandlerOutcome::Upgrade(Box::new(move |socket| {
                let wake = Wake::new().expect("descriptors");
                let mut link = WebSocketLink::new(socket);
                loop {
                    match link.next() {
                        Err(LinkError::Closed(why)) => return told.send(why).expect("test waits"),
                        Err(e) => panic!("{e}"),
                        Ok(_) => link.wait(&wake, None).expect("poll"),
                    }
                }
            }))
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let server = Server::start(
        "test",
        listener,
        ServerLimits::default(),
        Arc::new(Once(send)),
    )
    .expect("threads");
    let stream = TcpStream::connect(server.addr()).expect("connect");
    let (mut s, _) =
        tungstenite::client(format!("ws://{}/", server.addr()), stream).expect("a handshake");
    s.close(Some(tungstenite::protocol::CloseFrame {
        code: 4001.into(),
        reason: "enough".into(),
    }))
    .expect("open");
    s.flush().expect("open");
    let why = told.recv_timeout(PATIENCE).expect("the link ends");
    assert_eq!(why, Some((4001, "enough".to_owned())));
}
