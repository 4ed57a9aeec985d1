//! What a person writes into the configuration of another client to give it the tools by hand.

use serde_json::json;

use super::args::McpClient;
use super::context::Context;
use super::failure::Failure;

/// The name that agents know the server by.
const NAME: &str = "agent-relay";

/// Prints it.
///
/// # Errors
/// When standard output is gone.
pub fn print_config(c: &Context, client: McpClient) -> Result<(), Failure> {
    let exe = std::env::current_exe().map_or_else(
        |_| "relay-broker".to_owned(),
        |path| path.to_string_lossy().into_owned(),
    );
    let text = text(client, &exe);
    c.tell(&json!({"server": NAME, "text": text}), &text)
}

fn text(client: McpClient, exe: &str) -> String {
    let pretty = |value| format!("{value:#}\n");
    let env = |pattern: &str| {
        json!({
            "RELAY_BROKER_STATE_DIR": pattern.replace("NAME", "RELAY_BROKER_STATE_DIR"),
            "RELAY_AGENT_TOKEN": pattern.replace("NAME", "RELAY_AGENT_TOKEN"),
            "RELAY_AGENT_NAME": pattern.replace("NAME", "RELAY_AGENT_NAME"),
        })
    };
    match client {
        McpClient::Claude | McpClient::Json => pretty(json!({
            "mcpServers": {NAME: {"command": exe, "args": ["mcp"], "env": env("${NAME}")}}
        })),
        McpClient::Gemini => pretty(json!({
            "mcpServers": {NAME: {"command": exe, "args": ["mcp"], "env": env("$NAME")}}
        })),
        McpClient::Opencode => pretty(json!({
            "mcp": {NAME: {"type": "local", "command": [exe, "mcp"], "environment": env("{env:NAME}")}}
        })),
        McpClient::Codex => format!(
            "[mcp_servers.{NAME}]\ncommand = {command}\nargs = [\"mcp\"]\n\
             env_vars = [\"RELAY_BROKER_STATE_DIR\", \"RELAY_AGENT_TOKEN\", \"RELAY_AGENT_NAME\"]\n",
            command = json!(exe)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_gets_the_names_of_the_variables_and_no_secret() {
        for client in [
            McpClient::Claude,
            McpClient::Codex,
            McpClient::Gemini,
            McpClient::Opencode,
            McpClient::Json,
        ] {
            let text = text(client, "/bin/relay broker");
            for part in [
                "agent-relay",
                "/bin/relay broker",
                "mcp",
                "RELAY_AGENT_TOKEN",
            ] {
                assert!(text.contains(part), "{client:?}: {text}");
            }
        }
        let codex: toml::Table = text(McpClient::Codex, "a\"b").parse().expect("TOML");
        assert_eq!(
            codex["mcp_servers"]["agent-relay"]["command"].as_str(),
            Some("a\"b")
        );
    }
}
