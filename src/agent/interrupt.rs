//! What becomes of an Escape that is to interrupt a program: it is read and understood, and the program stops, asks for
//! another, goes on, or begins with the next that waits in it. Judges from what the program says and shows; presses
//! nothing itself.

use std::time::Duration;

use crate::agent::activity::OnScreen;
use crate::agent::verify::Looks;
use crate::time::Mono;

/// From the moment a program has read Escape to the next key: what follows sooner may count as a part of it.
const ALONE: Duration = Duration::from_millis(100);
/// The same where nobody knows how long the program waits for a key that begins with Escape: half a second is usual.
const ALONE_ANYWHERE: Duration = Duration::from_millis(550);
/// Silence that shows that such a program has read Escape and stopped: one that works moves something more often.
const SILENCE: Duration = Duration::from_millis(150);
/// So long after Escape at least.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// Words that stay away so long are gone: a picture may be half drawn.
const GONE: Duration = Duration::from_millis(30);
/// How long a program that wants several may take to ask for the next.
const ASKS_WITHIN: Duration = Duration::from_millis(300);
/// While its screen says that it works: Escape again.
const AGAIN: Duration = Duration::from_millis(600);
/// How long a program that says it works may take to stop.
const STOPS_WITHIN: Duration = Duration::from_millis(800);
/// And one that says so where nobody sees it, though its screen said it at other times.
const DENIED_WITHIN: Duration = Duration::from_millis(300);
/// How soon a program that has stopped begins with what waits in it.
const BEGINS_WITHIN: Duration = Duration::from_millis(400);

/// An Escape that was pressed.
#[derive(Debug)]
pub struct Interrupt {
    /// It is in the terminal when so many bytes are written.
    pub mark: u64,
    pub pressed_at: Mono,
    /// How many turns had begun then.
    pub turns: u64,
    /// What the program said and showed then.
    worked: bool,
    shown: Option<OnScreen>,
    /// The program still wants so many of them, whatever it shows.
    more_due: bool,
    read_at: Option<Mono>,
    rests_since: Option<Mono>,
    gone_since: Option<Mono>,
    looks: Looks,
}

/// What is known at the moment of the question.
#[derive(Clone, Copy, Debug)]
pub struct InterruptView {
    pub now: Mono,
    /// Whether it still waits to be read; `None` where that cannot be known.
    pub unread: Option<bool>,
    /// The program says that it works.
    pub works: bool,
    /// What its screen says.
    pub shown: Option<OnScreen>,
    /// Its screen is known to say that it works when it does.
    pub shows_work: bool,
    /// A turn began since.
    pub begun: bool,
    /// Escape may be pressed again.
    pub again: bool,
    /// The ways of the program are known.
    pub known: bool,
    /// Messages wait in it for their turns.
    pub queue: bool,
    pub last_output: Option<Mono>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InterruptStep {
    /// The program has not read it. Ask again then.
    Unread(Mono),
    /// Ask again then.
    Wait(Mono),
    /// Press it again.
    Again,
    /// It is time to type; whether the program has stopped, as far as anybody can tell.
    Over { stopped: bool },
}

impl Interrupt {
    /// With Escape queued, but not yet in the terminal. `more_due`: the program wants another in any case.
    pub fn new(mark: u64, sight: &InterruptView, turns: u64, more_due: bool) -> Self {
        Self {
            mark,
            pressed_at: sight.now,
            turns,
            worked: sight.works,
            shown: sight.shown,
            more_due,
            read_at: None,
            rests_since: None,
            gone_since: None,
            looks: Looks::new(sight.now),
        }
    }

