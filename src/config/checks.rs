//! What several kinds of tables of the configuration file have to be judged by.

use std::collections::BTreeMap;
use std::time::Duration;

use super::document::TableFaults;

/// Says so where a table names a profile that does not exist.
pub(super) fn profile(named: Option<&String>, known: &[String], faults: &mut TableFaults) {
    let Some(profile) = named.filter(|profile| !known.contains(profile)) else {
        return;
    };
    faults.key(
        "profile",
        format!(
            "profile = {profile:?} names none of {}; write one of these, or add a [profile.{profile}]",
            known.join(", ")
        ),
    );
}

/// Says so where variables cannot be given to a program.
pub(super) fn variables(env: &BTreeMap<String, String>, faults: &mut TableFaults) {
    for (name, value) in env {
        if name.is_empty() || name.contains(['=', '\0']) {
            faults.within(
                &["env", name],
                format!("env has {name:?}, which is no variable's name; write one such as STAGE"),
            );
        }
        if value.contains('\0') {
            faults.within(
                &["env", name],
                format!("env sets {name} to a text with a NUL byte, which no program can be given; drop the byte"),
            );
        }
    }
}

/// Says so where words cannot be given to a program.
pub(super) fn words(key: &str, words: &[String], faults: &mut TableFaults) {
    for (index, word) in words.iter().enumerate() {
        if word.contains('\0') {
            let index = index.to_string();
            let what =
                format!("{key} holds a NUL byte, which no program can be given; drop the byte");
            faults.within(&[key, &index], what);
        }
    }
}

/// A time, which was seen to be one.
pub(super) fn span(text: Option<&str>) -> Option<Duration> {
    humantime::parse_duration(text?).ok()
}
