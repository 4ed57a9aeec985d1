//! From facts to causes and ways out. Pure; the worst cause comes first.

use serde::Serialize;

use super::cause::{Cause, Commands};
use super::facts::{AgentStanding, AskedAgent, ExplainFacts, Unanswered};
use super::held_up;
use crate::cli::render::{span_ms, uptime};
use crate::domain::DeliveryMode;
use crate::time::millis;
use crate::wire::local::{AgentView, DepartedView, Status, TypingStep};

/// What is to be said.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// The agent; absent when it is about the broker.
    pub(super) agent: Option<String>,
    /// Whether a message that is sent now would be typed, as far as can be told.
    pub(super) takes_messages: bool,
    /// Why not, or what else is wrong; the worst first.
    pub(super) causes: Vec<Cause>,
    /// All of it in one sentence.
    pub(super) verdict: String,
}

/// The causes, the worst first, and the sentence that sums them up.
pub(super) fn explain(facts: &ExplainFacts) -> Explanation {
    let mut causes = of_broker(facts);
    if let (Some(agent), true) = (&facts.agent, facts.broker.is_ok()) {
        // Without a place to write things down, or a broker, nothing else matters; an engine that is away matters less than
        // what is wrong here.
        let of_agent = of_agent(facts, agent);
        let at = causes.iter().take_while(|cause| cause.stops).count();
        causes.splice(at..at, of_agent);
    }
    causes.sort_by_key(|cause| !cause.stops);
    let takes_messages = !causes.iter().any(|cause| cause.stops);
    Explanation {
        agent: facts.agent.as_ref().map(|agent| agent.name.clone()),
        takes_messages,
        verdict: verdict(facts, &causes, takes_messages),
        causes,
    }
}

fn verdict(facts: &ExplainFacts, causes: &[Cause], takes: bool) -> String {
    let who = facts
        .agent
        .as_ref()
        .map_or("the broker", |agent| &agent.name);
    let worst = causes.first().map(|cause| cause.sentence.as_str());
    match (worst, takes) {
        (None, _) => format!("{who} takes messages, and nothing is wrong"),
        (Some(beside), true) => format!("{who} takes messages; but {beside}"),
        (Some(worst), false) => {
            let way = causes.first().and_then(|cause| cause.ways.first());
            let way = way.map_or(String::new(), |way| format!("; try: {}", way.command));
            format!("{who} takes no messages now: {worst}{way}")
        }
    }
}

// ---- the broker -------------------------------------------------------------------------------------------------

fn of_broker(facts: &ExplainFacts) -> Vec<Cause> {
    let status = match &facts.broker {
        Ok(status) => status,
        Err(unanswered) => return vec![unanswered_cause(facts, unanswered)],
    };
    let journal = of_journal(facts, status);
    let stops = journal.is_some();
    let engine = of_engine(facts, status);
    let mut causes: Vec<Cause> = journal.into_iter().chain(engine).collect();
    if facts.agent.is_none() {
        causes.extend(of_all_agents(facts, status));
        causes.extend(of_clock(facts, status));
        if !stops && status.dead_letter_count > 0 {
            let n = status.dead_letter_count;
            let sentence = format!("{n} messages were given up and are kept as dead letters");
            let program = &facts.program;
            causes.push(
                Cause::beside("dead_letters", sentence)
                    .way(format!("{program} dead"), "lists them with their reasons")
                    .way(
                        format!("{program} redeliver --all"),
                        "gives them another chance",
                    ),
            );
        }
    }
    causes
}

fn unanswered_cause(facts: &ExplainFacts, unanswered: &Unanswered) -> Cause {
    let program = &facts.program;
    if !unanswered.is_absent {
        return Cause::stops("broker_silent", &unanswered.why).way(
            format!("{program} health --live"),
            "says whether the process works at all",
        );
    }
    let sentence = match unanswered.was_killed {
        true => format!(
            "the broker was killed or its machine went down: {}; what it had accepted is in its journal and comes with its \
             next start",
            unanswered.why
        ),
        false => unanswered.why.clone(),
    };
    Cause::stops("no_broker", sentence)
        .way(
            format!("{program} up --detach"),
            "starts the broker; it goes on where it was",
        )
        .way(
            format!("{program} journal show --limit 20"),
            "shows what it wrote down last",
        )
}