    /// Judges what is seen once Escape is in the terminal.
    pub fn judge(&mut self, sight: &InterruptView) -> InterruptStep {
        let now = sight.now;
        if sight.unread == Some(true) && self.read_at.is_none() {
            return InterruptStep::Unread(self.looks.next(now));
        }
        let read_at = *self.read_at.get_or_insert(now);
        let alone_at = read_at + ALONE;
        if sight.again && sight.begun {
            return at(now, alone_at, InterruptStep::Again);
        }
        // Whoever asks for another has understood this one.
        let asks = sight.shown == Some(OnScreen::AsksAgain);
        if sight.again && asks && self.shown != Some(OnScreen::AsksAgain) {
            return InterruptStep::Again;
        }
        if let Some(stopped_at) = self.stopped_at(sight) {
            let begins_at = stopped_at + BEGINS_WITHIN;
            let until = if sight.queue { begins_at } else { stopped_at };
            return at(
                now,
                until.max(alone_at),
                InterruptStep::Over { stopped: true },
            );
        }
        let more = sight.again && self.more_due;
        match (sight.shown, sight.works) {
            (Some(_), _) if more => at(now, read_at + ASKS_WITHIN, InterruptStep::Again),
            (Some(_), _) if sight.again => at(now, read_at + AGAIN, InterruptStep::Again),
            _ if more => at(now, alone_at, InterruptStep::Again),
            (None, true) if sight.shows_work => self.gives_up(now, read_at + DENIED_WITHIN),
            (Some(_), _) | (None, true) => self.gives_up(now, read_at + STOPS_WITHIN),
            (None, false) if sight.known => {
                at(now, alone_at, InterruptStep::Over { stopped: true })
            }
            (None, false) => {
                let until = self.pressed_at + ALONE_ANYWHERE;
                at(now, until, InterruptStep::Over { stopped: true })
            }
        }
    }

    fn gives_up(&self, now: Mono, until: Mono) -> InterruptStep {
        at(now, until, InterruptStep::Over { stopped: false })
    }

