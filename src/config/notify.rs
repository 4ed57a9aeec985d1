//! `[notify]` of the configuration file: the command for events that want a person.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::checks;
use super::document::TableFaults;
use crate::broker::{NOTICE_WORDS, NotifySettings};

/// How long the command may take by default.
const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NotifyTable {
    command: Option<Vec<String>>,
    on: Option<Vec<String>>,
    timeout: Option<String>,
}

/// What the table means; none where there is no command, and the faults where something in it cannot be meant.
pub(super) fn settings(
    table: NotifyTable,
    folder: &Path,
    faults: &mut TableFaults,
) -> Option<NotifySettings> {
    let usual = || NOTICE_WORDS.map(str::to_owned).to_vec();
    let given = table.on.is_some() || table.timeout.is_some();
    let on = table.on.unwrap_or_else(usual);
    for word in &on {
        if !NOTICE_WORDS.contains(&word.as_str()) {
            let known = NOTICE_WORDS.join(", ");
            let what =
                format!("on has {word:?}, which is none of {known}; write on = [\"blocked\"]");
            faults.key("on", what);
        }
    }
    let timeout = checks::span(table.timeout.as_deref()).unwrap_or(TIMEOUT);
    if timeout.is_zero() {
        let what = "could never run: timeout must be more than 0; write timeout = \"10s\"";
        faults.key("timeout", what);
    }
    let Some(command) = table.command else {
        if given {
            faults.table("names no command; write command = [\"./tell-me\"]");
        }
        return None;
    };
    checks::words("command", &command, faults);
    if command
        .first()
        .is_none_or(|program| program.trim().is_empty())
    {
        let what = "has no command; write command = [\"./tell-me\"]";
        faults.key("command", what);
    }
    Some(NotifySettings {
        command,
        on: on.into_iter().collect(),
        // Paths mean what they mean beside the file, wherever the broker was started.
        cwd: folder.to_owned(),
        timeout,
    })
}
