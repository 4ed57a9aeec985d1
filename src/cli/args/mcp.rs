//! The command line of `mcp`.

use clap::{Args, ValueEnum};

/// `mcp`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Mcp {
    /// Print what to write into the configuration of a client instead, for it to start this command
    #[arg(long, value_enum, value_name = "CLIENT")]
    pub print_config: Option<McpClient>,
}

/// A program that can be given tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum McpClient {
    /// Claude Code: .mcp.json, or a file for --mcp-config
    Claude,
    /// Codex: ~/.codex/config.toml
    Codex,
    /// Gemini CLI: ~/.gemini/settings.json
    Gemini,
    /// opencode: opencode.json
    Opencode,
    /// Anything that reads `mcpServers`
    Json,
}
