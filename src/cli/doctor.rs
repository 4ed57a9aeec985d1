//! `doctor`: what of this machine, of this user's folders and of the engine stands in a broker's way, with the repair. Works
//! with and without a running broker; changes nothing, and starts nothing but the known CLIs, for their versions.

mod diagnosis;
mod engine;
mod folders;
mod machine;
mod programs;

use std::path::{Path, PathBuf};

use serde_json::json;

use diagnosis::{Diagnosis, DoctorSubject, Grade};

use super::context::Context;
use super::failure::Failure;
use super::find;
use super::up::place;
use crate::config::{self, Flags, STATE_DIR, Surroundings};
use crate::sys::sysexit::Sysexit;

/// `doctor`.
///
/// # Errors
/// When a finding is an error.
pub fn doctor(c: &Context) -> Result<(), Failure> {
    let place = place()?;
    let flags = Flags {
        state_dir: c.state_dir.clone(),
        ..Flags::default()
    };
    let state_dir = state_dir(c, &place)?;
    let patient = DoctorSubject {
        env: &c.env,
        examination: config::examine(&flags, &c.env, &place),
        running: find::connection_in(&state_dir).ok(),
        state_dir,
    };
    let mut all = settings(&patient, &flags, &place);
    all.extend(folders::look(&patient));
    all.extend(machine::look(&patient));
    all.extend(engine::look(&patient));
    all.extend(programs::look(&patient));
    let worst = all.iter().map(|one| one.grade).max().unwrap_or(Grade::Fine);
    let lines: String = all.iter().map(|one| one.line(c.paint)).collect();
    let end = match worst {
        Grade::Fine => "nothing is wrong\n",
        Grade::Warning => "nothing stands in the way\n",
        Grade::Error => "",
    };
    let facts = json!({
        "ok": worst < Grade::Error,
        "findings": all.iter().map(Diagnosis::facts).collect::<Vec<_>>(),
    });
    c.tell(&facts, &format!("{lines}{end}"))?;
    match worst {
        Grade::Error => Err(Failure::silent(Sysexit::Failure)),
        _ => Ok(()),
    }
}

/// The folder that commands find from here, else the one that `up` would make.
fn state_dir(c: &Context, place: &Surroundings) -> Result<PathBuf, Failure> {
    match find::state_dir(c.state_dir.as_deref(), &c.env) {
        Ok(dir) => Ok(place.resolve(&dir)?),
        Err(_) => Ok(place.resolve(Path::new(STATE_DIR))?),
    }
}

/// What flags, variables and the file say.
fn settings(patient: &DoctorSubject, flags: &Flags, place: &Surroundings) -> Vec<Diagnosis> {
    const AREA: &str = "settings";
    const REPAIR: &str = "see `relay-broker check`";
    let examination = &patient.examination;
    let wrong = examination.errors.iter();
    let mut found: Vec<Diagnosis> = wrong
        .map(|e| Diagnosis::error(AREA, &e.text, REPAIR))
        .collect();
    for finding in config::missing(flags, patient.env, place, examination) {
        found.push(match finding.is_error {
            true => Diagnosis::error(AREA, finding.error.text, REPAIR),
            false => Diagnosis::warning(AREA, finding.error.text, REPAIR),
        });
    }
    if found.is_empty() {
        let file = examination.configured.path.as_ref();
        let file = file.map_or("no configuration file".to_owned(), |path| {
            path.display().to_string()
        });
        found.push(Diagnosis::fine(AREA, file));
    }
    found
}
