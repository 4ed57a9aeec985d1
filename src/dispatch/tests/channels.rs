//! Channels that an agent listens to, beyond those it was started with.

use super::*;

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
