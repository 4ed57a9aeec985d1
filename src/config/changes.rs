//! What a later reading of the settings says otherwise than an earlier one: what a running broker takes over, and what it
//! cannot.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::StartPlan;
use crate::recording::RecordSettings;

impl StartPlan {
    /// What a running broker takes over of a later reading, each in a few words.
    pub fn taken_over(&self, later: &Self) -> Vec<String> {
        let (now, then) = (self.node(), later.node());
        let mut changes = Vec::new();
        if self.log_filter != later.log_filter {
            let level = later.log_filter.as_deref().unwrap_or("as usual");
            changes.push(format!("log level: {}", level.to_lowercase()));
        }
        if now.recording != then.recording {
            let RecordSettings { form, bytes } = then.recording;
            changes.push(format!("recording: {}, {bytes} bytes", form.word()));
        }
        changes.extend(differences(
            "harness",
            &now.harness_table,
            &then.harness_table,
        ));
        if now.harnesses != then.harnesses && now.harness_table == then.harness_table {
            changes.push(format!("offered: {}", then.harnesses.join(", ")));
        }
        changes.extend(differences("action", &now.actions, &then.actions));
        let names: BTreeSet<String> = now
            .rows
            .names()
            .into_iter()
            .chain(then.rows.names())
            .collect();
        for name in names {
            let (before, after) = (now.rows.get(&name), then.rows.get(&name));
            changes.extend(difference(
                "profile",
                &name,
                before.as_ref(),
                after.as_ref(),
            ));
        }
        changes
    }
}

fn differences<T: PartialEq>(
    kind: &str,
    now: &BTreeMap<String, T>,
    then: &BTreeMap<String, T>,
) -> Vec<String> {
    let names: BTreeSet<&String> = now.keys().chain(then.keys()).collect();
    let told = names
        .into_iter()
        .filter_map(|name| difference(kind, name, now.get(name), then.get(name)));
    told.collect()
}

fn difference<T: PartialEq>(
    kind: &str,
    name: &str,
    now: Option<&T>,
    then: Option<&T>,
) -> Option<String> {
    let word = match (now, then) {
        (None, Some(_)) => "new",
        (Some(_), None) => "gone",
        (Some(now), Some(then)) if now != then => "changed",
        _ => return None,
    };
    Some(format!("{kind} {name}: {word}"))
}
