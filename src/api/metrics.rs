//! `GET /metrics`: the broker in numbers, for Prometheus. It needs a key, because it tells of agents by name: the key of the
//! API, or one that opens nothing else ([`ApiContext::metrics_key`](super::context::ApiContext::metrics_key)).

use std::path::Path;

use super::exposition::{Exposition, ExpositionFormat, LabelledValue};
use super::render::{ApiError, finish};
use super::state::{Api, SHORT};
use super::status;
use crate::net::{Request, Response};
use crate::sys::{clock, proc, process_figures};
use crate::wire::local::{AgentView, Counters, Status};

/// How many agents have numbers of their own, in order of their names. Every label is a time series that somebody keeps.
const AGENTS: usize = 100;
/// The phases that an agent can be in.
const PHASES: [&str; 5] = ["starting", "ready", "blocked", "restarting", "stopping"];

/// `GET /metrics`.
pub(crate) fn metrics(api: &Api, request: &Request) -> Result<Response, ApiError> {
    let status = status::status(api, SHORT)?;
    let format = ExpositionFormat::accepted(request.header("accept"));
    let mut out = Exposition::new(format);
    broker(&mut out, api, &status);
    mail(&mut out, &status);
    counters(&mut out, &status.counters);
    agents(&mut out, &status.agents);
    latencies(&mut out, api);
    process(&mut out, api);
    let mut response = Response::text(200, out.finish());
    response.headers = vec![("content-type", format.content_type().into())];
    Ok(finish(response))
}

fn broker(out: &mut Exposition, api: &Api, status: &Status) {
    let version = [("version", status.version.as_str())];
    out.gauges(
        "relay_broker_build_info",
        "Which program this is; always 1.",
        &[(&version[..], 1.0)],
    );
    out.gauge(
        "relay_broker_link_up",
        "Whether the engine has taken in this node on the link that is open.",
        Some(flag(status.node_connected)),
    );
    out.gauge(
        "relay_broker_journal_writable",
        "Whether what happens can be written down; nothing is acknowledged while it cannot.",
        Some(flag(api.trouble().is_none())),
    );
    out.gauge(
        "relay_broker_journal_bytes",
        "Size of the journal's files.",
        folder_bytes(&api.context.journal_dir),
    );
    out.gauge(
        "relay_broker_last_engine_frame_age_seconds",
        "Time since the engine last sent anything.",
        status.last_engine_frame_secs.map(|secs| secs as f64),
    );
}

fn mail(out: &mut Exposition, status: &Status) {
    out.gauge(
        "relay_broker_deliveries_pending",
        "Messages that are accepted and have not ended.",
        Some(status.pending_delivery_count as f64),
    );
    out.gauge(
        "relay_broker_oldest_pending_delivery_age_seconds",
        "Age of the oldest of them; 0 when there is none.",
        Some(status.oldest_pending_ms.unwrap_or(0) as f64 / 1000.0),
    );
    out.gauge(
        "relay_broker_dead_letters",
        "Messages that were given up and are kept.",
        Some(status.dead_letter_count as f64),
    );
}

/// Name, what it counts, and where it is counted.
type CounterRow = (&'static str, &'static str, fn(&Counters) -> u64);

const COUNTERS: [CounterRow; 18] = [
    (
        "relay_broker_agents_spawned_total",
        "Programs started.",
        |c| c.agents_spawned,
    ),
    (
        "relay_broker_agents_refused_total",
        "Programs that could not be started.",
        |c| c.agents_refused,
    ),
    (
        "relay_broker_agent_crashes_total",
        "Programs that ended without anybody's wish.",
        |c| c.agents_crashed,
    ),
    (
        "relay_broker_agent_restarts_total",
        "Programs started again by their policy.",
        |c| c.agents_restarted,
    ),
    (
        "relay_broker_agent_dialogs_total",
        "Dialogs that stood in a terminal.",
        |c| c.agents_blocked,
    ),
    (
        "relay_broker_agent_dialogs_answered_total",
        "Dialogs that the operator's policy answered.",
        |c| c.dialogs_answered,
    ),
    (
        "relay_broker_deliveries_accepted_total",
        "Messages accepted.",
        |c| c.deliveries_accepted,
    ),
    (
        "relay_broker_deliveries_verified_total",
        "Messages seen to arrive.",
        |c| c.deliveries_verified,
    ),
    (
        "relay_broker_deliveries_unverified_total",
        "Messages typed, and nothing was seen.",
        |c| c.deliveries_unverified,
    ),
    (
        "relay_broker_deliveries_failed_total",
        "Messages that could not be typed.",
        |c| c.deliveries_failed,
    ),
    (
        "relay_broker_deliveries_blocked_total",
        "Messages given up because they were held back too long.",
        |c| c.deliveries_blocked,
    ),
    (
        "relay_broker_deliveries_dead_total",
        "Messages given up for whatever reason.",
        |c| c.deliveries_dead,
    ),
    (
        "relay_broker_deliveries_redelivered_total",
        "Dead letters given another chance.",
        |c| c.deliveries_redelivered,
    ),
    (
        "relay_broker_deliveries_refused_total",
        "Messages not taken because too much waited.",
        |c| c.deliveries_refused,
    ),
    (
        "relay_broker_engine_frames_total",
        "Frames from the engine.",
        |c| c.engine_frames,
    ),
    (
        "relay_broker_engine_frames_refused_total",
        "Frames that could not be understood.",
        |c| c.engine_frames_refused,
    ),
    (
        "relay_broker_acks_sent_total",
        "Acknowledgements to the engine.",
        |c| c.acks_sent,
    ),
    (
        "relay_broker_link_losses_total",
        "Times the link to the engine broke.",
        |c| c.link_losses,
    ),
];

