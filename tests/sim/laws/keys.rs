//! What a person types reaches the program as it was typed, whole and in order, and is answered in that order.

use super::*;

/// What persons have typed into one terminal.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// What the program has not taken yet.
    text: String,
    /// How often something was typed, and how often that was answered.
    pieces: u64,
    answered: u64,
}

impl Laws {
    /// A person types something; under which number.
    pub fn typed(&mut self, agent: &AgentName, text: &str) -> u64 {
        let typed = self.typed.entry(agent.clone()).or_default();
        typed.text += text;
        typed.pieces += 1;
        typed.pieces
    }

    /// The person hears that it is in the terminal, or will never be.
    pub fn pressed(&mut self, agent: &AgentName, number: u64, result: &Result<usize, String>) {
        let typed = self.typed.entry(agent.clone()).or_default();
        typed.answered += 1;
        let next = typed.answered;
        self.must(number == next, || {
            format!("what {agent} was typed as {next} is answered after {number}: {result:?}")
        });
    }

    /// A command line took an input with no message in it.
    pub(super) fn took_keys(&mut self, agent: &AgentName, text: &str) {
        let Some(typed) = self.typed.get_mut(agent) else {
            return;
        };
        let line = format!("{text}\r");
        let as_typed = typed.text.starts_with(&line);
        if as_typed {
            typed.text.drain(..line.len());
        }
        let left = typed.text.clone();
        self.must(as_typed, || {
            format!("{agent} took {text:?}, and a person typed {left:?}")
        });
    }

    /// How much of what persons typed the program has not taken, and how often nobody was answered.
    pub fn typed_in_vain(&self, agent: &AgentName) -> (usize, u64) {
        let typed = self.typed.get(agent);
        typed.map_or((0, 0), |typed| {
            (typed.text.len(), typed.pieces - typed.answered)
        })
    }
}
