//! When to enrol, connect, ping, give up and try again. Pure: the shell in `socket.rs` does it and tells what came of it.

use std::time::Duration;

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

/// What the shell shall do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
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
                self.state = State::Open { heard: now.mono };
                out.push(Output::Report(LinkReport::Up));
            }
            (State::Opening, Input::OpenFailed { why, unauthorized }) => {
                self.not_opened(now, why, unauthorized, out)
            }
            (State::Open { .. }, Input::Heard { frame }) => {
                if frame {
                    self.refusals = 0;
                    self.failures = 0;
                    self.away_since = None;
                }
                self.state = State::Open { heard: now.mono };
            }
            (State::Open { .. }, Input::Closed { why, superseded }) => {
                let why = if superseded { SUPERSEDED.into() } else { why };
                out.push(Output::Report(LinkReport::Lost(why)));
                self.wait(now, false, superseded);
            }
            (State::Open { .. }, Input::Replaced { why }) => {
                let last = self.replaced_at.replace(now.mono);
                let rival = last.is_some_and(|at| now.mono.since(at) < RIVALRY);
                let why = if rival { SUPERSEDED.into() } else { why };
                out.push(Output::Report(LinkReport::Lost(why)));
                self.wait(now, false, rival);
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
        out.push(Output::Report(LinkReport::Refused(text)));
        self.wait(now, !give_up, give_up);
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
        while now.mono < at(600_000).mono {
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
        assert!(waits.len() < 90, "{} tries in ten minutes", waits.len());
        assert!(
            waits.iter().all(|w| *w <= BACKOFF_MOST)
                && *waits.last().expect("some") >= BACKOFF_MOST / 2
        );
    }

    #[test]
    fn an_engine_that_was_away_for_a_few_seconds_is_found_soon_after_it_is_back() {
        let mut late = Vec::new();
        for seed in 0..101 {
            let mut core = UplinkCore::new(seed, false);
            step(&mut core, at(0), Input::Start { has_token: true });
            let (mut now, back) = (at(0), at(5000));
            while now.mono < back.mono {
                let failed = Input::OpenFailed {
                    why: "refused".into(),
                    unauthorized: false,
                };
                step(&mut core, now, failed);
                let due = core.deadline().expect("it tries again");
                now = Now { mono: due, ..now };
                step(&mut core, now, Input::Tick);
            }
            late.push(now.mono.since(back.mono));
        }
        late.sort();
        assert!(
            late[50] < Duration::from_secs(1),
            "at the median {:?}",
            late[50]
        );
        assert!(
            late[100] < Duration::from_millis(1700),
            "at most {:?}",
            late[100]
        );
    }

    /// N3, N4: a refused token is replaced by one mint, unless the operator gave it.
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

    /// Waits as long as it wants to, and gives what it does then.
    fn next(core: &mut UplinkCore) -> (Mono, Vec<Output>) {
        let due = core.deadline().expect("it goes on");
        let now = Now {
            mono: due,
            ..Now::default()
        };
        (due, step(core, now, Input::Tick))
    }

    fn refused(core: &mut UplinkCore, now: Mono) -> Vec<Output> {
        let now = Now {
            mono: now,
            ..Now::default()
        };
        let input = Input::OpenFailed {
            why: "401".into(),
            unauthorized: true,
        };
        step(core, now, input)
    }

    /// N4: at most five fresh tokens in a row, with growing pauses, and then loud.
    #[test]
    fn five_fresh_tokens_in_a_row_are_asked_for_and_then_no_more_but_trying_goes_on_slowly() {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let mut now = Mono(0);
        let mut minted = 0;
        for _ in 0..20 {
            let said = refused(&mut core, now);
            let (due, orders) = next(&mut core);
            let gave_up = matches!(&said[..], [Output::Report(LinkReport::Refused(why))]
                if why.contains("no more are asked for"));
            if gave_up {
                assert_eq!(orders, [Output::Open], "with the token at hand");
                assert!(due.since(now) >= BACKOFF_MOST / 2, "slowly");
            } else {
                assert_eq!(orders, [Output::Mint]);
                minted += 1;
                assert_eq!(step(&mut core, at(0), Input::Minted), [Output::Open]);
            }
            now = due;
        }
        assert_eq!(minted, REFUSALS_MOST);
    }

    /// How many tokens are asked for while every fresh one is refused, with `between` after each.
    fn minted_with(between: &[Input]) -> u32 {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let mut now = Mono(0);
        let mut minted = 0;
        for _ in 0..20 {
            refused(&mut core, now);
            let (due, mut orders) = next(&mut core);
            now = due;
            if orders == [Output::Mint] {
                minted += 1;
                orders = step(&mut core, at(0), Input::Minted);
            }
            for input in between {
                assert_eq!(orders, [Output::Open]);
                step(&mut core, Now { mono: now, ..at(0) }, input.clone());
                if matches!(core.state, State::Waiting { .. }) {
                    (now, orders) = next(&mut core);
                }
            }
        }
        minted
    }

    /// N4: the count begins anew with an established link, and with nothing less.
    #[test]
    fn only_an_established_link_lets_more_tokens_be_asked_for() {
        let unavailable = Input::OpenFailed {
            why: "503".into(),
            unauthorized: false,
        };
        assert_eq!(
            minted_with(std::slice::from_ref(&unavailable)),
            REFUSALS_MOST
        );
        assert_eq!(
            minted_with(&[unavailable.clone(), unavailable]),
            REFUSALS_MOST
        );
    }

    /// N4: a socket that opens, and closes again before the engine has said a word, proves nothing of the token.
    #[test]
    fn a_link_that_was_never_registered_is_not_established() {
        for (registered, more) in [(false, false), (true, true)] {
            let mut core = UplinkCore::new(1, false);
            step(&mut core, at(0), Input::Start { has_token: true });
            let mut now = Mono(0);
            for _ in 0..REFUSALS_MOST {
                refused(&mut core, now);
                now = next(&mut core).0;
                step(&mut core, at(0), Input::Minted);
            }
            step(&mut core, at(0), Input::Opened);
            step(&mut core, at(0), Input::Heard { frame: registered });
            let closed = Input::Closed {
                why: "go away".into(),
                superseded: false,
            };
            step(&mut core, at(0), closed);
            assert_eq!(next(&mut core).1, [Output::Open]);
            refused(&mut core, now);
            let asks = next(&mut core).1 == [Output::Mint];
            assert_eq!(asks, more, "registered: {registered}");
        }
    }

    /// N4: an engine that gives no token for a while does not make it forget how many were refused.
    #[test]
    fn a_token_that_is_not_to_be_had_does_not_count_as_one_that_was_taken() {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let (mut now, mut minted) = (Mono(0), 0);
        for _ in 0..20 {
            refused(&mut core, now);
            let (due, orders) = next(&mut core);
            now = due;
            if orders != [Output::Mint] {
                continue;
            }
            let failed = Input::MintFailed {
                why: "no".into(),
                refused: false,
            };
            step(&mut core, Now { mono: now, ..at(0) }, failed);
            let (due, orders) = next(&mut core);
            (now, minted) = (due, minted + 1);
            assert_eq!(orders, [Output::Mint]);
            step(&mut core, at(0), Input::Minted);
        }
        assert_eq!(minted, REFUSALS_MOST);
    }

    #[test]
    fn an_engine_that_gives_no_token_is_asked_again_slowly_when_it_said_no_and_soon_when_it_said_nothing()
     {
        for (says_no, least) in [(true, BACKOFF_MOST / 2), (false, Duration::ZERO)] {
            let mut core = UplinkCore::new(1, false);
            assert_eq!(
                step(&mut core, at(0), Input::Start { has_token: false }),
                [Output::Mint]
            );
            let input = Input::MintFailed {
                why: "no".into(),
                refused: says_no,
            };
            let said = step(&mut core, at(0), input);
            let loud = matches!(said[..], [Output::Report(LinkReport::Refused(_))]);
            assert_eq!(loud, says_no);
            let (due, orders) = next(&mut core);
            assert!(due.since(Mono(0)) >= least);
            assert!(says_no || due.since(Mono(0)) <= BACKOFF_FIRST);
            assert_eq!(orders, [Output::Mint]);
        }
    }

    #[test]
    fn a_node_whose_place_another_process_took_says_so_and_stays_away_for_long() {
        let mut core = UplinkCore::new(1, false);
        opened(&mut core);
        let superseded = Input::Closed {
            why: "closed by the other side (1000 superseded)".into(),
            superseded: true,
        };
        let said = step(&mut core, at(1), superseded);
        assert!(
            matches!(&said[..], [Output::Report(LinkReport::Lost(why))] if why.contains("same node id")),
            "{said:?}"
        );
        let (due, orders) = next(&mut core);
        assert!(due.since(at(1).mono) >= BACKOFF_MOST / 2);
        assert_eq!(orders, [Output::Open]);
    }

    /// An engine takes the socket of a node that it has already for a newer one, and closes the one that lives.
    #[test]
    fn a_node_whose_socket_was_replaced_is_back_at_once_and_stays_away_only_from_a_rival() {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let mut waits = Vec::new();
        let mut now = at(0);
        for lived in [1, 100_000, 1000, 90_000] {
            step(&mut core, now, Input::Opened);
            step(&mut core, now, Input::Heard { frame: true });
            now.mono = now.mono + Duration::from_millis(lived);
            let why = "closed by the other side (4000 superseded)".into();
            let said = step(&mut core, now, Input::Replaced { why });
            let loud = matches!(&said[..], [Output::Report(LinkReport::Lost(why))]
                if why.contains("same node id"));
            let (due, orders) = next(&mut core);
            assert_eq!(orders, [Output::Open]);
            let soon = due.since(now.mono) <= BACKOFF_FIRST;
            assert_ne!(soon, loud, "told, and slow, or neither");
            waits.push(soon);
            now.mono = due;
        }
        assert_eq!(waits, [true, true, false, true]);
    }

    #[test]
    fn links_that_open_and_are_never_registered_are_tried_ever_more_rarely() {
        let mut core = UplinkCore::new(1, false);
        step(&mut core, at(0), Input::Start { has_token: true });
        let mut wait = Duration::ZERO;
        let mut now = at(0);
        for _ in 0..80 {
            step(&mut core, now, Input::Opened);
            step(&mut core, now, Input::Heard { frame: false });
            let closed = Input::Closed {
                why: "go away".into(),
                superseded: false,
            };
            step(&mut core, now, closed);
            let (due, _) = next(&mut core);
            wait = due.since(now.mono);
            now = Now {
                mono: due,
                ..Now::default()
            };
        }
        assert!(wait >= BACKOFF_MOST / 2, "{wait:?}");
        step(&mut core, now, Input::Opened);
        step(&mut core, now, Input::Heard { frame: true });
        step(&mut core, now, Input::Reconnect);
        let (due, _) = next(&mut core);
        assert!(
            due.since(now.mono) <= BACKOFF_FIRST,
            "registered: as if new"
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
