//! Hand-written stories, one for each way in which deliveries get lost, doubled or lied about in the field, and one for
//! each bug that a seed found. The same world and the same laws, with nothing drawn: every act is in the text.

mod absent;
mod keys;

use std::time::Duration;

use relay_broker::domain::{DeliveryMode, Proof};
use relay_broker::ids::AgentName;
use relay_broker::msg::ApiCall;
use relay_broker::wire::local::{RestartPolicy, RestartWhen};

use crate::disk::Crash;
use crate::laws::Fate;
use crate::people::{Caller, To, Told};
use crate::swarm::Options;
use crate::tui::{Kind, Manner};
use crate::world::{MS, SECOND, World};

const MINUTE_MS: u64 = 60_000;

/// A world with one agent of that manner, `w0`, that is ready to be typed to.
fn stage(manner: Manner) -> World {
    stage_with(Options::calm(vec![manner]))
}

fn stage_with(options: Options) -> World {
    let mut world = World::new(1, options);
    world.telling = true;
    world.run_ms(3000);
    world
}

fn w0() -> AgentName {
    AgentName::new("w0")
}

/// A client posts a message to `w0` and is answered.
fn post(world: &mut World) -> u64 {
    let index = world.message(To::Agent(w0()), "please look", false);
    world.say(index);
    must(world, 5000, "the engine takes it", |w| {
        matches!(w.messages[index].told, Told::Taken(_))
    });
    index as u64
}

/// Somebody on the machine sends a message to `w0`.
fn send(world: &mut World) -> u64 {
    let index = world.message(To::Local(w0()), "please look", false);
    world.say(index);
    index as u64
}

fn must(world: &mut World, within_ms: u64, what: &str, so: impl FnMut(&World) -> bool) {
    let so = world.run_until(within_ms, so);
    let broken = world.laws.broken.clone();
    assert!(
        so && broken.is_none(),
        "{}\nnot within {within_ms} ms: {what}\nbroken: {broken:?}",
        world.story()
    );
}

fn fate(world: &World, tag: u64) -> Option<&Fate> {
    world.laws.fate_of(&w0(), tag)
}

fn ended(world: &World, tag: u64) -> bool {
    fate(world, tag).is_some_and(|f| f.ends == 1)
}

fn taken(world: &World, tag: u64) -> u32 {
    fate(world, tag).map_or(0, |f| f.accepted)
}

fn typed(world: &World, tag: u64) -> u32 {
    fate(world, tag).map_or(0, |f| f.injected)
}

fn acknowledged(world: &World) -> u64 {
    world.laws.heard_up_to(&w0())
}

/// All that was said has ended once, the disk knows it, and the engine too.
fn rest(world: &mut World) {
    must(
        world,
        5 * MINUTE_MS,
        "everything ends and is acknowledged",
        World::is_quiet,
    );
    world.compare_with_disk();
    world.laws.at_the_end();
    assert_eq!(world.laws.broken, None, "{}", world.story());
}

fn lines() -> Manner {
    Manner::good(Kind::Registry)
}

fn composer() -> Manner {
    Manner::good(Kind::Composer { known: true })
}

/// A program that reads each message only after so many seconds.
fn deaf_for(seconds: u64) -> Manner {
    Manner {
        waits_us: seconds * 1_000_000,
        ..lines()
    }
}

#[test]
fn numbers_go_on_where_they_were_when_the_broker_starts_again() {
    let mut world = stage(lines());
    let before: Vec<u64> = (0..3).map(|_| post(&mut world)).collect();
    must(&mut world, 5000, "three are read", |w| acknowledged(w) == 3);
    for how in [Crash::Kill, Crash::Power] {
        world.kill_broker(how);
        let after = post(&mut world);
        must(&mut world, MINUTE_MS, "the next one is read", |w| {
            ended(w, after)
        });
    }
    rest(&mut world);
    assert!(before.iter().all(|tag| typed(&world, *tag) == 1));
    assert_eq!(acknowledged(&world), 5);
}

#[test]
fn mail_that_came_while_an_agent_was_away_is_typed_in_order_when_it_is_back() {
    let mut world = stage(lines());
    let first = post(&mut world);
    must(&mut world, 5000, "the first is read", |w| ended(w, first));
    world.release(&w0());
    world.run_ms(3000);
    let missed: Vec<u64> = (0..3).map(|_| post(&mut world)).collect();
    world.run_ms(3000);
    assert!(missed.iter().all(|tag| typed(&world, *tag) == 0));
    world.spawn(&w0());
    rest(&mut world);
    assert!(missed.iter().all(|tag| taken(&world, *tag) == 1));
}

