//! The log of `up` and `engine`: how its lines look for people, for services, for systemd's journal and as JSON, and what
//! `up` tells its user beside it. The lines are written by a thread of their own, so nobody waits for whoever reads them.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use serde_json::{Map, Value};

use super::failure::Failure;
use super::render::{self, Paint, clean, note};
use crate::config::{Env, LogFormat, StartPlan};
use crate::sys::sysexit::Sysexit;
use crate::sys::{clock, limits, stdio};

/// How long opening the log file anew may take, behind what is still to be written into the old one.
const REOPEN_LIMIT: Duration = Duration::from_secs(5);

/// What a line is for whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogStyle {
    format: LogFormat,
    /// A person reads along, who needs no times beside what the broker tells.
    terminal: bool,
    /// The journal of systemd, which takes a line's priority from its beginning.
    journal: bool,
}

impl LogStyle {
    /// Whether what is said is for people as it is, and no line of a log.
    fn is_for_people(self) -> bool {
        self.terminal && self.format == LogFormat::Text
    }
}

/// How this process's lines look, once that is known.
static STYLE: OnceLock<LogStyle> = OnceLock::new();
/// Whether they are to be JSON from the first one on.
static JSON: AtomicBool = AtomicBool::new(false);

fn style() -> LogStyle {
    let format = match JSON.load(Ordering::Acquire) {
        true => LogFormat::Json,
        false => LogFormat::Text,
    };
    STYLE.get().copied().unwrap_or(LogStyle {
        format,
        terminal: true,
        journal: false,
    })
}

/// Sees whether lines are to be JSON, also those that are said before the log begins, of a command line that cannot be
/// meant, and of panics.
pub fn foresee(args: &[OsString]) {
    let own: Vec<_> = args.iter().take_while(|arg| *arg != "--").collect();
    let apart = own
        .windows(2)
        .any(|two| two[0] == "--log-format" && two[1] == "json");
    if apart || own.iter().any(|arg| *arg == "--log-format=json") {
        JSON.store(true, Ordering::Release);
        tell_panics();
    }
}

/// The usual hook would wait for whoever reads standard error, and the thread with it.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("nameless");
        let text = format!("thread {name} failed: {panic}");
        let fields = match name.strip_prefix("agent:") {
            Some(agent) => LineFields::of("panic").with("agent", agent),
            None => LineFields::of("panic"),
        };
        let line = log_line(log::Level::Error, "panic", &fields, &text);
        stdio::complain(line.as_bytes());
    }));
}

/// What a line is about, in fields of their own for programs: `event`, `agent`, `message_id`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineFields(Map<String, Value>);

impl LineFields {
    /// A line about this event.
    pub fn of(event: &str) -> Self {
        Self::default().with("event", event)
    }

    /// A line about an event as subscribers hear it.
    pub fn of_event(text: &str) -> Self {
        let event: Value = serde_json::from_str(text).unwrap_or_default();
        let known = [
            ("kind", "event"),
            ("name", "agent"),
            ("event_id", "message_id"),
        ];
        known
            .iter()
            .fold(Self::default(), |fields, (theirs, ours)| {
                match event[*theirs].as_str() {
                    Some(value) => fields.with(ours, value),
                    None => fields,
                }
            })
    }

    /// The same, with one more.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Those of a record of the log.
    fn of_record(record: &log::Record) -> Self {
        let mut fields = Self::default();
        // The visitor cannot fail, and one that did would leave what it has.
        let _ = record.key_values().visit(&mut fields);
        fields
    }
}

impl<'kvs> log::kv::VisitSource<'kvs> for LineFields {
    fn visit_pair(
        &mut self,
        key: log::kv::Key<'kvs>,
        value: log::kv::Value<'kvs>,
    ) -> Result<(), log::kv::Error> {
        self.0
            .insert(key.as_str().to_owned(), value.to_string().into());
        Ok(())
    }
}

/// Starts the log: warnings for people, more for services, and as `filter` says for whoever asks.
///
/// # Errors
/// When the file cannot be opened.
pub fn start(
    env: &Env,
    format: LogFormat,
    filter: Option<&str>,
    file: Option<PathBuf>,
) -> Result<(), Failure> {
    use io::IsTerminal;
    let terminal = file.is_none() && io::stderr().is_terminal();
    let journal = file.is_none() && env.is_journal(&io::stderr());
    let _ = STYLE.set(LogStyle {
        format,
        terminal,
        journal,
    });
    let named = file.clone();
    stdio::queue(file, losses).map_err(|e| match named {
        Some(path) => Failure::with(
            Sysexit::CantCreate,
            format!(
                "--log-file {}: {e}; name a file that can be written",
                path.display()
            ),
        ),
        None => Failure::with(
            Sysexit::OsError,
            format!("cannot start: {}", limits::explain(&e)),
        ),
    })?;
    set_filter(filter);
    // A second logger in one process is a programming mistake that costs only log lines.
    let _ = log::set_logger(&LOGGER);
    tell_panics();
    Ok(())
}

