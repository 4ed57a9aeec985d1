//! Orders for faults, as `--behave` gives them and as calls to [`ROUTE`] do.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::engine::behaviour::UpstreamVersion;

/// The route that takes orders; only an engine that was started as a test double has it.
pub const ROUTE: &str = "__behave";

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
    pub age: Option<UpstreamVersion>,
    /// What goes wrong from the start.
    pub orders: Orders,
}

impl Behave {
    /// As an engine of that age, without faults.
    pub fn as_of(age: UpstreamVersion) -> Self {
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
                let ages = UpstreamVersion::ALL.map(|(name, _)| name).join(", ");
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
        assert_eq!(behave.age, Some(UpstreamVersion::V8_2));
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
