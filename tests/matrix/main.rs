//! Two real brokers in one workspace, on engines of every age: who is chosen for an agent, and what happens when nodes,
//! links and engines go. Each scenario is a module of one test per engine. `MATRIX_FLAPS=n` cuts the link so often instead
//! of a few times, `MATRIX_STORM=n` refuses so many tokens in a row; `MATRIX_FRAMES=file` takes every frame of every node
//! down at the file's end, a line each, for others to judge.

mod control; // odd links, slow work, foreign agents, fleets
mod figures; // how long it takes to be there again
mod frames; // what the nodes sent
mod rejections; // agents that the engine does not take from a node's list
mod releases; // mail that a release ends
#[path = "../support/mod.rs"]
mod support; // the program as child processes
mod volume; // containers over one state folder
mod world; // an engine and its two nodes

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use support::{Node, until};
use world::{Seen, Starts, World};

/// So many tokens in a row are asked for; then a node only looks now and then whether it is taken again.
const MINTS_MOST: u64 = 5;

/// One test per engine for each scenario: `None` is the engine as it comes.
macro_rules! on_every_engine {
    ($stage:ident: $($scenario:ident)*) => {$(
        mod $scenario {
            #[test]
            fn as_it_comes() {
                crate::$stage::$scenario(None);
            }
            #[test]
            fn of_5_0_1() {
                crate::$stage::$scenario(Some("5.0.1"));
            }
            #[test]
            fn of_6_0_3() {
                crate::$stage::$scenario(Some("6.0.3"));
            }
            #[test]
            fn of_a_hosted_variant() {
                crate::$stage::$scenario(Some("hosted"));
            }
            #[test]
            fn of_8_2() {
                crate::$stage::$scenario(Some("8.2"));
            }
            #[test]
            fn of_9_0() {
                crate::$stage::$scenario(Some("9.0"));
            }
        }
    )*};
}

on_every_engine! { control:
    a_link_that_is_left_half_open_is_replaced_at_once
    slow_work_is_done_once_while_agents_come_and_go
    an_agent_that_is_somebody_elses_by_now_mutes_no_other
    a_fleet_of_programs_that_serve_spawns_starts_each_agent_once
    an_agent_that_signs_off_by_itself_keeps_its_mail
    the_last_place_of_a_node_goes_to_one_agent_and_is_free_again
}

on_every_engine! { rejections:
    an_agent_that_the_engine_has_on_another_node_ends_here_alone
    an_agent_that_another_provider_of_the_node_took_is_had_back_or_ended
    a_node_whose_socket_is_replaced_comes_back_with_all_of_its_agents
}

on_every_engine! { releases:
    what_the_engine_has_for_an_agent_ends_with_its_release
}

on_every_engine! { volume:
    a_volume_is_one_node_whatever_home_is_and_loses_no_mail
    volumes_that_share_a_home_are_a_node_each
}

on_every_engine! { play:
    an_agent_goes_to_the_node_that_is_named_or_offers_it_or_has_least_to_do
    an_agent_is_resumed_with_its_session
    a_node_that_dies_in_mid_spawn_leaves_the_spawn_to_the_other_and_does_not_begin_it_again
    a_spawn_that_a_node_dies_on_before_it_began_runs_once_on_the_other
    a_link_that_is_cut_in_mid_spawn_is_answered_over_the_next_one
    links_that_are_cut_in_mid_spawn_leave_one_program_in_the_end
    an_engine_that_restarts_finds_both_nodes_and_all_mail_again
    links_that_flap_under_traffic_lose_and_double_nothing_and_leave_nothing_behind
    a_storm_of_refusals_passes_and_a_made_up_token_never_lives
    a_token_rotated_under_a_node_is_replaced_or_asked_for_and_the_other_node_does_not_care
    two_brokers_with_one_identity_do_not_chase_each_other
}

mod play {
    use super::*;

