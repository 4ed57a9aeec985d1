//! `health`: the running broker's own word on how it is, as an exit code.

use serde_json::Value;

use super::args::HealthArgs;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use super::render::{clean, print, print_json};
use crate::sys::sysexit::Sysexit;

/// `health`.
///
/// # Errors
/// When the broker is not well, or there is none.
pub fn health(c: &Context, args: HealthArgs) -> Result<(), Failure> {
    match (args.live, args.ready) {
        (true, _) => probe(c, "/livez", ("alive", "does not work")),
        (_, true) => probe(c, "/readyz", ("ready", "is not ready")),
        _ => whole(c),
    }
}

/// One of the two questions of supervisors: the words for yes and for no.
fn probe(c: &Context, path: &str, (yes, no): (&str, &str)) -> Result<(), Failure> {
    let (fine, answer) = c.client()?.probe(path)?;
    if c.json {
        return as_json(&answer, fine);
    }
    if fine {
        return print(&format!("{yes}\n"));
    }
    let checks = answer["checks"].as_array().cloned().unwrap_or_default();
    let told = |check: &Value| {
        let why = check["reason"].as_str()?;
        Some(format!("{}: {}", check["name"].as_str()?, clean(why)))
    };
    let told: Vec<String> = checks.iter().filter_map(told).collect();
    Err(Failure::new(format!(
        "the broker {no}: {}",
        told.join("; ")
    )))
}

/// The answer itself, and the exit code that says the same.
fn as_json(answer: &Value, fine: bool) -> Result<(), Failure> {
    print_json(answer)?;
    match fine {
        true => Ok(()),
        false => Err(Failure::silent(Sysexit::Failure)),
    }
}

/// What `GET /health` tells.
fn whole(c: &Context) -> Result<(), Failure> {
    let client: Client = c.client()?;
    let answer = client.look("/health")?;
    let well = answer["status"] == "ok";
    if c.json {
        return as_json(&answer, well);
    }
    if well {
        let link = if answer["nodeConnected"] == Value::Bool(false) {
            " (not connected to the engine)"
        } else {
            ""
        };
        return print(&format!("ok{link}\n"));
    }
    let why = answer["degradedReason"]
        .as_str()
        .unwrap_or("no reason given");
    Err(Failure::new(format!(
        "the broker is unwell: {}; see `relay-broker status`",
        clean(why)
    )))
}
