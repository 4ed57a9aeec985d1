//! `nodes`: the workspace's machines as the engine lists them, and taking one that is gone for good off the list.

use serde_json::json;

use super::args::{Nodes, NodesCommand};
use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::fleet::is_no_such_call;
use super::render::{clean, print, span_ms, table};
use crate::net::http::encode;
use crate::sys::clock;
use crate::time::Wall;
use crate::wire::rest::RosterEntry;

/// `nodes`.
pub fn nodes(c: &Context, args: &Nodes) -> Result<(), Failure> {
    match &args.command {
        Some(NodesCommand::Rm(args)) => remove(c, &args.name),
        None => list(c, args),
    }
}

/// All rows that the engine has.
pub fn roster(client: &Client) -> Result<Vec<RosterEntry>, Failure> {
    let answer = client.get("/api/nodes")?;
    let mut nodes: Vec<RosterEntry> = typed(answer["nodes"].clone())?;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// Whether a machine is behind the row. Engines make a "direct" node for every client that is not an agent of a broker.
pub fn is_machine(node: &RosterEntry) -> bool {
    node.role != "direct"
}

fn list(c: &Context, args: &Nodes) -> Result<(), Failure> {
    let mut nodes = roster(&c.client()?)?;
    nodes.retain(|node| args.all || is_machine(node));
    if let Some(wanted) = &args.capability {
        nodes.retain(|node| node.capabilities.iter().any(|c| c.name == *wanted));
    }
    if c.json {
        return c.tell(&json!({ "nodes": nodes }), "");
    }
    if nodes.is_empty() {
        return print(match &args.capability {
            Some(_) => "no node offers that; `relay-broker nodes` lists what they offer\n",
            None => "no nodes are known\n",
        });
    }
    let now = clock::now().wall;
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, now)).collect();
    let heads = [
        "NAME", "STATE", "AGENTS", "LOAD", "OFFERS", "VERSION", "HEARD OF", "ID",
    ];
    print(&table(c.paint, &heads, &rows))
}

/// What the node offers to others. Names that begin with `relay:` are agreements between node and engine, and nothing to
/// ask for.
pub fn offers(node: &RosterEntry) -> Vec<&str> {
    let names = node.capabilities.iter().map(|c| c.name.as_str());
    names.filter(|name| !name.starts_with("relay:")).collect()
}

fn state(node: &RosterEntry) -> &str {
    match (node.live, node.handlers_live) {
        // A node that offers nothing has nothing to be ready for.
        (true, false) if !offers(node).is_empty() => "live, takes no new work",
        (true, _) => "live",
        (false, _) if node.status.is_empty() || node.status == "online" => "offline",
        (false, _) => &node.status,
    }
}

fn row(node: &RosterEntry, now: Wall) -> Vec<String> {
    let most = match node.max_agents {
        0 => String::new(),
        most => format!(" of {most}"),
    };
    let dash = || "-".to_owned();
    let offers = offers(node);
    let heard = node.last_heartbeat_at.as_deref();
    vec![
        node.name.clone(),
        state(node).to_owned(),
        format!("{}{most}", node.active_agents),
        node.load
            .map_or_else(dash, |load| format!("{:.0} %", load * 100.0)),
        if offers.is_empty() {
            dash()
        } else {
            offers.join(" ")
        },
        node.version.clone().unwrap_or_else(dash),
        heard.map_or_else(dash, |at| age(at, now)),
        match node.id == node.node_id {
            true => node.node_id.clone(),
            false => format!("{} (listed as {})", node.node_id, node.id),
        },
    ]
}

/// How long ago a time of the engine's is; the time itself where it cannot be read.
pub fn age(at: &str, now: Wall) -> String {
    let since = humantime::parse_rfc3339_weak(at)
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| u64::try_from(since.as_millis()).ok());
    match since {
        Some(since) => format!("{} ago", span_ms(now.0.saturating_sub(since))),
        None => clean(at),
    }
}

/// `nodes rm`. A node that lives is left alone: its broker would come back, and its agents would have lost their place.
fn remove(c: &Context, name: &str) -> Result<(), Failure> {
    let client = c.client()?;
    let nodes = roster(&client)?;
    let is_meant =
        |node: &&RosterEntry| [&node.name, &node.node_id, &node.id].contains(&&name.to_owned());
    let Some(node) = nodes.iter().find(is_meant) else {
        return Err(unknown(name, &nodes));
    };
    if let Some(why) = objection(node) {
        return Err(Failure::new(clean(&why)).named("node_in_use"));
    }
    client
        .delete(&format!("/api/nodes/{}", encode(&node.name)))
        .map_err(|refused| not_removed(name, refused))?;
    let facts = json!({"name": node.name, "node_id": node.node_id, "removed": true});
    c.tell(&facts, &format!("{} is off the list\n", clean(&node.name)))
}

/// Why a node stays on the list.
fn objection(node: &RosterEntry) -> Option<String> {
    let name = &node.name;
    if !is_machine(node) {
        return Some(format!(
            "{name} belongs to a client of the engine, and goes with it"
        ));
    }
    node.live.then(|| {
        format!(
            "{name} lives, so its broker would be back at once; stop it there with `relay-broker stop` first, and if the \
             machine is gone, wait until `relay-broker nodes` calls it offline (45 s)"
        )
    })
}

/// That there is no such node, and which there are.
pub fn unknown(name: &str, nodes: &[RosterEntry]) -> Failure {
    let machines = nodes.iter().filter(|node| is_machine(node));
    let names: Vec<&str> = machines.map(|node| node.name.as_str()).collect();
    let text = format!("no node is named '{name}'; there are: {}", names.join(", "));
    Failure::new(clean(&text)).named("node_not_found")
}

/// A 404 of a node that is on the list is about the route.
fn not_removed(name: &str, refused: Failure) -> Failure {
    match is_no_such_call(&refused) {
        true => Failure::new(format!(
            "{} stays on the list: this engine cannot take nodes off (those from 8.5.1 on can)",
            clean(name)
        ))
        .named("unsupported_operation"),
        false => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rest::NamedCapability;

    #[test]
    fn the_age_of_a_heartbeat_is_shown_and_not_its_date() {
        let now = Wall(1_782_640_804_000);
        assert_eq!(age("2026-06-28T10:00:00.000Z", now), "4.0 s ago");
        assert_eq!(age("just now", now), "just now");
    }

    #[test]
    fn a_node_that_offers_nothing_is_simply_live_and_one_that_is_silent_is_never_online() {
        let mut node = RosterEntry {
            live: true,
            status: "online".into(),
            ..RosterEntry::default()
        };
        assert_eq!(state(&node), "live");
        node.capabilities = vec![NamedCapability {
            name: "spawn:cat".into(),
            ..NamedCapability::default()
        }];
        assert_eq!(state(&node), "live, takes no new work");
        node.live = false;
        assert_eq!(state(&node), "offline");
    }

    #[test]
    fn an_engine_that_cannot_remove_nodes_is_told_from_one_that_does_not_know_the_node() {
        let word = |text: &str| not_removed("two", Failure::new(text).named("engine_error")).word;
        assert_eq!(
            word("the engine: 404 not_found: Not Found").as_deref(),
            Some("unsupported_operation")
        );
        assert_eq!(
            word("the engine: 404 node_not_found: no").as_deref(),
            Some("engine_error")
        );
        assert_eq!(
            word("the engine: 500 x: y").as_deref(),
            Some("engine_error")
        );
    }
}
