//! `[profile.NAME]` of the configuration file: what the operator knows about an agent program that nobody measured, or knows
//! better. A row begins with what is known about the program of its name, or about the one it is said to be like.

use std::borrow::Cow;
use std::time::Duration;

use serde::Deserialize;

use super::checks;
use super::document::TableFaults;
use crate::agent::dialog;
use crate::agent::profile::{self, GENERIC, Profile};
use crate::agent::prompt::Prompt;
use crate::agent::repl;
use crate::wire::event::{Dialog, Policy};

/// More than any program takes to draw a pasted text, and less than a person waits.
const ENTER_AFTER_MAX: Duration = Duration::from_secs(10);
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
    mcp: Option<bool>,
    hint: Option<bool>,
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

/// The complete row; none, and the faults, when a value cannot be meant, or could have no effect.
pub(super) fn row(name: &str, table: ProfileTable, faults: &mut TableFaults) -> Option<Profile> {
    if name.trim().is_empty() || name.contains('/') {
        faults.table("is not the file name of a program; for example [profile.aider]");
    }
    let mut row = match base(name, table.like.as_deref()) {
        Ok(row) => row,
        Err(why) => {
            faults.key("like", why);
            return None;
        }
    };
    row.program = Cow::Owned(name.to_owned());
    row.composer = table.composer.unwrap_or(row.composer);
    row.one_line = table.one_line.or(row.one_line);
    row.wraps = table.wraps.unwrap_or(row.wraps);
    row.interrupts = table.interrupts.unwrap_or(row.interrupts);
    row.hook = table.hook.unwrap_or(row.hook);
    row.hint = table.hint.or(row.hint);
    row.tools = row.tools.filter(|_| table.mcp != Some(false));
    if let Some(table) = table.prompt {
        row.prompt = taken(faults, "prompt", prompt(&table));
    }
    if let Some(text) = table.stash {
        row.stash = taken(faults, "stash", keys(&text)).map(Cow::Owned);
    }
    if let Some(text) = table.merges_while {
        let mark = character("merges_while", &text, "\"✦\"");
        row.merges_while = taken(faults, "merges_while", mark);
    }
    row.enter_after = checks::span(table.enter_after.as_deref()).unwrap_or(row.enter_after);
    row.ready_within = checks::span(table.ready_within.as_deref()).unwrap_or(row.ready_within);
    if faults.none() {
        check(&row, faults);
    }
    row.trust_folder = table.trust_folder.map_or(row.trust_folder, Policy::from);
    row.permission = table.permission.map_or(row.permission, Policy::from);
    for (key, why) in unknown_dialogs(&row, row.trust_folder, row.permission) {
        faults.key(key, format!("{why}; drop it, or say what it is like"));
    }
    faults.none().then_some(row)
}

/// The value, or its fault.
fn taken<T>(faults: &mut TableFaults, key: &str, read: Result<T, String>) -> Option<T> {
    read.map_err(|why| faults.key(key, why)).ok()
}

/// Whether the row fits together.
fn check(row: &Profile, faults: &mut TableFaults) {
    if row.enter_after > ENTER_AFTER_MAX {
        faults.key(
            "enter_after",
            format!("enter_after is more than {ENTER_AFTER_MAX:?}; for example \"150ms\""),
        );
    }
    if row.ready_within.is_zero() {
        faults.key(
            "ready_within",
            "ready_within must be more than 0; for example \"30s\"",
        );
    }
    let of_prompt = row.stash.is_some() || row.merges_while.is_some();
    if !row.composer && (row.prompt.is_some() || of_prompt) {
        faults.table("prompt, stash and merges_while have an effect only with composer = true");
    } else if row.prompt.is_none() && of_prompt {
        faults.table(
            "stash and merges_while have an effect only with a prompt; for example prompt = { mark = \">\", gap = 2 }",
        );
    }
}

/// The answers that could never be given, by their keys, and why.
pub(super) fn unknown_dialogs(
    row: &Profile,
    trust_folder: Policy,
    permission: Policy,
) -> Vec<(&'static str, String)> {
    let answers = [
        ("trust_folder", trust_folder, Dialog::TrustFolder),
        ("permission", permission, Dialog::Permission),
    ];
    let unknown = answers
        .into_iter()
        .filter(|(_, policy, dialog)| *policy != Policy::Hold && !dialog::can(row, *dialog));
    let told = unknown.map(|(key, policy, _)| {
        let word = policy.word();
        let why =
            format!("{key} = {word:?} has no effect: no such dialog is known of this program");
        (key, why)
    });
    told.collect()
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
        tools: None,
        ..row
    };
    profile::known(like).map(alike).ok_or_else(|| {
        let known = profile::table().map(|row| row.program);
        format!(
            "like = {like:?}: only {} are known; write one of these, or drop it",
            known.join(", ")
        )
    })
}

fn prompt(table: &PromptTable) -> Result<Prompt, String> {
    if table.gap == 0 || table.gap > GAP_MAX {
        return Err(format!(
            "prompt: gap is the number of columns from the mark to the first letter, 1 to {GAP_MAX}; for example 2"
        ));
    }
    Ok(Prompt {
        mark: character("prompt: mark", &table.mark, "\">\"")?,
        gap: table.gap,
    })
}

fn character(what: &str, text: &str, example: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if !letter.is_whitespace() && !letter.is_control() => Ok(letter),
        _ => Err(format!(
            "{what} = {text:?} is not one visible character; for example {example}"
        )),
    }
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
    use crate::config::document::Document;

    fn read(text: &str) -> Result<Profile, String> {
        read_as("aider", text)
    }

    fn read_as(name: &str, text: &str) -> Result<Profile, String> {
        let text = format!("[profile.{name:?}]\n{text}");
        let mut document = Document::read(&text);
        let places = std::mem::take(&mut document.places);
        let mut faults = document.faults_of(&places, "profile", name);
        let (name, table) = document.take_named("profile").remove(0);
        let row = row(&name, table, &mut faults);
        let mut all = document.faults.into_iter().chain(faults.found);
        match all.next() {
            Some(fault) => Err(fault.what),
            None => Ok(row.expect("no fault")),
        }
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
                tools: None,
                history: None,
                permission: Policy::Deny,
                enter_after: Duration::from_millis(150),
                ready_within: Duration::from_secs(60),
                ..claude.clone()
            }
        );
        let slow = read_as("claude", "ready_within = \"90s\"").expect("a row");
        assert_eq!((slow.prompt, slow.stash), (claude.prompt, claude.stash));
        assert_eq!(slow.ready_within, Duration::from_secs(90));
        let bare = read_as("claude", "mcp = false").expect("a row");
        assert_eq!((bare.tools, slow.tools.is_some()), (None, true));
        assert!(!read("").expect("a row").composer, "nothing is known");
        let shell = read_as("bash", "ready_within = \"9s\"").expect("a row");
        assert_eq!(shell.one_line, Some(true));
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
            ("enter_after = \"soon\"", "such as enter_after = \"150ms\""),
            ("interrupts = 4", "from 0 to 3"),
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
        assert!(read_as("/bin/x", "").is_err());
    }
}
