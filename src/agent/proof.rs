//! Positive proofs that a message was submitted: finding it again in what a CLI says or writes of what it was asked. A text
//! is known by its first letters, because the envelope with the message's id stands there. Pure: `agent::transcript` and
//! `agent::hook` bring the texts.

/// Letters of a text's begin by which it is known; with the longest envelope, its id is among them.
const HEAD: usize = 512;
/// Fewer letters than this prove nothing.
const LEAST: usize = 8;

/// The begin of a message, as it is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageHead {
    letters: String,
}

impl MessageHead {
    /// `None` for a message that is too short to be known by its letters.
    pub fn of(message: &str) -> Option<Self> {
        let letters: String = letters(message.chars()).take(HEAD).collect();
        (letters.chars().count() >= LEAST).then_some(Self { letters })
    }

    /// Whether a text is the message, or has it inside.
    pub fn is_in(&self, text: &str) -> bool {
        let all: String = letters(text.chars()).collect();
        all.contains(&self.letters)
    }

    /// Whether lines of a JSON file hold the message: as a text, or as the placeholder of a long paste.
    pub fn is_in_json(&self, lines: &str, placeholder: Option<&str>) -> bool {
        let all: String = letters(Unescaped(lines.chars())).collect();
        all.contains(&self.letters) || placeholder.is_some_and(|mark| lines.contains(mark))
    }
}

fn letters(text: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    text.filter(|c| c.is_alphanumeric())
}

/// The characters of JSON texts, escapes resolved; everything around the texts comes as it is.
struct Unescaped<'a>(std::str::Chars<'a>);

impl Iterator for Unescaped<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self.0.next()? {
            '\\' => match self.0.next()? {
                'n' | 't' | 'r' | 'b' | 'f' => Some(' '),
                // The halves of a character beyond the first plane are passed over: emoji are no letters anyway.
                'u' => {
                    let digits: String = self.0.by_ref().take(4).collect();
                    let code = u32::from_str_radix(&digits, 16).ok();
                    Some(code.and_then(char::from_u32).unwrap_or(' '))
                }
                other => Some(other),
            },
            other => Some(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = "Relay message from bob [ws / 42]: line \"one\"\n\ttwo\nthree é 漢";

    fn head() -> MessageHead {
        MessageHead::of(MESSAGE).expect("letters")
    }

    #[test]
    fn a_message_is_found_in_a_history_file_however_it_is_escaped() {
        let line = serde_json::json!({"display": MESSAGE, "n": 1}).to_string();
        assert!(head().is_in_json(&line, None));
        let ascii = line.replace('é', "\\u00e9").replace('漢', "\\u6f22");
        assert!(head().is_in_json(&ascii, None));
        assert!(!head().is_in_json(&line.replace("42", "43"), None));
        let pasted = r#"{"display":"[Pasted text #3 +199 lines]"}"#;
        assert!(head().is_in_json(pasted, Some("[Pasted")));
        assert!(!head().is_in_json(pasted, None));
    }

    #[test]
    fn two_messages_that_a_cli_glued_are_both_found() {
        let other = MESSAGE.replace("42", "43");
        assert!(head().is_in(&format!("{other}\n\n{MESSAGE}")));
        assert!(!head().is_in(&other));
    }

    #[test]
    fn a_word_or_two_prove_nothing() {
        assert_eq!(MessageHead::of("yes, do"), None);
        assert!(MessageHead::of("yes, do so now").is_some());
    }
}
