//! What the kernel says of a terminal: its modes, and who has it.

/// What can be learnt about a terminal by asking the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtyState {
    /// ICANON: the kernel collects lines.
    pub line_mode: bool,
    /// ECHO: the kernel shows what is typed.
    pub echo: bool,
    /// The byte that the program reads as Enter; `None` where the settings leave none (IGNCR with INLCR).
    pub enter: Option<u8>,
    /// Whether something typed waits to be read; `None` where that cannot be known.
    pub unread: Option<bool>,
    /// Who has the terminal.
    pub front: Front,
}

/// Which process group has the terminal: reads from it, and gets what its keys signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// The program's own.
    Own,
    /// Another: a shell gives each of its jobs one.
    Other(i32),
    /// The kernel does not say.
    Unknown,
}
