//! What is known when somebody asks why an agent, or a broker, does what it does. Plain values: gathered in one place, judged
//! in another.

use crate::time::Wall;
use crate::wire::local;

/// Everything that is known at that moment.
#[derive(Debug)]
pub(super) struct ExplainFacts {
    /// When it was asked for.
    pub(super) now: Wall,
    /// How commands of a way out begin: the program, and which broker is meant.
    pub(super) program: String,
    /// What the broker says of itself, or why it says nothing.
    pub(super) broker: Result<Box<local::Status>, Unanswered>,
    /// The agent that is asked about; nobody when it is the broker.
    pub(super) agent: Option<AskedAgent>,
}

/// A broker that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unanswered {
    /// It does not run, as far as can be told; else it runs and does not answer.
    pub(super) is_absent: bool,
    /// The reason for people.
    pub(super) why: String,
    /// Whether an earlier broker of this folder ended without a goodbye.
    pub(super) was_killed: bool,
}

/// What is known of one agent.
#[derive(Debug)]
pub(super) struct AskedAgent {
    pub(super) name: String,
    pub(super) standing: AgentStanding,
    /// What waits for the agent, in the order in which it will be typed.
    pub(super) pending: Vec<local::PendingView>,
    /// Why the engine could not be asked for what waits there, if so.
    pub(super) unasked: Option<String>,
    /// The picture of the terminal, where there is one.
    pub(super) picture: Option<local::Snapshot>,
    /// The program was stopped by a signal and was not told to go on.
    pub(super) is_frozen: bool,
    /// What was given up, the newest last.
    pub(super) dead: Vec<local::DeadLetterView>,
}

/// Where the agent is.
#[derive(Debug)]
pub(super) enum AgentStanding {
    /// Here.
    Here(Box<local::AgentView>),
    /// It ended without anybody's wish.
    Ended(Box<local::DepartedView>),
    /// Not here, and the broker says no more of it.
    Nowhere,
}

impl AskedAgent {
    /// The agent, while it is here.
    pub(super) fn view(&self) -> Option<&local::AgentView> {
        match &self.standing {
            AgentStanding::Here(view) => Some(view),
            AgentStanding::Ended(_) | AgentStanding::Nowhere => None,
        }
    }

    /// The last rows of the terminal that show anything.
    pub(super) fn rows(&self) -> Vec<&str> {
        const SHOWN: usize = 8;
        let screen = self
            .picture
            .as_ref()
            .map_or("", |shot| shot.screen.as_str());
        let rows: Vec<&str> = screen
            .lines()
            .filter(|row| !row.trim().is_empty())
            .collect();
        rows[rows.len().saturating_sub(SHOWN)..].to_vec()
    }
}
