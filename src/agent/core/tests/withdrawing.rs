//! Messages that are to be forgotten.

use super::*;

fn withdraw(world: &mut World<Composer>, id: &str) {
    let id = DeliveryId::new(id);
    world.event(Event::Command(AgentCommand::Withdraw(id)));
}

fn withdrawn(world: &World<Composer>) -> usize {
    let reports = world.reported();
    let is = |report: &&&AgentReport| matches!(report, AgentReport::Withdrawn(_));
    reports.iter().filter(is).count()
}

#[test]
fn a_message_that_waits_for_a_dialog_can_be_withdrawn_and_is_never_typed() {
    let mut world = known();
    world.program.dialog = true;
    world.event(Event::Output(world.program.draw()));
    world.inject(TEXT, Mode::Wait);
    world.run(5000);
    withdraw(&mut world, "other");
    assert_eq!(withdrawn(&world), 0);
    withdraw(&mut world, "d1");
    assert_eq!(withdrawn(&world), 1);
    world.event(Event::Keys(1, b"2".to_vec()));
    world.run(60_000);
    assert_eq!(world.written(), ["2"]);
    world.inject(TEXT, Mode::Wait);
    world.run(2000);
    assert_eq!(world.program.submitted, [TEXT], "the next one");
}

#[test]
fn a_message_whose_text_was_typed_is_not_withdrawn() {
    let mut world = known();
    world.program.ambush = true;
    world.inject(TEXT, Mode::Wait);
    world.run(60_000);
    assert_eq!(world.writes.len(), 1, "into the dialog");
    withdraw(&mut world, "d1");
    assert_eq!(withdrawn(&world), 0);
    world.event(Event::Keys(1, b"1".to_vec()));
    world.run(5000);
    assert_eq!(world.program.submitted, [TEXT]);
    withdraw(&mut world, "d1");
    assert_eq!(withdrawn(&world), 0, "it has arrived");
}
