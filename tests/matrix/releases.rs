//! A release ends all mail of an agent, wherever it lies: the next bearer of the name, who is the same to the engine, gets
//! none of it, and none of it is lost.

use serde_json::{Value, json};

use crate::support::{signal, until};
use crate::world::World;

/// N35: mail that came when the agent's program had ended lies with the engine, and a release ends that too.
pub fn what_the_engine_has_for_an_agent_ends_with_its_release(age: Option<&'static str>) {
    let world = World::of(age);
    let one = world.node("one");
    let boss = world.engine.register("boss");
    let seen = world.keeper(&one, "w1");
    world.engine.dm(&boss, "w1", "@@first@@");
    until("its mail", || (seen.words() == ["first"]).then_some(()));
    let pid = one.agent("w1").expect("it runs")["pid"].as_u64();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    signal(pid.expect("a number"), "KILL");
    until("its end", || one.agent("w1").is_none().then_some(()));
    let direct = || {
        let nodes = world.get("/v1/nodes/one/agents");
        nodes.as_array().is_some_and(Vec::is_empty).then_some(())
    };
    until("the engine to know", direct);
    for word in ["old", "older"] {
        world.engine.dm(&boss, "w1", &format!("@@{word}@@"));
    }
    let dead = || {
        one.get("/api/dead-letters")
            .to_string()
            .matches("delivery_id")
            .count()
    };
    assert_eq!(dead(), 0);

    let (status, body) = one.call("DELETE", "/api/spawned/w1", None);
    assert_eq!(status, 200, "{body}");
    until("dead letters", || (dead() == 2).then_some(()));
    let dropped = one.events("delivery_dropped");
    let counts: Vec<&Value> = dropped.iter().map(|event| &event["count"]).collect();
    assert_eq!(counts, [2]);
    assert_eq!(one.events("message_delivery_failed").len(), 2);
    let lies = || world.get("/v1/deliveries/waiting?agent=w1&all=true");
    until("the engine to have nothing", || {
        lies().as_array().is_some_and(Vec::is_empty).then_some(())
    });

    let next = world.keeper(&one, "w1");
    world.engine.dm(&boss, "w1", "@@new@@");
    until("its own mail", || (next.words().len() > 1).then_some(()));
    assert_eq!(next.words(), ["first", "new"], "and none of the last");
    let all = Some(json!({"all": true}));
    let (status, body) = one.call("POST", "/api/dead-letters/redeliver", all);
    assert_eq!(status, 200, "{body}");
    until("what was given up", || {
        (next.words().len() > 3).then_some(())
    });
    assert_eq!(next.words()[2..], ["old", "older"]);
}
