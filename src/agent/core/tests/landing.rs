//! How a text is typed, entered and seen to have landed.

use super::*;

#[test]
fn a_line_reader_gets_lines_and_enter_in_one_write_and_proof_comes_with_its_read() {
    let mut world = World::ready(Lines, b"");
    let began = world.now;
    world.inject("one hello\ntwo hello", Mode::Steer);
    world.run(10);
    assert_eq!(
        world.written(),
        ["one hello two hello\r"],
        "and no Escape in line mode"
    );
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Echo)]);
    let took = world.reports[1].0.since(began);
    assert!(took < Duration::from_millis(1), "{took:?}");
}

#[test]
fn an_unread_message_is_said_to_be_unread_and_never_settled_by_the_clock() {
    let mut world = World::ready(Lines, b"");
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(3_600_000);
    assert_eq!(world.reported()[0], &typed());
    assert!(
        matches!(world.reported()[1..], [AgentReport::Stalled(_, why)] if why.contains("has not read")),
        "{:?}",
        world.reported()
    );
    world.reading = true;
    world.run(6000);
    assert_eq!(world.reported()[2..], [&landed(Proof::Echo)]);
}

#[test]
fn a_message_that_does_not_fit_into_the_terminal_is_said_to_be_unread_once() {
    fn play(mut world: World<impl Program>) {
        (world.reading, world.full) = (false, true);
        world.inject(TEXT, Mode::Wait);
        world.run(1900);
        assert!(world.reports.is_empty());
        world.run(3_600_000);
        let reports = world.reported();
        assert!(
            matches!(reports[..], [AgentReport::Stalled(_, why)] if why.contains("has not read")),
            "{reports:?}"
        );
        (world.reading, world.full) = (true, false);
        world.event(Event::Wrote(world.outside));
        world.run(1000);
        assert!(
            matches!(
                world.reported()[1..],
                [AgentReport::Typed(_), AgentReport::Landed(_, _, None)]
            ),
            "{:?}",
            world.reports
        );
    }
    play(World::ready(Lines, b""));
    play(World::ready(Parrot, b""));
    play(World::ready(Composer::default(), COMPOSER));
}

#[test]
fn without_sight_of_reading_the_window_closes_without_proof() {
    let mut world = World::ready(Lines, b"");
    world.observed = false;
    world.inject(TEXT, Mode::Wait);
    world.run(4_900);
    assert_eq!(
        world.reported(),
        [&typed()],
        "the kernel's own echo proves nothing"
    );
    world.run(200);
    assert!(
        matches!(world.reported()[1], AgentReport::Landed(_, Proof::None, Some(why)) if why == "nothing was seen within 5s")
    );
}

#[test]
fn a_raw_program_that_echoes_gets_its_enter_without_a_pause() {
    let mut world = World::ready(Parrot, b"");
    let began = world.now;
    world.inject(TEXT, Mode::Wait);
    world.run(100);
    assert_eq!(world.written(), [TEXT, "\r"]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Echo)]);
    assert!(world.reports[1].0.since(began) < Duration::from_millis(1));
}

#[test]
fn a_raw_program_that_shows_nothing_gets_its_enter_after_a_pause() {
    let mut world = World::ready(Mute, b"");
    world.inject(TEXT, Mode::Wait);
    world.run(140);
    assert_eq!(world.written(), [TEXT]);
    world.run(20);
    assert_eq!(world.written(), [TEXT, "\r"]);
    // It might yet turn out to have been starting.
    world.run(4000);
    assert_eq!(world.reported(), [&typed()]);
    world.run(1200);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Read)]);
    world.reports.clear();
    world.inject(TEXT, Mode::Wait);
    world.run(500);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Read)]);
}

#[test]
fn a_steering_message_presses_escape_first() {
    let mut world = known();
    world.inject(TEXT, Mode::Steer);
    world.run(90);
    assert_eq!(world.written(), ["\x1b"]);
    world.run(500);
    assert_eq!(world.program.submitted, [TEXT]);
}

#[test]
fn a_steering_message_to_an_unknown_program_is_not_damaged_by_an_escape() {
    let mut world = World::ready(Parrot, b"");
    world.inject(TEXT, Mode::Steer);
    world.run(200);
    assert_eq!(world.written(), [TEXT, "\r"]);
}

