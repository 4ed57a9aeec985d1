//! `demo`: the whole way of a message, then a crash in mid-message that loses and doubles nothing. It starts this very
//! program as a broker of its own in a folder of its own, watches it from outside like any client, and counts at the
//! agents' end. It shares no memory with what it shows.

use super::args;
use super::context::Context;
use super::demo_life::Folder;
use super::demo_show::Show;
use super::demo_stage::{ADA, BOB, DemoStage, TURNS};
use super::failure::Failure;
use super::render::Paint;
use crate::sys::clock;
use crate::sys::sysexit::Sysexit;

/// `demo`.
pub fn demo(c: &Context, args: args::Demo) -> Result<(), Failure> {
    super::engine::check()?;
    let paint = if c.json { Paint::plain() } else { c.paint };
    let folder = Folder::make(&c.env.temp_dir(), args.keep)?;
    let exe = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot tell where this program is: {e}")))?;
    let show = Show::new(paint, c.json);
    let mut stage = DemoStage::new(show, exe, folder.path.clone());
    stage.clean_up_on_signals(args.keep)?;
    let end = play(&mut stage);
    if let Err(failure) = &end
        && !failure.text.is_empty()
    {
        let log = std::fs::read_to_string(folder.path.join("broker.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(8)..] {
            super::render::note(&format!("  broker: {line}"));
        }
    }
    if args.keep {
        stage
            .show
            .line(&format!("kept: {}", folder.path.display()))?;
    }
    // Whoever stops reading has not seen the proof.
    end.map_err(|failure| match failure.code {
        Sysexit::Success => Failure::silent(Sysexit::Failure),
        _ => failure,
    })
}

fn play(stage: &mut DemoStage) -> Result<(), Failure> {
    stage.show.line(&format!(
        "relay-broker {} demo: two agents, a broker and an engine, all on this machine",
        env!("CARGO_PKG_VERSION")
    ))?;
    stage
        .show
        .act("Start", "times since the first process was started")?;
    let life = stage.start(true)?;
    let user = stage.enter(&life)?;

    stage.show.act(
        "One message, all the way",
        "from HTTP over engine, node link and journal into a terminal",
    )?;
    let text = format!("say hello to {BOB} for {TURNS} turns");
    let from = clock::now().mono;
    let id = stage.post(&life, &user, ADA, &text)?;
    stage.follow(&life, &id, from, &text)?;

    stage.show.act(
        "Two agents talk",
        "each answers over the broker's local API",
    )?;
    stage.talk(&life, from)?;

    stage
        .show
        .act("A crash in mid-message", "times since bob is busy")?;
    let ids = stage.write_to_busy(&life, &user)?;
    let user = stage.crash(life, user)?;

    stage.show.act(
        "The same folder again",
        "times since the broker was started again",
    )?;
    let life = stage.start(false)?;
    stage.finish(&life, &user, &ids)?;
    stage.count()?;
    stage.stop(life)
}
