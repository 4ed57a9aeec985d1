//! The beginning of a frame that is too large to be taken in: what it is and for whom, read as far as it goes. The engine
//! writes its keys in an order that puts them before the payload ([engine-protocol 3.5](crate::docs::engine_protocol#3.5)),
//! and in the payload the sender before the words.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::down::Down;

/// The frame that begins so, with everything that stands before the point where it breaks off; `None` when that is not
/// enough to know what it is.
pub fn frame(head: &str) -> Option<Down> {
    let mut found = Value::Null;
    // It breaks off somewhere, which is an error, and what came before is kept.
    let _ = Slot(&mut found).deserialize(&mut serde_json::Deserializer::from_str(head));
    serde_json::from_value(found).ok()
}

/// Where a value goes as soon as it is read, and parts of it while it is.
struct Slot<'a>(&'a mut Value);

impl<'de> DeserializeSeed<'de> for Slot<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        *self.0 = value.into();
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        *self.0 = value.into();
        Ok(())
    }

    /// Nothing that says whose a frame is stands in a list.
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<(), A::Error> {
        *self.0 = Value::Object(Map::new());
        while let Some(key) = from.next_key::<String>()? {
            if let Value::Object(map) = &mut *self.0 {
                from.next_value_seed(Slot(map.entry(key).or_insert(Value::Null)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;
    use crate::wire::fields;

    #[test]
    fn a_delivery_is_known_by_its_beginning_wherever_in_its_words_that_ends() {
        let whole = r#"{"v":1,"type":"deliver","delivery_id":"d","agent_id":"7","agent":"w","msg_id":"m","seq":4,
            "mode":"steer","payload":{"type":"dm.received","data":{"id":"m","mentions":["x"],"from_name":"lead","text":"aaaaaa"}}}"#;
        let end = whole.find("aaa").expect("its words");
        for cut in [end, end + 3, whole.len()] {
            let Some(Down::Deliver(frame)) = frame(&whole[..cut]) else {
                panic!("{cut}");
            };
            assert_eq!((frame.agent.as_str(), frame.seq), ("w", Seq(4)));
            assert_eq!(fields::sender(&frame.payload), "lead");
        }
    }

    #[test]
    fn an_invocation_is_known_by_its_beginning_and_rubbish_is_not() {
        let head = r#"{"v":1,"type":"action.invoke","invocation_id":"i","action":"echo","input":{"q":"aaa"#;
        assert!(matches!(frame(head), Some(Down::ActionInvoke(i)) if i.action == "echo"));
        for head in [
            "",
            "[1,2",
            r#"{"payload":{"type":"deliver""#,
            r#"{"type":"deliver","agent":"w""#,
        ] {
            assert_eq!(frame(head), None, "{head}");
        }
    }
}
