//! A value against a schema that was read before.

use std::collections::HashMap;
use std::fmt;

use regex_lite::Regex;
use serde_json::{Map, Number, Value};

use super::places::{DEPTH_MAX, place, step, target};

/// How many places are named.
const NAMED: usize = 8;
/// After so many looks a check is given up: a schema can be written that never comes to an end.
const LOOKS: u32 = 1_000_000;

/// Why a value does not fit: each place with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(Vec<String>);

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

pub(super) fn check(root: &Value, value: &Value) -> Result<(), Misfit> {
    let mut checking = Checking {
        root,
        looks: LOOKS,
        depth: 0,
        wrong: Vec::new(),
        patterns: HashMap::new(),
    };
    checking.value(root, value, "");
    if checking.looks == 0 {
        let text = "the schema takes too long to check against, so that nothing fits it";
        return Err(Misfit(vec![text.to_owned()]));
    }
    match checking.wrong.is_empty() {
        true => Ok(()),
        false => Err(Misfit(checking.wrong)),
    }
}

struct Checking<'a> {
    root: &'a Value,
    /// How many are left.
    looks: u32,
    depth: usize,
    wrong: Vec<String>,
    patterns: HashMap<&'a str, Option<Regex>>,
}

impl<'a> Checking<'a> {
    fn says(&mut self, at: &str, why: impl Into<String>) {
        if self.wrong.len() < NAMED {
            self.wrong.push(format!("{} {}", place(at), why.into()));
        }
    }

    fn must(&mut self, fits: bool, at: &str, why: impl FnOnce() -> String) {
        if !fits {
            self.says(at, why());
        }
    }

    fn value(&mut self, schema: &'a Value, value: &Value, at: &str) {
        if self.looks == 0 || self.depth == DEPTH_MAX {
            self.looks = 0;
            return;
        }
        self.looks -= 1;
        self.depth += 1;
        match schema {
            Value::Bool(false) => self.says(at, "must not be there"),
            Value::Object(words) => self.words(words, value, at),
            _ => {}
        }
        self.depth -= 1;
    }

    /// Whether a value fits, without a word about it.
    fn fits(&mut self, schema: &'a Value, value: &Value, at: &str) -> bool {
        let said = std::mem::take(&mut self.wrong);
        self.value(schema, value, at);
        std::mem::replace(&mut self.wrong, said).is_empty()
    }

    fn words(&mut self, words: &'a Map<String, Value>, value: &Value, at: &str) {
        if let Some(to) = words.get("$ref").and_then(Value::as_str)
            && let Some(schema) = target(self.root, to)
        {
            self.value(schema, value, at);
        }
        self.of_any(words, value, at);
        match value {
            Value::Number(number) => self.of_number(words, number, at),
            Value::String(text) => self.of_text(words, text, at),
            Value::Array(list) => self.of_list(words, list, at),
            Value::Object(object) => self.of_object(words, object, at),
            Value::Null | Value::Bool(_) => {}
        }
        self.of_others(words, value, at);
    }

    fn of_any(&mut self, words: &'a Map<String, Value>, value: &Value, at: &str) {
        if let Some(wanted) = words.get("type") {
            let list = wanted.as_array();
            let wanted: Vec<&str> = match list {
                Some(list) => list.iter().filter_map(Value::as_str).collect(),
                None => wanted.as_str().into_iter().collect(),
            };
            let fits = wanted.iter().any(|word| is_of_type(value, word));
            self.must(fits, at, || {
                format!("must be {}, not {}", wanted.join(" or "), brief(value))
            });
        }
        if let Some(list) = words.get("enum").and_then(Value::as_array) {
            let fits = list.iter().any(|one| same(one, value));
            self.must(fits, at, || {
                let all: Vec<String> = list.iter().map(brief).collect();
                format!("must be one of {}, not {}", all.join(", "), brief(value))
            });
        }
        if let Some(one) = words.get("const") {
            self.must(same(one, value), at, || {
                format!("must be {}, not {}", brief(one), brief(value))
            });
        }
    }

