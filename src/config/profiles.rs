//! `[profile.NAME]` of the configuration file: what the operator knows about an agent program that nobody measured, or knows
//! better. A row begins with what is known about the program of its name, or about the one it is said to be like.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use crate::agent::dialog;
use crate::agent::profile::{self, GENERIC, Profile};
use crate::agent::prompt::Prompt;
use crate::agent::repl;
use crate::wire::event::{Dialog, Policy};

/// More than any program takes to draw a pasted text, and less than a person waits.
const ENTER_AFTER_MAX: Duration = Duration::from_secs(10);
/// More would end up somewhere else.
const INTERRUPTS_MAX: u8 = 3;
/// Beyond it a prompt's mark and its words are hardly one line.
const GAP_MAX: u16 = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProfileTable {
    like: Option<String>,
    composer: Option<bool>,
    prompt: Option<PromptTable>,
    stash: Option<String>,
    merges_while: Option<String>,
    one_line: Option<bool>,
    wraps: Option<bool>,
    interrupts: Option<u8>,
    hook: Option<bool>,
    enter_after: Option<String>,
    ready_within: Option<String>,
    trust_folder: Option<TrustFolder>,
    permission: Option<Permission>,
}

/// What to do when a program asks whether to trust its folder.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum TrustFolder {
    Hold,
    Accept,
}

/// What to do when a program asks for permission: nothing here says yes.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Permission {
    Hold,
    Deny,
}

impl From<TrustFolder> for Policy {
    fn from(word: TrustFolder) -> Self {
        match word {
            TrustFolder::Hold => Self::Hold,
            TrustFolder::Accept => Self::Accept,
        }
    }
}

