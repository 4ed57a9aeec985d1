//! Trouble on order: what a test double does to its clients so that they can show how they bear it. The orders come with
//! `--behave` and later over `/__behave`; both use the same keys. Cutting, refusing, forgetting and losing answers happen
//! here, in the core; delay and black hole are the business of `server`, which reads the same orders.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::behaviour::Age;
use super::core::Effect;
use super::directory::Id;
use super::http::{Answer, Refusal, invalid, refuse};
use super::live::{ConnId, Role};
use super::turn::Turn;

/// The route that takes orders; only an engine that was started as a test double has it.
pub const ROUTE: &str = "__behave";
/// The close code that stands for no goodbye at all: the connection just ends.
pub const NO_GOODBYE: u16 = 1006;
/// The longest delay, so that a slip of the pen does not make a test wait for ever.
const DELAY_MOST_MS: u64 = 60_000;

/// What shall go wrong. A key that is left out changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Orders {
    /// Cut all node sockets now, without a goodbye.
    #[serde(default)]
    pub cut: bool,
    /// Cut all node sockets after so many further frames, counted both ways; 0 takes the order back.
    #[serde(default)]
    pub cut_after: Option<u32>,
    /// Every frame and answer comes so many milliseconds later.
    #[serde(default)]
    pub delay_ms: Option<u64>,
    /// Answer the next tries to open a node socket with this status.
    #[serde(default)]
    pub refuse: Option<u16>,
    /// So many tries; one when left out, 0 takes the order back.
    #[serde(default)]
    pub times: Option<u32>,
    /// Forget the tokens of all nodes, as if they had been rotated. Open sockets stay.
    #[serde(default)]
    pub forget: bool,
    /// Rotate the token of the node of this name or id; the answer has the new one. Open sockets stay.
    #[serde(default)]
    pub rotate: Option<String>,
    /// Close all node sockets as `superseded`, as if another process had taken their place.
    #[serde(default)]
    pub supersede: bool,
    /// Accept and never answer.
    #[serde(default)]
    pub black_hole: Option<Hole>,
    /// Carry out so many of the next calls that change something, and answer them with 500 all the same.
    #[serde(default)]
    pub fail: Option<u32>,
    /// Only calls whose path begins like this, for example `/v1/nodes`.
    #[serde(default)]
    pub fail_path: Option<String>,
}

/// Under this name every frame that a node sent goes to the log, at the level of `trace`, before any trouble befalls it.
pub const NODE_FRAMES: &str = "relay_broker::engine::node_frames";

/// What a black hole swallows: `true` and `false`, or one of the two kinds of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Hole {
    /// Everything, or nothing any more.
    All(bool),
    /// One kind.
    One(Traffic),
}

/// A kind of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Traffic {
    /// Open WebSockets, old and new.
    Sockets,
    /// Requests, those for a WebSocket included.
    Http,
}

impl Hole {
    /// Whether it swallows that kind.
    pub fn swallows(self, traffic: Traffic) -> bool {
        match self {
            Hole::All(all) => all,
            Hole::One(one) => one == traffic,
        }
    }
}

/// What `--behave` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behave {
    /// The engine to play; the tolerant union of all when there is none.
    pub age: Option<Age>,
    /// What goes wrong from the start.
    pub orders: Orders,
}

impl Behave {
    /// As an engine of that age, without trouble.
    pub fn as_of(age: Age) -> Self {
        Self {
            age: Some(age),
            ..Self::default()
        }
    }

    /// Reads words such as `8.2`, `cut_after=10`, `refuse=401`, `forget`.
    ///
    /// # Errors
    /// One sentence that names the word.
    pub fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let (mut age, mut orders) = (None, Map::new());
        for word in words.into_iter().map(str::trim).filter(|w| !w.is_empty()) {
            if let Ok(named) = word.parse() {
                age = Some(named);
                continue;
            }
            let (key, value) = match word.split_once('=') {
                // Numbers and true are what they look like; anything else is a text.
                Some((key, value)) => (
                    key,
                    serde_json::from_str(value).unwrap_or_else(|_| json!(value)),
                ),
                None => (word, json!(true)),
            };
            let one = Value::Object(Map::from_iter([(key.to_owned(), value.clone())]));
            if let Err(why) = serde_json::from_value::<Orders>(one) {
                let ages = Age::ALL.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "{word:?} is no way to behave ({why}); the ages are {ages}"
                ));
            }
            orders.insert(key.to_owned(), value);
        }
        let orders: Orders = serde_json::from_value(Value::Object(orders))
            .map_err(|why| format!("no way to behave: {why}"))?;
        orders.check()?;
        Ok(Self { age, orders })
    }
}

