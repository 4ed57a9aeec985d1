//! May a message be typed now? Not into a dialog, not behind words that somebody else has typed, not while a person is
//! typing. Looks and answers; the core writes and reports.

use std::time::Duration;

use crate::agent::dialog;
use crate::agent::keys::HumanInput;
use crate::agent::profile::Profile;
use crate::agent::prompt::{self, Focus};
use crate::agent::tty_state::TtyState;
use crate::agent::verify::plain;
use crate::screen::Screen;
use crate::time::{Mono, soonest};
use crate::wire::event::Dialog;

/// What is in the way this long is reported: pictures half drawn pass sooner.
const SHUT: Duration = Duration::from_secs(2);
/// A person who has pressed no key for so long has stopped typing.
pub const HANDS_OFF: Duration = Duration::from_secs(2);
/// Words left in the input line this long are put aside, where the CLI can.
const LEFT: Duration = Duration::from_secs(10);
/// Silence after which a composer that came up is taken to be drawn.
const REDRAWN: Duration = Duration::from_millis(300);
/// How often to look for a composer that is not there: changes of the terminal's settings are told by nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How often once that was reported.
const LOOK_LATER: Duration = Duration::from_secs(1);

/// So many letters of a message's end are enough to know it by.
const LONG: usize = 200;
/// The most rows of it that are taken away.
const ROWS: u16 = 40;

/// What is known at the moment of the question.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    pub now: Mono,
    pub facts: TtyState,
    /// What the screen shows to have the keyboard.
    pub focus: Focus,
    pub screen: &'a Screen,
    pub profile: &'a Profile,
    pub last_output: Option<Mono>,
    pub hands: HumanInput,
    /// The message is to interrupt.
    pub steer: bool,
    /// This program's input line was seen before, so it is known when it is not there.
    pub known: bool,
    /// Another process group than the agent's own has the terminal.
    pub foreign: bool,
    /// The agent itself reads lines and shows nothing of them.
    pub mute: bool,
    /// A message has landed, and the program has yet to say that it works on it.
    pub begins: bool,
    /// Messages that landed.
    pub ours: &'a [String],
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateAnswer {
    /// Go on.
    Type,
    /// Put the line that stands there aside with these keys, and ask again.
    Stash(Vec<u8>),
    /// Not now; ask again then, or when something happens.
    Wait(Mono),
    /// As `Wait`, and it is time to say what is in the way.
    Blocked(Mono, String),
}

/// One message's wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    shut_since: Option<Mono>,
    left_since: Option<Mono>,
    stashed: bool,
    /// How many rows of ours were taken away.
    cleared: u16,
}

/// Whether the words in the input line are a message of ours that the program has put back, as some do with what is
/// interrupted early, and nobody has changed them. Of one that is `begun` to be taken away its beginning is left.
fn is_ours(scene: Scene<'_>, begun: bool) -> bool {
    let standing = scene
        .profile
        .prompt
        .and_then(|prompt| prompt::standing(scene.screen, prompt));
    let words = plain(&standing.unwrap_or_default());
    let long = words.chars().count() >= LONG;
    scene.ours.iter().any(|text| {
        let text = plain(text);
        text == words || long && text.ends_with(&words) || begun && text.starts_with(&words)
    })
}

enum Obstacle {
    /// A person types; until then at least.
    Hands(Mono),
    /// Words stand in the input line.
    Words,
    /// The program is not at its prompt.
    Elsewhere,
    /// It came up, and is being drawn.
    Drawing,
    /// It works, and would glue the message to others.
    Working,
    /// Another program has the terminal, and takes every byte as a key.
    Foreign,
    /// What is typed is not shown, as for a password.
    Secret,
    /// No byte is an Enter with the terminal's settings.
    NoEnter,
}

