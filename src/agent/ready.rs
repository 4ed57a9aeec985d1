//! Is the agent ready to be typed to? By what its terminal does, never by the words of a greeting: a changed greeting
//! must not make a fleet deaf. Knows the rules; the core asks.

use std::time::Duration;

use crate::agent::profile::Profile;
use crate::agent::tty_state::TtyState;
use crate::screen::Modes;
use crate::time::Mono;

/// What a program prints to say by itself that it is ready.
pub const MARKER: &[u8] = b"->pty:ready";
/// Silence after output that counts as "done drawing".
const QUIET: Duration = Duration::from_millis(300);
/// Silence from the start: a program like `cat` says nothing.
const MUTE: Duration = Duration::from_millis(500);

/// How long a program in line mode may leave its terminal unread: a launcher prepares what it is to become.
const LAUNCH: Duration = Duration::from_secs(15);
/// How often to look whether somebody reads by now.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Silence of a program that reads single keys and has no composer: it may be setting one up.
const BARE: Duration = Duration::from_secs(1);
/// Silence after which a picture without the input line that we know is taken for a newer version's.
const STRANGE: Duration = Duration::from_secs(5);

/// What the picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The input line, or nobody knows how it would look.
    Prompt,
    /// Something, but neither the input line nor a menu.
    Strange,
    /// Nothing yet, or a menu.
    Other,
}

/// What was seen since the program started.
#[derive(Debug)]
pub struct ReadyWatch {
    since: Mono,
    last_output: Option<Mono>,
    tail: Vec<u8>,
    marked: bool,
    /// Whether anybody waits for what is typed, and when that was found out.
    awaited: Option<(Mono, Option<bool>)>,
    /// When it was seen not to read lines.
    raw_since: Option<Mono>,
    /// Something stands on the cursor's row before the cursor, as a prompt does.
    pub asks: bool,
    /// When to judge again if nothing happens before.
    pub wake: Mono,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Ready, and why.
    Ready(String),
    /// Quiet enough: look at the terminal's modes and ask again.
    Look,
    /// Find out whether anybody waits for what is typed and ask again.
    Seek,
    /// Not before then, unless something happens.
    Wait(Mono),
}

impl ReadyWatch {
    /// From the moment the program runs.
    pub fn new(since: Mono) -> Self {
        Self {
            since,
            last_output: None,
            tail: Vec::new(),
            marked: false,
            awaited: None,
            raw_since: None,
            asks: false,
            wake: since + MUTE,
        }
    }

    /// Output came.
    pub fn saw(&mut self, now: Mono, bytes: &[u8]) {
        self.last_output = Some(now);
        if self.marked {
            return;
        }
        let keep = MARKER.len() - 1;
        let mut joined = std::mem::take(&mut self.tail);
        joined.extend_from_slice(&bytes[..bytes.len().min(keep)]);
        self.marked = has_marker(&joined) || has_marker(bytes);
        let from = if bytes.len() >= keep { bytes } else { &joined };
        self.tail = from[from.len().saturating_sub(keep)..].to_vec();
    }

    /// Whether anybody waits for what is typed.
    pub fn sought(&mut self, now: Mono, awaited: Option<bool>) {
        self.awaited = Some((now, awaited));
    }

    /// How its terminal is.
    pub fn looked(&mut self, now: Mono, facts: TtyState) {
        if !facts.line_mode {
            self.raw_since.get_or_insert(now);
        }
    }

    /// What was found out may have changed.
    pub fn look_again(&mut self) {
        self.awaited = None;
    }

    /// When so much silence will have passed.
    fn quiet_at(&self, silence: Duration) -> Mono {
        match self.last_output {
            Some(at) => at + silence,
            None => self.since + MUTE,
        }
    }

