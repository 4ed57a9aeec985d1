//! Texts that something in an unknown program swallows, and owners who say "now".

use super::*;

fn insist(world: &mut World<Composer>) {
    world.event(Event::Command(AgentCommand::Insist));
}

/// An unknown program in which a pop-up opened just before the text came.
fn swallowed() -> World<Composer> {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.event(Event::Output(world.program.draw()));
    world.program.ambush = true;
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert_eq!(world.writes.len(), 1, "{:?}", world.written());
    assert_eq!(blocked(&world.reported()).len(), 1);
    world
}

fn pastes(world: &World<Composer>) -> usize {
    let written = world.written();
    written
        .iter()
        .filter(|w| w.starts_with("\x1b[200~"))
        .count()
}

#[test]
fn a_text_that_a_pop_up_of_an_unknown_program_swallowed_is_typed_again_once_a_person_has_closed_it()
{
    let mut world = swallowed();
    world.event(Event::Keys(1, b"1".to_vec()));
    world.run(5000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(
        (world.program.answered.as_slice(), pastes(&world)),
        (&b"1"[..], 2)
    );
}

#[test]
fn a_pop_up_that_goes_by_itself_gives_the_text_back_too() {
    let mut world = swallowed();
    world.program.dialog = false;
    world.event(Event::Output(world.program.draw()));
    world.run(40_000);
    assert_eq!(
        (world.program.submitted.as_slice(), pastes(&world)),
        (&[TEXT.to_owned()][..], 2)
    );
}

#[test]
fn a_text_that_a_person_submits_in_an_unknown_program_is_not_typed_again() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.event(Event::Output(world.program.draw()));
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(1);
    world.unread.clear();
    // As a program does that draws what it was given as nobody would expect.
    world.event(Event::Output(b"\x1b[2J\x1b[H\xe2\x9d\xaf 1 thing".to_vec()));
    world.run(5000);
    world.event(Event::Keys(1, b"\r".to_vec()));
    world.unread.clear();
    world.event(Event::Output(
        b"\x1b[2J\x1b[H1 thing\r\n\xe2\x9d\xaf ".to_vec(),
    ));
    world.run(600_000);
    assert_eq!(pastes(&world), 1);
}

#[test]
fn a_terminal_that_a_viewer_made_tiny_is_larger_while_a_message_is_typed() {
    for (rows, cols) in [(3, 20), (24, 12), (2, 200)] {
        let mut world = known();
        let tiny = Size { rows, cols };
        world.event(Event::Resize(tiny));
        world.event(Event::Output(world.program.draw()));
        world.inject(TEXT, Mode::Wait);
        world.run(250);
        let size = world.core.screen.size();
        assert!(size.rows >= 10 && size.cols >= 40, "{size:?}");
        world.run(3000);
        assert_eq!(world.program.submitted, [TEXT]);
        assert_eq!(world.core.screen.size(), tiny, "as the viewer has it");
        assert!(blocked(&world.reported()).is_empty());
    }
}

#[test]
fn an_owner_who_insists_has_a_text_typed_again_that_stands_nowhere() {
    let mut world = swallowed();
    world.program.dialog = false;
    insist(&mut world);
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT]);
}

#[test]
fn an_owner_who_insists_has_enter_pressed_on_whatever_stands_where_the_text_was_typed() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.event(Event::Output(world.program.draw()));
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(1);
    world.unread.clear();
    world.event(Event::Output("\x1b[2J\x1b[H────────\r\n❯ ••••••".into()));
    world.run(10_000);
    insist(&mut world);
    world.run(2000);
    assert_eq!(
        (pastes(&world), *world.written().last().expect("a write")),
        (1, "\r")
    );
    world.unread.clear();
    world.event(Event::Output("\x1b[2J\x1b[H────────\r\n❯ ".into()));
    world.run(6000);
    assert!(
        matches!(
            world.reported().last(),
            Some(AgentReport::Landed(_, Proof::None, Some(_)))
        ),
        "nobody saw it: {:?}",
        world.reports
    );
}

#[test]
fn an_owner_who_insists_is_obeyed_behind_words_and_hands_and_after_enter() {
    let mut world = known();
    world.event(Event::Keys(1, b"half a line".to_vec()));
    world.run(100);
    world.inject(TEXT, Mode::Wait);
    world.run(3000);
    insist(&mut world);
    world.run(2000);
    assert_eq!(world.program.submitted, [format!("half a line{TEXT}")]);

    let mut world = known();
    world.program.swallow = 6;
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert_eq!(blocked(&world.reported()).len(), 1);
    insist(&mut world);
    world.run(5000);
    assert!(world.program.submitted.is_empty());
    insist(&mut world);
    world.run(5000);
    assert_eq!(world.program.submitted, [TEXT]);
}

#[test]
fn an_owner_who_says_now_while_a_message_is_on_its_way_changes_nothing() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.event(Event::Output(world.program.draw()));
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(1);
    insist(&mut world);
    world.reading = true;
    world.run(5000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(pastes(&world), 1);
    let enters = world.written().into_iter().filter(|w| *w == "\r").count();
    assert_eq!(enters, 1);
}