/// Why nothing can be written down, if so.
fn of_journal(facts: &ExplainFacts, status: &Status) -> Option<Cause> {
    let why = status.degraded_reason.as_deref()?;
    if why.starts_with("no link to the engine") {
        return None;
    }
    let sentence = format!(
        "nothing can be written to the journal, so nothing is taken or typed and nothing is lost: {why}"
    );
    Some(
        Cause::stops("journal", sentence)
            .way(
                "df -h . ~",
                "shows which disk is full; free some of it, and the broker goes on by itself",
            )
            .way(
                format!("{} doctor", facts.program),
                "checks folders, permissions and limits",
            ),
    )
}

fn of_engine(facts: &ExplainFacts, status: &Status) -> Option<Cause> {
    if status.node_connected {
        return None;
    }
    let since = status
        .node_lost_secs
        .map_or(String::new(), |secs| format!(" for {}", uptime(secs)));
    let reason = status.degraded_reason.as_deref();
    let reason = reason.and_then(|why| why.split_once(": ")?.1.split_once(": "));
    let why = reason.map_or(String::new(), |(_, why)| format!(": {why}"));
    let sentence = format!(
        "there has been no link to the engine at {}{since}{why}; messages of this machine are typed all the same, those of \
         others wait at the engine, and trying goes on",
        status.relay_base_url
    );
    let url = shell_words::quote(&status.relay_base_url).into_owned();
    Some(
        Cause::beside("engine_away", sentence)
            .way(
                format!("{} doctor", facts.program),
                "tries the engine, the proxy and the certificates",
            )
            .way(format!("curl -sS {url}/health"), "asks the engine itself"),
    )
}

/// The agents that a person should look at.
fn of_all_agents(facts: &ExplainFacts, status: &Status) -> Vec<Cause> {
    let stuck = |agent: &&AgentView| {
        agent.phase == "blocked" || agent.crowded.is_some() || agent.suspended_messages > 0
    };
    let look = |name: &str, what: &str| {
        let commands = Commands::new(&facts.program, name);
        Cause::beside("agent", format!("{name} {what}"))
            .way(commands.of("explain"), "says why, and what to do about it")
    };
    let blocked = status.agents.iter().filter(stuck);
    let blocked = blocked.map(|agent| look(agent.name.as_str(), "does not take its messages"));
    let ended = status.departed.iter();
    let ended = ended.map(|agent| look(agent.name.as_str(), "has ended by itself"));
    blocked.chain(ended).collect()
}

/// A clock that was put back makes ages and expiries wrong.
fn of_clock(facts: &ExplainFacts, status: &Status) -> Option<Cause> {
    const SLACK_MS: u64 = 60_000;
    let newest = status
        .pending_deliveries
        .iter()
        .map(|row| row.queued_at_ms)
        .max()?;
    let ahead = millis(newest - facts.now);
    (ahead > SLACK_MS).then(|| {
        let sentence = format!(
            "the clock was put back: a message was taken {} from now",
            span_ms(ahead)
        );
        Cause::beside("clock", sentence).way("date", "shows the time that this machine goes by")
    })
}

// ---- an agent ---------------------------------------------------------------------------------------------------

fn of_agent(facts: &ExplainFacts, agent: &AskedAgent) -> Vec<Cause> {
    let commands = Commands::new(&facts.program, &agent.name);
    let mut causes = match &agent.standing {
        AgentStanding::Nowhere => vec![nowhere(agent, &commands)],
        AgentStanding::Ended(gone) => vec![ended(gone, &commands)],
        AgentStanding::Here(view) => here(facts, agent, view, &commands),
    };
    causes.extend(given_up(agent, &commands));
    causes
}

