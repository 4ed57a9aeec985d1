//! Places in schemas and values, and how deep these are followed.

use serde_json::Value;

/// How deep schemas, and values in them, are followed.
pub(super) const DEPTH_MAX: usize = 128;

/// A place in a value for people: `` is the whole.
pub(super) fn place(at: &str) -> &str {
    match at {
        "" => "the value",
        at => at,
    }
}

/// A key as a step of a JSON pointer.
pub(super) fn step(at: &str, key: &str) -> String {
    format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"))
}

/// What a reference within a schema leads to.
pub(super) fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let pointer = reference.strip_prefix('#')?;
    let pointer = pointer.replace("%24", "$").replace("%25", "%");
    root.pointer(&pointer)
}
