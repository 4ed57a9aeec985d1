//! The operator's command for events that want a person: `[notify]`. One thread waits for such events and runs the command,
//! one at a time, with the event as JSON on its standard input. Nothing waits for it: what comes too often, or while the
//! command still runs and is no longer kept, is left out, and the next notice of its kind says how many were.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::handlers::HandlerRunner;
use crate::msg::{ActionSpec, HandlerRun};
use crate::pubsub::Topic;
use crate::sys::{clock, thread};
use crate::time::Mono;

const THREAD_KIB: usize = 256;
/// How many notices of one kind are given within [`WINDOW`].
const MOST: usize = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// The same kind about the same agent is not told again within this time.
const SAME_AGENT: Duration = Duration::from_secs(10);
/// How much the command may print.
const OUTPUT_MAX: usize = 64 * 1024;

/// What can be told, and of which events.
const KINDS: [(&str, &[&str]); 4] = [
    ("blocked", &["agent_blocked", "delivery_blocked"]),
    ("exited", &["agent_exited"]),
    ("dead_letter", &["dead_letter_added"]),
    ("loop_suspected", &["loop_suspected"]),
];

/// The words of `on`.
pub const NOTICE_WORDS: [&str; KINDS.len()] = {
    let [(a, _), (b, _), (c, _), (d, _)] = KINDS;
    [a, b, c, d]
};

/// What the operator wants to be told of, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotifySettings {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Some of [`NOTICE_WORDS`].
    pub on: BTreeSet<String>,
    /// Where the command runs.
    pub cwd: PathBuf,
    /// How long it may take until it is killed.
    pub timeout: Duration,
}

/// Starts the thread; it ends with the events.
///
/// # Errors
/// When there is no thread to be had.
pub(super) fn start(
    settings: NotifySettings,
    node: String,
    handlers: HandlerRunner,
    events: Arc<Topic<Arc<str>>>,
) -> io::Result<()> {
    let mut notifier = Notifier {
        settings,
        node,
        handlers,
        limits: NoticeLimits::default(),
        failing: BTreeSet::new(),
    };
    thread::start("notices", THREAD_KIB, move || {
        if let Err(e) = notifier.run(&events) {
            log::error!("[notify] has no effect: {e}");
        }
    })?;
    Ok(())
}

/// Whether a notice could be given of this event. Asked by whoever publishes, of each event, so that nothing is made for it.
fn may_matter(text: &Arc<str>) -> bool {
    let mut kinds = text.split("\"kind\":\"").skip(1);
    kinds.any(|rest| {
        let kind = rest.split_once('"').map_or("", |(kind, _)| kind);
        KINDS.iter().any(|(_, kinds)| kinds.contains(&kind))
    })
}

/// What the thread owns.
struct Notifier {
    settings: NotifySettings,
    node: String,
    handlers: HandlerRunner,
    limits: NoticeLimits,
    /// Kinds whose last notice failed: that is logged once.
    failing: BTreeSet<&'static str>,
}

impl Notifier {
    fn run(&mut self, events: &Topic<Arc<str>>) -> io::Result<()> {
        let mut since = None;
        loop {
            let heard = events.subscribe_numbered(since, may_matter)?;
            let mut newest = heard.newest;
            for (number, text) in &heard.replay {
                newest = *number;
                if may_matter(text) {
                    self.hear(text);
                }
            }
            while let Some(text) = heard.items.recv() {
                newest = self.hear(&text).unwrap_or(newest);
            }
            if !heard.lagged() {
                return Ok(());
            }
            // So much came while the command ran that it was not kept here; the topic may still have it.
            since = Some(newest);
        }
    }

    /// Tells of an event, if that is wanted and not too often; its number.
    fn hear(&mut self, text: &str) -> Option<u64> {
        let event: Value = serde_json::from_str(text).ok()?;
        let kind = event["kind"].as_str().unwrap_or_default();
        let found = KINDS.iter().find(|(_, kinds)| kinds.contains(&kind));
        if let Some((word, _)) = found
            && self.settings.on.contains(*word)
        {
            let agent = event["name"].as_str().unwrap_or_default();
            if let Some(left_out) = self.limits.admit(word, agent, clock::now().mono) {
                self.tell(word, &event, left_out);
            }
        }
        event["seq"].as_u64()
    }

    fn tell(&mut self, word: &'static str, event: &Value, left_out: u64) {
        let input =
            json!({"notice": word, "node": self.node, "left_out": left_out, "event": event});
        let run = HandlerRun {
            action: "[notify]".to_owned(),
            spec: ActionSpec {
                command: self.settings.command.clone(),
                cwd: Some(self.settings.cwd.to_string_lossy().into_owned()),
                env: BTreeMap::new(),
                timeout: self.settings.timeout,
                concurrency: 1,
                output_max: OUTPUT_MAX,
            },
            input,
            env: BTreeMap::new(),
        };
        match self.handlers.run(&run) {
            Ok(_) => drop(self.failing.remove(word)),
            Err(why) if self.failing.insert(word) => {
                log::warn!(event = "notice_failed"; "a notice of {word} was not given: {why}; further ones that fail are not logged");
            }
            Err(_) => {}
        }
    }
}

/// Sees to it that notices do not come too often.
#[derive(Default)]
struct NoticeLimits {
    by_kind: BTreeMap<&'static str, GivenNotices>,
}

/// The notices of one kind.
#[derive(Default)]
struct GivenNotices {
    /// When the last ones were given, and about whom, within the window.
    given: Vec<(Mono, String)>,
    left_out: u64,
}

impl NoticeLimits {
    /// Whether a notice is to be given now: how many of its kind were left out since the last one.
    fn admit(&mut self, kind: &'static str, agent: &str, now: Mono) -> Option<u64> {
        let notices = self.by_kind.entry(kind).or_default();
        notices.given.retain(|(at, _)| now.since(*at) < WINDOW);
        let told = |(at, name): &(Mono, String)| name == agent && now.since(*at) < SAME_AGENT;
        if notices.given.len() >= MOST || notices.given.iter().any(told) {
            notices.left_out += 1;
            return None;
        }
        notices.given.push((now, agent.to_owned()));
        Some(std::mem::take(&mut notices.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_too_often_is_counted_in_the_next_notice_of_its_kind() {
        let mut limits = NoticeLimits::default();
        let at = |secs: u64| Mono(1) + Duration::from_secs(secs);
        assert_eq!(limits.admit("exited", "ada", at(0)), Some(0));
        assert_eq!(limits.admit("exited", "ada", at(9)), None);
        assert_eq!(limits.admit("blocked", "ada", at(9)), Some(0));
        assert_eq!(limits.admit("exited", "ada", at(10)), Some(1));
        for n in 2..MOST {
            let name = format!("agent-{n}");
            assert_eq!(limits.admit("exited", &name, at(11)), Some(0), "{n}");
        }
        assert_eq!(limits.admit("exited", "eve", at(12)), None);
        assert_eq!(limits.admit("exited", "eve", at(59)), None);
        assert_eq!(limits.admit("exited", "eve", at(60)), Some(2));
    }

    #[test]
    fn the_words_of_the_file_are_the_kinds_that_there_are() {
        assert_eq!(KINDS.map(|(word, _)| word), NOTICE_WORDS);
        let event: Arc<str> = r#"{"seq":1,"kind":"agent_exited","name":"ada"}"#.into();
        assert!(may_matter(&event));
        let other: Arc<str> =
            r#"{"kind":"relay_inbound","body":"\"kind\":\"agent_exited\""}"#.into();
        assert!(!may_matter(&other), "words of a message");
    }
}
