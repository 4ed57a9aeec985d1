//! What `up` tells the service manager while it runs: how things stand, when that changes, and that the dispatcher works,
//! where a watchdog wants to hear it. Only an answer of the dispatcher counts for that. Without a watchdog nothing wakes
//! up unless something happens, and without a service manager nothing here runs at all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::TryRecvError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::failure::Failure;
use crate::broker::{Broker, Stopper};
use crate::config::Env;
use crate::pubsub::{Items, Topic};
use crate::sys::service_manager::{ServiceManager, ServiceState};
use crate::sys::{clock, thread};
use crate::time::{Mono, soonest};
use crate::wire::local::Status;

/// Between two lines that say how things stand.
const STATUS_PACE: Duration = Duration::from_secs(1);
/// How long the dispatcher may take to answer where no watchdog says how long.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Between a question that was not answered and the next one.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const THREAD_KIB: usize = 128;

/// Decides when the dispatcher is asked, and what its answer, or none, is worth telling.
struct ServiceReporter {
    /// Half of the watchdog's time, as sd_watchdog_enabled(3) advises.
    pace: Option<Duration>,
    /// When it is to be fed.
    feed_at: Option<Mono>,
    /// When the next line may be said, once something has happened.
    news_at: Option<Mono>,
    /// The line that was said last, and when.
    told: Option<(String, Mono)>,
}

impl ServiceReporter {
    /// Has the dispatcher asked at once, for the first line.
    fn new(watchdog: Option<Duration>, now: Mono) -> Self {
        let pace = watchdog.map(|limit| limit / 2);
        Self {
            pace,
            feed_at: pace.map(|_| now),
            news_at: Some(now),
            told: None,
        }
    }

    /// Something happened that may change how things stand.
    fn happened(&mut self, now: Mono) {
        let soonest = self.told.as_ref().map_or(now, |(_, at)| *at + STATUS_PACE);
        self.news_at.get_or_insert(soonest.max(now));
    }

    /// Whether something happened since the dispatcher was asked last.
    fn has_news(&self) -> bool {
        self.news_at.is_some()
    }

    /// When the dispatcher is to be asked next; `None` for when something happens.
    fn ask_at(&self) -> Option<Mono> {
        soonest(self.feed_at, self.news_at)
    }

    /// How long it may take to answer.
    fn answer_limit(&self) -> Duration {
        self.pace.unwrap_or(ANSWER_LIMIT)
    }

    /// The dispatcher said at `now` how things stand, or nothing. What the service manager is to be told.
    fn answered(&mut self, now: Mono, line: Option<String>) -> Vec<ServiceState> {
        let Some(line) = line else {
            self.feed_at = self.pace.map(|_| now + ASK_AGAIN);
            self.news_at = self.news_at.map(|_| now + ASK_AGAIN);
            return Vec::new();
        };
        let mut states = Vec::new();
        if let Some(pace) = self.pace {
            self.feed_at = Some(now + pace);
            states.push(ServiceState::Watchdog);
        }
        if self.news_at.is_none_or(|at| at > now) {
            return states;
        }
        self.news_at = None;
        if self.told.as_ref().is_none_or(|(told, _)| *told != line) {
            self.told = Some((line.clone(), now));
            states.push(ServiceState::Status(line));
        }
        states
    }
}

/// How things stand, in one line: agents, link, messages that wait, and what is wrong.
fn glance(status: &Status) -> String {
    said(
        (status.agent_count, status.pending_delivery_count),
        status.node_connected,
        status.degraded_reason.as_deref(),
    )
}

/// Whether there is a link to the engine.
pub fn link_words(linked: bool) -> &'static str {
    match linked {
        true => "linked to the engine",
        false => "no link to the engine",
    }
}

fn said((agents, waiting): (u64, u64), linked: bool, trouble: Option<&str>) -> String {
    let count = |n: u64, one: &str, many: &str| match n {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    let link = link_words(linked);
    let agents = count(agents, "agent", "agents");
    let waiting = count(waiting, "message waits", "messages wait");
    let trouble = trouble.map_or(String::new(), |why| format!("; {why}"));
    format!("{agents}, {link}, {waiting}{trouble}")
}

/// The service manager, if one started us, and what it wants to hear.
pub struct Supervisor {
    /// Where it listens.
    pub manager: Option<Arc<ServiceManager>>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// As the environment tells of it.
    ///
    /// # Errors
    /// When the watchdog's variables cannot be meant. One that does not listen is only warned of: it is no reason not to run.
    pub fn of(env: &Env) -> Result<Self, Failure> {
        let watchdog = env.watchdog(std::process::id())?;
        let manager = env.notify_socket().and_then(|name| {
            let refused = |e: &io::Error| {
                log::warn!(
                    "NOTIFY_SOCKET is {}, and it cannot be told anything: {e}",
                    name.display()
                );
            };
            let manager = ServiceManager::connect(&name);
            manager.inspect_err(refused).ok().map(Arc::new)
        });
        Ok(Self { manager, watchdog })
    }

    /// Says that the broker is ready, follows it from then on, and says when it begins to end.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn follow(&self, broker: &Broker) -> io::Result<()> {
        let Some(manager) = self.manager.clone() else {
            return Ok(());
        };
        let (stopper, events, watchdog) = (broker.stopper(), broker.events(), self.watchdog);
        let last = manager.clone();
        stopper.when_asked(move |limit| last.tell(&[ServiceState::Stopping(limit)]));
        let body = move || {
            manager.tell(&[ServiceState::Ready]);
            if let Err(e) = report(&manager, watchdog, &stopper, &events) {
                log::warn!("the service manager is told nothing more: {e}");
            }
        };
        thread::start("service", THREAD_KIB, body).map(drop)
    }
}

