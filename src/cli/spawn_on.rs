//! `spawn --on`: an agent on another node, or on whichever has least to do; and what to do on that node where it fails.

use std::path::Path;

use serde_json::{Value, json};

use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::fleet::run;
use super::nodes::{age, is_machine, offers, roster, unknown};
use super::render::{clean, note};
use crate::sys::clock;
use crate::wire::rest::RosterEntry;

/// `spawn --on`.
pub fn spawn(c: &Context, args: &args::SpawnArgs, node: &str) -> Result<(), Failure> {
    let order = Order::new(args, node)?;
    let client = c.client()?;
    if let Some(target) = order.named(&client)
        && !target.live
    {
        let heard = target.last_heartbeat_at.as_deref();
        let heard = heard.map_or("never heard of".to_owned(), |at| {
            format!("last heard of {}", age(at, clock::now().wall))
        });
        note(&format!(
            "relay-broker: {} is offline ({heard}): the order waits for it; start its broker there with `relay-broker up`",
            clean(&target.name)
        ));
    }
    let invocation = run(&client, "spawn", &order.input).map_err(|e| order.explain(&client, e))?;
    let place = match &invocation.dispatched_node_id {
        Some(id) => format!(" on {}", node_name(&client, id)),
        None => String::new(),
    };
    let text = format!("{} runs{}\n", clean(&args.name), clean(&place));
    c.tell(&json!(invocation), &text)
}

fn node_name(client: &Client, id: &str) -> String {
    let nodes = roster(client).unwrap_or_default();
    let node = nodes
        .into_iter()
        .find(|node| node.node_id == id || node.id == id);
    node.map_or(id.to_owned(), |node| node.name)
}

/// What is asked of the engine.
struct Order<'a> {
    agent: &'a str,
    /// A node's name, or `any`.
    node: &'a str,
    capability: String,
    input: Value,
}

impl<'a> Order<'a> {
    fn new(args: &'a args::SpawnArgs, node: &'a str) -> Result<Self, Failure> {
        let (program, rest) = args.command.split_first().ok_or_else(|| {
            Failure::usage("no command given; write `spawn NAME --on NODE -- CMD`")
        })?;
        let name = Path::new(program).file_name().unwrap_or(program.as_ref());
        let usual = format!("spawn:{}", name.to_string_lossy());
        let capability = args.capability.clone().unwrap_or(usual);
        let mut input = json!({
            "name": args.name,
            "cli": program,
            "capability": capability,
            "args": rest,
        });
        let mut add = |key: &str, value: Option<String>| {
            if let Some(value) = value {
                input[key] = Value::String(value);
            }
        };
        add("task", args.task.clone());
        let cwd = args.cwd.as_ref();
        add("cwd", cwd.map(|dir| dir.to_string_lossy().into_owned()));
        add("target_node", (node != "any").then(|| node.to_owned()));
        Ok(Self {
            agent: &args.name,
            node,
            capability,
            input,
        })
    }

    /// The node that is meant, where one is and the engine knows it.
    fn named(&self, client: &Client) -> Option<RosterEntry> {
        let nodes = roster(client).unwrap_or_default();
        nodes
            .into_iter()
            .find(|node| node.name == self.node && is_machine(node))
    }

    /// The failure with what to do about it, and where.
    fn explain(&self, client: &Client, failure: Failure) -> Failure {
        let nodes = roster(client).unwrap_or_default();
        let word = failure.word.clone().unwrap_or_default();
        if word == "node_not_found" {
            return unknown(self.node, &nodes);
        }
        let Some(advice) = self.advice(&word, &nodes) else {
            return failure;
        };
        Failure {
            text: clean(&format!("{}; {advice}", failure.text)),
            ..failure
        }
    }

    fn advice(&self, word: &str, nodes: &[RosterEntry]) -> Option<String> {
        let Self {
            agent,
            node,
            capability,
            ..
        } = self;
        let program = capability.strip_prefix("spawn:").unwrap_or(capability);
        let target = nodes.iter().find(|row| row.name == *node);
        Some(match word {
            "capability_mismatch" => {
                let offered = target.map(offers).unwrap_or_default().join(", ");
                let offered = match offered.is_empty() {
                    true => "nothing".to_owned(),
                    false => offered,
                };
                format!(
                    "{node} offers {offered}: start its broker there with `relay-broker up --harness {program}`, or name one \
                     of these with --capability"
                )
            }
            "handler_unavailable" | "no_eligible_node" if *node == "any" => format!(
                "no live node offers {capability} and has room: on one of them, `relay-broker up --harness {program}` offers it, \
                 and `relay-broker release NAME` or a higher --max-agents makes room"
            ),
            "handler_unavailable" | "node_capacity_exceeded" => format!(
                "on {node}, `relay-broker status` says why: it runs as many agents as it may (`relay-broker release NAME` makes \
                 room there, or `up` with a higher --max-agents), or it is not connected"
            ),
            "spawn_agent_name_in_use" | "agent_already_exists" | "agent_location_conflict" => {
                format!(
                    "take another name, or end the one that has it: relay-broker release {agent}"
                )
            }
            "" if *node == "any" => return None,
            "" | "spawn_failed" => format!(
                "it is {node} that says so: the program and the folder must be there, and `relay-broker spawn {agent} -- \
                 CMD` on that machine tells more"
            ),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rest::NamedCapability;

    fn advice(node: &str, word: &str) -> String {
        let order = Order {
            agent: "ada",
            node,
            capability: "spawn:claude".into(),
            input: Value::Null,
        };
        let two = RosterEntry {
            name: "two".into(),
            capabilities: ["relay:x", "spawn:cat"]
                .map(|name| NamedCapability {
                    name: name.into(),
                    ..NamedCapability::default()
                })
                .to_vec(),
            ..RosterEntry::default()
        };
        order.advice(word, &[two]).unwrap_or_default()
    }

    #[test]
    fn a_spawn_elsewhere_that_fails_says_what_to_do_on_that_node() {
        let mismatch = advice("two", "capability_mismatch");
        assert!(mismatch.contains("two offers spawn:cat: "), "{mismatch}");
        assert!(
            mismatch.contains("`relay-broker up --harness claude`"),
            "{mismatch}"
        );
        assert!(advice("two", "handler_unavailable").contains("on two, `relay-broker status`"));
        assert!(advice("any", "handler_unavailable").contains("no live node offers spawn:claude"));
        assert!(advice("two", "spawn_agent_name_in_use").contains("relay-broker release ada"));
        assert!(advice("two", "").contains("it is two that says so"));
        assert_eq!(advice("two", "rate_limited"), "");
    }
}
