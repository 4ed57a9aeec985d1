//! Programs that somebody stops without a message.

use super::*;
use crate::ids::Ticket;

fn interrupt(world: &mut World<Composer>) -> Result<(), String> {
    world.event(Event::Command(AgentCommand::Interrupt(Ticket(7))));
    let reports = world.reported();
    let answer = reports.iter().rev().find_map(|report| match report {
        AgentReport::Interrupted(Ticket(7), result) => Some(result.clone()),
        _ => None,
    });
    answer.expect("an answer")
}

#[test]
fn its_own_key_is_pressed_once_where_the_input_line_has_the_keyboard() {
    let mut world = known();
    assert_eq!(interrupt(&mut world), Ok(()));
    world.run(5000);
    assert_eq!(world.written(), ["\u{1b}"]);
}

#[test]
fn a_dialog_is_not_answered_by_it_and_a_message_is_not_broken_off() {
    let mut world = known();
    world.program.dialog = true;
    world.event(Event::Output(world.program.draw()));
    let why = interrupt(&mut world).expect_err("a dialog stands");
    assert!(why.contains("keyboard"), "{why}");
    world.inject(TEXT, Mode::Wait);
    let why = interrupt(&mut world).expect_err("a message waits");
    assert!(why.contains("a message"), "{why}");
    world.run(5000);
    assert!(world.writes.is_empty());
}
