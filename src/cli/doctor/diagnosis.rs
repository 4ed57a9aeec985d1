//! What `doctor` finds, and what it is given to look at.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cli::render::{Paint, clean};
use crate::config::{Env, Examination, StartPlan};
use crate::wire::local::ConnectionFile;

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    Fine,
    Warning,
    Error,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Diagnosis {
    pub(super) grade: Grade,
    /// What was looked at, in a word.
    pub(super) area: &'static str,
    /// How it stands.
    pub(super) text: String,
    /// What helps, unless it is well.
    pub(super) repair: Option<String>,
}

impl Diagnosis {
    pub(super) fn fine(area: &'static str, text: impl Into<String>) -> Self {
        Self {
            grade: Grade::Fine,
            area,
            text: text.into(),
            repair: None,
        }
    }

    pub(super) fn warning(
        area: &'static str,
        text: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        Self {
            grade: Grade::Warning,
            area,
            text: text.into(),
            repair: Some(repair.into()),
        }
    }

    pub(super) fn error(
        area: &'static str,
        text: impl Into<String>,
        repair: impl Into<String>,
    ) -> Self {
        Self {
            grade: Grade::Error,
            ..Self::warning(area, text, repair)
        }
    }

    /// A number that should not be small: an error below `least`, a warning below `enough`.
    pub(super) fn amount(
        area: &'static str,
        (left, least, enough): (u64, u64, u64),
        text: String,
        repair: &str,
    ) -> Self {
        match () {
            () if left < least => Self::error(area, text, repair),
            () if left < enough => Self::warning(area, text, repair),
            () => Self::fine(area, text),
        }
    }

    pub(super) fn facts(&self) -> Value {
        json!({"level": self.word(), "area": self.area, "message": self.text, "repair": self.repair})
    }

    pub(super) fn word(&self) -> &'static str {
        match self.grade {
            Grade::Fine => "ok",
            Grade::Warning => "warning",
            Grade::Error => "error",
        }
    }

    pub(super) fn line(&self, paint: Paint) -> String {
        let word = format!("{:<8}", self.word());
        let word = match self.grade {
            Grade::Fine => paint.good(&word),
            Grade::Warning => paint.bold(&word),
            Grade::Error => paint.bad(&word),
        };
        let repair = self
            .repair
            .as_ref()
            .map_or(String::new(), |repair| format!("; {repair}"));
        format!(
            "{word}{:<10}{}\n",
            self.area,
            clean(&format!("{}{repair}", self.text))
        )
    }
}

/// What all looks are given.
pub(super) struct DoctorSubject<'a> {
    pub(super) env: &'a Env,
    /// The state folder, which need not be there.
    pub(super) state_dir: PathBuf,
    /// What `up` would come to here.
    pub(super) examination: Examination,
    /// How to reach the broker that runs, if one does.
    pub(super) running: Option<ConnectionFile>,
}

impl DoctorSubject<'_> {
    pub(super) fn plan(&self) -> Option<&StartPlan> {
        self.examination.plan.as_ref()
    }

    /// Where the identity is kept.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.env.data_dir(&self.state_dir)
    }
}
