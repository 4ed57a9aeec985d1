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
