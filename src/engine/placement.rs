//! Where a spawn goes ([engine-protocol 5.2](crate::docs::engine_protocol#5.2)). Pure: it is given candidates and picks.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;

/// What the input of a spawn asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// `spawn:<harness>`; `None` when the input names none.
    pub capability: Option<String>,
    /// A node's name, or `self`.
    pub target: Option<String>,
}

/// Reads the keys that the engine reads of a spawn's input.
pub fn wish(input: &Value) -> Wish {
    let first = |keys: &[&str]| {
        keys.iter()
            .filter_map(|k| input.get(k)?.as_str())
            .find(|v| !v.is_empty())
    };
    let capability = first(&["capability", "cli"]).map(|c| {
        if c.starts_with("spawn:") {
            c.to_owned()
        } else {
            format!("spawn:{c}")
        }
    });
    let target = first(&["target_node", "node", "target"]).map(str::to_owned);
    Wish { capability, target }
}

/// Whether a capability fulfils a wish; without a wish any spawn capability does.
pub fn fulfils(capability: &str, wanted: Option<&str>) -> bool {
    match wanted {
        Some(wanted) => capability == wanted,
        None => capability == "spawn" || capability.starts_with("spawn:"),
    }
}

/// A connected provider of a node that has the capability.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub node: String,
    pub name: String,
    pub provider: String,
    /// Live, and somebody answers its capabilities.
    pub ready: bool,
    pub load: f64,
    /// Agents it runs.
    pub active: u64,
    /// Spawns on their way to it.
    pub reserved: u64,
    /// 0 for no limit.
    pub max: u64,
}

impl Candidate {
    /// Whether it can take one more.
    pub fn has_room(&self) -> bool {
        self.max == 0 || self.active + self.reserved < self.max
    }

    /// Whether something can be sent to it now.
    pub fn can_take(&self) -> bool {
        self.ready && self.has_room()
    }
}

fn better(a: &Candidate, b: &Candidate) -> Ordering {
    a.load
        .total_cmp(&b.load)
        .then((a.active + a.reserved).cmp(&(b.active + b.reserved)))
        .then_with(|| a.name.cmp(&b.name))
}

/// The best candidate: least load, then fewest agents, then name. One that was tried before is taken only when there is
/// no other.
pub fn choose<'a>(candidates: &'a [Candidate], tried: &BTreeSet<String>) -> Option<&'a Candidate> {
    let open = || candidates.iter().filter(|c| c.can_take());
    open()
        .filter(|c| !tried.contains(&c.node))
        .min_by(|a, b| better(a, b))
        .or_else(|| open().min_by(|a, b| better(a, b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn candidate(name: &str, load: f64, active: u64, max: u64) -> Candidate {
        Candidate {
            node: format!("node_{name}"),
            name: name.into(),
            provider: "default".into(),
            ready: true,
            load,
            active,
            reserved: 0,
            max,
        }
    }

    fn chosen<'a>(candidates: &'a [Candidate], tried: &[&str]) -> Option<&'a str> {
        let tried = tried.iter().map(|t| (*t).to_owned()).collect();
        choose(candidates, &tried).map(|c| c.name.as_str())
    }

    #[test]
    fn the_least_loaded_wins_then_the_emptiest_then_the_name() {
        let all = [
            candidate("c", 0.5, 0, 0),
            candidate("b", 0.1, 2, 0),
            candidate("a", 0.1, 2, 0),
            candidate("z", 0.1, 1, 0),
        ];
        assert_eq!(chosen(&all, &[]), Some("z"));
        assert_eq!(chosen(&all[..3], &[]), Some("a"));
    }

    #[test]
    fn full_or_dead_nodes_get_nothing() {
        let mut all = [candidate("a", 0.0, 2, 2), candidate("b", 0.9, 1, 2)];
        assert_eq!(chosen(&all, &[]), Some("b"));
        all[1].reserved = 1;
        assert_eq!(chosen(&all, &[]), None);
        all[0].max = 0;
        all[0].ready = false;
        assert_eq!(chosen(&all, &[]), None);
    }

    #[test]
    fn a_node_that_failed_is_tried_again_only_for_want_of_another() {
        let all = [candidate("a", 0.0, 0, 0), candidate("b", 0.9, 0, 0)];
        assert_eq!(chosen(&all, &["node_a"]), Some("b"));
        assert_eq!(chosen(&all[..1], &["node_a"]), Some("a"));
    }

    #[test]
    fn the_wish_is_read_from_the_keys_in_their_order() {
        let w = wish(&json!({"cli": "codex", "node": "n2", "target": "n3"}));
        assert_eq!(w.capability.as_deref(), Some("spawn:codex"));
        assert_eq!(w.target.as_deref(), Some("n2"));
        let w = wish(&json!({"capability": "spawn:x", "cli": "y", "target_node": "n1"}));
        assert_eq!(w.capability.as_deref(), Some("spawn:x"));
        assert_eq!(w.target.as_deref(), Some("n1"));
        assert_eq!(wish(&json!({"name": "w"})), Wish::default());
        assert!(fulfils("spawn:y", None) && !fulfils("release", None));
    }
}