fn counters(out: &mut Exposition, counters: &Counters) {
    for (name, help, count) in COUNTERS {
        out.counter(name, help, count(counters) as f64);
    }
}

fn agents(out: &mut Exposition, agents: &[AgentView]) {
    let labels = PHASES.map(|phase| [("phase", phase)]);
    let rows: Vec<LabelledValue> = labels
        .iter()
        .map(|label| {
            let count = agents.iter().filter(|agent| agent.phase == label[0].1);
            (&label[..], count.count() as f64)
        })
        .collect();
    out.gauges("relay_broker_agents", "Agents by phase.", &rows);
    let listed = &agents[..agents.len().min(AGENTS)];
    out.gauge(
        "relay_broker_agents_unlisted",
        "Agents that have no numbers of their own here, because there are too many.",
        Some((agents.len() - listed.len()) as f64),
    );
    let labels: Vec<[(&str, &str); 1]> = listed
        .iter()
        .map(|agent| [("agent", agent.name.as_str())])
        .collect();
    let mut by_agent = |name: &str, help: &str, figure: &dyn Fn(&AgentView) -> Option<f64>| {
        let rows: Vec<LabelledValue> = labels
            .iter()
            .zip(listed)
            .filter_map(|(label, agent)| Some((&label[..], figure(agent)?)))
            .collect();
        out.gauges(name, help, &rows);
    };
    by_agent(
        "relay_broker_agent_deliveries_pending",
        "Messages that wait for the agent.",
        &|agent| Some(agent.pending_messages as f64),
    );
    by_agent(
        "relay_broker_agent_ready",
        "Whether the agent's terminal takes messages.",
        &|agent| Some(flag(agent.phase == "ready")),
    );
    by_agent(
        "relay_broker_agent_blocked",
        "Whether a dialog or a message that cannot be typed stands in the agent's terminal.",
        &|agent| Some(flag(agent.phase == "blocked")),
    );
    by_agent(
        "relay_broker_agent_resident_memory_bytes",
        "Memory of the agent's own program, without what it has started.",
        &|agent| Some(proc::resident_bytes(agent.pid?)? as f64),
    );
}

fn latencies(out: &mut Exposition, api: &Api) {
    let latencies = &api.context.latencies;
    for (name, help, histogram) in [
        (
            "relay_broker_delivery_typed_seconds",
            "From a message's place in its agent's queue until it is typed.",
            &latencies.typed,
        ),
        (
            "relay_broker_delivery_verified_seconds",
            "From typing a message until it was seen to arrive.",
            &latencies.verified,
        ),
        (
            "relay_broker_delivery_acked_seconds",
            "From a message's arrival until the engine is told, to a millisecond.",
            &latencies.acked,
        ),
        (
            "relay_broker_journal_sync_seconds",
            "One sync of the journal to the disk.",
            &latencies.synced,
        ),
    ] {
        out.histogram(name, help, &histogram.view());
    }
}

fn process(out: &mut Exposition, api: &Api) {
    let own = process_figures::own();
    if let Some(secs) = own.cpu_secs {
        out.counter("process_cpu_seconds_total", "Processor time used.", secs);
    }
    let now = clock::now();
    let age = now.mono.since(api.context.session.started);
    let number = |figure: Option<u64>| figure.map(|n| n as f64);
    for (name, help, figure) in [
        (
            "process_start_time_seconds",
            "When the process started, since 1970.",
            Some((now.wall.0 / 1000).saturating_sub(age.as_secs()) as f64),
        ),
        (
            "process_resident_memory_bytes",
            "Memory in use.",
            number(own.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space.",
            number(own.virtual_bytes),
        ),
        (
            "process_open_fds",
            "Open descriptors.",
            number(own.open_fds),
        ),
        (
            "process_max_fds",
            "Limit on open descriptors.",
            number(own.max_fds),
        ),
        ("process_threads", "Threads.", number(own.threads)),
    ] {
        out.gauge(name, help, figure);
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

/// The bytes of the files in a folder; nothing where it cannot be read.
fn folder_bytes(dir: &Path) -> Option<f64> {
    let files = std::fs::read_dir(dir).ok()?.flatten();
    let sizes = files.filter_map(|file| Some(file.metadata().ok()?.len()));
    Some(sizes.sum::<u64>() as f64)
}
