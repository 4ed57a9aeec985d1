//! What the signals do to a running `up`: it stops, in order or at once, says how things stand, or reads its file again and
//! begins its log anew.

use std::sync::Arc;
use std::time::Duration;

use super::log_lines::{LineFields, Voice};
use super::reload::SettingsReader;
use super::service::link_words;
use crate::broker::Stopper;
use crate::sys::service_manager::{ServiceManager, ServiceState};
use crate::sys::signal::{SignalWish, Stops};

/// How long the dispatcher may take to say how things stand.
const DUMP_LIMIT: Duration = Duration::from_secs(2);

/// What the signals act upon.
pub struct Obedience {
    pub stopper: Stopper,
    /// What reads the settings again.
    pub reader: Arc<SettingsReader>,
    pub voice: Voice,
    pub manager: Option<Arc<ServiceManager>>,
}

impl Obedience {
    /// Stops at the first signal that asks for it, hurries at the second.
    pub fn obey(self, mut stops: Stops) {
        let mut first = true;
        while let Some(wish) = stops.wish() {
            match wish {
                SignalWish::Reopen => self.reload(),
                SignalWish::Dump => self.dump(),
                SignalWish::Upgrade => self.voice.say(
                    "SIGUSR2: a running broker cannot be upgraded in place; put the new program where the old one is, and \
                     then stop the broker and start it again: messages wait meanwhile, and agents with --restart come back",
                ),
                SignalWish::Stop | SignalWish::DumpAndStop => {
                    if wish == SignalWish::DumpAndStop {
                        self.dump();
                    }
                    if first {
                        self.voice.tell(LineFields::of("broker_stopping"), &self.farewell());
                    }
                    first = false;
                    self.stopper.stop();
                }
            }
        }
    }

    fn farewell(&self) -> String {
        let drain = self.stopper.drain();
        if drain.is_zero() {
            return "stopping; once more to hurry".into();
        }
        format!(
            "stopping once what is being typed has arrived, in {} at most; once more to hurry",
            humantime::format_duration(drain)
        )
    }

    /// Applies what the files say by now, as far as a running broker can. What cannot be read changes nothing.
    fn reload(&self) {
        self.tell(ServiceState::Reloading);
        // What came of it, either way, is in the log.
        let _ = self.reader.read_again("SIGHUP");
        self.tell(ServiceState::Ready);
    }

    fn tell(&self, state: ServiceState) {
        if let Some(manager) = &self.manager {
            manager.tell(&[state]);
        }
    }

    /// How things stand, for whoever asks by a signal because nothing else works.
    fn dump(&self) {
        let voice = self.voice;
        let status = match self.stopper.status(DUMP_LIMIT) {
            Ok(status) => status,
            Err(why) => {
                return voice.say(&format!("status: the dispatcher does not answer: {why}"));
            }
        };
        let link = link_words(status.node_connected);
        voice.say(&format!(
            "status: {}, {link}, {} agents, {} messages wait (the oldest for {} ms), {} dead letters{}",
            status.status,
            status.agent_count,
            status.pending_delivery_count,
            status.oldest_pending_ms.unwrap_or(0),
            status.dead_letter_count,
            status
                .degraded_reason
                .iter()
                .fold(String::new(), |_, why| format!(": {why}")),
        ));
        for agent in &status.agents {
            let pid = agent.pid.map_or("none".to_owned(), |pid| pid.to_string());
            voice.say(&format!(
                "status: agent {}: {}, {} messages wait, process {pid}",
                agent.name, agent.phase, agent.pending_messages
            ));
        }
    }
}
