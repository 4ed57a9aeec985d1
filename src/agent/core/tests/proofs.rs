//! What a program itself says of the messages it took, and that the screen decides where it says nothing.

use super::*;

fn d(id: &str) -> DeliveryId {
    DeliveryId::new(id)
}

/// A message landed at a program that works, and waits there for its turn.
fn queued() -> World<Composer> {
    let mut world = known();
    world.event(Event::Output("\x1b]0;⠂ busy\x07".into()));
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    world
}

#[test]
fn a_message_in_the_programs_own_history_has_landed_at_once() {
    let mut world = known();
    world.program.keeps_history = true;
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Transcript)]);
    let took = world.reports[1].0.since(world.reports[0].0);
    assert!(took < Duration::from_millis(80), "{took:?} after Enter");
}

#[test]
fn a_program_that_keeps_no_history_is_believed_by_its_screen_and_soon_not_asked_any_more() {
    let mut world = known();
    let mut waits = Vec::new();
    for count in 1..=5 {
        world.reports.clear();
        world.inject(&format!("{TEXT} {count}"), Mode::Wait);
        world.run(2000);
        assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
        waits.push(world.reports[1].0.since(world.reports[0].0));
    }
    assert!(waits[0] > Duration::from_millis(150), "{waits:?}");
    assert!(waits[4] < Duration::from_millis(100), "{waits:?}");
}

#[test]
fn a_history_that_says_nothing_keeps_no_thread_awake_that_comes_late() {
    for late in 1..10 {
        let mut world = known();
        world.program.swallow = 99;
        world.inject(TEXT, Mode::Wait);
        world.run(5000);
        for _ in 0..1000 {
            let Some(due) = world.core.deadline() else {
                break;
            };
            world.now = world.now.max(due) + Duration::from_millis(late);
            world.event(Event::Tick);
        }
        let due = world.core.deadline();
        assert!(due.is_none_or(|at| at > world.now), "{late} ms late");
    }
}

#[test]
fn a_history_proves_nothing_while_the_text_still_stands_in_the_input_line() {
    let mut world = known();
    world.program.swallow = 1;
    world.inject(TEXT, Mode::Wait);
    world.run(300);
    // As when another program with the same history was told the same.
    world.event(Event::InHistory);
    assert_eq!(world.reported(), [&typed()]);
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Transcript)]);
}

#[test]
fn a_program_that_says_it_works_has_taken_the_message_and_begun_with_it() {
    let mut world = known();
    world.program.says = "\x1b]7501;state=working:app=codex\x1b\\";
    world.event(Event::Output("\x1b]7501;state=idle\x1b\\".into()));
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Osc);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Osc), &begun]);
}

#[test]
fn a_turn_is_told_to_have_begun_when_the_model_has_the_text_or_the_program_ended_first() {
    for ends in [false, true] {
        let mut world = known();
        world.core.profile.asks_after = Duration::from_millis(300);
        world.inject(TEXT, Mode::Wait);
        world.run(100);
        world.event(Event::Prompted(TEXT.into()));
        world.run(250);
        let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
        let arrived = [&typed(), &landed(Proof::Hook)];
        assert_eq!(world.reported(), arrived, "its model does not have it yet");
        match ends {
            false => world.run(100),
            true => world.event(Event::Exited(How::default())),
        }
        assert_eq!(world.reported()[..3], [arrived[0], arrived[1], &begun]);
    }
}

#[test]
fn a_hook_proves_the_message_it_names_and_no_other() {
    let mut world = known();
    world.program.swallow = 9;
    world.inject(TEXT, Mode::Wait);
    world.run(300);
    world.event(Event::Prompted(
        "Relay message from bob [ws / evt_2]: hello 42".into(),
    ));
    assert_eq!(world.reported(), [&typed()]);
    world.event(Event::Prompted(format!("{TEXT}\n")));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Hook), &begun]);
}

