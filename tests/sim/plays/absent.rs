//! Mail for agents that are not here.

use super::*;

/// A world in which mail waits half a minute, and whose agent has ended and is not started again.
fn stage_without_agent() -> World {
    let mut options = Options::calm(vec![lines()]);
    options.limits.ttl = Some(Duration::from_secs(30));
    options.with_broker = false;
    let mut world = stage_with(options);
    world.spawn(&w0());
    world.run_ms(2000);
    let now = world.now;
    world.with_seat(&w0(), |seat| seat.die(now));
    world.run_ms(3000);
    world
}

/// Both machines' wall clocks are so many hours off from now on.
fn jump(world: &mut World, hours: i64) {
    world.wall_off_ms = hours * 3_600_000;
    world.engine_off_ms = hours * 3_600_000;
}

/// D6: mail for an agent that is not here lies at the engine, is listed there, and ends as a dead letter of the broker.
#[test]
fn mail_that_waits_at_the_engine_in_vain_is_a_dead_letter_whatever_the_clocks_say() {
    for hours in [3, -3, 24 * 365, -72] {
        let mut world = stage_without_agent();
        let tag = post(&mut world);
        world.run_ms(10_000);
        jump(&mut world, hours);
        world.run_ms(15_000);
        world.account_for_all();
        assert!(
            !ended(&world, tag),
            "{hours} hours off: its time is not over"
        );
        jump(&mut world, 0);
        must(&mut world, 10_000, "its time is over", |w| ended(w, tag));
        assert!(fate(&world, tag).is_some_and(|f| f.dead));
        rest(&mut world);
        world.account_for_all();
    }
}

/// D6: neither the broker's nor the engine's end, with the power, loses it or makes two of it.
#[test]
fn mail_for_an_absent_agent_is_in_one_place_over_crashes_of_both() {
    for broker_first in [true, false] {
        let mut world = stage_without_agent();
        let tag = post(&mut world);
        world.run_ms(20_000);
        if broker_first {
            world.kill_broker(Crash::Power);
        }
        world.kill_engine(Crash::Power);
        world.run_ms(10_000);
        world.account_for_all();
        must(&mut world, 2 * MINUTE_MS, "its time is over", |w| {
            ended(w, tag)
        });
        world.kill_engine(Crash::Power);
        rest(&mut world);
        world.account_for_all();
        assert_eq!(world.laws.broken, None, "{}", world.story());
    }
}

/// D6: an agent that comes in time gets its mail, and nobody else has it.
#[test]
fn an_agent_that_comes_in_time_gets_what_waited_at_the_engine() {
    let mut world = stage_without_agent();
    let tag = post(&mut world);
    world.run_ms(25_000);
    world.spawn(&w0());
    rest(&mut world);
    assert_eq!(
        (taken(&world, tag), fate(&world, tag).map(|f| f.dead)),
        (1, Some(false))
    );
}

/// N35: a restart by policy is no release; the hold and what it keeps stay.
#[test]
fn a_hold_and_what_it_keeps_outlive_a_restart_by_policy() {
    let mut options = Options::calm(vec![lines()]);
    options.restart = Some(RestartPolicy {
        when: RestartWhen::Always,
        cooldown_ms: 100,
        ..RestartPolicy::default()
    });
    let mut world = stage_with(options);
    world.set_mode(&w0(), DeliveryMode::ManualFlush);
    let (far, near) = (post(&mut world), send(&mut world));
    world.run_ms(1000);
    let now = world.now;
    world.with_seat(&w0(), |seat| seat.die(now));
    world.run_ms(5000);
    world.account_for_all();
    assert_eq!((typed(&world, far), typed(&world, near)), (0, 0));
    assert!(!ended(&world, far) && !ended(&world, near));
    world.set_mode(&w0(), DeliveryMode::AutoInject);
    rest(&mut world);
    assert_eq!((taken(&world, far), taken(&world, near)), (1, 1));
}
