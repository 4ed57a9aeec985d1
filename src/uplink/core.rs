//! When to enrol, connect, ping, give up and try again. Pure: the shell in `socket.rs` does it and tells what came of it.

use std::time::Duration;

use crate::msg::LinkReport;
use crate::prng::Prng;
use crate::time::{Mono, Now};

/// The first try after a loss comes within this.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// And later ones at most this far apart.
const BACKOFF_MOST: Duration = Duration::from_secs(30);
/// Without any inbound byte for this long the link is black-holed (engine-wire 3.1: what upstream uses).
pub const READ_IDLE: Duration = Duration::from_secs(48);
/// After this many refused tokens in a row, minting stops being the first thing tried.
const REFUSALS_MOST: u32 = 5;

/// What the shell saw.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
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
        /// It was a frame, so the engine took our registration.
        frame: bool,
    },
    /// The socket is gone.
    Closed {
        /// For people.
        why: String,
        /// Another process took our place.
        superseded: bool,
    },
    /// The dispatcher wants another link.
    Reconnect,
    /// A deadline passed.
    Tick,
}

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Ask the engine for a token; the pinned one, if any, is no good.
    Mint,
    /// Open the socket with the token at hand.
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
    refusals: u32,
    prng: Prng,
}

impl UplinkCore {
    /// `seed` spreads a fleet's retries; `pinned` forbids minting.
    pub fn new(seed: u64, pinned: bool) -> Self {
        Self {
            state: State::Idle,
            has_token: false,
            pinned,
            failures: 0,
            refusals: 0,
            prng: Prng::new(seed),
        }
    }

    /// When it wants [`Input::Tick`].
    pub fn deadline(&self) -> Option<Mono> {
        match self.state {
            State::Open { heard } => Some(heard + READ_IDLE),
            State::Waiting { until, .. } => Some(until),
            State::Idle | State::Minting | State::Opening => None,
        }
    }

    /// Takes one input and says what to do.
    pub fn step(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        match (self.state, input) {
            (State::Idle, Input::Start { has_token }) => {
                self.has_token = has_token;
                self.advance(out);
            }
            (State::Minting, Input::Minted) => {
                self.has_token = true;
                self.advance(out);
            }
            (State::Minting, Input::MintFailed { why, refused }) => {
                let report = if refused {
                    LinkReport::Refused(why)
                } else {
                    LinkReport::Lost(why)
                };
                out.push(Output::Report(report));
                self.wait(now, true, refused);
            }
            (State::Opening, Input::Opened) => {
                self.refusals = 0;
                self.state = State::Open { heard: now.mono };
                out.push(Output::Report(LinkReport::Up));
            }
            (State::Opening, Input::OpenFailed { why, unauthorized }) => {
                self.not_opened(now, why, unauthorized, out)
            }
            (State::Open { .. }, Input::Heard { frame }) => {
                if frame {
                    self.failures = 0;
                }
                self.state = State::Open { heard: now.mono };
            }
            (State::Open { .. }, Input::Closed { why, superseded }) => {
                if superseded {
                    let why = "another process took this node's place at the engine (same node id)";
                    out.push(Output::Report(LinkReport::Refused(why.into())));
                }
                out.push(Output::Report(LinkReport::Lost(why)));
                self.wait(now, false, superseded);
            }
            (State::Open { .. }, Input::Reconnect) => {
                self.hang_up(now, "starting over to have mail sent again", out)
            }
            (State::Open { heard }, Input::Tick) if now.mono >= heard + READ_IDLE => {
                self.hang_up(now, "the engine has been silent for 48 s", out);
            }
            (State::Waiting { until, mint }, Input::Tick) if now.mono >= until => {
                self.has_token &= !mint;
                self.advance(out);
            }
            // Whatever else comes belongs to a state that is over.
            _ => {}
        }
    }

    fn advance(&mut self, out: &mut Vec<Output>) {
        if self.has_token || self.pinned {
            self.state = State::Opening;
            out.push(Output::Open);
        } else {
            self.state = State::Minting;
            out.push(Output::Mint);
        }
    }