#[test]
fn a_message_that_was_queued_begins_later_and_that_is_told_once() {
    let mut world = queued();
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Screen)]);
    world.event(Event::Prompted(TEXT.into()));
    world.event(Event::Prompted(TEXT.into()));
    world.event(Event::Output("\x1b]0;✳ idle\x07\x1b]0;⠂ busy\x07".into()));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    assert_eq!(world.reported()[2..], [&begun]);
}

#[test]
fn a_text_that_a_person_submits_has_landed_too() {
    let mut world = known();
    world.program.ambush = true;
    world.inject(TEXT, Mode::Wait);
    world.run(5000);
    assert_eq!(blocked(&world.reported()).len(), 1);
    world.event(Event::Prompted(TEXT.into()));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    let arrived = [&landed(Proof::Hook), &begun];
    assert!(world.reported().ends_with(&arrived), "{:?}", world.reports);
    world.run(60_000);
    assert_eq!(world.writes.len(), 1, "nothing is typed again");
}

#[test]
fn a_program_that_says_it_works_is_not_idle_until_it_has_said_nothing_for_a_minute() {
    let mut world = known();
    world.core.idle_after = Some(Duration::from_secs(1));
    world.event(Event::Output("\x1b]0;⠂ busy\x07".into()));
    world.run(59_000);
    assert_eq!(world.reported(), Vec::<&AgentReport>::new());
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.run(1100);
    assert!(matches!(world.reported()[..], [AgentReport::Idle { .. }]));
    world.event(Event::Output("\x1b]0;⠂ busy\x07".into()));
    world.run(61_000);
    assert!(matches!(
        world.reported()[1..],
        [AgentReport::Working, AgentReport::Idle { .. }]
    ));
}

#[test]
fn an_idle_program_is_not_interrupted_and_a_busy_one_only_until_it_stops() {
    let escapes = |sign: &str, answers: bool| {
        let mut world = known();
        world.core.profile.interrupts = 2;
        world.event(Event::Output(sign.into()));
        world.inject(TEXT, Mode::Steer);
        world.run(50);
        if answers {
            world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
        }
        world.run(3000);
        assert_eq!(world.program.submitted, [TEXT]);
        world
            .written()
            .iter()
            .filter(|text| **text == "\x1b")
            .count()
    };
    assert_eq!(escapes("\x1b]0;✳ idle\x07", false), 0);
    assert_eq!(escapes("\x1b]0;⠂ busy\x07", true), 1);
    assert_eq!(escapes("\x1b]0;⠂ busy\x07", false), 2);
}

#[test]
fn of_two_messages_with_the_same_words_a_hook_means_the_one_that_came_first() {
    let mut world = queued();
    world.program.swallow = 9;
    world.inject(TEXT, Mode::Wait);
    world.run(300);
    world.reports.clear();
    world.event(Event::Prompted(TEXT.into()));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    assert_eq!(world.reported(), [&begun], "the second is not taken yet");
}

#[test]
fn a_hook_for_an_earlier_message_does_not_submit_a_like_one_that_only_stands_there() {
    let mut world = queued();
    world.inject(TEXT, Mode::Wait);
    world.run(30);
    assert_eq!(world.program.draft, TEXT);
    world.reports.clear();
    world.event(Event::Prompted(TEXT.into()));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    assert_eq!(world.reported(), [&begun]);
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT, TEXT]);
}

const DIALOG: &str = "\x1b[2J\x1b[HGo?\r\n❯ 1. Yes\r\n  2. No\x1b[1A\x1b[3G";

#[test]
fn a_dialog_that_comes_up_at_enter_is_not_taken_for_a_submission() {
    let mut world = known();
    world.program.keeps_history = true;
    world.program.swallow = 1;
    world.inject(TEXT, Mode::Wait);
    world.run(150);
    assert_eq!(world.written().last(), Some(&"\r"));
    world.event(Event::Output(DIALOG.into()));
    world.run(60_000);
    let reports = world.reported();
    assert!(
        !reports.iter().any(|r| matches!(r, AgentReport::Landed(..))),
        "{reports:?}"
    );
    assert!(matches!(blocked(&reports)[..], [why] if why.contains("may have taken it")));
    world.event(Event::Output(world.program.draw()));
    world.run(3000);
    assert_eq!(world.program.submitted, [TEXT]);
    let arrived = landed(Proof::Transcript);
    assert!(world.reported().contains(&&arrived), "{:?}", world.reports);
}