    /// Since when one of the program's own signs has said that it stopped. Either will do: one may be late, old, or
    /// unknown.
    fn stopped_at(&mut self, sight: &InterruptView) -> Option<Mono> {
        let now = sight.now;
        let rests = self.worked && !sight.works;
        self.rests_since = rests.then(|| self.rests_since.unwrap_or(now));
        let gone = self.shown.is_some() && sight.shown.is_none();
        self.gone_since = gone.then(|| self.gone_since.unwrap_or(now));
        let gone_at = self.gone_since.map(|at| at + GONE);
        let quiet = !sight.known && sight.shown.is_none() && !sight.works;
        let drew = sight
            .last_output
            .filter(|at| quiet && *at > self.pressed_at);
        let silent_at = drew.map(|at| (at + SILENCE).max(self.pressed_at + SILENT_AFTER));
        [self.rests_since, gone_at, silent_at]
            .into_iter()
            .flatten()
            .min()
    }
}

/// That at some time, and until then nothing.
fn at(now: Mono, time: Mono, then: InterruptStep) -> InterruptStep {
    if now >= time {
        then
    } else {
        InterruptStep::Wait(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Mono = Mono(1);

    /// A known CLI that says in its title that it works, and shows it on its screen.
    const BUSY: InterruptView = InterruptView {
        now: START,
        unread: Some(false),
        works: true,
        shown: Some(OnScreen::Works),
        shows_work: true,
        begun: false,
        again: true,
        known: true,
        queue: false,
        last_output: None,
    };

    fn at_ms(ms: u64, sight: InterruptView) -> InterruptView {
        let now = START + Duration::from_millis(ms);
        InterruptView { now, ..sight }
    }

    fn pressed(sight: InterruptView) -> Interrupt {
        Interrupt::new(1, &sight, 0, false)
    }

    /// When it is over, or pressed again, if the program shows `then` from some time on.
    fn ends(
        mut escape: Interrupt,
        first: InterruptView,
        from: u64,
        then: InterruptView,
    ) -> (u64, InterruptStep) {
        for ms in 0..3000 {
            let sight = if ms < from { first } else { then };
            match escape.judge(&at_ms(ms, sight)) {
                InterruptStep::Wait(_) | InterruptStep::Unread(_) => {}
                end => return (ms, end),
            }
        }
        panic!("no end");
    }

    const STOPPED: InterruptStep = InterruptStep::Over { stopped: true };
    const WENT_ON: InterruptStep = InterruptStep::Over { stopped: false };

    #[test]
    fn either_sign_of_rest_is_enough_and_a_late_one_holds_nothing_up() {
        let words_gone = InterruptView {
            shown: None,
            ..BUSY
        };
        assert_eq!(ends(pressed(BUSY), BUSY, 120, words_gone), (150, STOPPED));
        let at_rest = InterruptView {
            works: false,
            ..BUSY
        };
        assert_eq!(ends(pressed(BUSY), BUSY, 120, at_rest), (120, STOPPED));
        let both = InterruptView {
            shown: None,
            works: false,
            ..BUSY
        };
        assert_eq!(ends(pressed(BUSY), BUSY, 10, both), (100, STOPPED));
    }

    #[test]
    fn a_half_drawn_picture_is_no_sign_of_rest() {
        let mut escape = pressed(BUSY);
        escape.judge(&BUSY);
        let blank = InterruptView {
            shown: None,
            ..BUSY
        };
        for ms in [100, 200, 300] {
            assert_eq!(
                escape.judge(&at_ms(ms, blank)),
                InterruptStep::Wait(START + Duration::from_millis(ms + 30))
            );
            assert!(matches!(
                escape.judge(&at_ms(ms + 20, BUSY)),
                InterruptStep::Wait(_)
            ));
        }
    }

    #[test]
    fn a_title_that_says_work_and_a_screen_that_denies_it_hold_the_message_up_shortly() {
        let odd = InterruptView {
            shown: None,
            ..BUSY
        };
        assert_eq!(ends(pressed(odd), odd, 0, odd), (300, WENT_ON));
        let titles_only = InterruptView {
            shows_work: false,
            ..odd
        };
        assert_eq!(
            ends(pressed(titles_only), titles_only, 0, titles_only),
            (800, WENT_ON)
        );
    }

    #[test]
    fn a_program_without_signs_gets_time_to_take_escape_for_a_key_of_its_own() {
        let silent = InterruptView {
            shown: None,
            works: false,
            ..BUSY
        };
        assert_eq!(ends(pressed(silent), silent, 0, silent), (100, STOPPED));
        let unknown = InterruptView {
            known: false,
            again: false,
            ..silent
        };
        assert_eq!(ends(pressed(unknown), unknown, 0, unknown), (550, STOPPED));
        let drew = InterruptView {
            last_output: Some(START + Duration::from_millis(80)),
            ..unknown
        };
        assert_eq!(ends(pressed(unknown), unknown, 80, drew), (230, STOPPED));
        // Its own words are the better sign.
        let works = InterruptView {
            shown: Some(OnScreen::Works),
            ..unknown
        };
        assert_eq!(ends(pressed(works), works, 40, unknown), (100, STOPPED));
        assert_eq!(ends(pressed(works), works, 0, works), (800, WENT_ON));
    }

    #[test]
    fn nothing_is_decided_before_escape_is_read() {
        let unread = InterruptView {
            unread: Some(true),
            ..BUSY
        };
        let rests = InterruptView {
            shown: None,
            works: false,
            ..BUSY
        };
        assert_eq!(ends(pressed(BUSY), unread, 700, rests), (800, STOPPED));
    }

    #[test]
    fn a_program_that_asks_for_another_gets_it_at_once_and_one_that_does_not_later() {
        let asks = InterruptView {
            shown: Some(OnScreen::AsksAgain),
            ..BUSY
        };
        let two = || Interrupt::new(1, &BUSY, 0, true);
        assert_eq!(ends(two(), BUSY, 40, asks), (40, InterruptStep::Again));
        assert_eq!(ends(two(), BUSY, 0, BUSY), (300, InterruptStep::Again));
        assert_eq!(
            ends(pressed(asks), asks, 0, asks),
            (600, InterruptStep::Again)
        );
        let no_more = InterruptView {
            again: false,
            ..asks
        };
        assert_eq!(ends(pressed(no_more), no_more, 0, no_more), (800, WENT_ON));
    }

    #[test]
    fn a_program_that_begins_with_what_waits_in_it_is_interrupted_again() {
        let queue = InterruptView {
            queue: true,
            ..BUSY
        };
        let rests = InterruptView {
            works: false,
            shown: None,
            ..queue
        };
        let begins = InterruptView {
            begun: true,
            ..queue
        };
        let mut escape = pressed(queue);
        assert!(matches!(
            escape.judge(&at_ms(110, rests)),
            InterruptStep::Wait(_)
        ));
        assert_eq!(escape.judge(&at_ms(300, begins)), InterruptStep::Again);
        assert_eq!(ends(pressed(queue), queue, 110, rests), (510, STOPPED));
    }
}
