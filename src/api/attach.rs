//! A terminal over one WebSocket: the picture as it is, then everything the program writes, byte by byte; keys and sizes
//! the other way. A client that cannot keep up gets a fresh picture instead of a broken one.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crossbeam_channel::TryRecvError;
use serde::Deserialize;
use serde_json::json;
use tungstenite::Message;

use super::render::ApiError;
use super::routes::ResizeWish;
use super::state::Api;
use super::stream::{Beat, broken, code, need_socket, say, upgrade};
use super::{routes, terminal};
use crate::ids::AgentName;
use crate::msg::{ApiCall, Reply};
use crate::net::{HandlerOutcome, LinkError, Request, WebSocketLink};
use crate::pubsub::Subscription;
use crate::registry::{AgentHandle, AgentInput, Chunk, Visitor};
use crate::screen::Unasked;
use crate::screen::keys::{Keyboard, Piece};
use crate::sys::clock;
use crate::time::Mono;
use crate::wire::local::Snapshot;

/// How long a picture may take.
const PICTURE_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of a terminal's sequence may take until its beginning counts as keys: Escape alone is one, too.
const SEQUENCE: Duration = Duration::from_millis(50);
/// The longest name of a visitor.
const WHO_MAX: usize = 64;

/// A client's text frame.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Order {
    Resize { rows: u16, cols: u16 },
}

/// Output from a picture on.
struct View {
    output: Subscription<Chunk>,
    picture: Snapshot,
    screen: Vec<u8>,
}

impl View {
    /// Listens first and looks then: what is written in between is in both, and cut off by its offset.
    fn open(api: &Api, name: &AgentName, handle: &AgentHandle) -> Result<Self, ApiError> {
        let output = handle.output.subscribe(None).map_err(|e| {
            ApiError::new(503, "no_descriptors", format!("cannot attach: {e}")).retryable()
        })?;
        let call = ApiCall::Snapshot {
            name: name.clone(),
            ansi: true,
        };
        let picture = match api.ask(call, PICTURE_LIMIT)? {
            Reply::Snapshot(picture) => picture,
            other => return Err(ApiError::confused(&other)),
        };
        let screen = STANDARD.decode(&picture.screen).map_err(|e| {
            ApiError::new(
                500,
                "internal_error",
                format!("the picture is damaged: {e}"),
            )
        })?;
        Ok(Self {
            output,
            picture,
            screen,
        })
    }
}

/// How one view of a terminal ended.
enum ViewEnd {
    /// The agent went away.
    Gone,
    /// The client fell behind.
    Lagged,
}

/// An attached client's own rights and place, given up when it is dropped.
struct Seat {
    name: AgentName,
    handle: AgentHandle,
    number: u64,
    /// Whether it may type.
    drives: bool,
    /// Who was there when it came.
    others: Vec<Visitor>,
    keyboard: Keyboard,
    /// When the beginning of a sequence counts as keys.
    rest_due: Option<Mono>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.handle.seats.leave(self.number, &self.handle.input);
    }
}

/// `GET /api/attach/{name}?rows=&cols=&mode=drive|view`.
pub(crate) fn attach(
    api: &Arc<Api>,
    name: Option<&str>,
    request: &Request,
) -> Result<HandlerOutcome, ApiError> {
    let (name, handle) = terminal::lookup(api, name)?;
    let drives = match request.query("mode") {
        None | Some("drive") => true,
        Some("view") => false,
        Some(other) => {
            return Err(ApiError::invalid(format!(
                "the mode {other:?} is unknown; use \"drive\" or \"view\""
            )));
        }
    };
    let size = routes::size_of_query(request)?;
    need_socket(request)?;
    let who = request.query("who");
    let visitor = Visitor {
        who: who.map(|who| who.chars().take(WHO_MAX).collect()),
        drives,
        size,
    };
    let mut seat = Seat::take(name, handle, visitor)?;
    let view = View::open(api, &seat.name, &seat.handle)?;
    let api = api.clone();
    let what = format!("an attachment to {}", seat.name);
    Ok(upgrade(what, move |link| {
        follow(link, &api, &mut seat, view)
    }))
}

fn follow(
    link: &mut WebSocketLink<TcpStream>,
    api: &Api,
    seat: &mut Seat,
    mut view: View,
) -> Result<(), LinkError> {
    let mut beat = Beat::new();
    loop {
        match show(link, &mut beat, seat, view)? {
            ViewEnd::Gone => break,
            // Another life under the same name is not the terminal that was asked for.
            ViewEnd::Lagged if !seat.is_current(api) => break,
            ViewEnd::Lagged => match View::open(api, &seat.name, &seat.handle) {
                Ok(fresh) => view = fresh,
                Err(e) if e.code == "agent_not_found" => break,
                Err(e) => {
                    link.close(
                        code::TRY_AGAIN,
                        "too slow, and no fresh picture; attach again",
                    );
                    return Err(LinkError::Broken(e.message));
                }
            },
        }
    }
    say(link, &json!({"type": "gone"}))?;
    link.close(code::NORMAL, "the agent is gone");
    Ok(())
}

