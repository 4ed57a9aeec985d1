//! A program that is interrupted puts what it was asked back into its input line. What comes next is not glued to it.

use super::*;

const NEXT: &str = "Relay message from eve [ws / evt_2]: another message 4711";

/// A program that works on `TEXT`, and puts `back` into its input line at the next Escape, which it draws late.
fn working(profile: Profile, back: &str) -> World<Composer> {
    let mut world = World::ready(Composer::default(), COMPOSER);
    world.core.profile = profile;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Wait);
    world.run(3000);
    assert_eq!(world.program.submitted, [TEXT]);
    world.reports.clear();
    world.program.footer = "(0s · esc to cancel)";
    world.event(Event::Output(world.program.draw()));
    world.event(Event::Output("\x1b]0;◐ busy\x07".into()));
    world.program.after_escape = ["", ""].into();
    world.program.puts_back = back.into();
    world
}

fn row(program: &str) -> Profile {
    let angle = Profiles::default().by_command(&["claude".into()]).prompt;
    let row = Profiles::default().by_command(&[program.into()]);
    Profile {
        prompt: row.prompt.and(angle),
        interrupts: 1,
        merges_while: None,
        history: None,
        ..row
    }
}

fn interrupted(mut world: World<Composer>, next: &str) -> World<Composer> {
    world.inject(next, Mode::Steer);
    world.run(5000);
    world.event(Event::Output("\x1b]0;✳ idle\x07".into()));
    world.run(5000);
    world
}

#[test]
fn a_message_is_not_glued_to_one_of_ours_that_a_program_has_put_back_before_it_was_seen() {
    for program in [
        "claude",
        "codex",
        "gemini",
        "opencode",
        "qwen",
        "nobody knows",
    ] {
        let world = interrupted(working(row(program), TEXT), NEXT);
        assert_eq!(world.program.submitted, [TEXT, NEXT], "{program}");
        let landed = world.reported().pop();
        assert!(
            matches!(
                landed,
                Some(AgentReport::Landed(_, _, None) | AgentReport::TurnStarted(..))
            ),
            "{program}: {landed:?}"
        );
    }
}

#[test]
fn a_long_message_that_is_put_back_is_taken_away_with_all_its_rows() {
    let long = format!(
        "{TEXT}\nits second line is as long as two rows of the screen are, or nearly so\nand 43"
    );
    for program in ["claude", "codex", "qwen", "nobody knows"] {
        let mut world = working(row(program), "");
        world.core.landed.push_back(long.clone());
        world.program.puts_back = long.clone();
        world.program.kills_rows = true;
        let world = interrupted(world, NEXT);
        assert_eq!(world.program.submitted, [TEXT, NEXT], "{program}");
    }
}

#[test]
fn a_message_that_quotes_an_earlier_one_is_typed_once() {
    for program in ["claude", "qwen", "nobody knows"] {
        let quotes = format!("{TEXT} was what bob said 4711");
        let world = interrupted(working(row(program), ""), &quotes);
        assert_eq!(world.program.submitted, [TEXT, &quotes], "{program}");
        assert!(
            !world.written().iter().any(|text| text.contains('\x15')),
            "{program}: {:?}",
            world.written()
        );
    }
}

#[test]
fn what_stands_above_the_input_line_is_not_in_front_of_a_message() {
    for program in ["claude", "nobody knows"] {
        let mut world = working(row(program), "");
        world.program.bare = true;
        world.event(Event::Output(world.program.draw()));
        let world = interrupted(world, NEXT);
        assert_eq!(world.program.submitted, [TEXT, NEXT], "{program}");
        assert!(
            !world.written().iter().any(|text| text.contains('\x15')),
            "{program}: {:?}",
            world.written()
        );
    }
}

#[test]
fn what_nobody_was_told_of_yet_is_not_taken_away_and_goes_with_the_next_which_is_said() {
    let mut world = working(row("claude"), TEXT);
    let id = DeliveryId::new("d1");
    // It waits in the program for its turn.
    world.core.unstarted.push_back(Unstarted {
        id: id.clone(),
        head: None,
        during: None,
    });
    world.core.took_at_rest = false;
    let world = interrupted(world, NEXT);
    assert_eq!(world.program.submitted, [TEXT, &format!("{TEXT}{NEXT}")]);
    let told = |report: &&AgentReport| matches!(report, AgentReport::Landed(_, _, Some(why)) if why.contains("reads it with this one"));
    assert!(world.reported().iter().any(told), "{:?}", world.reports);
}