    fn of_number(&mut self, words: &'a Map<String, Value>, number: &Number, at: &str) {
        use std::cmp::Ordering::{Equal, Greater, Less};
        for (word, allowed, what) in [
            ("minimum", [Greater, Equal], "at least"),
            ("maximum", [Less, Equal], "at most"),
            ("exclusiveMinimum", [Greater, Greater], "more than"),
            ("exclusiveMaximum", [Less, Less], "less than"),
        ] {
            if let Some(Value::Number(bound)) = words.get(word) {
                let fits = compare(number, bound).is_some_and(|order| allowed.contains(&order));
                self.must(fits, at, || format!("must be {what} {bound}, not {number}"));
            }
        }
        if let Some(Value::Number(of)) = words.get("multipleOf") {
            let fits = is_multiple(number, of);
            self.must(fits, at, || {
                format!("must be a multiple of {of}, not {number}")
            });
        }
    }

    /// The numbers behind two words as the least and most of something that is counted.
    fn counted(
        &mut self,
        words: &Map<String, Value>,
        keys: [&str; 2],
        has: (usize, &str),
        at: &str,
    ) {
        let (count, what) = has;
        let bound = |key: &str| words.get(key).and_then(Value::as_u64);
        if let Some(least) = bound(keys[0]) {
            self.must(count as u64 >= least, at, || {
                format!("must have at least {least} {what}, not {count}")
            });
        }
        if let Some(most) = bound(keys[1]) {
            self.must(count as u64 <= most, at, || {
                format!("must have at most {most} {what}, not {count}")
            });
        }
    }

    fn of_text(&mut self, words: &'a Map<String, Value>, text: &str, at: &str) {
        let count = text.chars().count();
        self.counted(words, ["minLength", "maxLength"], (count, "letters"), at);
        if let Some(pattern) = words.get("pattern").and_then(Value::as_str) {
            let fits = self.matches(pattern, text);
            self.must(fits, at, || format!("must match {pattern:?}"));
        }
    }

    fn matches(&mut self, pattern: &'a str, text: &str) -> bool {
        let read = self.patterns.entry(pattern);
        let read = read.or_insert_with(|| Regex::new(pattern).ok());
        read.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    fn of_list(&mut self, words: &'a Map<String, Value>, list: &[Value], at: &str) {
        self.counted(
            words,
            ["minItems", "maxItems"],
            (list.len(), "elements"),
            at,
        );
        if words.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut seen = std::collections::HashSet::new();
            let twice = list.iter().find(|one| !seen.insert(plain(one)));
            if let Some(one) = twice {
                self.says(at, format!("has {} twice", brief(one)));
            }
        }
        // A list behind `items` is what earlier drafts call `prefixItems`, and `additionalItems` is what comes behind.
        let (first, rest) = match words.get("items") {
            Some(Value::Array(first)) => (Some(first), words.get("additionalItems")),
            rest => (words.get("prefixItems").and_then(Value::as_array), rest),
        };
        for (number, one) in list.iter().enumerate() {
            let schema = first.and_then(|first| first.get(number)).or(rest);
            if let Some(schema) = schema {
                self.value(schema, one, &step(at, &number.to_string()));
            }
        }
        if let Some(schema) = words.get("contains") {
            let count = list.iter().filter(|one| self.fits(schema, one, at)).count();
            let least = words.get("minContains").and_then(Value::as_u64);
            self.must(count as u64 >= least.unwrap_or(1), at, || {
                format!("must contain {} that fit `contains`", least.unwrap_or(1))
            });
            self.counted(
                words,
                ["", "maxContains"],
                (count, "that fit `contains`"),
                at,
            );
        }
    }