impl Gate {
    /// `scene.facts` must be of now.
    pub fn ask(&mut self, scene: Scene<'_>) -> GateAnswer {
        let now = scene.now;
        let Some(obstacle) = self.obstacle(scene) else {
            *self = Self {
                stashed: self.stashed,
                cleared: self.cleared,
                ..Self::default()
            };
            return GateAnswer::Type;
        };
        let since = *self.shut_since.get_or_insert(now);
        let mut wake = now + LOOK_AGAIN;
        let program = &scene.profile.program;
        let why = match obstacle {
            Obstacle::Hands(until) => {
                self.left_since = None;
                wake = until;
                "somebody is typing, so nothing was typed".to_owned()
            }
            Obstacle::Words => {
                let left = *self.left_since.get_or_insert(now);
                if let Some(keys) = scene.profile.clears
                    && self.cleared < ROWS
                    && is_ours(scene, self.cleared > 0)
                {
                    self.cleared += 1;
                    return GateAnswer::Stash(keys.to_vec());
                }
                if let Some(keys) = &scene.profile.stash
                    && now >= left + LEFT
                    && !self.stashed
                {
                    self.stashed = true;
                    return GateAnswer::Stash(keys.to_vec());
                }
                format!("words stand in the input line of {program}, so nothing was typed")
            }
            Obstacle::Working => {
                *self = Self::default();
                return GateAnswer::Wait(now + LOOK_LATER);
            }
            Obstacle::Foreign => {
                "another program that reads each key (an editor, a pager, a shell in the shell) has the terminal, so nothing was typed".to_owned()
            }
            Obstacle::Secret => {
                "the program asks for something and shows nothing of what is typed, as for a password, so nothing was typed".to_owned()
            }
            Obstacle::NoEnter => {
                "the terminal's settings (igncr, inlcr) leave no key that ends a line, so nothing was typed".to_owned()
            }
            Obstacle::Elsewhere | Obstacle::Drawing => {
                self.left_since = None;
                let dialog = dialog::seen(scene.screen, scene.profile, scene.focus, scene.known);
                let asks = match dialog.map(|seen| seen.dialog) {
                    None | Some(Dialog::Unknown) => String::new(),
                    Some(named) => format!(" ({})", named.sentence()),
                };
                format!("{program} is not at its prompt{asks}, so nothing was typed")
            }
        };
        if now >= since + SHUT {
            return GateAnswer::Blocked(wake.max(now + LOOK_LATER), why);
        }
        GateAnswer::Wait(soonest(Some(wake), Some(since + SHUT)).unwrap_or(wake))
    }

    fn obstacle(&self, scene: Scene<'_>) -> Option<Obstacle> {
        if let Some(at) = scene.hands.typing
            && scene.now < at + HANDS_OFF
        {
            return Some(Obstacle::Hands(at + HANDS_OFF));
        }
        if let Some(obstacle) = of_the_terminal(scene) {
            return Some(obstacle);
        }
        if !scene.profile.composer {
            return None;
        }
        if scene.facts.line_mode || !scene.screen.modes().bracketed_paste {
            return Some(Obstacle::Elsewhere);
        }
        let shut = self.shut_since.is_some();
        let drawn = scene
            .last_output
            .is_none_or(|at| scene.now.since(at) >= REDRAWN);
        let works = scene
            .profile
            .merges_while
            .is_some_and(|mark| scene.begins || scene.screen.title().starts_with(mark));
        let merges = works && !scene.steer;
        match scene.focus {
            Focus::Empty | Focus::Home if merges => Some(Obstacle::Working),
            Focus::Empty => None,
            Focus::Draft => Some(Obstacle::Words),
            // Without a person's keys it can only be a hint that is not drawn pale.
            Focus::Home => scene.hands.typing.map(|_| Obstacle::Words),
            Focus::Away if scene.known || prompt::is_menu(scene.screen) => {
                Some(Obstacle::Elsewhere)
            }
            // Nobody can tell: a paste does no harm, and without its text being drawn there is no Enter.
            Focus::Away | Focus::Unknown => (shut && !drawn).then_some(Obstacle::Drawing),
        }
    }
}