    /// In line mode the kernel takes what is typed before anybody is there to read it, and a program that sets its terminal
    /// up throws it away. One that has left line mode and has no composer yet may read keys, and throw them away, while it
    /// looks what kind of terminal it has. So silence alone is no readiness there: what to do instead, or `None` where
    /// somebody reads.
    fn launching(
        &self,
        now: Mono,
        profile: &Profile,
        modes: Modes,
        facts: Option<TtyState>,
    ) -> Option<Judgement> {
        let until = self.since + profile.ready_within.max(LAUNCH);
        if profile.composer || now >= until {
            return None;
        }
        let limit = self.since + profile.ready_within;
        let bare_until = self.raw_since.unwrap_or(now) + profile.ready_within;
        let raw = facts.is_some_and(|facts| !facts.line_mode);
        let silence = |at: Mono| (now < at).then_some(Judgement::Wait(at));
        match (facts, self.awaited) {
            // A composer that is still being drawn takes nothing.
            (_, Some((_, awaited))) if raw && awaited != Some(false) => {
                silence(match modes.bracketed_paste {
                    true => self.quiet_at(QUIET).min(until),
                    false => self.quiet_at(BARE).min(bare_until),
                })
            }
            (_, Some((_, Some(true)))) => None,
            (_, Some((at, _))) if now < at + LOOK_AGAIN => {
                // Where nobody can tell, a prompt must do, or time.
                let unknown = matches!(self.awaited, Some((_, None)));
                match unknown && (self.asks || now >= limit) {
                    true => None,
                    false => Some(Judgement::Wait((at + LOOK_AGAIN).min(until))),
                }
            }
            (None, _) => Some(Judgement::Look),
            (Some(_), _) => Some(Judgement::Seek),
        }
    }

    /// The rules, in order. `facts` are those of a look since the last output, if there was one.
    pub fn judge(
        &self,
        now: Mono,
        profile: &Profile,
        modes: Modes,
        sight: Sight,
        facts: Option<TtyState>,
    ) -> Judgement {
        // A known CLI shows it by its input line, and its screen may show the marker in what others wrote.
        if self.marked && !profile.composer {
            return Judgement::Ready("the program said ->pty:ready".into());
        }
        let limit = self.since + profile.ready_within;
        let quiet_at = self.quiet_at(QUIET);
        let composer = modes.bracketed_paste && facts.is_some_and(|f| !f.line_mode);
        if now >= limit {
            if let Some(instead) = self.launching(now, profile, modes, facts) {
                return instead;
            }
            return Judgement::Ready(format!(
                "{} s passed since the start",
                profile.ready_within.as_secs()
            ));
        }
        if now < quiet_at {
            return Judgement::Wait(quiet_at.min(limit));
        }
        if facts.is_none() {
            return Judgement::Look;
        }
        if let Some(instead) = self.launching(now, profile, modes, facts) {
            return instead;
        }
        let prompt = composer && sight == Sight::Prompt;
        let strange_at = self.last_output.unwrap_or(self.since) + STRANGE;
        match (prompt, profile.composer, self.last_output) {
            (true, _, _) => {
                Judgement::Ready("raw mode, bracketed paste and 300 ms of quiet".into())
            }
            (false, true, _) if composer && sight == Sight::Strange => match now < strange_at {
                true => Judgement::Wait(strange_at.min(limit)),
                false => Judgement::Ready("raw mode, bracketed paste and 5 s of quiet".into()),
            },
            (false, true, _) => Judgement::Wait(limit),
            (false, false, Some(_)) => Judgement::Ready("output, then 300 ms of quiet".into()),
            (false, false, None) => Judgement::Ready("no output within 500 ms".into()),
        }
    }
}

