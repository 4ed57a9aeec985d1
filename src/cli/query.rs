//! Commands that are one call to the running broker and a page of text.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::agent_lines::{departed_line, trouble_lines, waiting_words};
use super::args;
use super::client::{Client, typed};
use super::context::Context;
use super::failure::Failure;
use super::render::{brief, clean, note, print, print_json, span_ms, table, uptime};
use super::{results, spawn_on};
use crate::config::{COOLDOWN_MAX, FAILURES};
use crate::domain::DeliveryMode;
use crate::msg::Size;
use crate::net::http::encode;
use crate::screen::Screen;
use crate::sys::session::alive;
use crate::time::millis;
use crate::wire::local;

/// Longer than the grace that agents get by default, and then some.
const STOP_LIMIT: Duration = Duration::from_secs(30);
const STOP_LOOK: Duration = Duration::from_millis(20);
/// How many rows of a blocked agent's screen `status` shows.
const SHOWN: usize = 8;

/// `spawn`.
pub fn spawn(c: &Context, args: &args::SpawnArgs) -> Result<(), Failure> {
    if let Some(node) = args.on.as_deref().filter(|node| *node != "self") {
        return spawn_on::spawn(c, args, node);
    }
    let client = c.client()?;
    let (program, rest) = match args.command.split_first() {
        // The broker splits this text as a shell would; quoting keeps a path with blanks in one piece.
        Some((program, rest)) => (
            Some(shell_words::quote(program).into_owned()),
            rest.to_vec(),
        ),
        None => (None, Vec::new()),
    };
    // Where a session is to go on, its own folder is the one that counts.
    let cwd = match (&args.cwd, &args.resume) {
        (None, Some(_)) => None,
        (cwd, _) => Some(folder(cwd.as_deref())?),
    };
    let request = local::SpawnRequest {
        name: args.name.clone(),
        cli: program,
        args: rest,
        cwd,
        model: args.model.clone(),
        resume: args.resume.clone(),
        task: args.task.clone(),
        restart_policy: restart_policy(args)?,
        profile: args.profile.clone(),
        transport: args.headless.then(|| "headless".to_owned()),
        mcp: args.no_mcp.then_some(false),
        record: args.record.clone(),
        agent_result_schema: results::schema(args)?,
        ..local::SpawnRequest::default()
    };
    if let Some(limit) = args.wait_result {
        return results::spawn_and_wait(c, &client, &request, limit, args.keep);
    }
    let answer = client.post("/api/spawn", &request)?;
    if c.json {
        return print_json(&answer);
    }
    let spawned: local::Spawned = typed(answer)?;
    let pid = spawned
        .pid
        .map_or(String::new(), |pid| format!(" (process {pid})"));
    let warning = spawned
        .warning
        .map_or(String::new(), |w| format!("note: {}\n", clean(&w)));
    let name = shell_words::quote(spawned.name.as_str());
    let see = match spawned.runtime.as_str() {
        "headless" => "what it says stands among: relay-broker events --follow --output".to_owned(),
        _ => format!("see it with: relay-broker attach {name}"),
    };
    print(&format!("{} runs{pid}; {see}\n{warning}", spawned.name))
}

fn restart_policy(args: &args::SpawnArgs) -> Result<Option<local::RestartPolicy>, Failure> {
    let when = match args.restart {
        args::Restart::Never if args.max_restarts.is_some() || args.cooldown.is_some() => {
            return Err(Failure::usage(
                "--max-restarts and --cooldown say how an agent is started again, and this one never is; add --restart \
                 on-failure or --restart always",
            ));
        }
        args::Restart::Never => return Ok(None),
        args::Restart::OnFailure => local::RestartWhen::OnFailure,
        args::Restart::Always => local::RestartWhen::Always,
    };
    let usual = local::RestartPolicy::default();
    Ok(Some(local::RestartPolicy {
        when,
        max_restarts: args.max_restarts.unwrap_or(usual.max_restarts),
        // A number that was given holds also for a program that fails each time.
        max_consecutive_failures: match args.max_restarts {
            Some(_) => 0,
            None => FAILURES,
        },
        cooldown_ms: args.cooldown.map_or(usual.cooldown_ms, millis),
        max_cooldown_ms: Some(millis(COOLDOWN_MAX.max(args.cooldown.unwrap_or_default()))),
        ..usual
    }))
}