/// What stands in the way whatever the program is.
fn of_the_terminal(scene: Scene<'_>) -> Option<Obstacle> {
    let facts = scene.facts;
    let own_prompt = matches!(scene.focus, Focus::Empty | Focus::Draft | Focus::Home);
    if facts.line_mode && !facts.echo && (!scene.mute || asks(scene.screen)) {
        return Some(Obstacle::Secret);
    }
    // In line mode the kernel keeps what is typed until the agent's own program asks for it.
    if scene.foreign && !facts.line_mode && !own_prompt {
        return Some(Obstacle::Foreign);
    }
    facts.enter.is_none().then_some(Obstacle::NoEnter)
}

/// Whether the screen ends in a question, as for a password.
fn asks(screen: &Screen) -> bool {
    let last = screen.last_lines(1);
    let question = |line: &String| line.trim_end().ends_with([':', '：', '?', '？']);
    last.iter().any(question)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::profiles::Profiles;
    use crate::agent::tty_state::Front;
    use crate::msg::Size;

    const RAW: TtyState = TtyState {
        line_mode: false,
        echo: false,
        enter: Some(b'\r'),
        unread: Some(false),
        front: Front::Own,
    };

    fn at(ms: u64) -> Mono {
        Mono(1) + Duration::from_millis(ms)
    }

    /// Asks Claude Code's gate at some time about what its screen shows.
    fn ask(gate: &mut Gate, ms: u64, shown: &str, hands: HumanInput, known: bool) -> GateAnswer {
        let mut screen = Screen::new(Size { rows: 12, cols: 40 });
        screen.feed(format!("\x1b[?2004h{shown}").as_bytes());
        let claude = Profiles::default().by_command(&["claude".into()]);
        gate.ask(Scene {
            now: at(ms),
            facts: RAW,
            focus: prompt::focus(&screen, claude.prompt),
            screen: &screen,
            profile: &claude,
            last_output: Some(at(ms)),
            hands,
            steer: false,
            known,
            foreign: false,
            mute: false,
            begins: false,
            ours: &[],
        })
    }

    const NOBODY: HumanInput = HumanInput { typing: None };

    #[test]
    fn an_empty_input_line_takes_a_message_at_once() {
        assert_eq!(
            ask(&mut Gate::default(), 0, "❯ ", NOBODY, true),
            GateAnswer::Type
        );
    }

    #[test]
    fn a_dialog_is_waited_for_and_reported() {
        let dialog = "Go?\r\n❯ 1. Yes\r\n  2. No\x1b[2;1H";
        let mut gate = Gate::default();
        for known in [true, false] {
            assert!(matches!(
                ask(&mut gate, 0, dialog, NOBODY, known),
                GateAnswer::Wait(_)
            ));
        }
        assert!(matches!(
            ask(&mut gate, 2000, dialog, NOBODY, true),
            GateAnswer::Blocked(_, why) if why.contains("not at its prompt")
        ));
        assert_eq!(ask(&mut gate, 2001, "❯ ", NOBODY, true), GateAnswer::Type);
    }

    #[test]
    fn a_half_typed_line_is_waited_for_and_then_put_aside_once() {
        let mut gate = Gate::default();
        let line = "❯ half a li";
        let hands = HumanInput {
            typing: Some(at(0)),
        };
        assert_eq!(
            ask(&mut gate, 10, line, hands, true),
            GateAnswer::Wait(at(2000))
        );
        assert!(matches!(
            ask(&mut gate, 2100, line, hands, true),
            GateAnswer::Blocked(_, why) if why.contains("words stand")
        ));
        assert_eq!(
            ask(&mut gate, 12_100, line, hands, true),
            GateAnswer::Stash(b"\x13".to_vec())
        );
        assert!(matches!(
            ask(&mut gate, 12_200, line, hands, true),
            GateAnswer::Blocked(..)
        ));
        assert_eq!(ask(&mut gate, 12_300, "❯ ", hands, true), GateAnswer::Type);
    }

    #[test]
    fn a_program_whose_input_line_was_never_seen_is_not_kept_waiting() {
        assert_eq!(
            ask(&mut Gate::default(), 0, "$> ", NOBODY, false),
            GateAnswer::Type
        );
        assert!(matches!(
            ask(&mut Gate::default(), 0, "$> ", NOBODY, true),
            GateAnswer::Wait(_)
        ));
    }
}