#[test]
fn a_text_beside_something_that_has_the_keyboard_is_reported_and_people_may_type() {
    let mut world = known();
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(1);
    let picture = format!("\x1b[2J\x1b[H{TEXT}\r\n\r\nsomething else");
    world.unread.clear();
    world.event(Event::Output(picture.into_bytes()));
    world.run(10_000);
    assert_eq!(world.writes.len(), 1, "no Enter: {:?}", world.written());
    let reports = world.reported();
    assert!(
        matches!(blocked(&reports)[..], [why] if why.contains("something else has the keyboard"))
    );
    world.event(Event::Keys(1, b"q".to_vec()));
    assert_eq!(world.keys, [(1, Ok(1))]);
}

#[test]
fn a_look_at_a_half_drawn_picture_does_not_have_a_text_typed_again() {
    let mut world = known();
    world.reading = false;
    world.inject(TEXT, Mode::Wait);
    world.run(1);
    // It has read the text and is too busy to draw it; its redraw of something else comes in two pieces.
    world.unread.clear();
    world.event(Event::Output(b"\x1b[2J\x1b[Hhalf".to_vec()));
    world.run(5);
    world.event(Event::Output(world.program.draw()));
    world.run(4500);
    assert_eq!(world.writes.len(), 1, "{:?}", world.written());
    // It stays calm, so the other picture has taken the text with it.
    world.reading = true;
    world.run(3000);
    assert_eq!(world.program.submitted, [TEXT]);
}

#[test]
fn a_program_whose_screen_says_that_it_works_is_interrupted_until_it_does_not() {
    let escapes = |shown: &'static str, then: &[&'static str], within: u64| {
        let mut world = known();
        world.core.profile.interrupts = 2;
        world.core.profile.busy_words = Some("esc interrupt");
        world.program.footer = shown;
        world.program.after_escape = then.iter().copied().collect();
        world.event(Event::Output(world.program.draw()));
        world.inject(TEXT, Mode::Steer);
        world.run(within);
        assert_eq!(world.program.submitted, [TEXT]);
        let written = world.written();
        written.iter().filter(|text| **text == "\x1b").count()
    };
    assert_eq!(escapes("", &[], 300), 0);
    let asks = &["esc again to interrupt", ""];
    assert_eq!(escapes("esc interrupt", asks, 300), 2);
    // Many at once: it is too busy to show that it has understood them.
    assert_eq!(escapes("esc interrupt", &[], 3000), 4);
}

#[test]
fn a_title_that_says_work_for_long_after_escape_holds_nothing_up_where_the_screen_shows_rest() {
    let mut world = known();
    world.program.footer = "thinking (esc to cancel, 3s)";
    world.program.after_escape = [""].into();
    world.event(Event::Output("\x1b]0;✦  Working… (p)\x07".into()));
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Steer);
    world.run(250);
    assert_eq!(world.program.submitted, [TEXT], "{:?}", world.written());
    let landed = |report: &&AgentReport| matches!(report, AgentReport::Landed(_, _, None));
    world.run(1000);
    assert!(world.reported().iter().any(landed), "{:?}", world.reports);
}

#[test]
fn escape_is_not_glued_to_a_text_that_is_typed_while_nobody_reads() {
    let mut world = known();
    world.program.footer = "esc to interrupt";
    world.program.after_escape = [""].into();
    world.event(Event::Output(world.program.draw()));
    world.reading = false;
    world.inject(TEXT, Mode::Steer);
    world.run(1900);
    assert_eq!(world.written(), ["\x1b"]);
    assert!(world.reports.is_empty());
    world.run(60_000);
    assert_eq!(world.written(), ["\x1b"]);
    assert!(matches!(blocked(&world.reported())[..], [why] if why.contains("has not read Escape")));
    world.reading = true;
    world.run(6000);
    assert_eq!(world.program.submitted, [TEXT]);
}

