//! What the operating system knows of a process, and what holds for every process we make.

use std::path::PathBuf;

use parking_lot::Mutex;

/// Variables of ours that no program we start may see.
pub const WITHHELD: [&str; 2] = ["RELAY_BROKER_API_KEY", "RELAY_NODE_TOKEN"];

/// Variables that describe the surroundings of whoever started the broker, and are wrong or harmful in a terminal of ours.
/// What users set to configure a program is none of this and stays.
const FOREIGN: &[(&str, &[&str])] = &[
    (
        "the size of another terminal; programs believe it more than their own",
        &["COLUMNS", "LINES"],
    ),
    (
        "a multiplexer around another terminal: programs would speak to it, or wrap what they say for it",
        &[
            "TMUX",
            "TMUX_PANE",
            "STY",
            "WINDOW",
            "TERMCAP",
            "ZELLIJ",
            "ZELLIJ_PANE_ID",
            "ZELLIJ_SESSION_NAME",
        ],
    ),
    (
        "the make of another terminal: programs would use what that one can do",
        &[
            "TERM_PROGRAM",
            "TERM_PROGRAM_VERSION",
            "TERM_SESSION_ID",
            "TERMINAL_EMULATOR",
            "LC_TERMINAL",
            "LC_TERMINAL_VERSION",
            "VTE_VERSION",
            "KONSOLE_VERSION",
            "COLORFGBG",
        ],
    ),
    (
        "another terminal's window, or a way to command it",
        &[
            "WINDOWID",
            "ITERM_SESSION_ID",
            "ITERM_PROFILE",
            "KITTY_WINDOW_ID",
            "KITTY_PID",
            "KITTY_LISTEN_ON",
            "KITTY_PUBLIC_KEY",
            "WEZTERM_PANE",
            "WEZTERM_UNIX_SOCKET",
            "ALACRITTY_SOCKET",
            "ALACRITTY_WINDOW_ID",
            "GHOSTTY_SHELL_FEATURES",
            "KONSOLE_DBUS_SERVICE",
            "KONSOLE_DBUS_SESSION",
            "WT_SESSION",
            "WT_PROFILE_ID",
            "GHOSTTY_RESOURCES_DIR",
            "GHOSTTY_BIN_DIR",
            "ALACRITTY_LOG",
            "ALACRITTY_SOCKET",
            "ALACRITTY_WINDOW_ID",
        ],
    ),
    (
        "the name of another terminal: a password prompt would appear there",
        &[
            "GPG_TTY",
            "SSH_TTY",
            "SSH_CONNECTION",
            "SSH_CLIENT",
            "XDG_SESSION_ID",
        ],
    ),
    (
        "the repository whose hook started the broker: git would work on that one, wherever the agent is",
        &[
            "GIT_DIR",
            "GIT_WORK_TREE",
            "GIT_INDEX_FILE",
            "GIT_PREFIX",
            "GIT_COMMON_DIR",
            "GIT_OBJECT_DIRECTORY",
            "GIT_QUARANTINE_PATH",
        ],
    ),
    (
        "the package script that started the broker: tools would take its folder and name for theirs",
        &[
            "INIT_CWD",
            "npm_command",
            "npm_execpath",
            "npm_node_execpath",
            "npm_lifecycle_event",
            "npm_lifecycle_script",
            "npm_package_json",
            "npm_package_name",
            "npm_package_version",
        ],
    ),
    (
        "the folder that a shell was in before: `cd -` would lead there",
        &["OLDPWD"],
    ),
    (
        "an editor around the terminal: programs would open files in it, or take it for their terminal",
        &[
            "NVIM",
            "NVIM_LISTEN_ADDRESS",
            "VIM_TERMINAL",
            "INSIDE_EMACS",
            "ZED_TERM",
            "VIM",
            "VIMRUNTIME",
            "VSCODE_INJECTION",
            "VSCODE_PID",
            "VSCODE_CWD",
            "VSCODE_IPC_HOOK",
            "VSCODE_IPC_HOOK_CLI",
            "VSCODE_GIT_IPC_HANDLE",
            "VSCODE_NONCE",
            "VSCODE_INSPECTOR_OPTIONS",
            "ELECTRON_RUN_AS_NODE",
        ],
    ),
    (
        "another agent around us: CLIs refuse to run in themselves, or join its session and its editor",
        &[
            "CLAUDECODE",
            "CLAUDE_CODE_ENTRYPOINT",
            "CLAUDE_CODE_SESSION_ID",
            "CLAUDE_CODE_SSE_PORT",
            "CODEX_SANDBOX",
            "CODEX_SANDBOX_NETWORK_DISABLED",
            "CODEX_THREAD_ID",
            "GEMINI_CLI",
            "OPENCODE",
            "CURSOR_AGENT",
            "CURSOR_TRACE_ID",
            "CLAUDE_PROJECT_DIR",
            "RELAY_AGENT_NAME",
            "RELAY_AGENT_TOKEN",
        ],
    ),
    (
        "the broker as a service: a program that says it is ready, takes sockets or a watchdog would do so in our name",
        &[
            "NOTIFY_SOCKET",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            "LISTEN_PIDFDID",
            "FDSTORE",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "MAINPID",
            "MANAGERPID",
            "SYSTEMD_EXEC_PID",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "MEMORY_PRESSURE_WATCH",
            "MEMORY_PRESSURE_WRITE",
        ],
    ),
    (
        "the broker's secrets and folders as a service",
        &[
            "CREDENTIALS_DIRECTORY",
            "RUNTIME_DIRECTORY",
            "STATE_DIRECTORY",
            "CACHE_DIRECTORY",
            "LOGS_DIRECTORY",
            "CONFIGURATION_DIRECTORY",
        ],
    ),
    (
        "descriptors that are closed here: node and make fail on them, or use what else has the number",
        &[
            "NODE_CHANNEL_FD",
            "NODE_CHANNEL_SERIALIZATION_MODE",
            "NODE_UNIQUE_ID",
            "MAKEFLAGS",
            "MFLAGS",
            "MAKELEVEL",
            "CARGO_MAKEFLAGS",
        ],
    ),
];