/// `restart`.
pub fn restart(c: &Context, name: &str) -> Result<(), Failure> {
    let path = format!("/api/spawned/{}/restart", encode(name));
    let answer = c.client()?.post(&path, &json!({}))?;
    if c.json {
        return print_json(&answer);
    }
    let done: local::Restarted = typed(answer)?;
    let runs = match done.was.as_str() {
        "running" => "was ended and runs again",
        "restarting" => "runs again, earlier than it would have",
        "departed" => "had ended and runs again",
        _ => "was starting already and runs now",
    };
    let pid = done
        .pid
        .map_or(String::new(), |pid| format!(" (process {pid})"));
    let waiting = waiting_words(done.pending_messages);
    let warning = done
        .warning
        .map_or(String::new(), |w| format!("note: {}\n", clean(&w)));
    print(&format!("{} {runs}{pid}{waiting}\n{warning}", done.name))
}

/// An absolute path, because the broker's working directory is another one.
fn folder(given: Option<&Path>) -> Result<String, Failure> {
    let here = || {
        std::env::current_dir().map_err(|e| {
            Failure::new(format!(
                "cannot tell the working directory: {e}; pass --cwd with a full path"
            ))
        })
    };
    let dir = match given {
        Some(dir) if dir.is_absolute() => dir.to_owned(),
        Some(dir) => here()?.join(dir),
        None => here()?,
    };
    if !dir.is_dir() {
        return Err(Failure::new(format!(
            "{} is not a folder; make it or pass another --cwd",
            dir.display()
        )));
    }
    dir.into_os_string()
        .into_string()
        .map_err(|_| Failure::new("the folder's name is not UTF-8 text; pass another --cwd"))
}

/// `agents`.
pub fn agents(c: &Context) -> Result<(), Failure> {
    let answer = c.client()?.get("/api/spawned")?;
    if c.json {
        return print_json(&answer);
    }
    let list: local::AgentList = typed(answer)?;
    let departed: String = list.departed.iter().map(departed_line).collect();
    if list.agents.is_empty() {
        let none = "no agents; start one with: relay-broker spawn NAME -- CMD\n";
        return print(&format!("{none}{departed}"));
    }
    let troubles: String = list.agents.iter().flat_map(trouble_lines).collect();
    let table = agent_table(c, &list.agents);
    print(&format!("{table}{troubles}{departed}"))
}

fn agent_table(c: &Context, agents: &[local::AgentView]) -> String {
    let rows: Vec<Vec<String>> = agents
        .iter()
        .map(|agent| {
            vec![
                agent.name.to_string(),
                state_words(agent),
                mode_word(agent.mode).to_owned(),
                agent.pending_messages.to_string(),
                agent.pid.map_or("-".to_owned(), |pid| pid.to_string()),
                uptime(agent.uptime_secs),
                brief(&agent.command, 40),
            ]
        })
        .collect();
    let heads = [
        "NAME", "STATE", "MESSAGES", "PENDING", "PID", "UP", "COMMAND",
    ];
    table(c.paint, &heads, &rows)
}

fn state_words(agent: &local::AgentView) -> String {
    let dialog = agent
        .blocked_on
        .map(|dialog| format!(" ({})", dialog.word()));
    let dialog = dialog.unwrap_or_default();
    format!("{}/{}{dialog}", agent.phase, agent.current_state)
}

fn mode_word(mode: DeliveryMode) -> &'static str {
    match mode {
        DeliveryMode::AutoInject => "auto",
        DeliveryMode::ManualFlush => "held",
    }
}

