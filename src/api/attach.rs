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
use super::server::Api;
use super::stream::{Beat, broken, code, need_socket, say, upgrade};
use super::{routes, terminal};
use crate::hub::Subscription;
use crate::ids::AgentName;
use crate::lines::{AgentInput, Chunk, Line};
use crate::msg::{ApiCall, Reply, Size};
use crate::net::{Link, LinkError, Outcome, Request};
use crate::wire::local::Snapshot;

/// How long a picture may take.
const PICTURE_LIMIT: Duration = Duration::from_secs(5);

/// A client's text frame.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Order {
    Resize {
        rows: u16,
        cols: u16,
    },
    #[serde(other)]
    Other,
}

/// Output from a picture on.
struct View {
    output: Subscription<Chunk>,
    picture: Snapshot,
    screen: Vec<u8>,
}

impl View {
    /// Listens first and looks then: what is written in between is in both, and cut off by its offset.
    fn open(api: &Api, name: &AgentName, line: &Line) -> Result<Self, ApiError> {
        let output = line.output.subscribe(None).map_err(|e| {
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
enum End {
    /// The agent went away.
    Gone,
    /// The client fell behind.
    Lagged,
}

/// An attached client's own rights and place.
struct Seat {
    name: AgentName,
    line: Line,
    /// Whether it may type.
    drives: bool,
}

/// `GET /api/attach/{name}?rows=&cols=&mode=drive|view`.
pub(crate) fn attach(
    api: &Arc<Api>,
    name: Option<&str>,
    request: &Request,
) -> Result<Outcome, ApiError> {
    let (name, line) = terminal::line(api, name)?;
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
    if let Some(size) = size {
        terminal::resize(&line, size)?;
    }
    let view = View::open(api, &name, &line)?;
    let seat = Seat { name, line, drives };
    let api = api.clone();
    let what = format!("an attachment to {}", seat.name);
    Ok(upgrade(what, move |link| follow(link, &api, &seat, view)))
}

fn follow(
    link: &mut Link<TcpStream>,
    api: &Api,
    seat: &Seat,
    mut view: View,
) -> Result<(), LinkError> {
    let mut beat = Beat::new();
    loop {
        match show(link, &mut beat, seat, view)? {
            End::Gone => break,
            // Another life under the same name is not the terminal that was asked for.
            End::Lagged if !seat.is_current(api) => break,
            End::Lagged => match View::open(api, &seat.name, &seat.line) {
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
    link: &mut Link<TcpStream>,
    beat: &mut Beat,
    seat: &Seat,
    view: View,
) -> Result<End, LinkError> {
    let View {
        output,
        picture,
        screen,
    } = view;
    say(
        link,
        &json!({"type": "attached", "name": seat.name, "rows": picture.rows, "cols": picture.cols,
                "offset": picture.offset}),
    )?;
    link.send(Message::binary(screen))?;
    loop {
        while let Some(message) = link.next()? {
            beat.heard();
            seat.obey(message);
        }
        while !link.has_unsent() {
            match output.items.try_recv() {
                Ok(chunk) => {
                    let news = after(&chunk, picture.offset);
                    if !news.is_empty() {
                        link.send(Message::binary(news.to_vec()))?;
                    }
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) if output.lagged() => return Ok(End::Lagged),
                Err(TryRecvError::Disconnected) => return Ok(End::Gone),
            }
        }
        let sleep = beat.keep(link)?;
        link.wait(&output.items, Some(sleep)).map_err(broken)?;
        output.items.clear();
    }
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
        let line = api.context.lines.get(&self.name);
        line.is_some_and(|line| line.run == self.line.run)
    }

    /// Does what a client's frame says. If the agent's thread is wedged this waits, and with it this client alone; if the
    /// thread is gone, its output has ended too and the loop will notice there.
    fn obey(&self, message: Message) {
        let input = match message {
            Message::Binary(bytes) if self.drives => AgentInput::Type {
                bytes: bytes.to_vec(),
                done: None,
            },
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(Order::Resize { rows, cols }) => match routes::size(rows, cols) {
                    Ok(size) => AgentInput::Resize(size),
                    Err(_) => return,
                },
                Ok(Order::Other) | Err(_) => return,
            },
            _ => return,
        };
        let _ = self.line.input.send(input);
    }
}

/// `POST /api/resize/{name}`.
pub(crate) fn resize(
    api: &Api,
    name: Option<&str>,
    request: &Request,
) -> Result<serde_json::Value, ApiError> {
    let size = routes::resize(request)?;
    let (name, line) = terminal::line(api, name)?;
    let Some(Size { rows, cols }) = size else {
        // Nobody owns the size here, so there is nothing to give up.
        return Ok(json!({"name": name, "applied": true, "released": true, "resized": false}));
    };
    terminal::resize(&line, Size { rows, cols })?;
    Ok(
        json!({"name": name, "rows": rows, "cols": cols, "applied": true, "released": false, "resized": true}),
    )
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