    pub fn an_agent_goes_to_the_node_that_is_named_or_offers_it_or_has_least_to_do(
        age: Option<&'static str>,
    ) {
        let world = World::of(age);
        let (one, two) = (world.node("one"), world.node("two"));
        let lead = world.engine.register("lead");
        let roster = world.roster();
        for name in ["one", "two"] {
            let row = &roster[name];
            let is = |key: &str, value: Value| assert_eq!(row[key], value, "{key} of {row}");
            is("live", json!(true));
            is("handlers_live", json!(true));
            is("max_agents", json!(4));
            is("active_agents", json!(0));
            is("load", json!(0.0));
            let capabilities = row["capabilities"].as_array().expect("a list").iter();
            let capabilities: BTreeSet<_> =
                capabilities.filter_map(|c| c["name"].as_str()).collect();
            let own = format!("spawn:{name}");
            assert!(
                capabilities.is_superset(&BTreeSet::from(["spawn:cat", own.as_str()])),
                "{row}"
            );
            assert!(!capabilities.contains("spawn"), "{row}");
        }
        let offering = |what: &str| -> Vec<String> {
            let rows = world.get(&format!("/v1/nodes?capability={what}"));
            let rows = rows.as_array().cloned().unwrap_or_default();
            rows.iter()
                .map(|r| r["name"].as_str().expect("a name").to_owned())
                .collect()
        };
        assert_eq!(offering("spawn%3Atwo"), ["two"]);
        assert!(offering("spawn%3Anothing").is_empty());

        let named = json!({"name": "named", "cli": "cat", "target_node": "two"});
        assert_eq!(
            world.spawned(&lead, named),
            json!({"spawned": true, "name": "named"})
        );
        two.ready("named");
        until("its load", || {
            let row = world.roster()["two"].clone();
            (row["active_agents"] == 1 && row["load"] == 0.25).then_some(())
        });
        world.spawned(&lead, json!({"name": "idle", "cli": "cat"}));
        one.ready("idle");
        let offered = json!({"name": "offered", "capability": "spawn:two", "cli": "cat"});
        world.spawned(&lead, offered);
        two.ready("offered");

        let wrong =
            json!({"name": "x", "capability": "spawn:two", "cli": "cat", "target_node": "one"});
        let (status, body) = world.invoke(&lead, "spawn", wrong);
        assert_eq!(
            (status, &body["error"]["code"]),
            (409, &json!("capability_mismatch"))
        );
        let nowhere = json!({"name": "x", "cli": "cat", "target_node": "three"});
        let (status, body) = world.invoke(&lead, "spawn", nowhere);
        assert_eq!(
            (status, &body["error"]["code"]),
            (404, &json!("node_not_found"))
        );

        let (status, body) = world.invoke(&lead, "release", json!({"name": "named"}));
        assert_eq!(status, 201, "{body}");
        assert_eq!(world.ended("release", &body)["status"], "completed");
        until("it to be gone", || {
            two.agent("named").is_none().then_some(())
        });
        until("the count", || {
            (world.roster()["two"]["active_agents"] == 1).then_some(())
        });
    }

    pub fn an_agent_is_resumed_with_its_session(age: Option<&'static str>) {
        let world = World::of(age);
        let two = world.node("two");
        let lead = world.engine.register("lead");
        let input =
            json!({"name": "w1", "cli": "cat", "target_node": "two", "session_ref": "sess-9"});
        world.spawned(&lead, input.clone());
        two.ready("w1");
        let session = || two.agent("w1").map(|a| a["sessionId"].clone());
        assert_eq!(session(), Some(json!("sess-9")));
        let bound = || {
            let rows = world.get("/v1/nodes/two/agents");
            let row = rows
                .as_array()?
                .iter()
                .find(|r| r["agent_name"] == "w1")
                .cloned()?;
            (row["session_ref"] == "sess-9").then_some(())
        };
        until("the engine to know the session", bound);
        let (_, body) = world.invoke(&lead, "release", json!({"name": "w1"}));
        world.ended("release", &body);
        until("it to be gone", || two.agent("w1").is_none().then_some(()));
        world.spawned(&lead, input);
        assert_eq!(session(), Some(json!("sess-9")), "resumed on its node");
        until("the engine to know it again", bound);
    }

    /// N32: of two nodes one has the agent in the end.
    pub fn a_node_that_dies_in_mid_spawn_leaves_the_spawn_to_the_other_and_does_not_begin_it_again(
        age: Option<&'static str>,
    ) {
        let world = World::of(age);
        let lead = world.engine.register("lead");
        // Only one node is there, so the spawn goes to it.
        let one = world.node("one");
        let starts = Starts::of(&world);
        let (status, body) = world.invoke(&lead, "spawn", starts.spawn());
        assert_eq!(status, 201, "{body}");
        until("the program to run on the first node", || {
            (starts.all().len() == 1).then_some(())
        });
        // Its moment of proof is not over: the spawn is still open.
        one.process.kill9();
        let two = world.node("two");
        let over = world.ended("spawn", &body);
        assert_eq!(over["status"], "completed", "{over}");
        two.ready("w1");
        assert_eq!(starts.nodes(), ["one", "two"], "once on each node");

        // The first one comes back with its journal, in which the spawn is open; what it is told before it serves the
        // next spawn, it has acted upon.
        let one = world.node("one");
        world.spawned(
            &lead,
            json!({"name": "next", "cli": "cat", "target_node": "one"}),
        );
        assert!(one.agent("w1").is_none(), "it went to the other node");
        assert_eq!(starts.nodes(), ["one", "two"], "and is not begun again");
        until("one program", || (starts.running() == 1).then_some(()));
    }