fn nowhere(agent: &AskedAgent, commands: &Commands) -> Cause {
    let name = &agent.name;
    let unasked = match &agent.unasked {
        Some(why) if !why.contains("no agent named") => format!(" ({why})"),
        _ => String::new(),
    };
    let (cause, sentence) = match (agent.pending.len(), agent.dead.is_empty()) {
        (0, true) => (
            "never_was",
            format!("no agent named {name} runs here, and nothing is known of one{unasked}"),
        ),
        (0, false) => (
            "absent",
            format!("no agent named {name} runs here any more{unasked}"),
        ),
        (n, _) => {
            let until = agent.pending.iter().filter_map(|row| row.until_ms).min();
            let until = until.map_or(String::new(), |at| format!(", until {}", at.iso()));
            (
                "absent",
                format!(
                    "no agent named {name} runs here; {}{until}",
                    waits(n as u64)
                ),
            )
        }
    };
    Cause::stops(cause, sentence)
        .way(
            format!("{} -- claude", commands.of("spawn")),
            "starts one of that name; what waits for it is typed then",
        )
        .way(commands.other("agents"), "lists who is here")
}

fn waits(count: u64) -> String {
    match count {
        1 => "a message waits for it".to_owned(),
        n => format!("{n} messages wait for it"),
    }
}

fn ended(gone: &DepartedView, commands: &Commands) -> Cause {
    let name = &gone.name;
    let tries = match gone.given_up {
        true => ", and is not started again any more",
        false => "",
    };
    let last = gone.last_lines.last().map(|row| row.trim());
    let last = last.filter(|row| !row.is_empty());
    let last = last.map_or(String::new(), |row| {
        format!("; its terminal showed last: {row}")
    });
    let waiting = match gone.pending_messages {
        0 => String::new(),
        n => format!("; {}", waits(n)),
    };
    let sentence = format!(
        "the program of {name} ended at {}: {}{tries}{last}{waiting}",
        gone.at, gone.reason
    );
    Cause::stops("ended", sentence)
        .way(
            commands.of("restart"),
            "starts it as it was started first; what waits is typed then",
        )
        .way(
            commands.of("release"),
            "forgets it; what waits becomes dead letters",
        )
}

fn here(
    facts: &ExplainFacts,
    agent: &AskedAgent,
    view: &AgentView,
    commands: &Commands,
) -> Vec<Cause> {
    let mut causes = Vec::new();
    if agent.is_frozen
        && let Some(pid) = view.pid
    {
        let sentence = format!(
            "its program (process {pid}) is frozen: a signal has stopped it, and nothing it is told is read"
        );
        causes.push(
            Cause::stops("frozen", sentence)
                .way(format!("kill -CONT {pid}"), "lets it go on")
                .way(
                    commands.of("restart"),
                    "ends it and starts it again; what waits is typed then",
                ),
        );
    }
    causes.extend(held_up::of(agent, view, commands));
    causes.extend(restarting(view, commands));
    if view.mode == DeliveryMode::ManualFlush {
        let sentence = format!(
            "its messages are held, as somebody wants it ({})",
            waits(view.pending_messages)
        );
        causes.push(
            Cause::stops("held", sentence)
                .way(
                    commands.of("auto"),
                    "has them typed as they come, the held ones first",
                )
                .way(
                    commands.of("flush"),
                    "types those that wait now, and goes on holding",
                ),
        );
    }
    causes.extend(looped(view, commands));
    if let Some(crowd) = &view.crowded {
        let sentence = format!("{crowd}, so further ones are refused");
        causes.push(
            Cause::stops("full", sentence)
                .way(commands.of("pending"), "lists what waits")
                .way(
                    commands.of("flush"),
                    "has it typed now, if nothing else is in the way",
                ),
        );
    }
    causes.extend(typing(facts, agent, view));
    causes.extend(not_registered(view, commands));
    causes
}

