//! A message's life, for people and for programs.

use serde_json::{Value, json};

use super::life::{MessageFate, MessageLife};
use crate::cli::render::{Paint, brief, clean, span_ms, table};
use crate::history::{HistoryFact, HistoryStep};
use crate::time::{Wall, millis};

/// What is shown of one life.
pub(super) struct TracedMessage<'a> {
    pub(super) life: &'a MessageLife,
    /// All that is remembered.
    pub(super) all: &'a [HistoryStep],
    pub(super) end: MessageFate,
    pub(super) behind: Vec<&'a MessageLife>,
    /// How far the history goes back.
    pub(super) since: Option<Wall>,
    /// How commands begin.
    pub(super) program: &'a str,
}

/// One object.
pub(super) fn for_programs(traced: &TracedMessage) -> Value {
    let life = traced.life;
    let (tries, again) = life.tries(traced.all);
    let mut before = None;
    let steps = life.steps(traced.all).into_iter().map(|step| {
        let after = before
            .replace(step.at)
            .map_or(0, |at: Wall| millis(step.at - at));
        let mut shown = json!({
            "at_ms": step.at,
            "after_ms": after,
            "step": word(&step.fact),
            "delivery": step.delivery,
            "words": words(step),
        });
        let rows = rows(&step.fact);
        if !rows.is_empty() {
            shown["rows"] = json!(rows);
        }
        shown
    });
    let steps: Vec<Value> = steps.collect();
    let behind: Vec<_> = traced.behind.iter().map(|life| &life.message).collect();
    let mut shown = which(life);
    shown["end"] = json!(traced.end.word());
    shown["tries"] = json!(tries);
    shown["redelivered"] = json!(again > 0);
    shown["behind"] = json!(behind);
    shown["steps"] = json!(steps);
    shown["verdict"] = json!(life.verdict(traced.all, traced.end));
    shown["history_since_ms"] = json!(traced.since);
    shown
}

/// Which message it is.
fn which(life: &MessageLife) -> Value {
    json!({
        "agent": life.agent,
        "message": life.message,
        "deliveries": life.deliveries,
        "from": life.from,
        "accepted_ms": life.accepted,
    })
}

/// A line for each step, and a sentence.
pub(super) fn for_people(paint: Paint, traced: &TracedMessage) -> String {
    let life = traced.life;
    let ids: Vec<String> = life
        .deliveries
        .iter()
        .map(|id| clean(id.as_str()))
        .collect();
    let mut text = format!(
        "message   {} for {} (delivery {})\n          {}: {}\n\n",
        clean(life.message.as_str()),
        clean(life.agent.as_str()),
        ids.join(", then "),
        clean(&life.from),
        brief(&life.text, 60)
    );
    let (mut before, mut open) = (None, true);
    for step in life.steps(traced.all) {
        let after = before.replace(step.at).map(|at: Wall| millis(step.at - at));
        let after = after.map_or(String::new(), |ms| format!("+{ms} ms"));
        let mut said = words(step);
        match &step.fact {
            HistoryFact::Opened { .. } if open && before.is_some() => {
                said.push_str("; the one before it was killed, or its machine went down");
            }
            HistoryFact::Opened { .. } => open = true,
            HistoryFact::Closed => open = false,
            HistoryFact::Accepted { .. } => said.push_str(&behind(traced)),
            _ => {}
        }
        let iso = step.at.iso();
        let (date, time) = iso.split_once('T').unwrap_or(("", &iso));
        let time = time.trim_end_matches('Z');
        text.push_str(&format!("{date} {time} {after:>10}  {}\n", clean(&said)));
        text.extend(
            rows(&step.fact)
                .iter()
                .map(|row| format!("{:36}{}\n", "", paint.dim(&clean(row)))),
        );
    }
    let verdict = clean(&life.verdict(traced.all, traced.end));
    let verdict = match traced.end {
        MessageFate::Arrived(_) => paint.good(&verdict),
        _ => verdict,
    };
    text + &format!("\n{verdict}\n{}", ways(traced))
}

fn behind(traced: &TracedMessage) -> String {
    match traced.behind.as_slice() {
        [] => String::new(),
        [one] => format!("; queued behind message {}", one.message),
        [first, .., last] => format!(
            "; queued behind {} others, from {} to {}",
            traced.behind.len(),
            first.message,
            last.message
        ),
    }
}