#[test]
fn a_program_that_begins_with_its_queue_well_after_escape_is_interrupted_again() {
    let mut world = queued();
    world.inject("Relay message from bob [ws / evt_2]: stop 43", Mode::Steer);
    world.run(50);
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.run(200);
    assert_eq!(world.written().last(), Some(&"\x1b"));
    world.event(Event::Output("\x1b]0;⠂ busy\x07".into()));
    world.run(50);
    let written = world.written();
    assert_eq!(written[written.len() - 2..], ["\x1b", "\x1b"]);
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.run(2000);
    assert!(world.program.submitted[1].ends_with("stop 43"));
}

#[test]
fn a_program_that_changes_its_view_after_the_first_message_is_left_alone_meanwhile() {
    let mut world = known();
    world.core.profile.first_rest = Duration::from_secs(1);
    for (count, soonest) in [(1, 0), (2, 900), (3, 0)] {
        let began = world.now;
        world.inject(&format!("{TEXT} {count}"), Mode::Wait);
        while world.program.submitted.len() < count {
            world.run(10);
        }
        let took = world.now.since(began).as_millis();
        assert!(
            (soonest..soonest + 600).contains(&took),
            "{count}: {took} ms"
        );
        while !matches!(world.reports.last(), Some((_, AgentReport::Landed(..)))) {
            world.run(10);
        }
        world.reports.clear();
    }
}

#[test]
fn an_unknown_program_with_an_input_line_is_interrupted_once_and_a_console_is_not() {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.inject(TEXT, Mode::Steer);
    world.run(190);
    assert_eq!(world.written(), ["\x1b"], "Escape is a key of its own");
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT]);
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.core.profile = Profiles::default().by_command(&["bash".into()]);
    world.inject(TEXT, Mode::Steer);
    world.run(2000);
    assert!(!world.written().contains(&"\x1b"));
}

/// A program that works, and whose hook tells of a message when that is put in line.
fn early_hook() -> World<Composer> {
    let mut world = known();
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.inject(TEXT, Mode::Wait);
    world.run(100);
    world.event(Event::Prompted(TEXT.into()));
    world.run(2000);
    world
}

#[test]
fn a_hook_that_tells_of_a_message_in_line_proves_that_it_landed_and_not_that_its_turn_began() {
    let mut world = early_hook();
    assert_eq!(world.reported(), [&typed(), &landed(Proof::Hook)]);
    world.event(Event::Prompted(TEXT.into()));
    world.run(60_000);
    assert_eq!(world.reports.len(), 2, "{:?}", world.reports);
    world.event(Event::Output("\x1b]0;✳ idle\x07\x1b]0;◑ busy\x07".into()));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Osc);
    assert_eq!(world.reported()[2..], [&begun]);
}

#[test]
fn a_message_that_is_submitted_at_rest_begins_with_its_hook() {
    let mut world = early_hook();
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.reports.clear();
    world.inject(&format!("{TEXT} again"), Mode::Wait);
    world.run(100);
    world.event(Event::Prompted(format!("{TEXT} again")));
    let begun = AgentReport::TurnStarted(d("d1"), Proof::Hook);
    assert!(world.reported().contains(&&begun), "{:?}", world.reports);
}

#[test]
fn a_sign_of_rest_that_is_older_than_what_is_drawn_holds_no_interrupt_back() {
    let escapes_later = |told: &str, millis: u64| {
        let mut world = known();
        world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
        world.run(5000);
        if !told.is_empty() {
            world.event(Event::Output(told.into()));
        }
        world.run(millis);
        world.inject(TEXT, Mode::Steer);
        world.run(3000);
        assert_eq!(world.program.submitted, [TEXT]);
        let written = world.written();
        written.iter().filter(|text| **text == "\x1b").count()
    };
    let escapes = |told: &str| escapes_later(told, 0);
    assert_eq!(escapes(""), 0);
    // It draws, and has said nothing of itself for long.
    let something = "\x1b7\x1b[20;1Hreading a file\x1b8";
    assert_eq!(escapes(something), 1);
    assert_eq!(escapes_later(something, 3000), 0, "it rests again");
    assert_eq!(escapes("\x1b]0;◐ busy\x07"), 1);
    let unknown = "\x1b]0;⚙ nobody knows this sign\x07";
    assert_eq!(escapes(unknown), 1);
    assert_eq!(
        escapes_later(unknown, 3000),
        1,
        "what it said before is taken back"
    );
    assert_eq!(escapes("\x1b7\x1b[20;1Hesc to interrupt\x1b8"), 1);
}