/// Everything that no program we start inherits.
pub fn not_inherited() -> impl Iterator<Item = &'static str> {
    let foreign = FOREIGN.iter().flat_map(|(_, names)| names.iter());
    WITHHELD.iter().chain(foreign).copied()
}

/// One process is made at a time: a terminal opened while another is being made could leak into it.
pub static SPAWNING: Mutex<()> = Mutex::new(());

/// A variable of a process's environment as it was when its program began; `None` if it had none, or where that cannot be
/// asked.
#[cfg(target_os = "linux")]
pub fn variable(pid: u32, name: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0);
    let value =
        entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(value)))
}

/// A variable of a process's environment as it was when its program began; `None` if it had none, or where that cannot be
/// asked.
#[cfg(not(target_os = "linux"))]
pub fn variable(_pid: u32, _name: &str) -> Option<PathBuf> {
    None
}

/// Whether a signal has stopped the process, and none has let it go on since; `false` where that cannot be asked.
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before it, in parentheses, may hold anything.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// Bytes of memory a process holds right now; `None` where that cannot be asked, or when it is gone.
#[cfg(target_os = "linux")]
pub fn resident_bytes(pid: u32) -> Option<u64> {
    // `status` says kilobytes, while `statm` says pages and leaves their size to be found out.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    bytes_in(&status, "VmRSS:")
}

/// A figure of memory in what `/proc/PID/status` says.
#[cfg(target_os = "linux")]
pub(super) fn bytes_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes of memory a process holds right now; `None` where that cannot be asked, or when it is gone.
#[cfg(not(target_os = "linux"))]
pub fn resident_bytes(_pid: u32) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_was_started_with_is_known() {
        let own = std::process::id();
        assert!(variable(own, "PATH").is_some_and(|path| !path.as_os_str().is_empty()));
        assert_eq!(variable(own, "PAT"), None);
        assert_eq!(variable(u32::MAX, "PATH"), None);
    }

    #[test]
    fn our_own_memory_is_known_and_that_of_nobody_is_not() {
        let own = resident_bytes(std::process::id()).expect("we exist");
        assert!(own > 100 * 1024, "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
