//! `events`: what is kept, or what happens, as lines for people or programs.

use serde_json::Value;

use super::args;
use super::client::{Client, Heard};
use super::context::Context;
use super::failure::Failure;
use super::render::{Paint, brief, clean, note, print, print_json};
use crate::domain::DeliveryMode;
use crate::ids::{AgentName, MsgId};
use crate::time::Wall;
use crate::wire::event::{BrokerEvent, Dialog, Numbered, Policy};

/// `events`.
pub fn events(c: &Context, args: &args::Events) -> Result<(), Failure> {
    let client = c.client()?;
    if args.follow {
        return follow(c, &client, args);
    }
    let since = args.since.unwrap_or(0);
    let answer = client.get(&format!("/api/events/replay?sinceSeq={since}"))?;
    if answer["gap"] == Value::Bool(true) {
        note(&format!(
            "relay-broker: events before {} are no longer kept",
            answer["oldestAvailable"]
        ));
    }
    let none = Vec::new();
    let events = answer["events"].as_array().unwrap_or(&none);
    for event in events.iter().filter(|event| is_wanted(event, args)) {
        show(c, event)?;
    }
    Ok(())
}

fn follow(c: &Context, client: &Client, args: &args::Events) -> Result<(), Failure> {
    let mut since = match args.since {
        Some(since) => since,
        None => client.newest()?,
    };
    let mut stream = client.events(since)?;
    loop {
        match stream.next(None) {
            Heard::Event(event) => {
                since = event["seq"].as_u64().unwrap_or(since);
                if is_wanted(&event, args) {
                    show(c, &event)?;
                }
            }
            // Too slow a reader is cut off and comes back with the last number it saw; a broker that is gone refuses.
            Heard::Over(why) => {
                stream = client
                    .events(since)
                    .map_err(|_| Failure::new(format!("the broker has ended: {}", clean(&why))))?;
            }
            Heard::Late => {}
        }
    }
}

/// Whether it is to be shown. A gap in what is shown always is.
fn is_wanted(event: &Value, args: &args::Events) -> bool {
    let kind = event["kind"].as_str().unwrap_or_default();
    if kind == "replay_gap" {
        return true;
    }
    let named = args.only.iter().any(|only| only == kind);
    let output = args.output || named || kind != "worker_stream";
    output
        && (named || args.only.is_empty())
        && args.agent.as_ref().is_none_or(|name| concerns(event, name))
}

/// Whether an agent is the one of an event, its sender or whom it is for. Names are told apart without regard to case.
fn concerns(event: &Value, name: &str) -> bool {
    let name = name.trim_start_matches('@');
    let is_it = |value: &Value| {
        value
            .as_str()
            .is_some_and(|s| s.trim_start_matches('@').eq_ignore_ascii_case(name))
    };
    let lists = ["names", "senders"]
        .into_iter()
        .filter_map(|key| event[key].as_array());
    ["name", "from", "target", "to"]
        .into_iter()
        .any(|key| is_it(&event[key]))
        || lists.flatten().any(is_it)
}

/// One event as a line, with the time when the broker took note of it.
fn show(c: &Context, event: &Value) -> Result<(), Failure> {
    match c.json {
        true => print_json(event),
        false => print(&line(c.paint, event)),
    }
}

/// One event for people: its number, when it happened, and what.
fn line(paint: Paint, event: &Value) -> String {
    let seq = event["seq"]
        .as_u64()
        .map_or("-".to_owned(), |n| n.to_string());
    let at = event["timestamp"].as_u64();
    let at = at.map_or(String::new(), |ms| clock_part(&Wall(ms).iso()));
    let at = format!("{at:<12}");
    let words = match serde_json::from_value::<Numbered>(event.clone()) {
        Ok(known) => sentence(&known.event),
        Err(_) => format!("{} {}", event["kind"], brief(&event.to_string(), 80)),
    };
    format!(
        "{} {}  {words}\n",
        paint.dim(&format!("{seq:>6}")),
        paint.dim(&at)
    )
}

/// `10:00:00.123` of `2026-06-28T10:00:00.123Z`.
fn clock_part(iso: &str) -> String {
    iso.get(11..23).unwrap_or(iso).to_owned()
}

/// One event in words, safe for a terminal: even names come from others.
pub fn sentence(event: &BrokerEvent) -> String {
    clean(&words(event))
}

