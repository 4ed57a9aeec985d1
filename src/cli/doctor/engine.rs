//! The engine: whether it is reached, what time it has, and what lies on the way.

use super::diagnosis::{Diagnosis, DoctorSubject};
use crate::config::EngineChoice;
use crate::msg::Secret;
use crate::sys::clock;
use crate::uplink::rest::RestClient;

const ENGINE: &str = "engine";
const CLOCK: &str = "clock";
const WAY: &str = "way";

/// How far the clocks may be apart before tokens and times of messages suffer.
const APART_SECS: u64 = 60;
const APART_LEAST_SECS: u64 = 5;
/// When this program was written; no clock that is right tells less: 2025-01-01.
const BEGIN_SECS: u64 = 1_735_689_600;

pub(super) fn look(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let mut found = way(patient);
    let now = clock::now().wall.0 / 1000;
    if now < BEGIN_SECS {
        found.push(Diagnosis::error(
            CLOCK,
            "the clock is years behind",
            "set it, or have it set by NTP",
        ));
    }
    let Some(client) = client(patient) else {
        let text = "the engine will run inside the broker";
        found.push(Diagnosis::fine(ENGINE, text));
        return found;
    };
    let base = client.base();
    let probe = match client.probe() {
        Ok(probe) => probe,
        Err(e) => {
            found.push(Diagnosis::error(
                ENGINE,
                e.to_string(),
                "correct the URL, or look at the network, HTTPS_PROXY and SSL_CERT_FILE; messages wait meanwhile",
            ));
            return found;
        }
    };
    let by = probe
        .server
        .map_or(String::new(), |server| format!(" ({server})"));
    found.push(match probe.status {
        200..300 => Diagnosis::fine(ENGINE, format!("{base}{by} knows the workspace key")),
        401 | 403 => Diagnosis::error(
            ENGINE,
            format!(
                "{base}{by} refuses the workspace key (status {})",
                probe.status
            ),
            "copy the key again (RELAY_WORKSPACE_KEY, --workspace-key-file)",
        ),
        status => Diagnosis::error(
            ENGINE,
            format!("{base}{by} answers with status {status}"),
            "ask its operator, or correct the URL (RELAY_BASE_URL, --engine)",
        ),
    });
    match probe.date.as_deref().and_then(seconds) {
        None => found.push(Diagnosis::fine(CLOCK, "the engine does not tell its time")),
        Some(theirs) => found.push(apart(now.abs_diff(theirs))),
    }
    found
}

fn apart(secs: u64) -> Diagnosis {
    let text = format!("this clock and the engine's are {secs} s apart");
    const REPAIR: &str = "have both set by NTP: times of messages and certificates depend on it";
    match secs {
        APART_SECS.. => Diagnosis::error(CLOCK, text, REPAIR),
        APART_LEAST_SECS.. => Diagnosis::warning(CLOCK, text, REPAIR),
        _ => Diagnosis::fine(CLOCK, text),
    }
}

/// To the engine of the broker that runs, else to the one that would be started with.
fn client(patient: &DoctorSubject) -> Option<RestClient> {
    let plan = patient.plan();
    let node = plan.map(|plan| plan.node());
    let (proxy, roots) = node.map_or((None, None), |node| {
        (node.proxy.clone(), node.roots.clone())
    });
    let running = patient
        .running
        .as_ref()
        .filter(|file| !file.engine_url.is_empty());
    let (url, key) = match (running, plan.map(|plan| &plan.engine)) {
        (Some(file), _) => (
            file.engine_url.clone(),
            Secret::new(file.workspace_key.clone()),
        ),
        (None, Some(EngineChoice::Remote { url, key })) => (url.clone(), key.clone()),
        _ => return None,
    };
    Some(RestClient::new(
        url.trim_end_matches('/'),
        key,
        proxy,
        roots,
    ))
}

/// Proxy and certificates.
fn way(patient: &DoctorSubject) -> Vec<Diagnosis> {
    let Some(node) = patient.plan().map(|plan| plan.node()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    if let Some(proxy) = &node.proxy {
        found.push(Diagnosis::fine(WAY, format!("by the proxy {proxy}")));
    }
    if let Some(roots) = &node.roots {
        let text = format!("certificates are judged by {}", roots.from());
        found.push(Diagnosis::fine(WAY, text));
    }
    found
}

/// The time of a `Date` header in seconds since 1970: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn seconds(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let mut words = text.split_whitespace().skip(1);
    let day: u64 = words.next()?.parse().ok()?;
    let month = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let clock: Vec<u64> = words
        .next()?
        .split(':')
        .map_while(|part| part.parse().ok())
        .collect();
    let [hours, minutes, secs] = clock[..] else {
        return None;
    };
    // Years begin in March, so that the day that only some have is their last.
    let (year, month) = match month > 2 {
        true => (year, month - 3),
        false => (year.checked_sub(1)?, month + 9),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let since_1970 = days.checked_sub(719_469)?;
    Some(((since_1970 * 24 + hours) * 60 + minutes) * 60 + secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_is_read_as_http_spells_it() {
        assert_eq!(seconds("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(
            seconds("Thu, 29 Feb 2024 23:59:59 GMT"),
            Some(1_709_251_199)
        );
        assert_eq!(seconds("soon"), None);
    }
}