/// What can be done about one that has not arrived.
fn ways(traced: &TracedMessage) -> String {
    let (program, life) = (traced.program, traced.life);
    let name = shell_words::quote(life.agent.as_str()).into_owned();
    let line = |command: String, does: &str| format!("    {}\n        {does}\n", clean(&command));
    match (traced.end, life.deliveries.last()) {
        (MessageFate::Waits, _) => line(
            format!("{program} explain {name}"),
            "says why the agent does not take it, and what to do about it",
        ),
        (MessageFate::GivenUp, Some(id)) => {
            let id = shell_words::quote(id.as_str()).into_owned();
            line(
                format!("{program} redeliver {id}"),
                "gives it another chance",
            ) + &line(
                format!("{program} explain {name}"),
                "says what is in the agent's way",
            )
        }
        (MessageFate::Unverified, _) => line(
            format!("{program} snapshot {name}"),
            "shows what the agent shows",
        ),
        _ => String::new(),
    }
}

/// Those that a person may have meant.
pub(super) fn choice(paint: Paint, lives: &[&MessageLife]) -> String {
    let rows: Vec<Vec<String>> = lives
        .iter()
        .map(|life| {
            vec![
                life.accepted.iso(),
                life.from.clone(),
                life.agent.to_string(),
                life.deliveries
                    .last()
                    .map_or(String::new(), ToString::to_string),
                life.message.to_string(),
                brief(&life.text, 40),
            ]
        })
        .collect();
    let heads = ["WHEN", "FROM", "FOR", "DELIVERY", "MESSAGE", "TEXT"];
    table(paint, &heads, &rows)
}

/// The same as JSON.
pub(super) fn choice_for_programs(lives: &[&MessageLife]) -> Value {
    let row = |life: &&MessageLife| {
        let mut row = which(life);
        row["text"] = json!(life.text);
        row
    };
    json!({"matches": lives.iter().map(row).collect::<Vec<_>>()})
}

/// The fact's own word.
fn word(fact: &HistoryFact) -> String {
    let value = serde_json::to_value(fact).unwrap_or_default();
    value["k"].as_str().unwrap_or_default().to_owned()
}

fn rows(fact: &HistoryFact) -> &[String] {
    match fact {
        HistoryFact::Seen { rows } | HistoryFact::Dialog { rows } => rows,
        _ => &[],
    }
}

/// A step in words.
fn words(step: &HistoryStep) -> String {
    match &step.fact {
        HistoryFact::Opened { pid } => format!("a broker (process {pid}) begins"),
        HistoryFact::Closed => "the broker ends in order".to_owned(),
        HistoryFact::Accepted {
            from,
            target,
            way,
            seq,
            bytes,
            disk_ms,
            ..
        } => format!(
            "accepted: {from} wrote {bytes} bytes to {target}, {}; on disk {} later",
            MessageLife::way(*way, *seq),
            span_ms(*disk_ms)
        ),
        HistoryFact::Parked => "parked: the agent's messages are held".to_owned(),
        HistoryFact::Given { bytes: 0 } => {
            "given to the agent's terminal, says the journal".to_owned()
        }
        HistoryFact::Given { bytes } => {
            format!("given to the agent's terminal, to be typed ({bytes} bytes)")
        }
        HistoryFact::Blocked { why } => format!("held up: {why}"),
        HistoryFact::Typed { redelivered } => {
            let again = if *redelivered {
                ", not for the first time"
            } else {
                ""
            };
            format!("typed, with Enter{again}")
        }
        HistoryFact::Seen { .. } => "the terminal shows".to_owned(),
        HistoryFact::Settled { proof, reason } => {
            let reason = reason
                .as_ref()
                .map_or(String::new(), |why| format!(": {why}"));
            format!("{}{reason}", proof.words())
        }
        HistoryFact::TurnStarted { proof } => format!("the program acts on it ({})", proof.words()),
        HistoryFact::Acknowledged { up_to } => {
            format!("the engine is told (all up to number {up_to})")
        }
        HistoryFact::GivenUp { reason } => format!("given up: {reason}"),
        HistoryFact::Redelivered { anew } => format!("waits again as {anew}"),
        HistoryFact::Suspected { reason } => format!("held by the loop guard: {reason}"),
        HistoryFact::Dialog { .. } => "a dialog stands in the terminal".to_owned(),
        HistoryFact::DialogGone => "the dialog is gone".to_owned(),
        HistoryFact::Mode { held: true } => "somebody wants the agent's messages held".to_owned(),
        HistoryFact::Mode { held: false } => {
            "the agent's messages are typed as they come again".to_owned()
        }
        HistoryFact::Ready => "the agent's terminal takes input".to_owned(),
        HistoryFact::Ended { how } => format!("the agent's program ended ({how})"),
        HistoryFact::Lost { count } => {
            format!("{count} steps, of whatever messages, were not written down here")
        }
    }
}