/// Each kind is named by both, so that a new one cannot be shown as nothing.
fn words(event: &BrokerEvent) -> String {
    of_mail(event)
        .or_else(|| of_agents_and_node(event))
        .unwrap_or_default()
}

/// What befell a message; `None` for what is about something else.
fn of_mail(event: &BrokerEvent) -> Option<String> {
    use BrokerEvent as E;
    Some(match event {
        E::RelayInbound {
            from, target, body, ..
        } => said(from, target, body),
        E::DeliveryQueued {
            name,
            reason,
            event_id,
            ..
        } => queued(name, reason.as_deref(), event_id),
        E::DeliveryInjected {
            name,
            redelivered,
            event_id,
            ..
        } => typed(name, *redelivered, event_id),
        E::DeliveryAck { name, event_id, .. } => format!("acknowledged for {name} ({event_id})"),
        E::MessageDeliveryConfirmed { name, event_id, .. } => {
            format!("confirmed for {name} ({event_id})")
        }
        E::DeliveryVerified {
            name,
            proof,
            event_id,
            ..
        } => format!("{name}: {} ({event_id})", proof.words()),
        E::TurnStarted { name, event_id, .. } => format!("{name} acts on {event_id}"),
        E::DeliveryBlocked { name, reason, .. } => format!("waits for {name}: {}", clean(reason)),
        E::DeliveryFailed { name, reason, .. } => format!("{name}: failed: {}", clean(reason)),
        E::MessageDeliveryFailed {
            name, last_error, ..
        } => format!("{name}: given up: {}", clean(last_error)),
        E::DeliveryDeferred { reason, .. } => clean(reason),
        E::DeadLetterRedelivered { name, event_id, .. } => {
            format!("dead letter redelivered to {name} ({event_id})")
        }
        E::DeliveryDropped {
            name,
            count,
            reason,
            senders,
        } => dropped(name, *count, reason, senders),
        E::DeliveriesKept { count, names } => kept(*count, names),
        E::LoopSuspected { reason, .. } => format!("held: {}", clean(reason)),
        E::DeadLetterAdded { name, reason, .. } => {
            format!("dead letter for {name}: {}", clean(reason))
        }
        E::AgentPendingDrained { name, count, .. } => {
            format!("{count} held messages handed to {name}")
        }
        E::AgentInboundDeliveryModeChanged { name, mode, .. } => mode_words(name, *mode),
        E::AgentSpawned { .. }
        | E::WorkerReady { .. }
        | E::WorkerStream { .. }
        | E::WorkerError { .. }
        | E::AgentBlockedOnSend { .. }
        | E::AgentIdle { .. }
        | E::AgentResult { .. }
        | E::AgentExit { .. }
        | E::AgentExited { .. }
        | E::AgentReleased { .. }
        | E::AgentBlocked { .. }
        | E::AgentUnblocked { .. }
        | E::DialogAnswered { .. }
        | E::AgentRestarting { .. }
        | E::AgentRestarted { .. }
        | E::AgentPermanentlyDead { .. }
        | E::ChannelSubscribed { .. }
        | E::ChannelUnsubscribed { .. }
        | E::NodeLink { .. }
        | E::NodeRegistered { .. }
        | E::ReplayGap { .. } => return None,
    })
}