fn has_marker(bytes: &[u8]) -> bool {
    bytes.windows(MARKER.len()).any(|w| w == MARKER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::profile::GENERIC;
    use crate::agent::profiles::Profiles;
    use crate::agent::tty_state::Front;

    const RAW: Option<TtyState> = Some(TtyState {
        line_mode: false,
        echo: false,
        enter: Some(b'\r'),
        unread: Some(false),
        front: Front::Own,
    });

    fn at(ms: u64) -> Mono {
        Mono(1) + Duration::from_millis(ms)
    }

    #[test]
    fn the_marker_counts_even_when_it_is_split() {
        for cut in 1..MARKER.len() {
            let mut watch = ReadyWatch::new(at(0));
            watch.saw(at(1), &[b"noise", &MARKER[..cut]].concat());
            assert!(!watch.marked);
            watch.saw(at(2), &MARKER[cut..]);
            assert!(watch.marked, "cut at {cut}");
        }
        let mut watch = ReadyWatch::new(at(0));
        for byte in MARKER {
            watch.saw(at(1), &[*byte]);
        }
        assert!(watch.marked);
    }

    #[test]
    fn a_known_cli_that_shows_somebodys_marker_is_not_ready_for_that() {
        let claude = Profiles::default().by_command(&["claude".into()]);
        let mut watch = ReadyWatch::new(at(0));
        watch.saw(at(1), MARKER);
        let modes = Modes::default();
        let judge = |row| watch.judge(at(2), row, modes, Sight::Other, RAW);
        assert!(matches!(judge(&GENERIC), Judgement::Ready(_)));
        assert!(matches!(judge(&claude), Judgement::Wait(_)));
    }

    #[test]
    fn a_silent_program_is_ready_after_half_a_second() {
        let mut watch = ReadyWatch::new(at(0));
        let modes = Modes::default();
        assert_eq!(
            watch.judge(at(10), &GENERIC, modes, Sight::Prompt, None),
            Judgement::Wait(at(500))
        );
        assert_eq!(
            watch.judge(at(500), &GENERIC, modes, Sight::Prompt, None),
            Judgement::Look
        );
        watch.sought(at(500), Some(true));
        assert!(matches!(
            watch.judge(at(500), &GENERIC, modes, Sight::Prompt, RAW),
            Judgement::Ready(_)
        ));
    }

    /// As some do that look first what kind of terminal they have: what they read meanwhile is gone.
    #[test]
    fn a_program_in_raw_mode_that_may_be_setting_up_its_composer_is_not_ready_for_a_pause() {
        let mut watch = ReadyWatch::new(at(0));
        let judge = |watch: &ReadyWatch, ms, modes| {
            watch.judge(at(ms), &GENERIC, modes, Sight::Prompt, RAW)
        };
        let bare = Modes::default();
        watch.saw(at(3000), b"\x1b[?u\x1b[c");
        assert_eq!(judge(&watch, 3300, bare), Judgement::Seek);
        watch.sought(at(3300), Some(false));
        assert_eq!(judge(&watch, 3300, bare), Judgement::Wait(at(3550)));
        watch.sought(at(3550), Some(true));
        assert_eq!(judge(&watch, 3550, bare), Judgement::Wait(at(4000)));
        assert!(matches!(judge(&watch, 4000, bare), Judgement::Ready(_)));
        watch.sought(at(6000), Some(false));
        assert_eq!(judge(&watch, 6000, bare), Judgement::Wait(at(6250)));
    }

    #[test]
    fn a_composer_of_an_unknown_program_that_is_still_drawn_is_waited_for() {
        let mut watch = ReadyWatch::new(at(0));
        let modes = Modes {
            bracketed_paste: true,
            ..Modes::default()
        };
        let judge =
            |watch: &ReadyWatch, ms| watch.judge(at(ms), &GENERIC, modes, Sight::Prompt, RAW);
        watch.saw(at(5900), b"still drawing");
        assert_eq!(judge(&watch, 6000), Judgement::Seek);
        watch.sought(at(6000), Some(false));
        assert_eq!(judge(&watch, 6000), Judgement::Wait(at(6250)));
        watch.sought(at(6000), Some(true));
        assert_eq!(judge(&watch, 6000), Judgement::Wait(at(6200)));
        assert!(matches!(judge(&watch, 6200), Judgement::Ready(_)));
        watch.saw(at(15_000), b"for ever");
        assert!(matches!(judge(&watch, 15_000), Judgement::Ready(_)));
    }

    #[test]
    fn a_program_that_never_stops_talking_is_ready_after_five_seconds() {
        let mut watch = ReadyWatch::new(at(0));
        watch.saw(at(4990), b"x");
        let modes = Modes::default();
        assert_eq!(
            watch.judge(at(4990), &GENERIC, modes, Sight::Prompt, None),
            Judgement::Wait(at(5000))
        );
        watch.looked(at(100), RAW.expect("facts"));
        watch.sought(at(5000), Some(true));
        assert_eq!(
            watch.judge(at(5000), &GENERIC, modes, Sight::Prompt, RAW),
            Judgement::Wait(at(5100))
        );
        assert!(matches!(
            watch.judge(at(5100), &GENERIC, modes, Sight::Prompt, RAW),
            Judgement::Ready(_)
        ));
    }

    const COOKED: Option<TtyState> = Some(TtyState {
        line_mode: true,
        echo: true,
        enter: Some(b'\r'),
        unread: Some(false),
        front: Front::Own,
    });

    /// A program in line mode at some time, of which it is known whether it waits for input.
    fn in_line_mode(watch: &mut ReadyWatch, ms: u64, awaited: Option<bool>) -> Judgement {
        let judge = |watch: &ReadyWatch| {
            watch.judge(at(ms), &GENERIC, Modes::default(), Sight::Prompt, COOKED)
        };
        watch.look_again();
        match judge(watch) {
            Judgement::Seek => {
                watch.sought(at(ms), awaited);
                judge(watch)
            }
            other => other,
        }
    }

    #[test]
    fn silence_in_line_mode_is_no_readiness_while_nobody_reads() {
        let mut watch = ReadyWatch::new(at(0));
        for ms in [500, 2000, 5000, 14_000] {
            assert_eq!(
                in_line_mode(&mut watch, ms, Some(false)),
                Judgement::Wait(at(ms + 250))
            );
        }
        for (ms, awaited) in [(500, true), (2000, true), (15_000, false)] {
            assert!(matches!(
                in_line_mode(&mut watch, ms, Some(awaited)),
                Judgement::Ready(_)
            ));
        }
    }

    #[test]
    fn where_nobody_can_tell_who_reads_a_prompt_counts_or_time() {
        let mut watch = ReadyWatch::new(at(0));
        watch.saw(at(100), b"Preparing...\r\n");
        assert_eq!(
            in_line_mode(&mut watch, 500, None),
            Judgement::Wait(at(750))
        );
        watch.asks = true;
        assert!(matches!(
            in_line_mode(&mut watch, 500, None),
            Judgement::Ready(_)
        ));
        watch.asks = false;
        assert!(matches!(
            in_line_mode(&mut watch, 5000, None),
            Judgement::Ready(_)
        ));
    }

    #[test]
    fn a_launcher_that_never_stops_talking_is_not_ready_for_that() {
        let mut watch = ReadyWatch::new(at(0));
        watch.saw(at(6000), b"downloading");
        let judge = |watch: &ReadyWatch, facts| {
            watch.judge(at(6000), &GENERIC, Modes::default(), Sight::Prompt, facts)
        };
        assert_eq!(judge(&watch, None), Judgement::Look);
        assert_eq!(judge(&watch, COOKED), Judgement::Seek);
        watch.sought(at(6000), Some(false));
        assert_eq!(judge(&watch, COOKED), Judgement::Wait(at(6250)));
        assert_eq!(
            judge(&watch, None),
            Judgement::Wait(at(6250)),
            "not at each word"
        );
    }

    #[test]
    fn a_known_cli_is_not_ready_before_its_composer_is() {
        let claude = Profiles::default().by_command(&["claude".into()]);
        let mut watch = ReadyWatch::new(at(0));
        let mut modes = Modes::default();
        assert_eq!(
            watch.judge(at(600), &claude, modes, Sight::Prompt, RAW),
            Judgement::Wait(at(30_000))
        );
        watch.saw(at(900), b"\x1b[?2004h");
        modes.bracketed_paste = true;
        assert_eq!(
            watch.judge(at(900), &claude, modes, Sight::Prompt, None),
            Judgement::Wait(at(1200))
        );
        assert_eq!(
            watch.judge(at(1200), &claude, modes, Sight::Prompt, None),
            Judgement::Look
        );
        assert!(matches!(
            watch.judge(at(1200), &claude, modes, Sight::Prompt, RAW),
            Judgement::Ready(_)
        ));
    }

    #[test]
    fn an_input_line_of_a_newer_version_delays_readiness_and_a_menu_prevents_it() {
        let claude = Profiles::default().by_command(&["claude".into()]);
        let mut watch = ReadyWatch::new(at(0));
        watch.saw(at(900), b"\x1b[?2004h");
        let modes = Modes {
            bracketed_paste: true,
            ..Modes::default()
        };
        let judge = |ms, sight| watch.judge(at(ms), &claude, modes, sight, RAW);
        assert_eq!(judge(1200, Sight::Strange), Judgement::Wait(at(5900)));
        assert!(matches!(judge(5900, Sight::Strange), Judgement::Ready(_)));
        assert_eq!(judge(5900, Sight::Other), Judgement::Wait(at(30_000)));
        assert!(matches!(judge(30_000, Sight::Other), Judgement::Ready(_)));
    }
}
