//! What clients of other versions ask of a broker: guarded changes of modes, names ahead of their agents, crashes, threads.

use super::*;
use crate::msg::ExpectedMode;
use crate::wire::local::CrashCategory;

fn w1() -> AgentName {
    AgentName::new("w1")
}

fn revision(w: &mut World) -> u64 {
    match w.call(ApiCall::Mode(w1())) {
        Some(Ok(Reply::Mode(view))) => view.revision.parse().expect("a decimal number"),
        other => panic!("{other:?}"),
    }
}

fn swap(w: &mut World, mode: DeliveryMode, expected: ExpectedMode) -> local::ModeChanged {
    match w.call(ApiCall::SwapMode(w1(), mode, expected)) {
        Some(Ok(Reply::ModeChanged(changed))) => changed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mode_is_changed_only_while_it_is_what_its_changer_believes() {
    let (mut w, _) = World::with_agent("w1");
    let (auto, held) = (DeliveryMode::AutoInject, DeliveryMode::ManualFlush);
    let first = revision(&mut w);
    let as_of = |revision| ExpectedMode {
        revision: Some(revision),
        ..ExpectedMode::default()
    };
    let changed = swap(&mut w, held, as_of(first));
    assert!(changed.matched && changed.mode == held);
    let second = revision(&mut w);
    assert_ne!(second, first);
    assert_eq!(changed.revision, second.to_string());
    let late = swap(&mut w, auto, as_of(first));
    assert!(!late.matched && late.mode == held, "somebody was faster");
    let wrong = ExpectedMode {
        mode: Some(auto),
        revision: Some(second),
    };
    assert!(!swap(&mut w, auto, wrong).matched);
    assert_eq!(revision(&mut w), second, "nothing was changed");
    assert!(swap(&mut w, auto, as_of(second)).matched);

    let third = revision(&mut w);
    let mut w = World::after(w.journal);
    w.link_up();
    w.spawn("w1");
    assert!(
        ![first, second, third].contains(&revision(&mut w)),
        "none of another life comes again"
    );
}

#[test]
fn names_are_registered_ahead_of_their_agents_each_once_and_not_those_that_are_known() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    let names = ["w2", "w1", "w3", "w2"].map(AgentName::new).to_vec();
    assert_eq!(
        w.call(ApiCall::Preflight(names)),
        Some(Ok(Reply::Queued(2)))
    );
    let asked: Vec<_> = w
        .done()
        .into_iter()
        .filter(|e| matches!(e, Effect::RestJob(..)))
        .collect();
    assert!(
        matches!(&asked[..], [Effect::RestJob(_, RestCall::Reserve(names))] if *names == ["w2", "w3"].map(AgentName::new)),
        "{asked:?}"
    );
    assert_eq!(
        w.call(ApiCall::Preflight(vec![w1()])),
        Some(Ok(Reply::Queued(0)))
    );
}

#[test]
fn crashes_are_told_with_their_kind_and_what_they_have_in_common_and_releases_are_none() {
    let (mut w, run) = World::with_agent("w1");
    let killed = How {
        signal: Some(9),
        last: vec!["out of memory".into()],
        ..How::default()
    };
    w.report("w1", run, AgentReport::Exited(killed));
    for code in [Some(0), Some(3), Some(3)] {
        let run = w.spawn("w2");
        let how = How {
            code,
            ..How::default()
        };
        w.report("w2", run, AgentReport::Exited(how));
    }
    let Some(Ok(Reply::CrashInsights(told))) = w.call(ApiCall::CrashInsights) else {
        panic!("no insights");
    };
    let kinds: Vec<_> = told.recent.iter().map(|r| r.category).collect();
    assert_eq!(
        kinds,
        [
            CrashCategory::Oom,
            CrashCategory::Error,
            CrashCategory::Error
        ]
    );
    assert!(
        told.recent[0].description.contains("out of memory"),
        "{:?}",
        told.recent[0]
    );
    let patterns: Vec<_> = told
        .patterns
        .iter()
        .map(|p| (p.category, p.count))
        .collect();
    assert_eq!(
        patterns,
        [(CrashCategory::Error, 2), (CrashCategory::Oom, 1)]
    );
    assert_eq!((told.total_crashes, told.health_score), (3, 70));
}

#[test]
fn threads_are_told_with_their_newest_message_and_what_of_them_waits() {
    let (mut w, _) = World::with_agent("w1");
    w.call(ApiCall::SetMode(w1(), DeliveryMode::ManualFlush));
    for (thread, text) in [("t1", "one"), ("t2", "two"), ("t1", "three")] {
        w.call(ApiCall::Send(local::SendRequest {
            to: "w1".into(),
            text: text.into(),
            from: Some("lead".into()),
            thread_id: Some(thread.into()),
            ..local::SendRequest::default()
        }));
    }
    let Some(Ok(Reply::Threads(told))) = w.call(ApiCall::Threads) else {
        panic!("no threads");
    };
    let told: Vec<_> = told
        .threads
        .iter()
        .map(|t| (&t.thread_id[..], &t.last_message[..], t.unread_count))
        .collect();
    assert_eq!(told, [("t1", "three", 2), ("t2", "two", 1)]);
}
