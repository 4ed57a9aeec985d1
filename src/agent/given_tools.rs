//! Gives agent programs the tools of `relay-broker mcp` as each of them takes such a server: by a file of ours, by arguments
//! or by a variable of its environment, never by a file in the project. What is given names the variables with broker and
//! token; their values stand in the program's environment alone. The user's own servers stay.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::agent::profile::ToolWay;
use crate::known_clis;
use crate::sys::disk::{create_private_dir, write_private};
use crate::sys::entropy;

/// The name that agents know the server by.
const NAME: &str = "agent-relay";
/// What the server finds its broker and its agent by.
const VARIABLES: [&str; 3] = [
    "RELAY_BROKER_STATE_DIR",
    "RELAY_AGENT_NAME",
    "RELAY_AGENT_TOKEN",
];
/// The file of lowest rank among Gemini CLI's settings; its servers are merged with the user's.
const GEMINI: &str = "GEMINI_CLI_SYSTEM_DEFAULTS_PATH";
/// What opencode merges over the user's configuration.
const OPENCODE: &str = "OPENCODE_CONFIG_CONTENT";

/// What was given to one agent; its file goes away with the value.
#[derive(Debug)]
pub struct GivenTools(Option<PathBuf>);

impl Drop for GivenTools {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Gives the program that `argv` starts the tools, if it is the one that takes them so and nobody gave it others in the same
/// place. `dir` is for files of ours, `exe` is our own binary.
///
/// # Errors
/// When the file cannot be written, or a path is not text.
pub fn give(
    way: ToolWay,
    program: &str,
    argv: &mut Vec<String>,
    env: &mut BTreeMap<String, String>,
    dir: &Path,
    exe: &Path,
) -> io::Result<Option<GivenTools>> {
    let (name, args) = known_clis::started(argv);
    if name != program {
        return Ok(None);
    }
    let behind = argv.len() - args.len();
    let exe = exe.to_str().ok_or_else(not_text)?;
    match way {
        ToolWay::ConfigFile => {
            let servers = servers(exe, |name| format!("${{{name}}}"), &json!({}));
            let path = write(dir, &servers)?;
            let word = format!("--mcp-config={}", path.to_str().ok_or_else(not_text)?);
            argv.insert(behind, word);
            Ok(Some(GivenTools(Some(path))))
        }
        ToolWay::Overrides => {
            if argv
                .iter()
                .any(|word| word.contains(&format!("mcp_servers.{NAME}")))
            {
                return Ok(None);
            }
            argv.splice(behind..behind, overrides(exe));
            Ok(Some(GivenTools(None)))
        }
        ToolWay::SettingsFile if !env.contains_key(GEMINI) => {
            let servers = servers(exe, |name| format!("${name}"), &json!({"trust": true}));
            let path = write(dir, &servers)?;
            env.insert(GEMINI.into(), path.to_str().ok_or_else(not_text)?.into());
            Ok(Some(GivenTools(Some(path))))
        }
        ToolWay::Content if !env.contains_key(OPENCODE) => {
            let environment = variables(|name| format!("{{env:{name}}}"));
            let server = json!({"type": "local", "command": [exe, "mcp"], "environment": environment, "enabled": true});
            env.insert(OPENCODE.into(), json!({"mcp": {NAME: server}}).to_string());
            Ok(Some(GivenTools(None)))
        }
        // Somebody has put something of his own there.
        ToolWay::SettingsFile | ToolWay::Content => Ok(None),
    }
}

fn not_text() -> io::Error {
    io::Error::other("a path is not UTF-8 text")
}

fn variables(reference: impl Fn(&str) -> String) -> Value {
    let pair = |name: &&str| ((*name).to_owned(), Value::String(reference(name)));
    Value::Object(VARIABLES.iter().map(pair).collect())
}

/// `mcpServers` with this one, and whatever else stands beside its command.
fn servers(exe: &str, reference: impl Fn(&str) -> String, beside: &Value) -> Value {
    let mut server = json!({"command": exe, "args": ["mcp"], "env": variables(reference)});
    for (key, value) in beside.as_object().into_iter().flatten() {
        server[key] = value.clone();
    }
    json!({"mcpServers": {NAME: server}})
}

fn overrides(exe: &str) -> Vec<String> {
    let of = |key: &str, value: Value| {
        // What TOML and JSON write alike: texts and lists of texts.
        ["-c".to_owned(), format!("mcp_servers.{NAME}.{key}={value}")]
    };
    [
        of("command", json!(exe)),
        of("args", json!(["mcp"])),
        of("env_vars", json!(VARIABLES)),
        of("default_tools_approval_mode", json!("approve")),
    ]
    .concat()
}

fn write(dir: &Path, content: &Value) -> io::Result<PathBuf> {
    create_private_dir(dir)?;
    let path = dir.join(format!("{}.mcp.json", entropy::hex::<4>()?));
    write_private(&path, content.to_string().as_bytes())?;
    Ok(path)
}

/// What Claude Code's settings say of these tools: they need no question, and no other session may write into this one
/// behind the broker's back.
pub fn claude_settings() -> Value {
    json!({
        "permissions": {"allow": [format!("mcp__{NAME}")]},
        "crossSessionInbound": "refuse",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Given {
        argv: Vec<String>,
        env: BTreeMap<String, String>,
        tools: Option<GivenTools>,
    }

    fn given(way: ToolWay, program: &str, line: &str, env: &[(&str, &str)]) -> Given {
        let dir = std::env::temp_dir().join(format!("relay-tools-{}", std::process::id()));
        let mut argv: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
        let mut env: BTreeMap<String, String> = env.iter().map(own).collect();
        let exe = Path::new("/opt/relay broker");
        let tools = give(way, program, &mut argv, &mut env, &dir, exe).expect("room");
        Given { argv, env, tools }
    }

    #[test]
    fn every_program_gets_the_server_in_its_own_way_and_no_secret_with_it() {
        let claude = given(ToolWay::ConfigFile, "claude", "claude --resume x", &[]);
        let file = claude.argv[1]
            .strip_prefix("--mcp-config=")
            .expect("a file");
        let text = std::fs::read_to_string(file).expect("a file");
        assert!(
            text.contains("${RELAY_AGENT_TOKEN}") && text.contains("/opt/relay broker"),
            "{text}"
        );
        assert_eq!(claude.argv[2..], ["--resume", "x"]);
        let kept = PathBuf::from(file);
        drop(claude);
        assert!(!kept.exists(), "it goes away with the agent");

        let codex = given(
            ToolWay::Overrides,
            "codex",
            "npx -y @openai/codex resume",
            &[],
        );
        assert_eq!(codex.argv[3], "-c");
        assert_eq!(
            codex.argv[4],
            "mcp_servers.agent-relay.command=\"/opt/relay broker\""
        );
        assert_eq!(codex.argv.last().map(String::as_str), Some("resume"));

        let gemini = given(ToolWay::SettingsFile, "gemini", "gemini", &[]);
        let text = std::fs::read_to_string(&gemini.env[GEMINI]).expect("a file");
        assert!(text.contains("\"$RELAY_AGENT_TOKEN\""), "{text}");
        let opencode = given(ToolWay::Content, "opencode", "opencode", &[]);
        let content: Value = serde_json::from_str(&opencode.env[OPENCODE]).expect("JSON");
        assert_eq!(
            content["mcp"]["agent-relay"]["command"],
            json!(["/opt/relay broker", "mcp"])
        );
    }

    #[test]
    fn what_somebody_put_there_himself_stays_and_other_programs_get_nothing() {
        let own = given(
            ToolWay::Content,
            "opencode",
            "opencode",
            &[(OPENCODE, "{}")],
        );
        assert!(own.tools.is_none() && own.env[OPENCODE] == "{}");
        let own = given(
            ToolWay::SettingsFile,
            "gemini",
            "gemini",
            &[(GEMINI, "/mine")],
        );
        assert!(own.tools.is_none() && own.env[GEMINI] == "/mine");
        let line = "codex -c mcp_servers.agent-relay.command=\"x\"";
        assert!(
            given(ToolWay::Overrides, "codex", line, &[])
                .tools
                .is_none()
        );
        let wrapped = given(ToolWay::ConfigFile, "claude", "sh -c claude", &[]);
        assert!(wrapped.tools.is_none());
        assert_eq!(wrapped.argv, ["sh", "-c", "claude"]);
    }
}
