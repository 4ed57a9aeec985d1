//! The words of a schema, and what each of them takes.

use regex_lite::Regex;
use serde_json::Value;

use super::places::{DEPTH_MAX, place, step, target};

/// The names of types.
const TYPES: [&str; 7] = [
    "null", "boolean", "object", "array", "number", "string", "integer",
];

/// What stands behind a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Schema,
    Schemas,
    /// A list of schemas, or one.
    SchemaOrList,
    Named,
    /// Schemas by patterns.
    ByPattern,
    Number,
    Positive,
    Count,
    Pattern,
    Reference,
    Types,
    List,
    Texts,
    NamedTexts,
    Truth,
    /// It would forbid something, and is not known.
    Refused,
}

fn taken(word: &str) -> Option<Taken> {
    Some(match word {
        "additionalProperties"
        | "propertyNames"
        | "contains"
        | "additionalItems"
        | "not"
        | "if"
        | "then"
        | "else" => Taken::Schema,
        "items" => Taken::SchemaOrList,
        "prefixItems" | "allOf" | "anyOf" | "oneOf" => Taken::Schemas,
        "properties" | "$defs" | "definitions" | "dependentSchemas" => Taken::Named,
        "patternProperties" => Taken::ByPattern,
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => Taken::Number,
        "multipleOf" => Taken::Positive,
        "minLength" | "maxLength" | "minItems" | "maxItems" | "minProperties" | "maxProperties"
        | "minContains" | "maxContains" => Taken::Count,
        "pattern" => Taken::Pattern,
        "$ref" => Taken::Reference,
        "type" => Taken::Types,
        "enum" => Taken::List,
        "required" => Taken::Texts,
        "dependentRequired" => Taken::NamedTexts,
        "uniqueItems" => Taken::Truth,
        "$dynamicRef"
        | "$recursiveRef"
        | "unevaluatedProperties"
        | "unevaluatedItems"
        | "dependencies"
        | "disallow"
        | "extends"
        | "divisibleBy" => Taken::Refused,
        _ => return None,
    })
}

/// Whether `schema`, which stands at `at` in `root`, is one.
pub(super) fn judge(root: &Value, schema: &Value, at: &str, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("{}: nested too deeply", place(at)));
    }
    let words = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(words) => words,
        other => {
            let what = format!("a schema is an object, true or false, not {other}");
            return Err(format!("{}: {what}", place(at)));
        }
    };
    for (word, value) in words {
        let Some(taken) = taken(word) else {
            continue;
        };
        let at = step(at, word);
        match shaped(taken, root, value) {
            None => {}
            Some(wrong) => return Err(format!("{at}: {wrong}")),
        }
        for (key, inner) in below(taken, value) {
            let at = key.map_or_else(|| at.clone(), |key| step(&at, &key));
            judge(root, inner, &at, depth + 1)?;
        }
    }
    Ok(())
}

/// What is wrong with what stands behind a word, schemas in it apart.
fn shaped(taken: Taken, root: &Value, value: &Value) -> Option<String> {
    let must = |fits: bool, what: &str| (!fits).then(|| format!("must be {what}, not {value}"));
    let texts = |value: &Value| {
        let list = value.as_array();
        list.is_some_and(|list| list.iter().all(Value::is_string))
    };
    match taken {
        Taken::Schema => None,
        Taken::SchemaOrList => None,
        Taken::Schemas => must(
            value.as_array().is_some_and(|list| !list.is_empty()),
            "a list of schemas",
        ),
        Taken::Named => must(value.is_object(), "an object of schemas"),
        Taken::ByPattern => match value.as_object() {
            Some(named) => named.keys().find_map(|pattern| unread(pattern)),
            None => must(false, "an object of schemas"),
        },
        Taken::Number => must(value.is_number(), "a number"),
        Taken::Positive => must(value.as_f64().is_some_and(|n| n > 0.0), "a number above 0"),
        Taken::Count => must(value.as_u64().is_some(), "a whole number from 0 on"),
        Taken::Pattern => match value.as_str() {
            Some(pattern) => unread(pattern),
            None => must(false, "a text"),
        },
        Taken::Reference => match value.as_str().map(|to| target(root, to)) {
            Some(Some(_)) => None,
            Some(None) => Some(format!("{value} leads nowhere within this schema")),
            None => must(false, "a text"),
        },
        Taken::Types => {
            let known = |word: &Value| word.as_str().is_some_and(|word| TYPES.contains(&word));
            let list = value.as_array().is_some_and(|list| list.iter().all(known));
            must(known(value) || list, &format!("of {}", TYPES.join(", ")))
        }
        Taken::List => must(value.is_array(), "a list"),
        Taken::Texts => must(texts(value), "a list of texts"),
        Taken::NamedTexts => must(
            value
                .as_object()
                .is_some_and(|named| named.values().all(texts)),
            "an object of lists of texts",
        ),
        Taken::Truth => must(value.is_boolean(), "true or false"),
        Taken::Refused => Some("is not known here, and would not be kept to".to_owned()),
    }
}

fn unread(pattern: &str) -> Option<String> {
    let wrong = Regex::new(pattern).err()?;
    Some(format!(
        "the pattern {pattern:?} is not understood: {wrong}"
    ))
}

/// The schemas behind a word, each with its key.
fn below(taken: Taken, value: &Value) -> Vec<(Option<String>, &Value)> {
    match (taken, value) {
        (Taken::Named | Taken::ByPattern, Value::Object(named)) => {
            let each = named.iter();
            each.map(|(key, schema)| (Some(key.clone()), schema))
                .collect()
        }
        (Taken::Schemas | Taken::SchemaOrList, Value::Array(list)) => {
            let each = list.iter().enumerate();
            each.map(|(at, schema)| (Some(at.to_string()), schema))
                .collect()
        }
        (Taken::Schema | Taken::SchemaOrList, schema) => vec![(None, schema)],
        _ => Vec::new(),
    }
}