#[test]
fn a_composer_gets_a_paste_and_then_enter_once_it_is_drawn() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.inject("two\nlines 42", Mode::Wait);
    world.run(149);
    assert_eq!(world.written(), ["\x1b[200~two\nlines 42\x1b[201~"]);
    world.run(200);
    assert_eq!(world.program.submitted, ["two\nlines 42"]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
}

#[test]
fn hostile_text_reaches_a_composer_as_text() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.inject("before\x1b[201~\rEVIL\r", Mode::Wait);
    world.run(1000);
    assert_eq!(world.program.submitted, ["before\nEVIL"]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
}

#[test]
fn a_dialog_never_gets_an_enter_however_long_it_stands() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.program.dialog = true;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Wait);
    world.run(3_600_000);
    assert_eq!(world.program.answered, b"");
    assert_eq!(world.writes.len(), 1);
    assert_eq!(world.reports.len(), 1);
    assert!(
        matches!(&world.reports[0].1, AgentReport::Stalled(_, why) if why.contains("1. Yes")),
        "{:?}",
        world.reports
    );
    // Any number of redraws changes nothing, and a person is not locked out.
    for _ in 0..50 {
        world.event(Event::Output(world.program.draw()));
        world.run(500);
    }
    world.event(Event::Keys(1, b"2".to_vec()));
    world.run(1000);
    assert_eq!(world.program.answered, b"2");
    assert_eq!(world.keys, [(1, Ok(1))]);
    assert_eq!(world.written().concat().matches('\r').count(), 0);
}

#[test]
fn a_text_that_is_drawn_late_is_entered_then_and_not_typed_again() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert!(matches!(world.reported()[..], [AgentReport::Stalled(..)]));
    world.reading = true;
    world.run(1000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.writes.len(), 2);
    assert_eq!(world.reported()[1..], [&typed(), &landed(Proof::Screen)]);
}

#[test]
fn a_swallowed_enter_is_pressed_again_and_the_text_is_not_typed_again() {
    let mut world = World::ready(
        Composer {
            swallow: 2,
            ..Composer::default()
        },
        COMPOSER,
    );
    world.inject(TEXT, Mode::Wait);
    world.run(10_000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
    assert_eq!(world.writes.len(), 4);
}

/// Takes an Enter at once and draws what came of that much later, as a program does on a machine that has no time for it;
/// until then the same draft is submitted once more with each Enter. Seen at Gemini CLI.
#[derive(Default)]
struct Laggard {
    composer: Composer,
    submitted: Vec<String>,
}

impl Program for Laggard {
    fn settings(&self) -> TtyState {
        RAW
    }
    fn read(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes != b"\r" {
            return self.composer.read(bytes);
        }
        self.submitted.push(self.composer.draft.clone());
        Vec::new()
    }
}

#[test]
fn a_program_that_has_not_drawn_since_enter_is_not_told_twice() {
    let mut world = World::ready(Laggard::default(), COMPOSER);
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    world.program.composer.draft.clear();
    world.event(Event::Output(world.program.composer.draw()));
    world.run(10_000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
}

#[test]
fn a_program_that_never_draws_what_it_makes_of_enter_gets_another_all_the_same() {
    let mut world = World::ready(Laggard::default(), COMPOSER);
    world.inject(TEXT, Mode::Wait);
    world.run(4000);
    assert_eq!(world.written()[1..], ["\r", "\r"]);
}

#[test]
fn a_draft_that_will_not_go_is_reported_and_not_settled() {
    let mut world = World::ready(
        Composer {
            swallow: 99,
            ..Composer::default()
        },
        COMPOSER,
    );
    world.inject(TEXT, Mode::Wait);
    world.run(600_000);
    assert_eq!(world.writes.len(), 6, "one paste and five presses of Enter");
    assert!(matches!(
        world.reported()[..],
        [AgentReport::Typed(_), AgentReport::Stalled(..)]
    ));
    world.program.swallow = 0;
    world.event(Event::Keys(1, b"\r".to_vec()));
    world.run(1000);
    assert_eq!(world.reported()[2], &landed(Proof::Screen));
}

#[test]
fn keys_and_answers_never_land_inside_a_message() {
    let mut world = World::ready(Mute, b"");
    world.inject(TEXT, Mode::Wait);
    world.event(Event::Keys(1, b"abc".to_vec()));
    world.run(50);
    assert_eq!(world.written(), [TEXT]);
    assert!(world.keys.is_empty());
    world.run(150);
    assert_eq!(world.written(), [TEXT, "\r", "abc"]);
    assert_eq!(world.keys, [(1, Ok(3))]);
}
