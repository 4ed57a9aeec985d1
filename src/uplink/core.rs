//! When to enrol, connect, ping, give up and try again. Pure: the driver in `socket.rs` does it and tells what came of it.

use std::time::Duration;

use crate::machine::{Machine, Out};
use crate::msg::LinkReport;
use crate::prng::Prng;
use crate::time::{Mono, Now};

/// The first try after a loss comes within this.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// And later ones at most this far apart.
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// An engine that is away for less than this is probably being restarted, and everybody waits for it.
const RESTART: Duration = Duration::from_secs(60);
/// During that time the doubling stops here, at 1.6 s.
const FAILURES_IN_RESTART: u32 = 4;
/// Without any inbound byte for this long the link is black-holed ([engine-protocol 3.1](crate::docs::engine_protocol#3.1):
/// what upstream uses).
pub const READ_IDLE: Duration = Duration::from_secs(48);
/// After this many refused tokens without an established link between them no more are asked for: each kills the one
/// before it, and the fault is elsewhere.
const REFUSALS_MOST: u32 = 5;
/// Who is put out twice within this time is put out by somebody who does it again and again.
const RIVALRY: Duration = Duration::from_secs(60);
/// What people are told when another process has our node id.
const SUPERSEDED: &str = "another process took this node's place at the engine: it has the same node id, from a copy of \
     this folder or its RELAY_NODE_ID; stop one of the two";

/// What the link's thread saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The thread runs; whether a token is at hand already.
    Start {
        /// Given by the operator, or cached.
        has_token: bool,
    },
    /// A token was minted, or found.
    Minted,
    /// No token to be had now.
    MintFailed {
        /// For people.
        why: String,
        /// The engine said no, rather than nothing.
        refused: bool,
    },
    /// The socket is open.
    Opened,
    /// It did not open.
    OpenFailed {
        /// For people.
        why: String,
        /// With HTTP 401: the token is no good.
        unauthorized: bool,
    },
    /// Something came in: a frame, a ping, a pong.
    Heard {
        /// It was the reply to a request of ours, so the engine took our registration, which goes before all others.
        frame: bool,
    },
    /// The socket is gone.
    Closed {
        /// For people.
        why: String,
        /// Another process took our place.
        superseded: bool,
    },
    /// The engine closed the socket because it has another one of this node, which may be an earlier one of ours: a hosted
    /// variant says so with the code 4000 where others let the newer socket be
    /// ([engine-protocol 3.10](crate::docs::engine_protocol#3.10)).
    Replaced {
        /// For people.
        why: String,
    },
    /// The dispatcher wants another link.
    Reconnect,
    /// A deadline passed.
    Tick,
}

/// What the link's thread shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Get another token than the one at hand: from the cache if another process has kept one there, else from the engine.
    Mint,
    /// Open the socket with the token at hand, or a newer one from the cache.
    Open,
    /// Close the socket.
    Drop,
    /// Tell the dispatcher.
    Report(LinkReport),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Minting,
    Opening,
    Open { heard: Mono },
    Waiting { until: Mono, mint: bool },
}

/// See the module.
#[derive(Debug)]
pub struct UplinkCore {
    state: State,
    has_token: bool,
    /// The operator pinned the token: nothing better can be minted.
    pinned: bool,
    failures: u32,
    /// When the first of these failures was.
    away_since: Option<Mono>,
    refusals: u32,
    /// When the engine last preferred another socket of this node.
    replaced_at: Option<Mono>,
    prng: Prng,
}

/// Without durable state: what it knows is worth nothing to the next life.
impl Machine for UplinkCore {
    type Event = Event;
    type Record = ();
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Out<(), Effect>) {
        self.react(now, event, &mut out.effects);
    }

    fn replay(&mut self, (): &()) {}

    fn snapshot(&self) -> Option<()> {
        None
    }

    fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Open { heard } => Some(heard + READ_IDLE),
            State::Waiting { until, .. } => Some(until),
            State::Idle | State::Minting | State::Opening => None,
        }
    }
}

impl UplinkCore {
    /// `seed` spreads a fleet's retries; `pinned` forbids minting.
    pub fn new(seed: u64, pinned: bool) -> Self {
        Self {
            state: State::Idle,
            has_token: false,
            pinned,
            failures: 0,
            away_since: None,
            refusals: 0,
            replaced_at: None,
            prng: Prng::new(seed),
        }
    }