impl From<Permission> for Policy {
    fn from(word: Permission) -> Self {
        match word {
            Permission::Hold => Self::Hold,
            Permission::Deny => Self::Deny,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptTable {
    mark: String,
    gap: u16,
}

/// The complete row.
///
/// # Errors
/// When a value cannot be meant, or could have no effect: one sentence without the file's name.
pub(super) fn row(name: &str, table: ProfileTable) -> Result<Profile, String> {
    let wrong = |what: String| format!("[profile.{name}] {what}");
    if name.trim().is_empty() || name.contains('/') {
        return Err(wrong(
            "is not the file name of a program; for example [profile.aider]".into(),
        ));
    }
    let mut row = base(name, table.like.as_deref()).map_err(wrong)?;
    row.program = Cow::Owned(name.to_owned());
    row.composer = table.composer.unwrap_or(row.composer);
    row.one_line = table.one_line.or(row.one_line);
    row.wraps = table.wraps.unwrap_or(row.wraps);
    row.interrupts = table.interrupts.unwrap_or(row.interrupts);
    row.hook = table.hook.unwrap_or(row.hook);
    if let Some(table) = table.prompt {
        row.prompt = Some(prompt(&table).map_err(wrong)?);
    }
    if let Some(text) = table.stash {
        row.stash = Some(Cow::Owned(keys(&text).map_err(wrong)?));
    }
    if let Some(text) = table.merges_while {
        row.merges_while = Some(character("merges_while", &text).map_err(wrong)?);
    }
    if let Some(text) = table.enter_after {
        row.enter_after = time("enter_after", &text).map_err(wrong)?;
    }
    if let Some(text) = table.ready_within {
        row.ready_within = time("ready_within", &text).map_err(wrong)?;
    }
    if row.enter_after > ENTER_AFTER_MAX {
        return Err(wrong(format!(
            "enter_after is more than {ENTER_AFTER_MAX:?}"
        )));
    }
    if row.interrupts > INTERRUPTS_MAX {
        return Err(wrong(format!(
            "interrupts is how many Escapes interrupt the program, 0 to {INTERRUPTS_MAX}"
        )));
    }
    if row.ready_within.is_zero() {
        return Err(wrong("ready_within must be more than 0".into()));
    }
    if !row.composer && (row.prompt.is_some() || row.stash.is_some() || row.merges_while.is_some())
    {
        return Err(wrong(
            "prompt, stash and merges_while have an effect only with composer = true".into(),
        ));
    }
    if row.prompt.is_none() && (row.stash.is_some() || row.merges_while.is_some()) {
        return Err(wrong(
            "stash and merges_while have an effect only with a prompt; for example prompt = { mark = \">\", gap = 2 }"
                .into(),
        ));
    }
    row.trust_folder = table.trust_folder.map_or(row.trust_folder, Policy::from);
    row.permission = table.permission.map_or(row.permission, Policy::from);
    known_dialogs(&row, row.trust_folder, row.permission).map_err(wrong)?;
    Ok(row)
}

/// Whether such answers could ever be given.
pub(super) fn known_dialogs(
    row: &Profile,
    trust_folder: Policy,
    permission: Policy,
) -> Result<(), String> {
    for (key, policy, dialog) in [
        ("trust_folder", trust_folder, Dialog::TrustFolder),
        ("permission", permission, Dialog::Permission),
    ] {
        if policy != Policy::Hold && !dialog::can(row, dialog) {
            return Err(format!(
                "{key} = {:?} has no effect: no such dialog is known of this program",
                policy.word()
            ));
        }
    }
    Ok(())
}

fn base(name: &str, like: Option<&str>) -> Result<Profile, String> {
    let Some(like) = like else {
        let row = profile::known(name).or_else(|| repl::of(name, &[]));
        return Ok(row.unwrap_or(GENERIC));
    };
    // What it looks like is alike, not what it keeps or what options it takes.
    let alike = |row| Profile {
        history: None,
        hook: false,
        ..row
    };
    profile::known(like).map(alike).ok_or_else(|| {
        let known = profile::table().map(|row| row.program);
        format!("like = {like:?}: only {} are known", known.join(", "))
    })
}

fn prompt(table: &PromptTable) -> Result<Prompt, String> {
    if table.gap == 0 || table.gap > GAP_MAX {
        return Err(format!(
            "prompt: gap is the number of columns from the mark to the first letter, 1 to {GAP_MAX}"
        ));
    }
    Ok(Prompt {
        mark: character("prompt: mark", &table.mark)?,
        gap: table.gap,
    })
}

fn character(what: &str, text: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if !letter.is_whitespace() && !letter.is_control() => Ok(letter),
        _ => Err(format!("{what} = {text:?} is not one visible character")),
    }
}

fn time(what: &str, text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|e| format!("{what} = {text:?}: {e}; for example \"150ms\""))
}

/// `ctrl-s`, or several such words. Only keys that write nothing and submit nothing.
fn keys(text: &str) -> Result<Vec<u8>, String> {
    let key = |word: &str| {
        let letter = word.strip_prefix("ctrl-")?;
        let [letter @ b'a'..=b'z'] = letter.as_bytes() else {
            return None;
        };
        let key = letter - b'a' + 1;
        // Tab, Enter in two forms, and what interrupts or ends a program.
        (!matches!(key, b'\t' | b'\n' | b'\r' | 0x03 | 0x04 | 0x1a)).then_some(key)
    };
    let keys: Option<Vec<u8>> = text.split_whitespace().map(key).collect();
    keys.filter(|keys| !keys.is_empty()).ok_or_else(|| {
        format!(
            "stash = {text:?} is not a key that puts a line aside; for example \"ctrl-s\" or \"ctrl-x ctrl-s\""
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Profile, String> {
        row("aider", toml::from_str(text).map_err(|e| e.to_string())?)
    }

    #[test]
    fn a_row_begins_with_what_is_known_and_says_what_is_different() {
        let aider = read(
            "like = \"claude\"\nprompt = { mark = \">\", gap = 2 }\nenter_after = \"150ms\"\nready_within = \"1m\"\n\
             stash = \"ctrl-x ctrl-s\"\ninterrupts = 2\nhook = false\npermission = \"deny\"",
        )
        .expect("a row");
        let claude = profile::known("claude").expect("a row");
        assert_eq!(
            aider,
            Profile {
                program: "aider".into(),
                prompt: Some(Prompt { mark: '>', gap: 2 }),
                stash: Some(Cow::Borrowed(b"\x18\x13")),
                interrupts: 2,
                hook: false,
                history: None,
                permission: Policy::Deny,
                enter_after: Duration::from_millis(150),
                ready_within: Duration::from_secs(60),
                ..claude.clone()
            }
        );
        let slow: ProfileTable = toml::from_str("ready_within = \"90s\"").expect("a table");
        let slow = row("claude", slow).expect("a row");
        assert_eq!((slow.prompt, slow.stash), (claude.prompt, claude.stash));
        assert_eq!(slow.ready_within, Duration::from_secs(90));
        assert!(!read("").expect("a row").composer, "nothing is known");
        let shell = toml::from_str("ready_within = \"9s\"").expect("a table");
        assert_eq!(row("bash", shell).expect("a row").one_line, Some(true));
    }

    #[test]
    fn a_row_that_cannot_be_meant_is_refused_with_the_way_out() {
        for (text, says) in [
            (
                "like = \"vim\"",
                "only claude, codex, gemini, opencode, qwen are known",
            ),
            (
                "stash = \"ctrl-m\"\nlike = \"claude\"",
                "for example \"ctrl-s\"",
            ),
            ("stash = \"y\"\nlike = \"claude\"", "for example \"ctrl-s\""),
            ("stash = \"\"\nlike = \"claude\"", "for example \"ctrl-s\""),
            ("stash = \"ctrl-s\"", "only with composer = true"),
            ("composer = true\nstash = \"ctrl-s\"", "only with a prompt"),
            (
                "prompt = { mark = \">\", gap = 2 }",
                "only with composer = true",
            ),
            (
                "composer = true\nprompt = { mark = \">>\", gap = 2 }",
                "one visible character",
            ),
            (
                "composer = true\nprompt = { mark = \">\", gap = 0 }",
                "1 to 20",
            ),
            ("trust_folder = \"accept\"", "no such dialog is known"),
            (
                "like = \"codex\"\ntrust_folder = \"accept\"",
                "no such dialog is known",
            ),
            ("enter_after = \"soon\"", "for example \"150ms\""),
            ("interrupts = 4", "0 to 3"),
            ("enter_after = \"1m\"", "more than 10s"),
            ("ready_within = \"0s\"", "more than 0"),
        ] {
            let why = read(text).expect_err("refused");
            assert!(
                why.starts_with("[profile.aider] ") && why.contains(says),
                "{text:?}: {why}"
            );
        }
        for text in [
            "promt = 1",
            "trust_folder = \"deny\"",
            "permission = \"accept\"",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(row("/bin/x", toml::from_str("").expect("a table")).is_err());
    }
}