/// A program that reads keys while it starts, shows nothing of them, and then has a composer.
#[derive(Default)]
struct Waking {
    up: bool,
    composer: Composer,
}

impl Program for Waking {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.up {
            true => self.composer.read(bytes),
            false => Vec::new(),
        }
    }
}

impl World<Waking> {
    fn comes_up(&mut self) {
        self.program.up = true;
        let shown = [COMPOSER, &self.program.composer.draw()].concat();
        self.event(Event::Output(shown));
    }
}

/// A program that was told something so long before it had a composer, and has one now.
fn woken(after: u64, kept: &str) -> World<Waking> {
    let mut world = World::ready(Waking::default(), b"");
    world.inject(TEXT, Mode::Wait);
    world.run(after);
    assert!(!world.reported().contains(&&landed(Proof::Read)));
    world.program.composer.draft = kept.to_owned();
    world.comes_up();
    world
}

#[test]
fn what_a_program_read_before_it_had_a_composer_is_typed_again_into_that() {
    // Before Enter, and after it.
    for after in [100, 400, 4000] {
        let mut world = woken(after, "");
        world.run(5000);
        assert_eq!(world.program.composer.submitted, [TEXT], "{after} ms");
        assert_eq!(
            *world.reported()[world.reports.len() - 1],
            landed(Proof::Screen)
        );
    }
}

#[test]
fn a_composer_in_which_something_always_moves_gets_what_it_had_not_yet() {
    let mut world = woken(400, "");
    for _ in 0..150 {
        world.run(100);
        let shown = world.program.composer.draw();
        world.event(Event::Output(shown));
    }
    assert_eq!(world.program.composer.submitted, [TEXT]);
}

#[test]
fn what_a_program_kept_for_its_composer_is_submitted_and_not_typed_again() {
    let mut world = woken(400, TEXT);
    world.run(30_000);
    assert_eq!(world.program.composer.submitted, [TEXT]);
    assert!(world.written().iter().all(|w| !w.starts_with("\x1b[200~")));
}

const WORKS: &str = "thinking (3s · esc to cancel)";

/// The first message was submitted, at rest or while the program worked, and the program puts it back when interrupted.
fn put_back(worked: bool) -> World<Composer> {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.program.footer = if worked { WORKS } else { "" };
    world.event(Event::Output(world.program.draw()));
    world.inject("the first of all 41", Mode::Wait);
    world.run(2000);
    world.program.footer = WORKS;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Steer);
    world.run(50);
    // Escape was a key of its own.
    world.program.in_paste.clear();
    world.program.draft = "the first of all 41".into();
    world.program.footer = "";
    world.event(Event::Output(world.program.draw()));
    world.run(2000);
    world
}

/// As some do with what they were interrupted at.
#[test]
fn what_an_unknown_program_puts_back_when_interrupted_is_taken_away_and_not_glued() {
    let mut world = put_back(false);
    assert_eq!(world.program.submitted, ["the first of all 41", TEXT]);
    // What a person has written is nobody else's.
    world.program.footer = WORKS;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Steer);
    world.run(50);
    world.program.draft = "all my words".into();
    world.program.footer = "";
    world.event(Event::Output(world.program.draw()));
    world.run(5000);
    assert!(!world.written().iter().skip(6).any(|w| w.contains('\x15')));
}

/// As some do with what waited in them, and was never told to anybody.
#[test]
fn what_waited_in_an_unknown_program_is_not_lost_when_that_is_interrupted() {
    let world = put_back(true);
    let both = format!("the first of all 41\n\n{TEXT}");
    assert_eq!(world.program.submitted[1..], [both]);
    let (_, last) = world.reports.last().expect("reports");
    assert!(
        matches!(last, AgentReport::Landed(_, _, Some(why)) if why.contains("earlier message")),
        "{last:?}"
    );
}

#[test]
fn a_program_that_falls_silent_after_escape_is_told_soon_and_a_silent_one_later() {
    fn waited(mut world: World<impl Program>) -> Duration {
        let began = world.now;
        world.inject(TEXT, Mode::Steer);
        while world.writes.len() < 2 {
            world.run(10);
        }
        world.now.since(began)
    }
    let answers = World::ready(Composer::default(), COMPOSER);
    assert!(waited(answers) < Duration::from_millis(250));
    assert!(waited(World::ready(Mute, COMPOSER)) > Duration::from_millis(500));
}

#[test]
fn an_owner_who_says_now_has_nothing_typed_twice_that_was_read_already() {
    let mut world = World::ready(Mute, b"");
    world.inject(TEXT, Mode::Wait);
    world.run(50);
    world.event(Event::Command(AgentCommand::Insist));
    world.run(6000);
    assert_eq!(world.written(), [TEXT, "\r"]);
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    // Read, and not drawn yet.
    let read = std::mem::take(&mut world.unread);
    world.run(10);
    insist(&mut world);
    world.run(10);
    world.reading = true;
    let shown = world.program.read(&read);
    world.event(Event::Output(shown));
    world.run(2000);
    assert_eq!(
        (world.program.submitted.as_slice(), pastes(&world)),
        (&[TEXT.to_owned()][..], 1)
    );
}
