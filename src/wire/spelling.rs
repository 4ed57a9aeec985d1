//! How words of the domain are spelled on sockets: the names that existing clients and engines know.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{DeliveryMode, Mode, Outcome, Proof};

/// [`Mode`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Mode", rename_all = "lowercase")]
pub(super) enum ModeWord {
    Wait,
    Steer,
}

/// [`DeliveryMode`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DeliveryMode", rename_all = "snake_case")]
pub(super) enum DeliveryModeWord {
    AutoInject,
    ManualFlush,
}

/// [`Proof`] as a word.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Proof", rename_all = "lowercase")]
pub(super) enum ProofWord {
    Hook,
    Transcript,
    Osc,
    Echo,
    Screen,
    Read,
    None,
}

/// [`Outcome`] as the one key of an object.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Outcome")]
pub(super) enum OutcomeKey {
    #[serde(rename = "output")]
    Output(Value),
    #[serde(rename = "error")]
    Error(String),
}

/// The number of a signal as its name, for example `SIGKILL`; as `SIG34` where it has none. Earlier versions wrote the
/// number.
pub(super) mod signal_name {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
    use signal_hook::low_level::signal_name;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Given {
        Number(i32),
        Name(String),
    }

    pub fn serialize<S: Serializer>(signal: &Option<i32>, to: S) -> Result<S::Ok, S::Error> {
        signal.map(name).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i32>, D::Error> {
        match Option::<Given>::deserialize(from)? {
            None => Ok(None),
            Some(Given::Number(number)) => Ok(Some(number)),
            Some(Given::Name(text)) => {
                let known = (1..=64).find(|number| name(*number) == text);
                let number = known.ok_or_else(|| D::Error::custom("an unknown signal"))?;
                Ok(Some(number))
            }
        }
    }

    pub fn name(number: i32) -> String {
        signal_name(number).map_or_else(|| format!("SIG{number}"), str::to_owned)
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use serde_json::json;

        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct End {
            #[serde(with = "super")]
            signal: Option<i32>,
        }

        #[test]
        fn signals_go_by_their_names_and_numbers_of_earlier_versions_are_understood() {
            for number in 1..=64 {
                let end = End {
                    signal: Some(number),
                };
                let text = serde_json::to_value(&end).expect("plain data");
                assert!(
                    text["signal"]
                        .as_str()
                        .is_some_and(|s| s.starts_with("SIG")),
                    "{text}"
                );
                assert_eq!(
                    serde_json::from_value::<End>(text).expect("as written"),
                    end
                );
            }
            assert_eq!(name(9), "SIGKILL");
            let old = serde_json::from_value::<End>(json!({"signal": 9})).expect("a number");
            assert_eq!(old.signal, Some(9));
        }
    }
}
