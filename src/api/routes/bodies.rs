//! Bodies of requests as JSON objects, in whatever spelling of their keys.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::api::render::ApiError;
use crate::net::Request;

/// The body as a JSON object, without keys that are null: clients write those for "absent".
pub(crate) fn object(request: &Request) -> Result<Map<String, Value>, ApiError> {
    let mut map = whole_object(request)?;
    map.retain(|_, value| !value.is_null());
    Ok(map)
}

/// The body as a JSON object, with keys that are null.
pub(super) fn whole_object(request: &Request) -> Result<Map<String, Value>, ApiError> {
    if let Some(kind) = request.header("content-type") {
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::new(
                415,
                "unsupported_media_type",
                format!("the body is {kind:?}; send application/json"),
            ));
        }
    }
    let text = std::str::from_utf8(&request.body)
        .map_err(|e| ApiError::new(400, "invalid_utf8", format!("the body is not UTF-8: {e}")))?;
    if text.trim().is_empty() {
        return Err(ApiError::new(
            400,
            "invalid_json",
            "the body is empty; send a JSON object",
        ));
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::new(
            400,
            "invalid_json",
            "the body is JSON, but not an object",
        )),
        Err(e) => Err(ApiError::new(
            400,
            "invalid_json",
            format!("the body is not JSON: {e}"),
        )),
    }
}

/// Leaves one of several spellings of a key, under the first: two in one body would count as a repetition.
pub(super) fn one_of(map: &mut Map<String, Value>, spellings: &[&str]) {
    let found: Vec<Value> = spellings.iter().filter_map(|s| map.remove(*s)).collect();
    if let (Some(value), Some(key)) = (found.into_iter().next(), spellings.first()) {
        map.insert((*key).to_owned(), value);
    }
}

/// What an object means.
pub(crate) fn read<T: DeserializeOwned>(map: Map<String, Value>) -> Result<T, ApiError> {
    serde_json::from_value(Value::Object(map))
        .map_err(|e| ApiError::invalid(format!("the body does not fit: {e}")))
}
