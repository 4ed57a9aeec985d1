//! Mail for agents that are not here: how long it waits, by which clock, and what becomes of it.

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);

fn limited(ttl: Option<Duration>) -> World {
    with_ttl(World::new(), ttl)
}

fn with_ttl(mut w: World, ttl: Option<Duration>) -> World {
    w.d.facts.limits.ttl = ttl;
    w.link_up();
    w
}

/// An agent that crashed with a message unread.
fn awaited(ttl: Option<Duration>) -> World {
    let mut w = limited(ttl);
    let run = w.spawn("w1");
    w.mail("w1", 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    w.done();
    w
}

/// Lets time pass as the broker's thread does: it wakes at each deadline.
fn wait(w: &mut World, time: Duration) {
    let end = w.now.mono + time;
    while let Some(at) = w.d.deadline().filter(|at| *at <= end) {
        w.pass(at.since(w.now.mono).max(Duration::from_millis(1)));
    }
    w.pass(end.since(w.now.mono));
}

fn waiting(w: &World) -> usize {
    w.d.ledger().mail().len()
}

fn reasons(w: &World) -> Vec<String> {
    let dead = w.d.ledger().dead().iter();
    dead.map(|dead| dead.reason.clone()).collect()
}

/// N27, D6: it is a dead letter with its event, and the engine is told that it is over.
#[test]
fn mail_whose_reader_does_not_come_within_its_time_is_a_dead_letter() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, HOUR - Duration::from_secs(1));
    assert_eq!(waiting(&w), 1, "its hour is not over");
    wait(&mut w, Duration::from_secs(1));
    assert_eq!(waiting(&w), 0);
    assert_eq!(
        reasons(&w),
        ["no agent named 'w1' came within 1h to read it"]
    );
    let effects = w.done();
    let told = |e: &Effect| matches!(e, Effect::Publish(_, BrokerEvent::DeadLetterAdded { .. }));
    assert!(effects.iter().any(told));
    let acked =
        |e: &Effect| matches!(e, Effect::Send(Up::DeliveryAck(ack)) if ack.up_to_seq == Seq(1));
    assert!(effects.iter().any(acked));
}

#[test]
fn a_wall_clock_that_jumps_ahead_or_back_ends_nothing_and_keeps_nothing_alive() {
    for hours in [3_i64, -3, 24 * 3650, -72] {
        let mut w = awaited(Some(HOUR));
        wait(&mut w, 30 * MINUTE);
        let wall = w.now.wall.0 as i64 + hours * 3_600_000;
        w.now.wall = Wall(wall.max(0) as u64);
        wait(&mut w, 29 * MINUTE);
        assert_eq!(waiting(&w), 1, "{hours} hours off");
        wait(&mut w, MINUTE);
        assert_eq!(waiting(&w), 0, "{hours} hours off");
    }
}

#[test]
fn a_time_of_seconds_is_a_time_of_seconds() {
    let mut w = awaited(Some(Duration::from_secs(2)));
    wait(&mut w, Duration::from_millis(1900));
    assert_eq!(waiting(&w), 1);
    wait(&mut w, Duration::from_millis(100));
    assert_eq!(waiting(&w), 0);
}

#[test]
fn mail_waits_for_ever_when_told_so() {
    let mut w = awaited(None);
    w.now.wall = Wall(w.now.wall.0 + 10 * 86_400_000);
    (0..100).for_each(|_| wait(&mut w, HOUR));
    assert_eq!(waiting(&w), 1);
    assert!(w.d.deadline().is_none_or(|at| at > w.now.mono + HOUR) || w.d.link.up);
}

/// What has waited in one life counts in the next, and what passed in between does not.
#[test]
fn the_waiting_goes_on_over_restarts_and_does_not_count_while_no_broker_runs() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 40 * MINUTE);
    let mut w = with_ttl(World::after(w.journal), Some(HOUR));
    w.now.wall = Wall(w.now.wall.0 + 86_400_000);
    wait(&mut w, 18 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, 3 * MINUTE);
    assert_eq!(waiting(&w), 0);
}

/// D2: an orderly stop writes down the last minute, too.
#[test]
fn a_stop_forgets_nothing_of_the_waiting() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, Duration::from_secs(30));
    let deadline = w.now.mono + MINUTE;
    w.tell(Event::Shutdown { deadline });
    let waited = w.d.ledger().mail().all().next().map(|p| p.waited_ms);
    assert_eq!(waited, Some(30_000));
}

#[test]
fn each_message_has_its_own_time() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 30 * MINUTE);
    w.mail("w1", 2);
    wait(&mut w, 30 * MINUTE);
    assert_eq!(waiting(&w), 1, "the second has half an hour left");
    wait(&mut w, 30 * MINUTE);
    assert_eq!(waiting(&w), 0);
}

#[test]
fn who_is_here_has_no_time_limit_and_what_waited_then_does_not_count() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 50 * MINUTE);
    let run = w.spawn("w1");
    w.call(ApiCall::SetMode(
        AgentName::new("w1"),
        DeliveryMode::ManualFlush,
    ));
    wait(&mut w, 3 * HOUR);
    assert_eq!(waiting(&w), 1);
    w.report("w1", run, AgentReport::Exited(How::default()));
    wait(&mut w, 9 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, MINUTE);
    assert_eq!(waiting(&w), 0);
}

#[test]
fn mail_that_has_waited_long_gives_its_reader_a_minute_to_come_back_after_a_start() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, HOUR - Duration::from_secs(1));
    let mut w = with_ttl(World::after(w.journal), Some(HOUR));
    wait(&mut w, Duration::from_secs(59));
    assert_eq!(waiting(&w), 1);
    w.spawn("w1");
    assert!(w.injected().is_some(), "it came in time");
}

#[test]
fn a_spawn_that_comes_to_nothing_does_not_lengthen_or_shorten_the_waiting() {
    let mut w = awaited(Some(HOUR));
    wait(&mut w, 30 * MINUTE);
    w.call(ApiCall::Spawn(Box::new(request("w1")), SpawnSource::Api));
    w.registered("w1");
    let run = w.run_of("w1");
    let why = "no such program".to_owned();
    w.report("w1", run, AgentReport::NotStarted { why });
    wait(&mut w, 29 * MINUTE);
    assert_eq!(waiting(&w), 1);
    wait(&mut w, MINUTE);
    assert_eq!(waiting(&w), 0);
}
