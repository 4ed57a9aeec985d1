//! `reload`, as the command and as what a running `up` does at a hang-up signal: the file, and the files that flags and
//! variables name, are read again. What is wrong in them changes nothing; no agent is ended, whatever they say.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::json;

use super::client::typed;
use super::context::Context;
use super::failure::Failure;
use super::log_lines::{self, LineFields, Voice};
use super::render::clean;
use crate::broker::{Broker, Reloader};
use crate::config::{self, Env, Flags, StartPlan, Surroundings};
use crate::sys::sysexit::Sysexit;
use crate::wire::local::Reloaded;

/// Reads a running broker's settings again.
pub struct SettingsReader {
    reloader: Reloader,
    /// Where the program was started, and with which flags: read again they mean the same, but for the files they name.
    place: Surroundings,
    flags: Flags,
    /// What is in force since the start.
    started: StartPlan,
    /// What was taken over last. Held while one reads, so that two who ask come one after the other.
    last: Mutex<StartPlan>,
    voice: Voice,
}

impl SettingsReader {
    /// Of a broker that was started so; whoever asks its local API has it read from now on.
    pub fn of(
        broker: &Broker,
        place: Surroundings,
        flags: &Flags,
        plan: &StartPlan,
        voice: Voice,
    ) -> Arc<Self> {
        let reader = Arc::new(Self {
            reloader: broker.reloader(),
            place,
            flags: flags.clone(),
            last: Mutex::new(plan.clone()),
            started: plan.clone(),
            voice,
        });
        let asked = reader.clone();
        broker.when_reloaded(move || asked.read_again("reload"));
        reader
    }

    /// Applies what the files say by now, as far as a running broker can, and logs what came of it; `by` is who wants it.
    ///
    /// # Errors
    /// When something in them cannot be meant; then nothing changes.
    pub fn read_again(&self, by: &str) -> Result<Reloaded, String> {
        let mut last = self.last.lock();
        self.voice.reopen();
        let later = config::plan(&self.flags, &Env::process(), &self.place).map_err(|e| {
            let why = format!("{e}; all settings stay as they are");
            log::error!(event = "reload_refused"; "{by}: {why}");
            why
        })?;
        if let (Some(path), None) = (last.file(), later.file()) {
            let path = path.display();
            let why = format!(
                "{path} is gone; all settings stay as they are: put it back, an empty one to have none of them"
            );
            log::error!(event = "reload_refused"; "{by}: {why}");
            return Err(why);
        }
        log_lines::set_filter(later.log_filter.as_deref());
        self.reloader.reload(later.node());
        let taken_over = last.taken_over(&later);
        let what = match taken_over.is_empty() {
            true => "nothing in them has changed".to_owned(),
            false => taken_over.join(", "),
        };
        let fields = LineFields::of("reloaded");
        self.voice.tell(fields, &format!(
            "{by}: harnesses, actions, profiles and the log level are read again ({what}), and the log file, if there is one, \
             is opened anew"
        ));
        let needs_restart = self.started.stays_until_restart(&later);
        if !needs_restart.is_empty() {
            log::warn!(
                event = "reload_incomplete";
                "{by}: {} changed, which counts from the next start",
                needs_restart.join(", ")
            );
        }
        let file = later.file().map(|path| path.display().to_string());
        *last = later;
        Ok(Reloaded {
            success: true,
            file,
            taken_over,
            needs_restart: needs_restart.into_iter().map(str::to_owned).collect(),
        })
    }
}

/// `reload`: asks the running broker for it.
///
/// # Errors
/// When there is none, and with [`Sysexit::Config`] when what it read cannot be meant.
pub fn reload(c: &Context) -> Result<(), Failure> {
    let answer = c.client()?.post("/api/reload", &json!({}));
    let answer = answer.map_err(|failure| match failure.word.as_deref() {
        Some("invalid_configuration") => Failure {
            code: Sysexit::Config,
            ..failure
        },
        _ => failure,
    })?;
    let done: Reloaded = typed(answer.clone())?;
    let file = done.file.as_deref().unwrap_or("no configuration file");
    let mut text = format!("read again: {}\n", clean(file));
    text += &match done.taken_over.is_empty() {
        true => "nothing that a running broker takes over has changed\n".to_owned(),
        false => format!("taken over: {}\n", clean(&done.taken_over.join(", "))),
    };
    if !done.needs_restart.is_empty() {
        text += &format!(
            "needs a restart: {}; `relay-broker stop` and a new `relay-broker up` bring it in force\n",
            clean(&done.needs_restart.join(", "))
        );
    }
    c.tell(&answer, &text)
}
