//! Channels that an agent listens to, beyond those it was started with.

use super::*;
use crate::msg::{ChannelRefusal, Refusal};

fn change(w: &mut World, name: &str, channels: &[&str], listens: bool) -> Option<Answer> {
    w.call(ApiCall::Channels {
        name: AgentName::new(name),
        channels: channels.iter().map(ToString::to_string).collect(),
        listens,
    })
}

fn now(answer: Option<Answer>) -> Vec<String> {
    match answer {
        Some(Ok(Reply::Channels(changed))) => changed.channels,
        other => panic!("{other:?}"),
    }
}

/// The engine lets the agent into all that it was asked for last, but into these.
fn joined(w: &mut World, refused: &[(&str, bool)]) {
    let refused = refused.iter().map(|(channel, for_good)| ChannelRefusal {
        channel: (*channel).to_owned(),
        why: "400 channel_archived".into(),
        for_good: *for_good,
    });
    let done = RestDone::Joined(refused.collect());
    let asked = |e: &&Effect| matches!(e, Effect::RestJob(_, RestCall::Join { .. }));
    let Some(Effect::RestJob(job, _)) = w.effects.iter().rfind(asked) else {
        panic!("nothing was to be joined: {:?}", w.effects);
    };
    let job = *job;
    w.tell(Event::RestJob(job, done));
}

/// Channels, and whether they are joined or left.
type Changes = Vec<(bool, Vec<String>)>;

/// What was asked of the engine, and what subscribers heard.
fn said(w: &mut World) -> (Changes, Changes) {
    let (mut asked, mut heard) = (Vec::new(), Vec::new());
    for effect in w.done() {
        match effect {
            Effect::RestJob(_, RestCall::Join { channels, .. }) => asked.push((true, channels)),
            Effect::RestJob(_, RestCall::Leave { channels, .. }) => asked.push((false, channels)),
            Effect::Publish(_, BrokerEvent::ChannelSubscribed { channels, .. }) => {
                heard.push((true, channels));
            }
            Effect::Publish(_, BrokerEvent::ChannelUnsubscribed { channels, .. }) => {
                heard.push((false, channels));
            }
            _ => {}
        }
    }
    (asked, heard)
}

#[test]
fn an_agent_listens_to_further_channels_and_to_some_no_longer_each_told_once() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    let ops = || vec![(true, vec!["ops".to_owned()])];
    assert_eq!(
        now(change(&mut w, "w1", &["#ops", "ops", "general"], true)),
        ["general", "ops"]
    );
    joined(&mut w, &[]);
    assert_eq!(said(&mut w), (ops(), ops()));
    assert_eq!(
        now(change(&mut w, "w1", &["ops"], true)),
        ["general", "ops"]
    );
    assert_eq!(said(&mut w), (vec![], vec![]), "it is so already");
    let gone = || vec![(false, vec!["general".to_owned()])];
    assert_eq!(
        now(change(&mut w, "w1", &["general", "other"], false)),
        ["ops"]
    );
    assert_eq!(said(&mut w), (gone(), gone()));
    assert!(matches!(
        change(&mut w, "w1", &["ops"], false),
        Some(Err(e)) if e.kind == RefusalKind::Invalid
    ));
    assert!(matches!(
        change(&mut w, "nobody", &["ops"], true),
        Some(Err(e)) if e.kind == RefusalKind::UnknownAgent
    ));
}

#[test]
fn an_agent_that_is_started_again_listens_to_what_it_listened_to() {
    let (mut w, _) = World::with_agent("w1");
    change(&mut w, "w1", &["ops"], true);
    let life = w.d.ledger().lives().get(&AgentName::new("w1"));
    assert_eq!(
        life.map(|l| l.request.channels.clone()),
        Some(vec!["general".into(), "ops".into()])
    );
}

#[test]
fn a_channel_that_no_engine_takes_is_refused_by_its_name_and_nothing_changes() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    for bad in ["Ops Team", "../x", "\u{1b}[31m", "-a"] {
        let answer = change(&mut w, "w1", &["ops", bad], true);
        let named = |e: &Refusal| e.message.contains(&format!("{bad:?}"));
        assert!(
            matches!(&answer, Some(Err(e)) if e.kind == RefusalKind::Invalid && named(e)),
            "{answer:?}"
        );
    }
    assert_eq!(said(&mut w), (vec![], vec![]));
    let request = local::SpawnRequest {
        name: "w2".into(),
        cli: Some("cat".into()),
        channels: vec!["release".into(), "Ops Team".into()],
        ..local::SpawnRequest::default()
    };
    let answer = w.call(ApiCall::Spawn(Box::new(request), SpawnSource::Api));
    assert!(
        matches!(&answer, Some(Err(e)) if e.kind == RefusalKind::Invalid && e.message.contains("Ops Team")),
        "{answer:?}"
    );
}

#[test]
fn a_channel_that_the_engine_refuses_leaves_the_list_with_the_reason_and_the_others_stay() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    change(&mut w, "w1", &["old", "ops"], true);
    joined(&mut w, &[("old", true)]);
    let events = w.done().into_iter().filter_map(|e| match e {
        Effect::Publish(_, event) => Some(event),
        _ => None,
    });
    let events: Vec<_> = events.collect();
    assert!(events.iter().any(|e| matches!(e,
        BrokerEvent::ChannelSubscribed { channels, .. } if channels == &["ops"])));
    assert!(events.iter().any(|e| matches!(e,
        BrokerEvent::ChannelUnsubscribed { channels, reason: Some(why), .. }
            if channels == &["old"] && why.contains("channel_archived"))));
    assert_eq!(
        now(change(&mut w, "w1", &["ops"], true)),
        ["general", "ops"]
    );
}

#[test]
fn a_channel_that_could_not_be_joined_is_joined_by_a_repeated_wish_or_the_next_link() {
    let (mut w, _) = World::with_agent("w1");
    change(&mut w, "w1", &["ops"], true);
    joined(&mut w, &[("ops", false)]);
    let (_, heard) = said(&mut w);
    assert_eq!(heard, [], "nobody is told of what is not so");
    let ops = || vec![(true, vec!["ops".to_owned()])];
    change(&mut w, "w1", &["ops"], true);
    joined(&mut w, &[("ops", false)]);
    assert_eq!(said(&mut w).0, ops());
    w.tell(Event::Link(LinkReport::Lost("reset".into())));
    w.link_up();
    joined(&mut w, &[]);
    assert_eq!(said(&mut w), (ops(), ops()));
    change(&mut w, "w1", &["ops"], true);
    assert_eq!(said(&mut w), (vec![], vec![]), "it is so already");
}

#[test]
fn who_unsubscribes_at_once_hears_of_both() {
    let (mut w, _) = World::with_agent("w1");
    w.done();
    let ops = |listens: bool| (listens, vec!["ops".to_owned()]);
    change(&mut w, "w1", &["ops"], true);
    change(&mut w, "w1", &["ops"], false);
    joined(&mut w, &[]);
    let heard = said(&mut w).1;
    assert_eq!(heard, [ops(true), ops(false)]);
}