    fn react(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        match (self.state, event) {
            (State::Idle, Event::Start { has_token }) => {
                self.has_token = has_token;
                self.advance(out);
            }
            (State::Minting, Event::Minted) => {
                self.has_token = true;
                self.advance(out);
            }
            (State::Minting, Event::MintFailed { why, refused }) => {
                let report = if refused {
                    LinkReport::Refused(why)
                } else {
                    LinkReport::Lost(why)
                };
                out.push(Effect::Report(report));
                self.wait(now, true, refused);
            }
            (State::Opening, Event::Opened) => {
                self.state = State::Open { heard: now.mono };
                out.push(Effect::Report(LinkReport::Up));
            }
            (State::Opening, Event::OpenFailed { why, unauthorized }) => {
                self.not_opened(now, why, unauthorized, out)
            }
            (State::Open { .. }, Event::Heard { frame }) => {
                if frame {
                    self.refusals = 0;
                    self.failures = 0;
                    self.away_since = None;
                }
                self.state = State::Open { heard: now.mono };
            }
            (State::Open { .. }, Event::Closed { why, superseded }) => {
                let why = if superseded { SUPERSEDED.into() } else { why };
                out.push(Effect::Report(LinkReport::Lost(why)));
                self.wait(now, false, superseded);
            }
            (State::Open { .. }, Event::Replaced { why }) => {
                let last = self.replaced_at.replace(now.mono);
                let rival = last.is_some_and(|at| now.mono.since(at) < RIVALRY);
                let why = if rival { SUPERSEDED.into() } else { why };
                out.push(Effect::Report(LinkReport::Lost(why)));
                self.wait(now, false, rival);
            }
            (State::Open { .. }, Event::Reconnect) => {
                self.hang_up(now, "starting over to have mail sent again", out)
            }
            (State::Open { heard }, Event::Tick) if now.mono >= heard + READ_IDLE => {
                self.hang_up(now, "the engine has been silent for 48 s", out);
            }
            (State::Waiting { until, mint }, Event::Tick) if now.mono >= until => {
                self.has_token &= !mint;
                self.advance(out);
            }
            // Whatever else comes belongs to a state that is over.
            (
                _,
                Event::Start { .. }
                | Event::Minted
                | Event::MintFailed { .. }
                | Event::Opened
                | Event::OpenFailed { .. }
                | Event::Heard { .. }
                | Event::Closed { .. }
                | Event::Replaced { .. }
                | Event::Reconnect
                | Event::Tick,
            ) => {}
        }
    }

    fn advance(&mut self, out: &mut Vec<Effect>) {
        if self.has_token || self.pinned {
            self.state = State::Opening;
            out.push(Effect::Open);
        } else {
            self.state = State::Minting;
            out.push(Effect::Mint);
        }
    }

    fn not_opened(&mut self, now: Now, why: String, unauthorized: bool, out: &mut Vec<Effect>) {
        if !unauthorized {
            out.push(Effect::Report(LinkReport::Lost(why)));
            self.wait(now, false, false);
            return;
        }
        self.refusals = self.refusals.saturating_add(1);
        let give_up = self.pinned || self.refusals > REFUSALS_MOST;
        let text = match (self.pinned, give_up) {
            (true, _) => format!(
                "{why}; the given node token is no good, give a valid one (RELAY_NODE_TOKEN)"
            ),
            (false, true) => format!(
                "{why}; {REFUSALS_MOST} fresh tokens in a row were refused, so no more are asked for; \
                 trying now and then"
            ),
            (false, false) => format!("{why}; asking for a new node token"),
        };
        out.push(Effect::Report(LinkReport::Refused(text)));
        self.wait(now, !give_up, give_up);
    }

    fn hang_up(&mut self, now: Now, why: &str, out: &mut Vec<Effect>) {
        out.push(Effect::Drop);
        out.push(Effect::Report(LinkReport::Lost(why.into())));
        self.wait(now, false, false);
    }

    fn wait(&mut self, now: Now, mint: bool, long: bool) {
        let base = if long {
            BACKOFF_MOST
        } else {
            (BACKOFF_FIRST * 2u32.pow(self.failures.min(9))).min(BACKOFF_MOST)
        };
        self.failures = self.failures.saturating_add(1);
        let away_since = *self.away_since.get_or_insert(now.mono);
        if now.mono.since(away_since) < RESTART {
            self.failures = self.failures.min(FAILURES_IN_RESTART);
        }
        self.state = State::Waiting {
            until: now.mono + self.prng.jitter(base),
            mint,
        };
    }
}

#[cfg(test)]
mod tests;