/// `status`.
pub fn status(c: &Context) -> Result<(), Failure> {
    let client = c.client()?;
    let answer = client.get("/api/status")?;
    if c.json {
        return print_json(&answer);
    }
    let s: local::Status = typed(answer)?;
    let p = c.paint;
    let state = match (&s.degraded_reason, s.status.as_str()) {
        (Some(why), _) => p.bad(&format!("{}: {}", clean(&s.status), clean(why))),
        (None, "ok") => p.good("ok"),
        (None, other) => p.bad(&clean(other)),
    };
    let heard = s
        .last_engine_frame_secs
        .map_or(String::new(), |secs| format!(", heard of {secs} s ago"));
    let link = if s.node_connected {
        p.good("connected")
    } else {
        p.bad("not connected (messages wait; trying goes on)")
    };
    let oldest = s.oldest_pending_ms.map_or(String::new(), |ms| {
        format!(", the oldest for {}", span_ms(ms))
    });
    let n = s.counters;
    let mut text = format!(
        "broker    {state}, version {}, process {}, up {}\n\
         node      {} ({})\n\
         engine    {} {link}{heard}\n\
         messages  {} pending{oldest}; {} dead\n\
         \u{20}         since start {} taken, {} verified, {} unverified, {} failed; {} refused, {} redelivered\n\
         agents    {} running; since start {} spawned, {} refused, {} crashed, {} restarted; {} dialogs, {} answered\n",
        clean(&s.version),
        s.pid,
        uptime(s.uptime_secs),
        clean(&s.node_name),
        clean(&s.node_id),
        clean(&s.relay_base_url),
        s.pending_delivery_count,
        s.dead_letter_count,
        n.deliveries_accepted,
        n.deliveries_verified,
        n.deliveries_unverified,
        n.deliveries_failed,
        n.deliveries_refused,
        n.deliveries_redelivered,
        s.agent_count,
        n.agents_spawned,
        n.agents_refused,
        n.agents_crashed,
        n.agents_restarted,
        n.agents_blocked,
        n.dialogs_answered,
    );
    if !s.agents.is_empty() {
        text.push('\n');
        text.push_str(&agent_table(c, &s.agents));
        text.extend(s.agents.iter().flat_map(trouble_lines));
    }
    for agent in s.agents.iter().filter(|agent| agent.phase == "blocked") {
        text.push_str(&blocked(&client, agent));
    }
    for agent in &s.departed {
        text.push_str(&format!("\n{}", departed_line(agent)));
        text.push_str(&rows_text(&agent.last_lines));
    }
    print(&text)
}

/// The last rows of a screen, set off from what is said about them.
fn rows_text<T: AsRef<str>>(rows: &[T]) -> String {
    let shown = rows[rows.len().saturating_sub(SHOWN)..].iter();
    shown
        .map(|row| format!("    {}\n", clean(row.as_ref())))
        .collect()
}

/// What a blocked agent's screen ends with, for whoever must find out what it wants.
fn blocked(client: &Client, agent: &local::AgentView) -> String {
    let name = &agent.name;
    let path = format!(
        "/api/spawned/{}/snapshot?format=plain",
        encode(name.as_str())
    );
    let shot = client.get(&path).and_then(typed::<local::Snapshot>);
    let shown = shot.map(|shot| shot.screen).unwrap_or_default();
    let rows: Vec<&str> = shown.lines().filter(|row| !row.trim().is_empty()).collect();
    if rows.is_empty() {
        return format!("\n{name} is blocked, and its screen shows nothing\n");
    }
    format!(
        "\n{name} is blocked; its screen shows\n{}",
        rows_text(&rows)
    )
}

/// `stop`: asks, then waits for the process to end.
pub fn stop(c: &Context) -> Result<(), Failure> {
    c.operators("to stop the broker")?;
    let client = c.client()?;
    // One that does not answer says so in seconds, where a request would be waited for much longer.
    client.look("/api/status")?;
    let kept = kept(&client);
    let answer = client.post("/api/shutdown", &json!({}))?;
    // What is being typed may have been given more time than we would wait.
    let within = Duration::from_millis(answer["within_ms"].as_u64().unwrap_or(0));
    let limit = STOP_LIMIT.max(within + STOP_LIMIT / 2);
    let mut waited = Duration::ZERO;
    while alive(client.pid()) {
        if waited >= limit {
            return Err(Failure::new(format!(
                "the broker (process {}) has not ended within {} s; \
                 `kill {0}` hurries it, `kill -9 {0}` ends it (nothing is lost)",
                client.pid(),
                limit.as_secs(),
            )));
        }
        std::thread::sleep(STOP_LOOK);
        waited += STOP_LOOK;
    }
    let facts = json!({"stopped": true, "pid": client.pid(), "kept_messages": kept.count});
    c.tell(&facts, &format!("stopped{}\n", kept.words))
}