#[test]
fn an_interrupt_that_does_not_help_is_said_and_one_that_starts_the_next_in_line_is_repeated() {
    let mut world = known();
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.inject(TEXT, Mode::Steer);
    world.run(3000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert!(
        matches!(world.reported()[1], AgentReport::Landed(_, _, Some(why)) if why.contains("went on")),
        "{:?}",
        world.reports
    );
    let mut world = known();
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.inject(TEXT, Mode::Steer);
    world.run(50);
    world.event(Event::Output("\x1b]0;✳ idle\x07\x1b]0;◐ busy\x07".into()));
    world.run(100);
    assert_eq!(world.written(), ["\x1b", "\x1b"]);
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT]);
    assert!(matches!(
        world.reported()[1],
        AgentReport::Landed(_, _, None)
    ));
}

#[test]
fn words_of_ours_that_a_program_puts_back_are_taken_away_and_a_persons_are_not() {
    let mut world = known();
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    // A person presses Escape.
    world.event(Event::Keys(1, b"\x1b".to_vec()));
    world.run(2500);
    world.unread.clear();
    world.program.in_paste.clear();
    world.program.draft = TEXT.into();
    world.event(Event::Output(world.program.draw()));
    world.inject("another message 4711", Mode::Wait);
    let began = world.now;
    while world.program.submitted.len() < 2 && world.now.since(began) < Duration::from_secs(5) {
        world.run(50);
    }
    assert_eq!(world.program.submitted[1..], ["another message 4711"]);
    assert!(world.now.since(began) < Duration::from_secs(1));
    assert!(world.program.stash.is_empty());
    world.run(2000);
    let theirs = format!("{TEXT} and mine");
    world.program.draft = theirs.clone();
    world.event(Event::Output(world.program.draw()));
    world.inject("one more message 4712", Mode::Wait);
    world.run(3000);
    assert_eq!(world.program.draft, theirs);
}

/// A program that merges what comes while it works, in whose input line nothing stands.
fn merging() -> World<Composer> {
    let mut world = known();
    world.core.profile.merges_while = Some('◐');
    world.core.profile.clears = Some(b"\x15\x7f");
    world.inject(TEXT, Mode::Wait);
    world.run(500);
    assert_eq!(world.program.submitted, [TEXT]);
    world
}

#[test]
fn a_program_that_merges_gets_the_next_message_after_the_turn_that_it_is_about_to_begin() {
    let mut world = merging();
    world.inject("the next of all 42", Mode::Wait);
    world.run(300);
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.run(60_000);
    assert_eq!(world.program.submitted.len(), 1);
    world.event(Event::Output("\x1b]0;idle\x07".into()));
    world.run(1500);
    assert_eq!(world.program.submitted[1..], ["the next of all 42"]);
    // One that never says that it begins is not waited for.
    let mut world = merging();
    world.inject("the next of all 42", Mode::Wait);
    world.run(1500);
    assert_eq!(world.program.submitted.len(), 2);
}

#[test]
fn a_program_that_puts_back_what_it_was_interrupted_at_is_rid_of_it_at_once() {
    let mut world = merging();
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.program.footer = "(0s · esc to cancel)";
    world.program.after_escape = [""].into();
    world.event(Event::Output(world.program.draw()));
    world.inject("another message 4711", Mode::Steer);
    world.run(50);
    world.program.draft = TEXT.into();
    world.event(Event::Output(world.program.draw()));
    world.event(Event::Output("\x1b]0;idle\x07".into()));
    world.run(450);
    assert_eq!(world.program.submitted[1..], ["another message 4711"]);
}