/// What befell an agent, the node or its link; `None` for what is about a message.
fn of_agents_and_node(event: &BrokerEvent) -> Option<String> {
    use BrokerEvent as E;
    Some(match event {
        E::AgentSpawned {
            name, program, pid, ..
        } => spawned(name, &program.command, *pid),
        E::WorkerReady { name, evidence, .. } => format!("{name} ready ({})", clean(evidence)),
        E::WorkerStream { name, chunk, .. } => format!("{name} shows {}", brief(chunk, 70)),
        E::WorkerError { name, message, .. } => format!("{name} error: {}", clean(message)),
        E::AgentBlockedOnSend {
            name,
            pending_delivery_count: n,
            ..
        } => format!("{name} is silent, and {n} messages wait for it"),
        E::AgentIdle {
            name, idle_secs, ..
        } => format!("{name} idle for {idle_secs} s"),
        E::AgentResult { .. } => handed_in(event),
        E::AgentExit { name, reason, .. } => format!("{name} leaves: {}", clean(reason)),
        E::AgentExited {
            name,
            code,
            signal,
            reason,
            ..
        } => exited(name, *code, *signal, reason.as_deref()),
        E::AgentReleased { name, .. } => format!("{name} released"),
        E::AgentBlocked { name, reason, .. } => format!("{name} is blocked: {}", clean(reason)),
        E::AgentUnblocked { name, dialog } => {
            format!("{name}: the dialog is gone ({})", dialog.word())
        }
        E::DialogAnswered {
            name,
            dialog,
            policy,
            keys,
        } => answered(name, *dialog, *policy, keys),
        E::AgentRestarting {
            name,
            restart_count: n,
            delay_ms,
            ..
        } => {
            format!("{name} is started again in {delay_ms} ms (restart {n})")
        }
        E::AgentRestarted {
            name,
            restart_count: n,
            ..
        } => format!("{name} runs again (restart {n})"),
        E::AgentPermanentlyDead { name, reason, .. } => {
            format!("{name} is given up: {}", clean(reason))
        }
        E::ChannelSubscribed { .. } | E::ChannelUnsubscribed { .. } => channels(event),
        E::NodeLink { connected, reason } => link_words(*connected, reason.as_deref()),
        E::NodeRegistered { node_id, node_name } => registered(node_id, node_name),
        E::ReplayGap {
            oldest_available, ..
        } => format!("events before {oldest_available} are no longer kept"),
        E::RelayInbound { .. }
        | E::DeliveryQueued { .. }
        | E::DeliveryInjected { .. }
        | E::DeliveryAck { .. }
        | E::MessageDeliveryConfirmed { .. }
        | E::DeliveryVerified { .. }
        | E::TurnStarted { .. }
        | E::DeliveryBlocked { .. }
        | E::LoopSuspected { .. }
        | E::DeliveryFailed { .. }
        | E::MessageDeliveryFailed { .. }
        | E::DeliveryDeferred { .. }
        | E::DeadLetterRedelivered { .. }
        | E::DeliveryDropped { .. }
        | E::DeliveriesKept { .. }
        | E::DeadLetterAdded { .. }
        | E::AgentPendingDrained { .. }
        | E::AgentInboundDeliveryModeChanged { .. } => return None,
    })
}

fn spawned(name: &AgentName, cli: &str, pid: Option<u32>) -> String {
    let pid = pid.map_or(String::new(), |pid| format!(", process {pid}"));
    format!("{name} spawned ({}{pid})", brief(cli, 40))
}

fn handed_in(event: &BrokerEvent) -> String {
    let BrokerEvent::AgentResult {
        name,
        data,
        is_final,
        ..
    } = event
    else {
        return String::new();
    };
    let what = if *is_final { "its result" } else { "a result" };
    format!("{name} hands in {what}: {}", brief(&data.to_string(), 60))
}

fn exited(
    name: &AgentName,
    code: Option<i32>,
    signal: Option<i32>,
    reason: Option<&str>,
) -> String {
    let how = match (code, signal) {
        (_, Some(signal)) => format!("killed by signal {signal}"),
        (Some(code), None) => format!("exit code {code}"),
        (None, None) => clean(reason.unwrap_or("gone")),
    };
    format!("{name} ended: {how}")
}

fn answered(name: &AgentName, dialog: Dialog, policy: Policy, keys: &str) -> String {
    let (dialog, policy) = (dialog.word(), policy.word());
    format!(
        "{name}: {dialog} dialog answered with {} ({policy})",
        clean(keys)
    )
}

fn list(words: &[String]) -> String {
    clean(&words.join(", "))
}

fn said(from: &str, target: &str, body: &str) -> String {
    format!("{} → {}: {}", clean(from), clean(target), brief(body, 60))
}

fn queued(name: &AgentName, held: Option<&str>, event_id: &MsgId) -> String {
    match held {
        Some(why) => format!("held for {name}: {}", clean(why)),
        None => format!("queued for {name} ({event_id})"),
    }
}

fn typed(name: &AgentName, redelivered: bool, event_id: &MsgId) -> String {
    let again = redelivered.then_some(" again, after a crash,");
    format!("typed{} to {name} ({event_id})", again.unwrap_or_default())
}

fn dropped(name: &AgentName, count: u64, reason: &str, senders: &[String]) -> String {
    let from = match senders.is_empty() {
        true => String::new(),
        false => format!(" from {}", list(senders)),
    };
    format!("{count} dropped for {name}{from}: {}", clean(reason))
}

