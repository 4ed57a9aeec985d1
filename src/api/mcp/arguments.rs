//! A tool's arguments, checked against what it takes: all that is wrong with them is said at once, so that a model needs one
//! more try and not several.

use serde_json::{Map, Value};

use super::tools::{Param, ParamKind, Tool};

/// Arguments that fit their tool.
pub(crate) struct Arguments(Map<String, Value>);

impl Arguments {
    /// Checks what a client gave. `null` counts as left out.
    ///
    /// # Errors
    /// One sentence with everything that does not fit.
    pub(crate) fn check(tool: &Tool, given: Option<&Value>) -> Result<Self, String> {
        let mut map = match given {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map.clone(),
            Some(_) => return Err("`arguments` must be an object".to_owned()),
        };
        map.retain(|_, value| !value.is_null());
        let mut wrong = Vec::new();
        for param in tool.params {
            match map.get(param.name) {
                Some(value) => wrong.extend(param.trouble(value)),
                None if param.needed => wrong.push(format!("`{}` is missing", param.name)),
                None => {}
            }
        }
        let known = |name: &String| tool.params.iter().any(|param| param.name == name);
        let names: Vec<&str> = tool.params.iter().map(|param| param.name).collect();
        for name in map.keys().filter(|name| !known(name)) {
            let names = names.join(", ");
            wrong.push(format!(
                "`{name}` is not known: {} takes {names}",
                tool.name
            ));
        }
        match wrong.is_empty() {
            true => Ok(Self(map)),
            false => Err(wrong.join("; ")),
        }
    }

    /// A text; empty if it was left out.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.maybe(name).unwrap_or_default()
    }

    /// A text, if it was given.
    pub(crate) fn maybe(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(Value::as_str)
    }

    /// Takes a text in place of the one that was given.
    pub(crate) fn set(&mut self, name: &str, text: String) {
        self.0.insert(name.to_owned(), text.into());
    }

    /// A count, if it was given.
    pub(crate) fn count(&self, name: &str) -> Option<u64> {
        self.0.get(name).and_then(Value::as_u64)
    }

    /// Whether it was given and is true.
    pub(crate) fn is_true(&self, name: &str) -> bool {
        self.0.get(name) == Some(&Value::Bool(true))
    }

    /// A list of texts; empty if it was left out.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let list = self.0.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    /// Whatever it is, if it was given.
    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

impl Param {
    /// What is wrong with a value.
    fn trouble(&self, value: &Value) -> Option<String> {
        let name = self.name;
        let must = |what: &str| Some(format!("`{name}` must be {what}, not {value}"));
        match self.kind {
            ParamKind::Text => match value {
                Value::String(text) if text.trim().is_empty() && self.needed => {
                    Some(format!("`{name}` is empty"))
                }
                Value::String(_) => None,
                _ => must("a text"),
            },
            ParamKind::Word(words) => match value.as_str() {
                Some(word) if words.contains(&word) => None,
                _ => must(&format!("one of {}", words.join(", "))),
            },
            ParamKind::Count(most) => match value.as_u64() {
                Some(count) if (1..=most).contains(&count) => None,
                _ => must(&format!("a whole number from 1 to {most}")),
            },
            ParamKind::Truth => match value {
                Value::Bool(_) => None,
                _ => must("true or false"),
            },
            ParamKind::Texts => match value.as_array() {
                Some(list) if !list.is_empty() && list.iter().all(Value::is_string) => None,
                _ => must("a list of texts"),
            },
            ParamKind::Object => match value {
                Value::Object(_) => None,
                _ => must("an object"),
            },
            ParamKind::Anything => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tools::find;
    use super::*;

    fn wrong(tool: &str, given: &Value) -> String {
        let tool = find(tool).expect("a tool");
        Arguments::check(tool, Some(given))
            .err()
            .unwrap_or_default()
    }

    #[test]
    fn everything_that_does_not_fit_is_named_at_once() {
        let said = wrong("send_dm", &json!({"text": 7, "mode": "now", "cc": "x"}));
        for part in [
            "`to` is missing",
            "`text` must be a text",
            "wait, steer",
            "`cc` is not known",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(wrong("send_dm", &json!([])).contains("object"));
        assert!(wrong("check_inbox", &json!({"limit": 0})).contains("1 to 100"));
        assert_eq!(
            wrong("send_dm", &json!({"to": "a", "text": "b", "mode": null})),
            ""
        );
    }
}