/// Reports until the broker's events end.
///
/// # Errors
/// When there is no descriptor to listen with.
fn report(
    manager: &ServiceManager,
    watchdog: Option<Duration>,
    stopper: &Stopper,
    events: &Topic<Arc<str>>,
) -> io::Result<()> {
    let mut reporter = ServiceReporter::new(watchdog, clock::now().mono);
    let mut heard = events.subscribe_numbered(None, |_| true)?;
    loop {
        wait(&heard.items, &reporter);
        match drain(&heard.items) {
            Some(0) => {}
            Some(_) => reporter.happened(clock::now().mono),
            None if heard.lagged() => {
                heard = events.subscribe_numbered(None, |_| true)?;
                reporter.happened(clock::now().mono);
            }
            None => return Ok(()),
        }
        let now = clock::now().mono;
        if reporter.ask_at().is_none_or(|at| at > now) {
            continue;
        }
        let line = stopper.status(reporter.answer_limit());
        let line = line.map(|status| glance(&status)).ok();
        let states = reporter.answered(clock::now().mono, line);
        if !states.is_empty() {
            manager.tell(&states);
        }
    }
}

/// Sleeps until something happens or the time has come; with news already only until the time has come.
fn wait(items: &Items<Arc<str>>, reporter: &ServiceReporter) {
    let rest = reporter.ask_at().map(|at| at.since(clock::now().mono));
    match rest {
        Some(rest) if reporter.has_news() => std::thread::sleep(rest),
        rest => {
            let limit = rest.and_then(|rest| Timespec::try_from(rest).ok());
            // Whatever woke us, the items say what there is.
            let _ = poll(&mut [PollFd::new(items, PollFlags::IN)], limit.as_ref());
        }
    }
}

/// How many events have come; `None` when no more will.
fn drain(items: &Items<Arc<str>>) -> Option<usize> {
    items.clear();
    let mut count = 0;
    loop {
        match items.try_recv() {
            Ok(_) => count += 1,
            Err(TryRecvError::Empty) => return Some(count),
            Err(TryRecvError::Disconnected) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Mono = Mono(1);

    fn line(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn status(text: &str) -> ServiceState {
        ServiceState::Status(text.to_owned())
    }

    #[test]
    fn a_dispatcher_that_does_not_answer_is_not_fed_and_one_that_does_is_in_half_of_the_time() {
        let mut reporter = ServiceReporter::new(Some(SECOND * 10), START);
        assert_eq!(reporter.ask_at(), Some(START));
        assert_eq!(
            reporter.answered(START, line("a")),
            [ServiceState::Watchdog, status("a")]
        );
        let due = START + SECOND * 5;
        assert_eq!(reporter.ask_at(), Some(due));
        // Stuck: however often it is asked, nothing is said.
        let mut now = due;
        for _ in 0..100 {
            now = now + reporter.answer_limit();
            assert_eq!(reporter.answered(now, None), []);
            let again = reporter.ask_at().expect("a watchdog");
            assert!(again > now && again < now + SECOND);
        }
        assert_eq!(
            reporter.answered(now, line("a")),
            [ServiceState::Watchdog],
            "it works again, and nothing is new"
        );
        assert_eq!(reporter.ask_at(), Some(now + SECOND * 5));
    }

    #[test]
    fn nothing_wakes_up_without_a_watchdog_unless_something_happens() {
        let mut reporter = ServiceReporter::new(None, START);
        assert_eq!(reporter.answered(START, line("a")), [status("a")]);
        assert_eq!(reporter.ask_at(), None);
        reporter.happened(START + SECOND * 9);
        assert_eq!(reporter.ask_at(), Some(START + SECOND * 9));
    }

    #[test]
    fn a_line_is_said_when_it_changed_and_at_most_once_a_second() {
        let mut reporter = ServiceReporter::new(None, START);
        assert_eq!(reporter.answered(START, line("a")), [status("a")]);
        let soon = START + SECOND / 10;
        reporter.happened(soon);
        reporter.happened(soon + SECOND / 10);
        let due = reporter.ask_at().expect("news");
        assert_eq!(due, START + SECOND);
        assert_eq!(reporter.answered(due, line("a")), [], "as before");
        assert_eq!(reporter.ask_at(), None);
        reporter.happened(due + SECOND / 10);
        let due = reporter.ask_at().expect("news");
        assert_eq!(reporter.answered(due, line("b")), [status("b")]);
    }

    #[test]
    fn a_feed_between_two_lines_does_not_say_the_second_one_early() {
        let mut reporter = ServiceReporter::new(Some(SECOND), START);
        reporter.answered(START, line("a"));
        let feed = START + SECOND / 2;
        reporter.happened(START + SECOND / 10);
        assert_eq!(reporter.ask_at(), Some(feed));
        assert_eq!(reporter.answered(feed, line("b")), [ServiceState::Watchdog]);
        assert_eq!(
            reporter.answered(START + SECOND, line("b")),
            [ServiceState::Watchdog, status("b")]
        );
    }

    #[test]
    fn agents_link_and_waiting_messages_are_told_in_one_line() {
        assert_eq!(
            said((2, 0), true, None),
            "2 agents, linked to the engine, no messages wait"
        );
        assert_eq!(
            said((1, 1), false, Some("a full disk")),
            "1 agent, no link to the engine, 1 message waits; a full disk"
        );
    }
}