/// The logger, which is replaced when another filter is in force.
static LOGGER: Replaceable = Replaceable(RwLock::new(None));

struct Replaceable(RwLock<Option<env_logger::Logger>>);

impl log::Log for Replaceable {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        let logger = self.0.read();
        logger
            .as_ref()
            .is_some_and(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &log::Record) {
        if let Some(logger) = &*self.0.read() {
            logger.log(record);
        }
    }

    fn flush(&self) {}
}

/// How much is logged from now on: as `filter` says, else as is usual for people or for services.
pub fn set_filter(filter: Option<&str>) {
    let usual = if style().terminal { "warn" } else { "info" };
    let logger = logger(filter.unwrap_or(usual));
    log::set_max_level(logger.filter());
    *LOGGER.0.write() = Some(logger);
}

fn logger(filter: &str) -> env_logger::Logger {
    use io::Write;
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter);
    // These write whole requests at their finest levels, keys included.
    for library in ["tungstenite", "ureq", "ureq_proto", "rustls"] {
        builder.filter_module(library, log::LevelFilter::Info);
    }
    builder.format(move |out, record| {
        let text = record.args().to_string();
        let fields = LineFields::of_record(record);
        let line = log_line(record.level(), record.target(), &fields, &text);
        out.write_all(line.as_bytes())
    });
    builder.target(env_logger::Target::Pipe(Box::new(LogLines)));
    builder.build()
}

/// Where the logger's lines go, each in one write.
struct LogLines;