/// What a stop keeps for the next start.
#[derive(Default)]
struct KeptMessages {
    count: u64,
    /// As the end of a sentence.
    words: String,
}

/// What a stop keeps for the next start, in words; nothing where the broker cannot say.
fn kept(client: &Client) -> KeptMessages {
    let list: Option<local::AgentList> = client
        .get("/api/spawned")
        .ok()
        .and_then(|answer| typed(answer).ok());
    let list = list.unwrap_or_default();
    let here = list.agents.iter().map(|a| (&a.name, a.pending_messages));
    let away = list.departed.iter().map(|d| (&d.name, d.pending_messages));
    let waiting: Vec<_> = here.chain(away).filter(|(_, count)| *count > 0).collect();
    let count: u64 = waiting.iter().map(|(_, count)| count).sum();
    let names: Vec<String> = waiting
        .iter()
        .map(|(name, _)| clean(name.as_str()))
        .collect();
    let words = match count {
        0 => String::new(),
        1 => format!("; a message for {} is kept for the next start", names[0]),
        n => format!(
            "; {n} messages for {} are kept for the next start",
            names.join(", ")
        ),
    };
    KeptMessages { count, words }
}

/// `pending`.
pub fn pending(c: &Context, name: &str) -> Result<(), Failure> {
    let path = format!("/api/spawned/{}/pending", encode(name));
    let answer = c.client()?.get(&path)?;
    if c.json {
        return print_json(&answer);
    }
    let list: local::PendingList = typed(answer)?;
    if list.pending.is_empty() {
        return print(&format!("nothing waits for {}\n", clean(name)));
    }
    print(&pending_table(c, &list.pending))
}

fn pending_table(c: &Context, pending: &[local::PendingView]) -> String {
    let absent = pending.iter().any(|message| message.lies_at.is_some());
    let held = pending.iter().any(|message| message.suspended);
    let mut heads = vec!["SINCE", "FROM", "TO", "MESSAGE"];
    if absent {
        heads.extend(["AT THE", "UNTIL"]);
    }
    if held {
        heads.push("HELD");
    }
    let row = |message: &local::PendingView| {
        let mut row = vec![
            message.queued_at_ms.iso(),
            message.from.clone(),
            message.target.clone(),
            brief(&message.body, 60),
        ];
        if absent {
            row.push(message.lies_at.clone().unwrap_or_default());
            row.push(
                message
                    .until_ms
                    .map_or("it comes".to_owned(), |at| at.iso()),
            );
        }
        if held {
            row.push(if message.suspended { "loop" } else { "" }.to_owned());
        }
        row
    };
    let rows: Vec<Vec<String>> = pending.iter().map(row).collect();
    table(c.paint, &heads, &rows)
}

/// `flush`.
pub fn flush(c: &Context, name: &str) -> Result<(), Failure> {
    let path = format!("/api/spawned/{}/flush", encode(name));
    let answer = c.client()?.post(&path, &json!({}))?;
    let facts = json!({"name": name, "flushed": answer["flushed"]});
    c.tell(
        &facts,
        &format!("{} handed on\n", messages(&answer["flushed"])),
    )
}

fn messages(count: &Value) -> String {
    match count.as_u64() {
        Some(1) => "1 message".to_owned(),
        Some(n) => format!("{n} messages"),
        None => "messages".to_owned(),
    }
}

/// `hold` and `auto`.
pub fn mode(c: &Context, name: &str, mode: DeliveryMode) -> Result<(), Failure> {
    let path = format!("/api/spawned/{}/delivery-mode", encode(name));
    let answer = c.client()?.put(&path, &local::ModeBody { mode })?;
    let facts = json!({"name": name, "messages": mode_word(mode), "flushed": answer["flushed"]});
    let name = clean(name);
    let text = match mode {
        DeliveryMode::ManualFlush => format!(
            "messages for {name} are held; type them with `relay-broker flush {name}` or go back with \
             `relay-broker auto {name}`\n"
        ),
        DeliveryMode::AutoInject => format!(
            "messages for {name} are typed as they come; {} handed on\n",
            messages(&answer["flushed"])
        ),
    };
    c.tell(&facts, &text)
}