impl Orders {
    /// Reads the body of a call to [`ROUTE`].
    ///
    /// # Errors
    /// One sentence that says what is wrong.
    pub fn read(body: &Value) -> Result<Self, String> {
        let orders: Self = serde_json::from_value(body.clone()).map_err(|e| e.to_string())?;
        orders.check()?;
        Ok(orders)
    }

    fn check(&self) -> Result<(), String> {
        if self.refuse.is_some_and(|s| !matches!(s, 401 | 429 | 500)) {
            return Err("\"refuse\" is 401, 429 or 500".into());
        }
        if self.times.is_some() && self.refuse.is_none() {
            return Err("\"times\" goes with \"refuse\"".into());
        }
        if self.fail_path.is_some() && self.fail.is_none() {
            return Err("\"fail_path\" goes with \"fail\"".into());
        }
        if self.delay_ms.is_some_and(|ms| ms > DELAY_MOST_MS) {
            return Err(format!("\"delay_ms\" is at most {DELAY_MOST_MS}"));
        }
        Ok(())
    }
}

/// The trouble under way, and what was seen of it.
#[derive(Debug, Default)]
pub struct Trouble {
    /// Orders are taken.
    pub allowed: bool,
    refuse: Option<(u16, u32)>,
    cut_after: Option<u32>,
    cut_due: bool,
    fail: u32,
    fail_path: String,
    frames: u64,
    upgrades: u64,
    /// Node tokens made for whoever asked, answers given a second time not counted.
    pub minted: u64,
    refused: u64,
    cuts: u64,
}

impl Trouble {
    /// A frame passes over a node's socket. `false`: it does not, because the sockets are cut already.
    pub fn passes(&mut self) -> bool {
        if self.cut_due {
            return false;
        }
        self.frames += 1;
        if let Some(left) = &mut self.cut_after {
            *left -= 1;
            if *left == 0 {
                self.cut_after = None;
                self.cut_due = true;
            }
        }
        true
    }
}

