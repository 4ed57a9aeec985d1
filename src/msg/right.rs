//! What agents may be allowed.

/// What an operator may allow agents beyond speaking, reading their own mail and seeing who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Start agents.
    Spawn,
    /// End or restart other agents.
    Release,
    /// See and drive other agents' terminals.
    Attach,
    /// Hear all events, with the words of all messages.
    Watch,
}

impl Right {
    /// All there are.
    pub const ALL: [Right; 4] = [Right::Spawn, Right::Release, Right::Attach, Right::Watch];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        match self {
            Right::Spawn => "spawn",
            Right::Release => "release",
            Right::Attach => "attach",
            Right::Watch => "watch",
        }
    }

    /// The sentence for an agent that does not have it, with what the operator would have to write.
    pub fn refusal(self, agent: &str) -> String {
        let (word, what) = (self.word(), self.what());
        format!(
            "{agent} may not {what}: the operator of this broker allows it with agents_may = [\"{word}\"] in [access] of its configuration"
        )
    }

    /// What whoever has it may do, after "may".
    pub fn what(self) -> &'static str {
        match self {
            Right::Spawn => "start agents",
            Right::Release => "end or restart other agents",
            Right::Attach => "see or drive terminals",
            Right::Watch => "hear the events of all agents",
        }
    }
}