/// N24: also through a power cut.
#[test]
fn nothing_is_acknowledged_before_the_program_has_read_it() {
    let mut world = stage(deaf_for(20));
    let tag = post(&mut world);
    world.run_ms(15_000);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 0));
    assert_eq!(acknowledged(&world), 0, "{}", world.story());
    world.kill_broker(Crash::Power);
    rest(&mut world);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (2, 1));
}

#[test]
fn a_worker_that_does_not_read_for_minutes_gets_its_message_once_and_is_not_given_up() {
    let mut world = stage(deaf_for(240));
    let tags: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
    world.run_ms(200_000);
    assert!(tags.iter().all(|tag| !ended(&world, *tag)));
    world.run_ms(300_000);
    rest(&mut world);
    for tag in tags {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}

/// D2: a hold and what it holds outlive a power cut.
#[test]
fn a_parked_message_is_not_acknowledged_and_survives_with_its_hold() {
    let mut world = stage(lines());
    world.set_mode(&w0(), DeliveryMode::ManualFlush);
    let (far, near) = (post(&mut world), send(&mut world));
    world.run_ms(2000);
    world.kill_broker(Crash::Power);
    world.run_ms(20_000);
    assert_eq!((typed(&world, far), typed(&world, near)), (0, 0));
    assert_eq!(acknowledged(&world), 0);
    world.set_mode(&w0(), DeliveryMode::AutoInject);
    rest(&mut world);
    assert_eq!((taken(&world, far), taken(&world, near)), (1, 1));
}

#[test]
fn a_link_that_goes_silent_is_noticed_and_mail_flows_again() {
    let mut world = stage(lines());
    world.cut(true);
    let tag = post(&mut world);
    must(
        &mut world,
        2 * MINUTE_MS,
        "it arrives over a new link",
        |w| ended(w, tag),
    );
    rest(&mut world);
}

/// N26: a lost frame is had after all, and nothing comes twice.
#[test]
fn a_frame_that_the_engine_lost_is_asked_for_before_it_is_passed_over() {
    let mut world = stage(lines());
    let first = post(&mut world);
    must(&mut world, 5000, "the base is known", |w| {
        acknowledged(w) == 1
    });
    world.options.lost_frames = 1000;
    let lost = post(&mut world);
    world.run_ms(100);
    world.options.lost_frames = 0;
    let after = post(&mut world);
    rest(&mut world);
    assert_eq!(world.network.lost.len(), 1);
    for tag in [first, lost, after] {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}

#[test]
fn a_frame_that_comes_twice_behind_a_lost_one_is_no_sign_that_the_lost_one_is_gone_for_good() {
    let mut world = stage(lines());
    let first = post(&mut world);
    must(&mut world, 5000, "the base is known", |w| {
        acknowledged(w) == 1
    });
    world.options.lost_frames = 1000;
    let lost = post(&mut world);
    world.run_ms(100);
    world.options.lost_frames = 0;
    world.options.again = 1000;
    let twice = post(&mut world);
    world.run_ms(100);
    world.options.again = 0;
    rest(&mut world);
    for tag in [first, lost, twice] {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}

/// N35: at a release through the engine, with more waiting than is taken in.
#[test]
fn the_next_bearer_of_a_released_name_gets_its_own_mail_and_none_of_the_last() {
    let mut options = Options::calm(vec![lines()]);
    options.limits.engine = 2;
    let mut world = stage_with(options);
    world.set_mode(&w0(), DeliveryMode::ManualFlush);
    world.run_ms(100);
    let old: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
    world.run_ms(100);
    (world.options.from_engine, world.options.deletes) = (1000, 1000);
    world.release(&w0());
    (world.options.from_engine, world.options.deletes) = (0, 0);
    world.run_ms(5000);
    assert!(
        old.iter()
            .all(|tag| fate(&world, *tag).is_some_and(|f| f.dead))
    );
    world.spawn(&w0());
    world.run_ms(3000);
    let new = post(&mut world);
    must(&mut world, 5000, "it is not on hold", |w| ended(w, new));
    rest(&mut world);
    assert_eq!(taken(&world, new), 1);
    assert!(old.iter().all(|tag| taken(&world, *tag) == 0));
}

#[test]
fn an_enter_that_is_swallowed_is_pressed_again_and_the_text_is_not_typed_twice() {
    let mut world = stage(Manner {
        // Not so often that all five presses come to nothing: that is for a person to see to.
        swallows: 400,
        ..composer()
    });
    let tags: Vec<u64> = (0..6).map(|_| post(&mut world)).collect();
    rest(&mut world);
    for tag in tags {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}

#[test]
fn an_agent_that_ends_with_its_message_unread_gets_it_again_when_it_is_back() {
    let mut world = stage(deaf_for(30));
    let tag = post(&mut world);
    must(&mut world, 5000, "it is typed", |w| typed(w, tag) == 1);
    let now = world.now;
    world.with_seat(&w0(), |seat| seat.die(now));
    world.run_ms(5000);
    assert!(!ended(&world, tag), "nobody has read it");
    assert_eq!(acknowledged(&world), 0);
    world.spawn(&w0());
    rest(&mut world);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (2, 1));
    assert_eq!(
        world.laws.redelivered, 1,
        "and it is said that this may be the second time"
    );
}

/// D3: a message that was read never comes again.
#[test]
fn what_the_engine_sends_again_because_an_acknowledgement_was_lost_is_not_typed_again() {
    let mut world = stage(lines());
    let tag = post(&mut world);
    must(&mut world, 5000, "it is taken", |w| taken(w, tag) == 1);
    world.cut(false);
    assert_eq!(acknowledged(&world), 0, "the link broke first");
    rest(&mut world);
    assert_eq!((typed(&world, tag), acknowledged(&world)), (1, 1));
}

/// D1: nothing is spoken while the disk is full.
#[test]
fn a_full_disk_holds_everything_back_and_lets_it_go_when_there_is_room() {
    let mut world = stage(lines());
    world.broker_disk.set_full(true);
    let (far, near) = (post(&mut world), send(&mut world));
    world.run_ms(30_000);
    assert_eq!((typed(&world, far), typed(&world, near)), (0, 0));
    assert_eq!(acknowledged(&world), 0);
    assert!(
        !matches!(world.messages[near as usize].told, Told::Taken(_)),
        "what is not written down is not taken"
    );
    world.broker_disk.set_full(false);
    must(&mut world, 5000, "the sender's next try is taken", |w| {
        matches!(w.messages[near as usize].told, Told::Taken(_))
    });
    rest(&mut world);
    assert_eq!((taken(&world, far), taken(&world, near)), (1, 1));
}

/// D2: a stop keeps what is pending, and the next start delivers it.
#[test]
fn a_stop_in_the_middle_of_an_injection_loses_nothing() {
    let mut world = stage(deaf_for(20));
    let tags: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
    must(&mut world, 5000, "the first is typed", |w| {
        typed(w, tags[0]) == 1
    });
    world.stop_broker();
    must(&mut world, 10_000, "it has left", |w| w.broker.is_none());
    assert_eq!(acknowledged(&world), 0);
    rest(&mut world);
    assert_eq!((typed(&world, tags[0]), taken(&world, tags[0])), (2, 1));
    assert_eq!((typed(&world, tags[1]), taken(&world, tags[1])), (1, 1));
}

#[test]
fn an_engine_that_starts_again_finds_its_mail_delivered_once() {
    let mut world = stage(deaf_for(5));
    let tags: Vec<u64> = (0..3).map(|_| post(&mut world)).collect();
    world.run_ms(1000);
    world.kill_engine(Crash::Power);
    world.run_ms(2000);
    rest(&mut world);
    for tag in tags {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
    assert_eq!(acknowledged(&world), 3);
}

#[test]
fn what_was_read_while_the_report_of_it_was_on_the_way_is_not_typed_again_after_a_kill() {
    let mut world = stage(lines());
    let tag = post(&mut world);
    must(&mut world, 5000, "it is seen to land", |w| {
        w.marks.contains_key(&w0())
    });
    assert!(!ended(&world, tag), "nobody has written that down");
    world.kill_broker(Crash::Kill);
    rest(&mut world);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
}

#[test]
fn a_power_cut_that_takes_the_note_too_types_it_again_and_says_so() {
    let mut world = stage(lines());
    let tag = post(&mut world);
    must(&mut world, 5000, "it is seen to land", |w| {
        w.marks.contains_key(&w0())
    });
    world.kill_broker(Crash::Power);
    world.marks.clear();
    rest(&mut world);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (2, 2));
    assert_eq!(world.laws.redelivered, 1);
}

#[test]
fn a_kill_in_any_step_of_writing_a_message_down_loses_and_doubles_nothing() {
    for how in [Crash::Kill, Crash::Power] {
        for operation in 0..6 {
            let mut world = stage(lines());
            world.broker_disk.die_in(Some(operation));
            let tags: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
            must(&mut world, MINUTE_MS, "it died and is back", |w| {
                w.lives == 2 && w.broker.is_some()
            });
            if how == Crash::Power {
                world.kill_broker(how);
            }
            rest(&mut world);
            assert!(tags.iter().all(|tag| taken(&world, *tag) >= 1));
        }
    }
}

#[test]
fn a_failed_sync_begins_a_new_journal_before_anything_is_said() {
    let mut world = stage(lines());
    world.broker_disk.fail_syncs(2);
    let tag = post(&mut world);
    must(&mut world, 10_000, "it ends all the same", |w| {
        ended(w, tag)
    });
    world.kill_broker(Crash::Power);
    rest(&mut world);
    assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
}

#[test]
fn a_clock_that_jumps_back_over_a_restart_gives_no_number_or_name_twice() {
    let mut world = stage(lines());
    world.set_mode(&w0(), DeliveryMode::ManualFlush);
    world.run_ms(100);
    let before = world.broker_now().wall.0;
    let first = send(&mut world);
    world.run_ms(100);
    world.kill_broker(Crash::Power);
    world.run_ms(10_000);
    // The same millisecond on the wall, the same act since the start.
    let now = world.broker_now().wall.0;
    world.wall_off_ms -= (now - before) as i64;
    let second = send(&mut world);
    world.run_ms(1000);
    world.set_mode(&w0(), DeliveryMode::AutoInject);
    rest(&mut world);
    assert_eq!((taken(&world, first), taken(&world, second)), (1, 1));
}

#[test]
fn a_dead_letter_that_is_redelivered_gets_a_name_of_its_own_whatever_the_clock_says() {
    let mut world = stage(lines());
    let long = "too long for a line ".repeat(300);
    let letters: Vec<u64> = (0..2)
        .map(|_| {
            let index = world.message(To::Local(w0()), &long, false);
            world.say(index);
            index as u64
        })
        .collect();
    must(
        &mut world,
        5000,
        "no terminal in line mode takes them",
        |w| letters.iter().all(|tag| ended(w, *tag)),
    );
    world.set_mode(&w0(), DeliveryMode::ManualFlush);
    world.run_ms(100);
    world.kill_broker(Crash::Power);
    let redeliver = |world: &mut World, tag| {
        world.run_ms(10_000);
        let id = world.laws.id_of(&w0(), tag).cloned();
        world.call(ApiCall::Redeliver(id), Caller::Nobody("redeliver"));
        world.run_ms(100);
    };
    let before = world.now;
    redeliver(&mut world, letters[0]);
    world.kill_broker(Crash::Power);
    // The same millisecond on the wall, the same act since the start.
    world.wall_off_ms -= ((world.now - before) / MS) as i64;
    redeliver(&mut world, letters[1]);
    world.set_mode(&w0(), DeliveryMode::AutoInject);
    rest(&mut world);
    for tag in letters {
        assert!(fate(&world, tag).is_some_and(|f| f.dead), "again");
    }
}

#[test]
fn a_thread_that_takes_no_orders_for_a_while_is_given_the_message_again() {
    let mut options = Options::calm(vec![lines()]);
    options.full_queue = 1000;
    let mut world = stage_with(options);
    let tags: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
    world.run_ms(10_000);
    assert_eq!(typed(&world, tags[0]), 0);
    world.options.full_queue = 0;
    rest(&mut world);
    for tag in tags {
        assert_eq!((typed(&world, tag), taken(&world, tag)), (1, 1));
    }
}

/// Comes up after a while in line mode, and throws away what was typed until then.
fn launcher(kind: Kind, start_s: u64) -> Manner {
    Manner {
        start_us: start_s * 1_000_000,
        flushes: true,
        ..Manner::good(kind)
    }
}

const KINDS: [Kind; 3] = [
    Kind::Raw { echo: false },
    Kind::Raw { echo: true },
    Kind::Composer { known: false },
];

#[test]
fn a_message_for_a_launcher_is_typed_once_it_has_become_its_program() {
    for kind in KINDS {
        let mut world = stage(launcher(kind, 12));
        let tags: Vec<u64> = (0..2).map(|_| post(&mut world)).collect();
        world.run_ms(5000);
        assert_eq!(typed(&world, tags[0]), 0, "{kind:?}");
        rest(&mut world);
        for tag in tags {
            let fate = fate(&world, tag).expect("it ended");
            assert_eq!((fate.injected, fate.accepted), (1, 1), "{kind:?}");
            assert_ne!(fate.proof, Some(Proof::None), "{kind:?}");
        }
    }
}

#[test]
fn what_a_program_throws_away_unread_is_typed_again() {
    for kind in KINDS {
        let mut world = stage(Manner {
            hidden: true,
            ..launcher(kind, 12)
        });
        let tag = post(&mut world);
        must(&mut world, MINUTE_MS, "it ends", |w| ended(w, tag));
        assert!(world.now > 12 * SECOND, "{kind:?}");
        rest(&mut world);
        let fate = fate(&world, tag).expect("it ended");
        assert_eq!(fate.accepted, 1, "{kind:?}");
        assert_ne!(fate.proof, Some(Proof::None), "{kind:?}");
    }
}
