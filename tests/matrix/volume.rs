//! Containers that come and go over one volume: whatever their home is, the volume is one node.

use std::fs;

use crate::support::{Node, until};
use crate::world::World;

/// Who a node is at the engine, and by which token.
fn told(node: &Node) -> (String, String) {
    let session = node.get("/api/session");
    let text = |key: &str| session[key].as_str().expect("a text").to_owned();
    (text("node_id"), text("node_token"))
}

/// N8: first started as somebody's own, in the folder and with that user's home; then three times in containers whose homes
/// are new, missing, or cannot be written. It is one node with one token throughout, asked for once, which matters most to
/// engines that give a new one for the old one only. And each message is read once, also those that were written while no
/// container was there.
pub fn a_volume_is_one_node_whatever_home_is_and_loses_no_mail(age: Option<&'static str>) {
    let world = World::of(age);
    let boss = world.engine.register("boss");
    let usual = world.path("home-0");
    let first = world.up_at_home("one", &usual, &[]);
    world.connected(&first);
    let identity = told(&first);
    let seen = world.keeper(&first, "ada");
    world.engine.dm(&boss, "ada", "@@0@@");
    until("its mail", || (seen.words() == ["0"]).then_some(()));
    assert_eq!(first.process.stop(), Some(0));

    let named = [("RELAY_BROKER_STATE_DIR", ".relay-broker")];
    let mut wanted = vec!["0".to_owned()];
    // The first container still sees the home that it began in; of the others each has another one, or none.
    let homes = [usual.as_str(), &world.path("home-1"), "/proc/nowhere", ""];
    for (round, home) in homes.into_iter().enumerate() {
        world.engine.dm(&boss, "ada", &format!("@@away {round}@@"));
        let node = world.up_at_home("one", home, &named);
        world.connected(&node);
        assert_eq!(told(&node), identity, "in round {round}");
        let roster = world.roster();
        assert_eq!(roster.len(), 1, "{roster:?}");
        assert_eq!(roster["one"]["live"], true, "{roster:?}");
        world.keeper(&node, "ada");
        world.engine.dm(&boss, "ada", &format!("@@here {round}@@"));
        wanted.extend([format!("away {round}"), format!("here {round}")]);
        // Killed between the agent's reading and the note of it, a message may be read twice.
        until("the end of its mail", || {
            (node.events("delivery_ack").len() == 2).then_some(())
        });
        assert_eq!(seen.words(), wanted, "once, in order");
        match round % 2 {
            0 => assert_eq!(node.process.stop(), Some(0)),
            _ => node.process.kill9(),
        }
        // A container's home goes with it.
        let _ = fs::remove_dir_all(home);
    }
    assert_eq!(world.trouble()["minted"], 1, "one token for all of them");
}

/// N6: volumes of one image, whose home was left in it, are mounted at the same path and still are a node each.
pub fn volumes_that_share_a_home_are_a_node_each(age: Option<&'static str>) {
    let world = World::of(age);
    let home = world.path("home");
    let named = [("RELAY_BROKER_STATE_DIR", ".relay-broker")];
    let (one, two) = (
        world.up_at_home("one", &home, &named),
        world.up_at_home("two", &home, &named),
    );
    for node in [&one, &two] {
        world.connected(node);
    }
    assert_ne!(told(&one), told(&two));
    assert_eq!(world.roster().len(), 2);
    assert!(!fs::exists(&home).expect("readable"), "nothing is in it");
}