    fn not_opened(&mut self, now: Now, why: String, unauthorized: bool, out: &mut Vec<Output>) {
        if !unauthorized {
            out.push(Output::Report(LinkReport::Lost(why)));
            self.wait(now, false, false);
            return;
        }
        self.refusals += 1;
        let give_up = self.pinned || self.refusals > REFUSALS_MOST;
        let text = match (self.pinned, give_up) {
            (true, _) => format!(
                "{why}; the given node token is no good, give a valid one (RELAY_NODE_TOKEN)"
            ),
            (false, true) => format!("{why}; {REFUSALS_MOST} fresh tokens in a row were refused"),
            (false, false) => format!("{why}; asking for a new node token"),
        };
        out.push(Output::Report(LinkReport::Refused(text)));
        self.wait(now, !self.pinned, give_up);
    }

    fn hang_up(&mut self, now: Now, why: &str, out: &mut Vec<Output>) {
        out.push(Output::Drop);
        out.push(Output::Report(LinkReport::Lost(why.into())));
        self.wait(now, false, false);
    }

    fn wait(&mut self, now: Now, mint: bool, long: bool) {
        let base = if long {
            BACKOFF_MOST
        } else {
            (BACKOFF_FIRST * 2u32.pow(self.failures.min(9))).min(BACKOFF_MOST)
        };
        self.failures += 1;
        self.state = State::Waiting {
            until: now.mono + self.prng.jitter(base),
            mint,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now {
            mono: Mono(ms * 1_000_000),
            ..Now::default()
        }
    }

    fn step(core: &mut UplinkCore, now: Now, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        core.step(now, input, &mut out);
        out
    }

    fn opened(core: &mut UplinkCore) {
        assert_eq!(
            step(core, at(0), Input::Start { has_token: true }),
            [Output::Open]
        );
        assert_eq!(
            step(core, at(1), Input::Opened),
            [Output::Report(LinkReport::Up)]
        );
    }

    #[test]
    fn a_lost_link_is_tried_again_within_a_tenth_of_a_second() {
        let mut core = UplinkCore::new(7, false);
        opened(&mut core);
        step(&mut core, at(2), Input::Heard { frame: true });
        step(
            &mut core,
            at(1000),
            Input::Closed {
                why: "reset".into(),
                superseded: false,
            },
        );
        let due = core.deadline().expect("it tries again");
        assert!(due <= at(1100).mono, "due {due:?}");
        assert_eq!(
            step(
                &mut core,
                Now {
                    mono: due,
                    ..Now::default()
                },
                Input::Tick
            ),
            [Output::Open]
        );
    }

    #[test]
    fn an_engine_that_stays_away_is_asked_ever_more_rarely_but_at_least_every_half_minute() {
        let mut core = UplinkCore::new(7, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..20 {
            step(
                &mut core,
                now,
                Input::OpenFailed {
                    why: "refused".into(),
                    unauthorized: false,
                },
            );
            let due = core.deadline().expect("it tries again");
            waits.push(due.since(now.mono));
            now = Now { mono: due, ..now };
            assert_eq!(step(&mut core, now, Input::Tick), [Output::Open]);
        }
        assert!(waits[0] <= BACKOFF_FIRST);
        assert!(
            waits.iter().all(|w| *w <= BACKOFF_MOST)
                && *waits.last().expect("20") >= BACKOFF_MOST / 2
        );
    }

    #[test]
    fn a_refused_token_is_minted_anew_and_a_pinned_one_is_not() {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        step(
            &mut core,
            at(1),
            Input::OpenFailed {
                why: "401".into(),
                unauthorized: true,
            },
        );
        let due = core.deadline().expect("it goes on");
        assert_eq!(
            step(
                &mut core,
                Now {
                    mono: due,
                    ..Now::default()
                },
                Input::Tick
            ),
            [Output::Mint]
        );

        let mut pinned = UplinkCore::new(1, true);
        step(&mut pinned, at(0), Input::Start { has_token: true });
        step(
            &mut pinned,
            at(1),
            Input::OpenFailed {
                why: "401".into(),
                unauthorized: true,
            },
        );
        let due = pinned.deadline().expect("it goes on");
        assert!(due >= at(15_000).mono, "slowly");
        assert_eq!(
            step(
                &mut pinned,
                Now {
                    mono: due,
                    ..Now::default()
                },
                Input::Tick
            ),
            [Output::Open]
        );
    }

    #[test]
    fn a_black_holed_link_is_noticed() {
        let mut core = UplinkCore::new(1, false);
        opened(&mut core);
        assert!(
            step(&mut core, at(40_000), Input::Tick).is_empty(),
            "not yet"
        );
        let out = step(&mut core, at(48_002), Input::Tick);
        assert_eq!(out[0], Output::Drop);
        assert!(matches!(out[1], Output::Report(LinkReport::Lost(_))));
    }
}
