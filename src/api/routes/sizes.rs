//! What callers say of the sizes of terminals.

use serde_json::Value;

use super::bodies::{object, one_of};
use crate::api::render::ApiError;
use crate::msg::Size;
use crate::net::Request;

/// The largest number of rows or columns. A terminal holds its picture in memory, cell by cell.
const SIDE_MAX: u64 = 1000;

/// What a client wants of a terminal's size.
#[derive(Debug)]
pub(crate) struct ResizeWish {
    /// The size it is to have; none when a claim is only given up.
    pub(crate) size: Option<Size>,
    /// Who claims it.
    pub(crate) session: Option<String>,
    /// The claim is given up, after the size was set.
    pub(crate) release: bool,
}

/// `POST /api/resize/{name}`.
pub(crate) fn resize(request: &Request) -> Result<ResizeWish, ApiError> {
    let mut map = object(request)?;
    one_of(&mut map, &["session_id", "sessionId"]);
    let session = match map.get("session_id") {
        None => None,
        // One that says nothing would be shared by clients that do not know of each other.
        Some(Value::String(id)) => Some(id.clone()).filter(|id| !id.trim().is_empty()),
        Some(_) => return Err(ApiError::invalid("`session_id` is no text")),
    };
    let release = match map.get("release") {
        None => false,
        Some(Value::Bool(release)) => *release,
        Some(_) => return Err(ApiError::invalid("`release` is neither true nor false")),
    };
    let sizeless = !map.contains_key("rows") && !map.contains_key("cols");
    if release && sizeless {
        return Ok(ResizeWish {
            size: None,
            session,
            release,
        });
    }
    let side = |key: &str| {
        let value = map.get(key).and_then(Value::as_u64);
        value.ok_or_else(|| ApiError::invalid(format!("`{key}` is missing or not a number")))
    };
    let size = Some(Size {
        rows: check_side("rows", side("rows")?)?,
        cols: check_side("cols", side("cols")?)?,
    });
    Ok(ResizeWish {
        size,
        session,
        release,
    })
}

/// A size as a client's frame gives it.
pub(crate) fn size(rows: u16, cols: u16) -> Result<Size, ApiError> {
    Ok(Size {
        rows: check_side("rows", rows.into())?,
        cols: check_side("cols", cols.into())?,
    })
}

/// `rows` and `cols` of a query: both or neither.
pub(crate) fn size_of_query(request: &Request) -> Result<Option<Size>, ApiError> {
    let side = |key: &str| match request.query(key) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(number) => check_side(key, number).map(Some),
            Err(_) => Err(ApiError::invalid(format!("{key}={text} is not a number"))),
        },
    };
    match (side("rows")?, side("cols")?) {
        (Some(rows), Some(cols)) => Ok(Some(Size { rows, cols })),
        (None, None) => Ok(None),
        _ => Err(ApiError::invalid("give both rows and cols, or neither")),
    }
}

pub(super) fn check_side(what: &str, number: u64) -> Result<u16, ApiError> {
    match u16::try_from(number) {
        Ok(side) if (1..=SIDE_MAX).contains(&number) => Ok(side),
        _ => Err(ApiError::invalid(format!(
            "{what} must be from 1 to {SIDE_MAX}, not {number}"
        ))),
    }
}
