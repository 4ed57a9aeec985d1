//! `actions run`: an action's program, run once as the broker would run it. It runs in this process; no broker is asked, and
//! no engine hears of it.

use std::time::Duration;

use crossbeam_channel::bounded;
use serde_json::json;

use super::args::ActionRun;
use super::context::Context;
use super::failure::Failure;
use super::find;
use super::render::{clean, span};
use super::up::place;
use crate::config::{self, EngineChoice, Env, Flags, StartPlan};
use crate::handlers::{HandlerRunner, News};
use crate::ids::InvocationId;
use crate::msg::HandlerRun;
use crate::sys::reap::Reaper;
use crate::sys::sysexit::Sysexit;
use crate::sys::{clock, limits};

/// Beyond the handler's own limit, for what comes after it.
const SLACK: Duration = Duration::from_secs(10);
/// The invocation's id, which no engine has given.
const TRIED: &str = "tried-by-hand";

/// `actions run`.
///
/// # Errors
/// When there is no such action, and when its program fails.
pub fn run(c: &Context, args: &ActionRun) -> Result<(), Failure> {
    let flags = Flags {
        config: args.config.clone(),
        state_dir: c.state_dir.clone(),
        ..Flags::default()
    };
    let plan = config::plan(&flags, &Env::process(), &place()?)?;
    let run = order(c, &plan, args)?;
    limits::raise();
    let fail =
        |e: std::io::Error| Failure::new(format!("cannot start it: {}", limits::explain(&e)));
    let reaper = Reaper::start().map_err(fail)?;
    let (tell, heard) = bounded(1);
    let runner = HandlerRunner::new(reaper.clone(), move |news| {
        if let News::Handled(_, result) = news {
            let _ = tell.try_send(result);
        }
    });
    let limit = run.spec.timeout + SLACK;
    let began = clock::now().mono;
    if let Some(why) = runner.start(InvocationId::new(TRIED), run) {
        return Err(Failure::new(why));
    }
    let result = heard
        .recv_timeout(limit)
        .unwrap_or_else(|_| Err("nothing was heard of it".to_owned()));
    let took = clock::now().mono.since(began);
    runner.stop();
    reaper.stop();
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    match result {
        Ok(output) => c.tell(
            &json!({"action": args.name, "ok": true, "exit_code": 0, "output": output, "error": null, "took_ms": ms}),
            &format!("{output}\n{} is well: exit code 0 after {}\n", clean(&args.name), span(took)),
        ),
        Err(why) => {
            let code = exit_code(&why);
            let facts = json!({
                "action": args.name, "ok": false, "exit_code": code, "output": null, "error": why, "took_ms": ms
            });
            c.tell(&facts, &format!("{} failed after {}: {}\n", clean(&args.name), span(took), clean(&why)))?;
            Err(Failure::silent(Sysexit::Failure))
        }
    }
}

/// The exit code, where that is how it ended.
fn exit_code(why: &str) -> Option<i32> {
    let rest = why.strip_prefix("exit code ")?;
    rest.split(':').next()?.trim().parse().ok()
}

/// What the broker would start.
fn order(c: &Context, plan: &StartPlan, args: &ActionRun) -> Result<HandlerRun, Failure> {
    let actions = &plan.node().actions;
    let Some(spec) = actions.get(&args.name) else {
        let known: Vec<&str> = actions.keys().map(String::as_str).collect();
        let known = match known.is_empty() {
            true => "there is none in the configuration file; add [action.NAME], or name the file with --config".to_owned(),
            false => format!("there is {}", known.join(", ")),
        };
        return Err(Failure::usage(format!(
            "no action {}: {known}",
            clean(&args.name)
        )));
    };
    // The engine of the broker that runs here, if one does: an embedded one is known by nobody else.
    let running = find::running(c.state_dir.as_deref(), &c.env).ok();
    let engine = running.map(|file| file.engine_url).or(match &plan.engine {
        EngineChoice::Remote { url, .. } | EngineChoice::Keyless { url } => Some(url.clone()),
        EngineChoice::Embedded { .. } => None,
    });
    let env = [
        ("RELAY_ACTION", args.name.clone()),
        ("RELAY_INVOCATION_ID", TRIED.to_owned()),
        ("RELAY_NODE_NAME", plan.name().to_owned()),
        ("RELAY_BASE_URL", engine.unwrap_or_default()),
        (
            "RELAY_BROKER_STATE_DIR",
            plan.state_dir().display().to_string(),
        ),
    ];
    Ok(HandlerRun {
        action: args.name.clone(),
        spec: spec.clone(),
        input: args.input.clone(),
        env: env.map(|(name, value)| (name.to_owned(), value)).into(),
    })
}
