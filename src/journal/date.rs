//! When a record was decided, as the first member of its line: `{"at_ms":1782640800123,"t":"opened",…}`. It is put there and
//! taken out again as text, so that no record needs to know of it. Lines of older journals have none, and a record that is
//! no object keeps none. Pure: bytes in, bytes out.

use std::borrow::Cow;
use std::io::Write;

use serde::Serialize;

use crate::time::Wall;

const MEMBER: &[u8] = b"{\"at_ms\":";

/// Adds the record's line, without a line break.
///
/// # Errors
/// When the record has no form in JSON.
pub(super) fn write<R: Serialize>(
    lines: &mut Vec<u8>,
    at: Option<Wall>,
    record: &R,
) -> Result<(), serde_json::Error> {
    let Some(at) = at else {
        return serde_json::to_writer(lines, record);
    };
    let start = lines.len();
    lines.extend_from_slice(MEMBER);
    // Writing to memory cannot fail.
    let _ = write!(lines, "{}", at.0);
    let middle = lines.len();
    serde_json::to_writer(&mut *lines, record)?;
    if lines[middle..].starts_with(b"{\"") {
        lines[middle] = b',';
    } else {
        lines.drain(start..middle);
    }
    Ok(())
}

/// A line's time, and the record as it is without it.
pub(super) fn split(line: &[u8]) -> (Option<Wall>, Cow<'_, [u8]>) {
    match member(line) {
        Some((at, rest)) => {
            let mut record = Vec::with_capacity(rest.len() + 1);
            record.push(b'{');
            record.extend_from_slice(rest);
            (Some(at), Cow::Owned(record))
        }
        None => (None, Cow::Borrowed(line)),
    }
}

fn member(line: &[u8]) -> Option<(Wall, &[u8])> {
    let rest = line.strip_prefix(MEMBER)?;
    let end = rest.iter().position(|byte| *byte == b',')?;
    let digits = std::str::from_utf8(&rest[..end]).ok()?;
    Some((Wall(digits.parse().ok()?), &rest[end + 1..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(at: Option<Wall>, record: &impl Serialize) -> String {
        let mut line = b"before ".to_vec();
        write(&mut line, at, record).expect("a record");
        String::from_utf8(line.split_off(7)).expect("text")
    }

    #[test]
    fn a_time_goes_into_an_object_and_comes_out_again() {
        let record = json!({"t": "ended", "at_ms_of": [1, 2]});
        let line = line(Some(Wall(42)), &record);
        assert_eq!(line, r#"{"at_ms":42,"at_ms_of":[1,2],"t":"ended"}"#);
        let (at, bare) = split(line.as_bytes());
        assert_eq!(at, Some(Wall(42)));
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&bare).expect("JSON"),
            record
        );
    }

    #[test]
    fn what_has_no_place_for_a_time_stays_as_it_is() {
        for record in [json!({}), json!("text"), json!(7), json!([{"a": 1}])] {
            assert_eq!(line(Some(Wall(42)), &record), record.to_string());
        }
        assert_eq!(line(None, &json!({"a": 1})), r#"{"a":1}"#);
    }

    #[test]
    fn a_line_without_a_time_is_the_record_itself() {
        for text in [
            r#"{"t":"opened"}"#,
            "7",
            r#"{"at_ms":"no number","t":1}"#,
            r#"{"at_ms":1}"#,
        ] {
            assert_eq!(
                split(text.as_bytes()),
                (None, Cow::Borrowed(text.as_bytes()))
            );
        }
    }
}