    /// N32: a spawn that never began on one node begins once on the other.
    pub fn a_spawn_that_a_node_dies_on_before_it_began_runs_once_on_the_other(
        age: Option<&'static str>,
    ) {
        let world = World::of(age);
        let lead = world.engine.register("lead");
        let one = world.node("one");
        let starts = Starts::of(&world);
        // A node that hangs is given the spawn, and never reads it.
        support::signal(one.process.pid(), "STOP");
        let (status, body) = world.invoke(&lead, "spawn", starts.spawn());
        assert_eq!(status, 201, "{body}");
        one.process.kill9();
        let two = world.node("two");
        let over = world.ended("spawn", &body);
        assert_eq!(over["status"], "completed", "{over}");
        two.ready("w1");
        assert_eq!(starts.nodes(), ["two"]);
    }

    /// All links are cut while a program that the engine wants starts; returns once the engine counts the spawn as done.
    fn cut_in_mid_spawn<const N: usize>(
        age: Option<&'static str>,
        names: [&str; N],
    ) -> (World, [Node; N], Starts) {
        let world = World::of(age);
        let lead = world.engine.register("lead");
        let nodes = names.map(|name| world.node(name));
        let starts = Starts::of(&world);
        let (status, body) = world.invoke(&lead, "spawn", starts.spawn());
        assert_eq!(status, 201, "{body}");
        until("the program to run", || {
            (starts.all().len() == 1).then_some(())
        });
        world.cut(&nodes);
        let over = world.ended("spawn", &body);
        assert_eq!(over["status"], "completed", "{over}");
        (world, nodes, starts)
    }

    /// N30: an invocation that is repeated over a new link has one program and one answer.
    pub fn a_link_that_is_cut_in_mid_spawn_is_answered_over_the_next_one(
        age: Option<&'static str>,
    ) {
        let (_world, nodes, starts) = cut_in_mid_spawn(age, ["one"]);
        nodes[0].ready("w1");
        assert_eq!((starts.nodes(), starts.running()), (vec!["one"], 1));
    }

    /// N32: also when both links are cut in the middle of the spawn.
    pub fn links_that_are_cut_in_mid_spawn_leave_one_program_in_the_end(age: Option<&'static str>) {
        // The engine takes an open spawn back as soon as a link is lost, and gives it to whoever comes first.
        let (_world, _nodes, starts) = cut_in_mid_spawn(age, ["one", "two"]);
        until("one program, whichever node it is on", || {
            (starts.running() == 1).then_some(())
        });
    }

    pub fn an_engine_that_restarts_finds_both_nodes_and_all_mail_again(age: Option<&'static str>) {
        let mut world = World::of(age);
        let nodes = [world.node("one"), world.node("two")];
        let boss = world.engine.register("boss");
        let seen: Vec<Seen> = (0..2)
            .map(|n| world.keeper(&nodes[n], &format!("a{n}")))
            .collect();
        for round in 0..3 {
            for (n, seen) in seen.iter().enumerate() {
                world
                    .engine
                    .dm(&boss, &seen.agent, &format!("@@{round}-{n}@@"));
            }
            world.stop();
            world.resume(&nodes);
        }
        for (n, seen) in seen.iter().enumerate() {
            world.engine.dm(&boss, &seen.agent, &format!("@@3-{n}@@"));
            let wanted: Vec<String> = (0..4).map(|round| format!("{round}-{n}")).collect();
            until("all of it", || (seen.words().len() >= 4).then_some(()));
            assert_eq!(seen.words(), wanted, "once, in order");
        }
    }