fn kept(count: u64, names: &[AgentName]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    format!(
        "{count} messages are kept for the next start, for {}",
        list(&names)
    )
}

fn mode_words(name: &AgentName, mode: DeliveryMode) -> String {
    match mode {
        DeliveryMode::AutoInject => format!("{name} takes messages as they come"),
        DeliveryMode::ManualFlush => format!("{name}'s messages are held"),
    }
}

fn registered(node_id: &str, node_name: &str) -> String {
    format!(
        "node registered as {} ({})",
        clean(node_name),
        clean(node_id)
    )
}

fn channels(event: &BrokerEvent) -> String {
    match event {
        BrokerEvent::ChannelSubscribed { name, channels } => {
            format!("{name} listens to {}", list(channels))
        }
        BrokerEvent::ChannelUnsubscribed {
            name,
            channels,
            reason,
        } => {
            let why = reason.as_deref().map(|why| format!(": {}", clean(why)));
            let why = why.unwrap_or_default();
            format!("{name} no longer listens to {}{why}", list(channels))
        }
        _ => String::new(),
    }
}

fn link_words(connected: bool, reason: Option<&str>) -> String {
    match connected {
        true => "connected to the engine".to_owned(),
        false => format!(
            "not connected to the engine: {}",
            clean(reason.unwrap_or("lost"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_others_cannot_act_on_the_terminal() {
        let line = sentence(&BrokerEvent::RelayInbound {
            event_id: crate::ids::MsgId::new("1"),
            from: "eve\u{1b}[2J".into(),
            target: "ada".into(),
            body: "two\nlines".into(),
            thread_id: None,
            mode: "wait".into(),
            by_operator: false,
            name: None,
            delivery_id: None,
            engine_seq: None,
            from_engine: false,
        });
        assert_eq!(line, "eve·[2J → ada: two ⏎ lines");
    }

    #[test]
    fn an_event_is_shown_with_the_time_at_which_it_happened_however_late_it_is_read() {
        let mut event = serde_json::json!({"seq": 7, "timestamp": 1_782_640_800_123_u64,
            "kind": "agent_exit", "name": "ada", "reason": "done"});
        let shown = line(Paint::plain(), &event);
        assert_eq!(shown, "     7 10:00:00.123  ada leaves: done\n");
        // An earlier broker's.
        event["timestamp"].take();
        let shown = line(Paint::plain(), &event);
        assert_eq!(shown, "     7               ada leaves: done\n");
    }

    #[test]
    fn only_events_of_the_wanted_kinds_about_the_wanted_agent_are_shown() {
        let args = |only: &[&str], agent: Option<&str>| args::Events {
            follow: true,
            since: None,
            output: false,
            only: only.iter().map(|kind| (*kind).to_owned()).collect(),
            agent: agent.map(str::to_owned),
        };
        let exit = serde_json::json!({"kind": "agent_exit", "name": "ada"});
        let inbound = serde_json::json!({"kind": "relay_inbound", "from": "Ada", "target": "bob"});
        let output = serde_json::json!({"kind": "worker_stream", "name": "ada"});
        let gap = serde_json::json!({"kind": "replay_gap"});
        let shown =
            |args: &args::Events| [&exit, &inbound, &output, &gap].map(|e| is_wanted(e, args));
        assert_eq!(shown(&args(&[], None)), [true, true, false, true]);
        assert_eq!(shown(&args(&[], Some("@ada"))), [true, true, false, true]);
        assert_eq!(shown(&args(&[], Some("bob"))), [false, true, false, true]);
        let only = ["agent_exit", "worker_stream"];
        assert_eq!(shown(&args(&only, None)), [true, false, true, true]);
        assert_eq!(
            shown(&args(&only, Some("eve"))),
            [false, false, false, true]
        );
    }

    #[test]
    fn an_exit_names_its_signal_or_code() {
        let exited = |code, signal| {
            sentence(&BrokerEvent::AgentExited {
                generation: None,
                name: AgentName::new("ada"),
                code,
                signal,
                reason: None,
            })
        };
        assert_eq!(exited(Some(3), None), "ada ended: exit code 3");
        assert_eq!(exited(None, Some(9)), "ada ended: killed by signal 9");
    }

    #[test]
    fn times_show_the_clock_only() {
        assert_eq!(clock_part("2026-06-28T10:00:00.123Z"), "10:00:00.123");
    }
}