impl io::Write for LogLines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        stdio::complain(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn losses(count: u64) -> String {
    let text = format!("{count} lines before this are lost: nobody read standard error");
    let fields = LineFields::of("lines_lost");
    log_line(log::Level::Warn, "relay_broker::up", &fields, &text)
}

fn log_line(level: log::Level, target: &str, fields: &LineFields, text: &str) -> String {
    let at = clock::now().wall.iso();
    styled(style(), &at, level, target, fields, text)
}

fn styled(
    style: LogStyle,
    at: &str,
    level: log::Level,
    target: &str,
    fields: &LineFields,
    text: &str,
) -> String {
    let line = match style.format {
        LogFormat::Json => log_object(at, level.as_str(), target, fields, text).to_string(),
        LogFormat::Text => format!("{at} {level:<5} {target}: {}", clean(text)),
    };
    match style.journal {
        true => format!("<{}>{line}\n", priority(level)),
        false => format!("{line}\n"),
    }
}

/// As syslog and the journal number them.
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// Tells what an operator should know, to people as it is and in a log as its lines are.
pub fn warn(text: &str) {
    match style().is_for_people() {
        true => note(text),
        false => {
            let line = log_line(
                log::Level::Warn,
                "relay_broker",
                &LineFields::default(),
                text,
            );
            stdio::complain(line.as_bytes());
        }
    }
}

/// The line that says why the program ends: for people as every command says it, in a log as the log's lines are, and as
/// JSON where that is wanted of the command.
pub fn reason(failure: &Failure) -> String {
    if render::for_programs() {
        return format!("{}\n", failure.facts());
    }
    let said = format!("relay-broker: {}", failure.text.replace('\n', " "));
    match style().is_for_people() {
        true => format!("{said}\n"),
        false => log_line(
            log::Level::Error,
            "relay_broker",
            &LineFields::of("broker_failed"),
            &said,
        ),
    }
}

fn log_object(at: &str, level: &str, target: &str, fields: &LineFields, text: &str) -> Value {
    let mut line = fields.0.clone();
    line.insert("timestamp".into(), at.into());
    line.insert("level".into(), level.to_lowercase().into());
    line.insert("target".into(), target.into());
    line.insert("message".into(), text.into());
    line.into()
}

/// What `up` tells its user, beside the log.
#[derive(Clone, Copy)]
pub struct Voice {
    paint: Paint,
    style: LogStyle,
}

impl Voice {
    /// Speaks as the log's lines look, where it is no terminal.
    pub fn new(paint: Paint) -> Self {
        Self {
            paint,
            style: style(),
        }
    }

    pub fn say(self, line: &str) {
        self.tell(LineFields::default(), line);
    }

    /// The same about something, in fields where the lines have any.
    pub fn tell(self, fields: LineFields, line: &str) {
        match self.style.is_for_people() {
            true => note(line),
            false => {
                let line = log_line(log::Level::Info, "relay_broker::up", &fields, line.trim());
                stdio::complain(line.as_bytes());
            }
        }
    }

    /// Whether programs read the lines, which want to know all that happens.
    pub fn speaks_to_programs(self) -> bool {
        self.style.format == LogFormat::Json
    }

    /// Opens the log file anew, if there is one.
    pub fn reopen(self) {
        if let Err(e) = stdio::reopen(REOPEN_LIMIT) {
            log::error!("the log file cannot be opened anew: {e}; the old one is written on");
        }
    }

    /// Two columns; programs get the second alone, which says it all.
    pub fn fact(self, what: &str, text: &str) {
        self.fact_about(LineFields::default(), what, text);
    }

    /// The same about something, in fields where the lines have any.
    pub fn fact_about(self, fields: LineFields, what: &str, text: &str) {
        match self.style.format {
            LogFormat::Text => {
                self.say(&format!("{} {text}", self.paint.dim(&format!("{what:<8}"))))
            }
            LogFormat::Json => self.tell(fields, text),
        }
    }

    pub fn welcome(self, plan: &StartPlan, url: &str, embedded: bool) {
        let whose = if embedded {
            " (inside this process)"
        } else {
            ""
        };
        let state = plan.state_dir().display();
        if self.style.format == LogFormat::Json {
            self.say(&format!(
                "the engine is {url}{whose}, the state is kept in {state}"
            ));
            return;
        }
        self.fact("engine", &format!("{url}{whose}"));
        self.fact("state", &state.to_string());
        let agent = plan.agent_names().next().unwrap_or("NAME").to_owned();
        let agent = shell_words::quote(&agent).into_owned();
        if agent == "NAME" {
            self.fact("start", "relay-broker spawn ada -- claude");
        }
        self.fact(
            "attach",
            &format!("relay-broker attach {agent}      (Ctrl-] leaves, the agent goes on)"),
        );
        self.fact("send", &format!("relay-broker send {agent} 'hello' --wait"));
        self.fact("stop", "Ctrl-C here, or relay-broker stop");
        if !plan.is_usual_place() {
            self.fact(
                "find",
                &format!(
                    "export RELAY_BROKER_STATE_DIR={} in other terminals",
                    shell_words::quote(&plan.state_dir().display().to_string())
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_log_line_is_one_json_object() {
        let at = "2026-06-28T10:00:00.000Z";
        let fields = LineFields::of("agent_blocked").with("agent", "a\"d\na");
        let line = log_object(at, "WARN", "t", &fields, "a \"b\"\nc").to_string();
        assert!(!line.contains('\n'));
        let back: Value = serde_json::from_str(&line).expect("json");
        let expected = json!({
            "timestamp": at, "level": "warn", "target": "t", "message": "a \"b\"\nc", "event": "agent_blocked",
            "agent": "a\"d\na",
        });
        assert_eq!(back, expected);
    }

    #[test]
    fn what_a_record_or_an_event_is_about_has_fields_of_its_own() {
        let pairs = [("agent", "ada"), ("message_id", "m1")];
        let record = log::Record::builder().key_values(&pairs).build();
        let told = LineFields::default()
            .with("agent", "ada")
            .with("message_id", "m1");
        assert_eq!(LineFields::of_record(&record), told);
        let event = r#"{"kind":"delivery_ack","name":"ada","event_id":"m1","delivery_id":"d"}"#;
        assert_eq!(
            LineFields::of_event(event),
            told.with("event", "delivery_ack")
        );
    }

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority_and_every_line_has_its_time() {
        let text = LogStyle {
            format: LogFormat::Text,
            terminal: false,
            journal: true,
        };
        let at = "2026-06-28T10:00:00.000Z";
        assert_eq!(
            styled(
                text,
                at,
                log::Level::Error,
                "t",
                &LineFields::default(),
                "a\nb"
            ),
            format!("<3>{at} ERROR t: a·b\n")
        );
        let plain = LogStyle {
            journal: false,
            ..text
        };
        assert_eq!(
            styled(
                plain,
                at,
                log::Level::Info,
                "t",
                &LineFields::default(),
                "a"
            ),
            format!("{at} INFO  t: a\n")
        );
    }
}