    pub fn links_that_flap_under_traffic_lose_and_double_nothing_and_leave_nothing_behind(
        age: Option<&'static str>,
    ) {
        let world = World::of(age);
        let nodes = [world.node("one"), world.node("two")];
        let boss = world.engine.register("boss");
        let seen: Vec<Seen> = (0..2)
            .map(|n| world.keeper(&nodes[n], &format!("a{n}")))
            .collect();
        let flaps = world::number("MATRIX_FLAPS", 15);
        let flap = |round: u64| {
            for seen in &seen {
                world.engine.dm(&boss, &seen.agent, &format!("@@{round}@@"));
            }
            world.cut(&nodes);
        };
        flap(0);
        let before: Vec<_> = nodes.iter().map(world::holds).collect();
        (1..=flaps).for_each(flap);
        let upgrades = world.trouble()["upgrades"].as_u64().expect("a count");
        assert!(
            upgrades >= 2 + 2 * (flaps + 1),
            "{upgrades} links were made"
        );
        let wanted: Vec<String> = (0..=flaps).map(|n| n.to_string()).collect();
        for seen in &seen {
            until("all mail", || {
                (seen.words().len() as u64 > flaps).then_some(())
            });
            assert_eq!(seen.words(), wanted, "once, in order");
        }
        for (node, (threads, descriptors)) in nodes.iter().zip(before) {
            until("no more threads and descriptors than before", || {
                let (t, d) = world::holds(node);
                (t <= threads + 1 && d <= descriptors + 2).then_some(())
            });
        }
    }

    pub fn a_storm_of_refusals_passes_and_a_made_up_token_never_lives(age: Option<&'static str>) {
        let world = World::of(age);
        let one = world.node("one");
        let boss = world.engine.register("boss");
        let seen = world.keeper(&one, "a0");
        let refusals = world::number("MATRIX_STORM", 4);
        world.order(json!({"refuse": 401, "times": refusals, "cut": true}));
        world.engine.dm(&boss, "a0", "@@through the storm@@");
        if refusals > MINTS_MOST {
            until("it to ask for no more tokens, loudly", || {
                let why = one.get("/health")["degradedReason"].as_str()?.to_owned();
                why.contains("no more are asked for").then_some(())
            });
        }
        until("its mail", || {
            (seen.words() == ["through the storm"]).then_some(())
        });
        world.connected(&one);
        assert_eq!(world.trouble()["refused"], refusals, "all of the storm");
        let minted = world.trouble()["minted"].clone();
        assert_eq!(minted, 1 + refusals.min(MINTS_MOST), "the first, and more");

        let made_up = format!("nt_live_{}", "0".repeat(48));
        let bogus = world.up("bogus", &[("RELAY_NODE_TOKEN", &made_up)]);
        until("it to say what is wrong", || {
            let why = bogus.get("/health")["degradedReason"].as_str()?.to_owned();
            why.contains("RELAY_NODE_TOKEN").then_some(())
        });
        let roster: BTreeMap<String, Value> = world.roster();
        assert!(
            roster.get("bogus").is_none_or(|row| row["live"] == false),
            "{roster:?}"
        );
    }

    pub fn a_token_rotated_under_a_node_is_replaced_or_asked_for_and_the_other_node_does_not_care(
        age: Option<&'static str>,
    ) {
        let world = World::of(age);
        let (one, two) = (world.node("one"), world.node("two"));
        let boss = world.engine.register("boss");
        let (a0, a1) = (world.keeper(&one, "a0"), world.keeper(&two, "a1"));
        world.order(json!({"rotate": "one", "cut": true}));
        for seen in [&a0, &a1] {
            world.engine.dm(&boss, &seen.agent, "@@after@@");
        }
        until("the other's mail", || {
            (a1.words() == ["after"]).then_some(())
        });
        if age == Some("9.0") {
            // A new one is given for the old one only, and the old one proves nothing any more.
            until("it to say what to do", || {
                let why = one.get("/health")["degradedReason"].as_str()?.to_owned();
                why.contains("RELAY_NODE_TOKEN").then_some(())
            });
            assert!(a0.words().is_empty());
        } else {
            until("its mail", || (a0.words() == ["after"]).then_some(()));
            world.connected(&one);
        }
        world.connected(&two);
    }

    pub fn two_brokers_with_one_identity_do_not_chase_each_other(age: Option<&'static str>) {
        let world = World::of(age);
        let first = world.up("one", &[("RELAY_NODE_ID", "node_twin")]);
        world.connected(&first);
        // The same id from another folder, with the same cache of tokens.
        let second = world.up_beside("twin", "one", &[("RELAY_NODE_ID", "node_twin")]);
        let says = |node: &support::Node| {
            let why = node.get("/health")["degradedReason"].as_str()?.to_owned();
            Some(why)
        };
        let loud = until("one of them to say so", || {
            let mut said = [&first, &second].into_iter().filter_map(says);
            said.find(|why| {
                why.contains("same node id") || why.contains("provider_instance_conflict")
            })
        });
        assert!(!loud.is_empty());
        let links = |node: &support::Node| node.events("node_registered").len();
        let before = links(&first) + links(&second);
        std::thread::sleep(Duration::from_secs(3));
        let after = links(&first) + links(&second);
        assert!(
            after <= before + 2,
            "they take the place from each other: {before}, {after}"
        );
    }
}
