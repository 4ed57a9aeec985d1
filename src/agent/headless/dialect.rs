//! What a kind of program is told and tells over its pipes.

/// What a line of a program's means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ProgramWord {
    /// Its own session, by its id.
    Session(String),
    /// It works on a prompt.
    Began,
    /// It has the message of this key.
    Took(String),
    /// It dropped the message of this key, or failed before it had it.
    Dropped(String, String),
    /// Words for people.
    Said(String),
    /// It waits for the next prompt, with what went wrong.
    TurnOver(Option<String>),
    /// Whether it has given the message back that it was asked for.
    GaveBack(bool),
    /// It does not stop, for this reason.
    NotInterrupted(String),
    /// It asks somebody, and waits for the answer to this request.
    Asked(String),
}

/// The words of a kind of program.
pub(super) trait Dialect: Send {
    /// What a line of its output means.
    fn hear(&mut self, line: &str) -> Vec<ProgramWord>;

    /// Gives it a message, which it names by this key from then on.
    fn say(&mut self, key: &str, text: &str) -> String;

    /// Has it stop what it does.
    fn interrupt(&mut self) -> String;

    /// Asks for a message back that it has not begun with; `None` where that cannot be asked.
    fn give_back(&mut self, key: &str) -> Option<String>;

    /// Tells it that nobody answers what it asks.
    fn nobody(&self, request: &str) -> String;

    /// Whether it takes messages while it works.
    fn queues(&self) -> bool;
}