/// `dead`.
pub fn dead(c: &Context) -> Result<(), Failure> {
    let answer = c.client()?.get("/api/dead-letters")?;
    if c.json {
        return print_json(&answer);
    }
    let letters: Vec<local::DeadLetterView> = typed(answer["dead_letters"].clone())?;
    if letters.is_empty() {
        return print("no dead letters: every message taken was delivered or still waits\n");
    }
    let rows: Vec<Vec<String>> = letters
        .iter()
        .map(|letter| {
            vec![
                letter.failed_at_ms.iso(),
                letter.worker_name.to_string(),
                letter.from.clone(),
                letter.attempts.to_string(),
                letter.delivery_id.to_string(),
                letter.reason.clone(),
            ]
        })
        .collect();
    let heads = ["WHEN", "AGENT", "FROM", "TRIES", "ID", "REASON"];
    print(&table(c.paint, &heads, &rows))
}

/// `redeliver`.
pub fn redeliver(c: &Context, args: &args::Redeliver) -> Result<(), Failure> {
    let wish = match &args.id {
        Some(id) => json!({ "id": id }),
        None => json!({ "all": true }),
    };
    let answer = c.client()?.post("/api/dead-letters/redeliver", &wish)?;
    let result: local::Redelivered = typed(answer.clone())?;
    if c.json {
        print_json(&answer)?;
    } else {
        for letter in &result.redelivered {
            print(&format!(
                "{} waits for {} again\n",
                clean(letter.event_id.as_str()),
                letter.worker_name
            ))?;
        }
        for letter in &result.skipped {
            note(&format!(
                "relay-broker: {} stays dead: {}",
                clean(letter.delivery_id.as_str()),
                clean(&letter.reason)
            ));
        }
        if result.redelivered.is_empty() && result.skipped.is_empty() {
            return print("no dead letters\n");
        }
    }
    match result.skipped.len() {
        0 => Ok(()),
        n => Err(Failure::new(format!(
            "{n} not redelivered; `relay-broker dead` lists them"
        ))),
    }
}

/// `snapshot`.
pub fn snapshot(c: &Context, args: &args::SnapshotArgs) -> Result<(), Failure> {
    let format = if args.ansi { "ansi" } else { "plain" };
    let path = format!(
        "/api/spawned/{}/snapshot?format={format}",
        encode(&args.name)
    );
    let answer = c.client()?.get(&path)?;
    if c.json {
        return print_json(&answer);
    }
    let shot: local::Snapshot = typed(answer)?;
    if !args.ansi {
        return print(&format!("{}\n", shot.screen.trim_end()));
    }
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(&shot.screen)
        .map_err(|e| Failure::new(format!("the broker's picture is not base64: {e}")))?;
    // Only what is drawn: what the program has switched would stay on in the terminal of whoever looks.
    let mut screen = Screen::new(Size {
        rows: shot.rows,
        cols: shot.cols,
    });
    screen.feed(&bytes);
    print(&(screen.drawn() + "\x1b[0m\n"))
}

/// `env`.
pub fn env(c: &Context) -> Result<(), Failure> {
    c.operators("the workspace key")?;
    let file = c.connection()?;
    if file.engine_url.is_empty() || file.workspace_key.is_empty() {
        return Err(Failure::new(
            "the running broker has not written down its engine; it is of another version: restart it",
        ));
    }
    if c.json {
        return print_json(&json!({
            "RELAY_BASE_URL": file.engine_url,
            "RELAY_WORKSPACE_KEY": file.workspace_key,
        }));
    }
    print(&format!(
        "export RELAY_BASE_URL={} RELAY_WORKSPACE_KEY={}\n",
        shell_words::quote(&file.engine_url),
        shell_words::quote(&file.workspace_key),
    ))
}