impl Turn<'_> {
    /// The status that a try to open a node socket is refused with, if that was ordered.
    pub fn ordered_refusal(&mut self) -> Option<Refusal> {
        let trouble = &mut self.core.trouble;
        trouble.upgrades += 1;
        let (status, left) = trouble.refuse.take()?;
        if left > 1 {
            trouble.refuse = Some((status, left - 1));
        }
        trouble.refused += 1;
        let code = match status {
            401 => "node_token_invalid",
            429 => "rate_limit_exceeded",
            _ => "internal_error",
        };
        Some(refuse(status, code, "Refused on order"))
    }

    /// Puts a failure in place of a success, if that was ordered for such a call.
    pub fn ordered_failure(&mut self, method: &str, segments: &[String], answer: Answer) -> Answer {
        let trouble = &mut self.core.trouble;
        let path = || format!("/{}", segments.join("/"));
        if answer.is_err()
            || trouble.fail == 0
            || method == "GET"
            || !path().starts_with(&trouble.fail_path)
        {
            return answer;
        }
        trouble.fail -= 1;
        Err(refuse(500, "internal_error", "Done, and failed on order"))
    }

    /// Takes orders, or shows what became of them.
    pub fn behave(&mut self, method: &str, body: Option<&Value>) -> Answer {
        if method == "GET" {
            return Ok((200, self.trouble_view()));
        }
        let empty = Value::Null;
        let orders = Orders::read(body.unwrap_or(&empty)).map_err(invalid)?;
        self.obey(&orders)
    }

    /// Does what is ordered; see [`Orders`].
    pub fn obey(&mut self, orders: &Orders) -> Answer {
        let trouble = &mut self.core.trouble;
        if let Some(status) = orders.refuse {
            let times = orders.times.unwrap_or(1);
            trouble.refuse = (times > 0).then_some((status, times));
        }
        if let Some(frames) = orders.cut_after {
            trouble.cut_after = (frames > 0).then_some(frames);
        }
        if let Some(times) = orders.fail {
            trouble.fail = times;
            trouble.fail_path = orders.fail_path.clone().unwrap_or_default();
        }
        if orders.forget {
            self.forget_node_tokens();
        }
        let token = match &orders.rotate {
            Some(name) => Some(self.rotate_node_token(name)?),
            None => None,
        };
        if orders.supersede {
            self.close_nodes(self.core.behaviour.superseded_code, "superseded");
        }
        if orders.cut {
            self.core.trouble.cut_due = true;
        }
        let mut view = self.trouble_view();
        if let Some(token) = token {
            view["token"] = json!(token);
        }
        Ok((200, view))
    }

    /// Cuts what is to be cut; the last thing of every step.
    pub fn cut_if_due(&mut self) {
        if std::mem::take(&mut self.core.trouble.cut_due) {
            self.core.trouble.cuts += 1;
            self.close_nodes(NO_GOODBYE, "cut");
        }
    }

    fn close_nodes(&mut self, code: u16, reason: &'static str) {
        let nodes: Vec<(ConnId, Id, Role)> = self
            .core
            .live
            .conns
            .iter()
            .filter(|(_, c)| matches!(c.role, Role::Node { .. }))
            .map(|(id, c)| (*id, c.ws, c.role.clone()))
            .collect();
        for (conn, ws, role) in nodes {
            self.core.live.conns.remove(&conn);
            if let Role::Node {
                node,
                provider: Some(provider),
            } = role
            {
                self.node_lost(ws, &node, &provider);
            }
            self.effect(Effect::Close { conn, code, reason });
        }
    }

    fn forget_node_tokens(&mut self) {
        let nodes: Vec<(Id, String)> = self
            .core
            .state
            .workspaces
            .values()
            .flat_map(|w| w.nodes.values().map(move |n| (w.id, n)))
            .filter(|(_, n)| n.token_hash.is_some())
            .map(|(ws, n)| (ws, n.id.clone()))
            .collect();
        for (ws, node) in nodes {
            // Nobody ever sees the new one.
            self.renew_node_token(ws, &node);
        }
    }

    fn rotate_node_token(&mut self, name: &str) -> Result<String, Refusal> {
        let found = self
            .core
            .state
            .workspaces
            .values()
            .find_map(|w| Some((w.id, w.node_named(name)?.id.clone())));
        let (ws, node) = found
            .ok_or_else(|| refuse(404, "node_not_found", format!("Node \"{name}\" not found")))?;
        Ok(self.renew_node_token(ws, &node))
    }

    /// What tests wait for instead of waiting for a while.
    fn trouble_view(&self) -> Value {
        let trouble = &self.core.trouble;
        let open = self.core.live.conns.values();
        json!({
            "age": self.core.behaviour.strict.map(Age::as_str),
            "node_sockets": open.filter(|c| matches!(c.role, Role::Node { .. })).count(),
            "frames": trouble.frames,
            "upgrades": trouble.upgrades,
            "minted": trouble.minted,
            "refused": trouble.refused,
            "refusals_left": trouble.refuse.map_or(0, |(_, left)| left),
            "failures_left": trouble.fail,
            "cuts": trouble.cuts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_command_line_are_the_keys_of_the_route() {
        let words = [
            "8.2",
            "refuse=429",
            "times=3",
            "cut_after=10",
            "forget",
            "rotate=box",
        ];
        let behave = Behave::parse(words).expect("understood");
        assert_eq!(behave.age, Some(Age::V8_2));
        let orders = json!({
            "refuse": 429, "times": 3, "cut_after": 10, "forget": true, "rotate": "box",
        });
        assert_eq!(Ok(behave.orders), Orders::read(&orders));
        let hole = Behave::parse(["black_hole=sockets"]).expect("understood");
        let hole = hole.orders.black_hole.expect("ordered");
        assert!(hole.swallows(Traffic::Sockets) && !hole.swallows(Traffic::Http));
        assert_eq!(Behave::parse([""]), Ok(Behave::default()));
    }

    #[test]
    fn a_word_that_means_nothing_is_named() {
        for (word, named) in [
            ("7.0", "7.0"),
            ("cut=maybe", "cut=maybe"),
            ("refuse=418", "refuse"),
            ("times=2", "refuse"),
            ("fail_path=/v1", "fail"),
            ("delay_ms=999999", "delay_ms"),
        ] {
            let why = Behave::parse([word]).expect_err(word);
            assert!(why.contains(named), "{why}");
        }
        assert!(Orders::read(&json!({"cut": true, "cats": 1})).is_err());
    }
}