fn restarting(view: &AgentView, commands: &Commands) -> Option<Cause> {
    match view.phase.as_str() {
        "restarting" => {
            let why = view.trouble.as_deref().unwrap_or("it ended");
            let when = view
                .next_start_ms
                .map_or(String::new(), |ms| format!(" in {}", span_ms(ms)));
            let sentence = format!("its program does not run and is started again{when}: {why}");
            Some(Cause::stops("restarting", sentence).way(commands.of("restart"), "starts it now"))
        }
        "starting" => {
            let sentence = format!(
                "its program has run for {} and has not shown yet that it takes input",
                uptime(view.uptime_secs)
            );
            Some(
                Cause::stops("not_ready", sentence)
                    .way(commands.of("snapshot"), "shows what it shows")
                    .way(
                        format!("{} --until ready", commands.of("wait")),
                        "waits until it is ready",
                    ),
            )
        }
        "stopping" => Some(
            Cause::stops("stopping", "it is being ended, as somebody wants it").way(
                format!("{} --until exit", commands.of("wait")),
                "waits until it is gone",
            ),
        ),
        _ => None,
    }
}

fn looped(view: &AgentView, commands: &Commands) -> Option<Cause> {
    let n = view.suspended_messages;
    (n > 0).then(|| {
        let sentence = format!(
            "agents seem to answer each other without end, so {n} of the messages for {} are held (loop guard)",
            view.name
        );
        Cause::stops("loop", sentence)
            .way(commands.of("flush"), "lets them go, and counts anew")
            .way(
                format!("{} 'stop, and wait for me'", commands.of("send")),
                "is a person's word: what is held goes on after it",
            )
    })
}

/// A message that is on its way is no trouble, but what comes now waits behind it.
fn typing(facts: &ExplainFacts, agent: &AskedAgent, view: &AgentView) -> Option<Cause> {
    let terminal = agent.picture.as_ref()?.terminal.as_ref()?;
    let id = terminal.delivery_id.as_ref()?;
    let behind = view.pending_messages.saturating_sub(1);
    match terminal.step {
        TypingStep::Typing | TypingStep::Entered => {
            let sentence = format!(
                "delivery {id} is on its way ({}), and {behind} wait behind it",
                terminal.step.sentence()
            );
            let trace = format!("{} events --follow", facts.program);
            Some(Cause::beside("in_flight", sentence).way(trace, "shows how it goes on"))
        }
        TypingStep::Starting | TypingStep::Free | TypingStep::HeldUp | TypingStep::Over => None,
    }
}

fn not_registered(view: &AgentView, commands: &Commands) -> Option<Cause> {
    let why = view
        .trouble
        .as_deref()
        .filter(|_| view.phase != "restarting")?;
    let sentence = format!("the engine does not know it (yet): {why}");
    Some(Cause::beside("unregistered", sentence).way(
        commands.other("doctor"),
        "tries the engine and says what it answers",
    ))
}

/// What was given up last, and why.
fn given_up(agent: &AskedAgent, commands: &Commands) -> Option<Cause> {
    let last = agent.dead.last()?;
    let others = match agent.dead.len() - 1 {
        0 => String::new(),
        n => format!(" ({n} others before it)"),
    };
    let sentence = format!(
        "a message of {} was given up at {}{others}: {}",
        last.from,
        last.failed_at_ms.iso(),
        last.reason
    );
    let mut cause = Cause::beside("given_up", sentence);
    if last.reason.contains("line mode takes at most") {
        cause.cause = "line_too_long";
        cause = cause.way(
            format!("fold -b -s -w 4000 MESSAGE.txt | {} -", commands.of("send")),
            "sends the words again, in lines that fit",
        );
    }
    let id = shell_words::quote(last.delivery_id.as_str()).into_owned();
    let does = match agent.view() {
        Some(_) => "gives it another chance as it is",
        None => "gives it another chance, once an agent of that name runs",
    };
    Some(cause.way(commands.other(&format!("redeliver {id}")), does))
}