/// Shows the picture and what follows it, until the agent or the client's patience ends.
fn show(
    link: &mut WebSocketLink<TcpStream>,
    beat: &mut Beat,
    seat: &mut Seat,
    view: View,
) -> Result<ViewEnd, LinkError> {
    let View {
        output,
        picture,
        screen,
    } = view;
    let mut attached = json!({"type": "attached", "name": seat.name, "rows": picture.rows,
                              "cols": picture.cols, "offset": picture.offset});
    if !seat.others.is_empty() {
        attached["others"] = seat.others.iter().map(introduce).collect();
    }
    say(link, &attached)?;
    // The broker has answered what the program asks; the viewer's terminal is not asked again.
    let mut unasked = Unasked::default();
    link.send(Message::binary(unasked.pass(&screen)))?;
    loop {
        while let Some(message) = link.next()? {
            beat.heard();
            seat.obey(message);
        }
        while !link.has_unsent() {
            match output.items.try_recv() {
                Ok(chunk) => {
                    let news = unasked.pass(after(&chunk, picture.offset));
                    if !news.is_empty() {
                        link.send(Message::binary(news))?;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if output.lagged() => return Ok(ViewEnd::Lagged),
                Err(TryRecvError::Disconnected) => return Ok(ViewEnd::Gone),
            }
        }
        let sleep = beat.keep(link)?.min(seat.patience());
        link.wait(&output.items, Some(sleep)).map_err(broken)?;
        output.items.clear();
        seat.give_up_waiting();
    }
}

/// A visitor as the others see him.
fn introduce(visitor: &Visitor) -> serde_json::Value {
    let mode = if visitor.drives { "drive" } else { "view" };
    json!({"who": visitor.who, "mode": mode})
}

/// The part of a chunk that a picture with this offset does not hold yet.
fn after(chunk: &Chunk, offset: u64) -> &[u8] {
    let new = chunk.offset.saturating_sub(offset);
    let new = usize::try_from(new).unwrap_or(usize::MAX);
    &chunk.bytes[chunk.bytes.len() - new.min(chunk.bytes.len())..]
}

impl Seat {
    /// Whether the agent is still the one attached to.
    fn is_current(&self, api: &Api) -> bool {
        let handle = api.context.registry.get(&self.name);
        handle.is_some_and(|handle| handle.run == self.handle.run)
    }

    /// Seats a client, and makes its terminal fit.
    fn take(name: AgentName, handle: AgentHandle, visitor: Visitor) -> Result<Self, ApiError> {
        let drives = visitor.drives;
        let taken = handle.seats.take(visitor, &handle.input);
        let (number, others) = taken.map_err(terminal::refused)?;
        Ok(Self {
            name,
            handle,
            number,
            drives,
            others,
            keyboard: Keyboard::default(),
            rest_due: None,
        })
    }

    /// Does what a client's frame says.
    fn obey(&mut self, message: Message) {
        match message {
            Message::Binary(bytes) if self.drives => {
                // What its terminal reports of itself is no key of anybody.
                let pieces = self.keyboard.read(&bytes);
                self.press(pieces.into_iter().flat_map(Piece::into_bytes).collect());
                let waits = self.keyboard.waits();
                self.rest_due = waits.then(|| clock::now().mono + SEQUENCE);
            }
            Message::Text(text) => {
                if let Ok::<Order, _>(order) = serde_json::from_str(&text) {
                    self.order(order);
                }
            }
            _ => {}
        }
    }

    fn order(&self, order: Order) {
        match order {
            Order::Resize { rows, cols } => {
                if let Ok(size) = routes::size(rows, cols) {
                    let handle = &self.handle;
                    let _ = handle.seats.resize(self.number, size, &handle.input);
                }
            }
        }
    }

    /// If the agent's thread is wedged this waits, and with it this client alone; if the thread is gone, its output has ended
    /// too and the loop will notice there.
    fn press(&self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            let _ = self
                .handle
                .input
                .send(AgentInput::Type { bytes, done: None });
        }
    }

    /// How long the rest of a sequence may still take.
    fn patience(&self) -> Duration {
        let due = self.rest_due;
        due.map_or(Duration::MAX, |at| at.since(clock::now().mono))
    }

    fn give_up_waiting(&mut self) {
        if self.rest_due.is_some() && self.patience().is_zero() {
            self.rest_due = None;
            let keys = self.keyboard.give_up();
            self.press(keys);
        }
    }
}

/// `POST /api/resize/{name}`.
pub(crate) fn resize(
    api: &Api,
    name: Option<&str>,
    request: &Request,
) -> Result<serde_json::Value, ApiError> {
    let ResizeWish {
        size,
        session,
        release,
    } = routes::resize(request)?;
    let (name, handle) = terminal::lookup(api, name)?;
    let now = clock::now().mono;
    let may = match (&session, size) {
        (None, _) => true,
        (Some(session), Some(_)) => handle.seats.claim(session, now),
        (Some(session), None) => handle.seats.may_claim(session, now),
    };
    if let Some(size) = size.filter(|_| may) {
        terminal::resize(&handle, size)?;
    }
    let released = release
        && match &session {
            Some(session) => handle.seats.give_up(session),
            // Who does not say who he is owns no size, and takes it from nobody.
            None => handle.seats.may_claim("", now),
        };
    let now = handle.seats.size();
    Ok(json!({
        "name": name,
        "rows": now.rows,
        "cols": now.cols,
        "applied": may,
        "released": released,
        "resized": may && size.is_some(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_picture_holds_is_not_shown_twice() {
        let chunk = Chunk {
            bytes: Arc::from(&b"abcd"[..]),
            offset: 10,
        };
        assert_eq!(after(&chunk, 0), b"abcd");
        assert_eq!(after(&chunk, 6), b"abcd");
        assert_eq!(after(&chunk, 8), b"cd");
        assert_eq!(after(&chunk, 10), b"");
        assert_eq!(after(&chunk, 99), b"");
    }
}