    fn of_object(&mut self, words: &'a Map<String, Value>, object: &Map<String, Value>, at: &str) {
        let bounds = ["minProperties", "maxProperties"];
        self.counted(words, bounds, (object.len(), "keys"), at);
        for key in texts(words.get("required")) {
            self.must(object.contains_key(key), at, || format!("lacks `{key}`"));
        }
        let named = |word: &str| words.get(word).and_then(Value::as_object);
        let (known, patterns) = (named("properties"), named("patternProperties"));
        for (key, inner) in object {
            let below = step(at, key);
            let own = known.and_then(|known| known.get(key));
            let mut is_known = own.is_some();
            if let Some(schema) = own {
                self.value(schema, inner, &below);
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if self.matches(pattern, key) {
                    is_known = true;
                    self.value(schema, inner, &below);
                }
            }
            match words.get("additionalProperties").filter(|_| !is_known) {
                Some(Value::Bool(false)) => self.says(at, format!("must not have `{key}`")),
                Some(schema) => self.value(schema, inner, &below),
                None => {}
            }
            if let Some(schema) = words.get("propertyNames") {
                let name = Value::String(key.clone());
                let fits = self.fits(schema, &name, at);
                self.must(fits, at, || format!("must not have a key like `{key}`"));
            }
        }
        for (key, needed) in named("dependentRequired").into_iter().flatten() {
            for other in texts(Some(needed)).filter(|_| object.contains_key(key)) {
                self.must(object.contains_key(other), at, || {
                    format!("has `{key}` and lacks `{other}`")
                });
            }
        }
        let whole = Value::Object(object.clone());
        for (key, schema) in named("dependentSchemas").into_iter().flatten() {
            if object.contains_key(key) {
                self.value(schema, &whole, at);
            }
        }
    }

    fn of_others(&mut self, words: &'a Map<String, Value>, value: &Value, at: &str) {
        let list = |word: &str| words.get(word).and_then(Value::as_array);
        for schema in list("allOf").into_iter().flatten() {
            self.value(schema, value, at);
        }
        if let Some(schemas) = list("anyOf") {
            let fits = schemas.iter().any(|schema| self.fits(schema, value, at));
            self.must(fits, at, || "fits none of `anyOf`".to_owned());
        }
        if let Some(schemas) = list("oneOf") {
            let fitting = schemas.iter().filter(|one| self.fits(one, value, at));
            let count = fitting.count();
            self.must(count == 1, at, || {
                format!("fits {count} of `oneOf`, not one")
            });
        }
        if let Some(schema) = words.get("not") {
            let fits = self.fits(schema, value, at);
            self.must(!fits, at, || "is what `not` forbids".to_owned());
        }
        if let Some(condition) = words.get("if") {
            let branch = match self.fits(condition, value, at) {
                true => words.get("then"),
                false => words.get("else"),
            };
            if let Some(schema) = branch {
                self.value(schema, value, at);
            }
        }
    }
}

fn texts(list: Option<&Value>) -> impl Iterator<Item = &str> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str)
}

fn is_of_type(value: &Value, word: &str) -> bool {
    match word {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        _ => value.as_number().is_some_and(is_whole),
    }
}

/// 1.0 is a whole number, too.
fn is_whole(number: &Number) -> bool {
    !number.is_f64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
}

/// A number that is whole as such, where it is one that can be told exactly.
fn whole(number: &Number) -> Option<i128> {
    let as_is = number.as_i64().map(i128::from);
    as_is.or_else(|| number.as_u64().map(i128::from))
}

fn compare(a: &Number, b: &Number) -> Option<std::cmp::Ordering> {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
    }
}

fn is_multiple(number: &Number, of: &Number) -> bool {
    if let (Some(number), Some(of)) = (whole(number), whole(of)) {
        return of != 0 && number % of == 0;
    }
    let (Some(number), Some(of)) = (number.as_f64(), of.as_f64()) else {
        return false;
    };
    // 0.3 is a multiple of 0.1, although not as these are written in binary.
    let times = number / of;
    (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
}

/// Whether two values are one, 1 and 1.0 included.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare(a, b) == Some(std::cmp::Ordering::Equal),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            let in_b = |(key, a): (&String, &Value)| b.get(key).is_some_and(|b| same(a, b));
            a.len() == b.len() && a.iter().all(in_b)
        }
        _ => a == b,
    }
}

/// A text that is the same for values that are one.
fn plain(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() && is_whole(number) => {
            number.as_f64().map_or_else(String::new, |n| format!("{n}"))
        }
        Value::Array(list) => {
            let all: Vec<String> = list.iter().map(plain).collect();
            format!("[{}]", all.join(","))
        }
        Value::Object(object) => {
            let pair = |(key, value): (&String, &Value)| format!("{key:?}:{}", plain(value));
            let mut all: Vec<String> = object.iter().map(pair).collect();
            all.sort();
            format!("{{{}}}", all.join(","))
        }
        other => other.to_string(),
    }
}

/// A value, or its beginning.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
