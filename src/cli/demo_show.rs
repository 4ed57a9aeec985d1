//! How the demo looks, and how it counts: steps as lines for people or as JSON, and the verdict over what the agents
//! wrote down. Starts nothing and waits for nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::failure::Failure;
use super::render::{Paint, brief, print, span};

/// Fits a window of 100 columns with the column of times.
const TEXT_WIDTH: usize = 84;

/// Prints steps as they happen.
pub struct Show {
    paint: Paint,
    json: bool,
    act: u8,
}

impl Show {
    /// For people, or for programs.
    pub fn new(paint: Paint, json: bool) -> Self {
        Self {
            paint,
            json,
            act: 0,
        }
    }

    /// A line of its own, only for people.
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        if self.json {
            Ok(())
        } else {
            print(&format!("{text}\n"))
        }
    }

    /// Begins an act.
    pub fn act(&mut self, title: &str, about: &str) -> Result<(), Failure> {
        self.act += 1;
        if self.json {
            return print(&format!(
                "{}\n",
                json!({"act": self.act, "step": "act", "text": title})
            ));
        }
        let title = self.paint.bold(&format!("{}  {title}", self.act));
        print(&format!(
            "\n{title}  {}\n",
            self.paint.dim(&format!("({about})"))
        ))
    }

    /// One step and when it was, on whatever clock the act runs.
    pub fn step(&self, step: &str, at: Duration, text: &str) -> Result<(), Failure> {
        if self.json {
            let ms = (at.as_secs_f64() * 10_000.0).round() / 10.0;
            let entry = json!({"act": self.act, "step": step, "ms": ms, "text": text});
            return print(&format!("{entry}\n"));
        }
        let at = self.paint.dim(&format!("{:>10}", span(at)));
        print(&format!("{at}  {}\n", brief(text, TEXT_WIDTH)))
    }

    /// The last word.
    pub fn verdict(&self, fine: bool, text: &str, facts: &Value) -> Result<(), Failure> {
        if self.json {
            let mut entry = json!({"act": self.act, "step": "verdict", "ok": fine, "text": text});
            if let (Some(entry), Some(facts)) = (entry.as_object_mut(), facts.as_object()) {
                entry.extend(facts.clone());
            }
            return print(&format!("{entry}\n"));
        }
        let mark = if fine {
            self.paint.good("yes")
        } else {
            self.paint.bad("NO")
        };
        print(&format!(
            "\n{}  {mark}: {text}\n",
            self.paint.bold("Exactly once, in order?")
        ))
    }
}

/// What is wrong with what an agent read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Sent and never read.
    pub missing: Vec<String>,
    /// Read more than once.
    pub doubled: Vec<String>,
    /// Read before one that was sent earlier.
    pub disordered: Vec<String>,
}

impl Count {
    /// Compares what was sent to one agent, in order, with what it read.
    pub fn of(sent: &[String], read: &[String]) -> Self {
        let mut count = Self::default();
        let mut last = 0;
        for text in sent {
            let mut places = read.iter().enumerate().filter(|(_, line)| *line == text);
            match places.next() {
                None => count.missing.push(text.clone()),
                Some((place, _)) if place < last => count.disordered.push(text.clone()),
                Some((place, _)) => last = place,
            }
            if places.next().is_some() {
                count.doubled.push(text.clone());
            }
        }
        count
    }

    /// What is wrong, in words.
    pub fn words(&self, agent: &str) -> Vec<String> {
        let all = [
            ("never reached", &self.missing),
            ("reached twice", &self.doubled),
            ("came too early to", &self.disordered),
        ];
        all.into_iter()
            .flat_map(|(what, texts)| {
                texts
                    .iter()
                    .map(move |text| format!("{text:?} {what} {agent}"))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(sent: &str, read: &str) -> Count {
        let words = |text: &str| {
            text.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        Count::of(&words(sent), &words(read))
    }

    #[test]
    fn every_message_once_and_in_order_is_fine_whatever_else_is_read() {
        assert_eq!(count("a b c", "a x b c"), Count::default());
        assert_eq!(count("", "x"), Count::default());
    }

    #[test]
    fn a_lost_a_doubled_and_an_early_message_are_each_named() {
        assert_eq!(count("a b c", "a c").missing, ["b"]);
        assert_eq!(count("a b c", "a b a c").doubled, ["a"]);
        assert_eq!(count("a b c", "b a c").disordered, ["b"]);
        assert_eq!(count("a b", "a").words("bob"), [r#""b" never reached bob"#]);
    }
}
