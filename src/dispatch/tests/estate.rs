//! What a broker of another program has left behind.

use super::*;
use crate::dispatch::Estate;
use crate::ledger::{Delivery, Departed, Origin};

fn delivery(n: u64, words: &str) -> Delivery {
    Delivery {
        id: DeliveryId::new(format!("del_{n}")),
        msg_id: MsgId::new(format!("http_{n}")),
        agent: AgentName::new("ada"),
        origin: Origin::Local,
        from: "lead".into(),
        target: "ada".into(),
        body: words.into(),
        thread_id: None,
        mode: Mode::Wait,
        raw: false,
        by_operator: false,
        queued_at: Wall(n),
    }
}

fn estate() -> Estate {
    Estate {
        mail: vec![delivery(1, "first"), delivery(2, "second")],
        dead: vec![(delivery(3, "given up"), "recipient gone".into())],
        agents: vec![(AgentName::new("ada"), Departed::default())],
    }
}

impl World {
    fn take_over(&mut self, estate: Estate) {
        let mut out = Out::default();
        self.d.take_over(self.now, estate, &mut out);
        self.keep(out);
    }
}

/// The files may be put aside after a crash only, and are found once more then.
#[test]
fn an_estate_is_taken_over_once_also_after_a_start_that_was_cut_short() {
    let mut w = World::new();
    w.take_over(estate());
    let mut again = World::after(w.journal);
    let before = again.journal.len();
    again.take_over(estate());
    assert_eq!(again.journal.len(), before, "nothing is written twice");
    let ledger = again.d.ledger();
    assert_eq!(ledger.mail().waiting(&AgentName::new("ada")), 2);
    assert_eq!(
        ledger.dead().iter().next().map(|dead| dead.reason.as_str()),
        Some("recipient gone")
    );
    assert!(ledger.lives().departed_as(&AgentName::new("ada")).is_some());
}

#[test]
fn mail_of_an_estate_is_typed_in_order_once_its_agent_is_here() {
    let mut w = World::new();
    w.take_over(estate());
    w.link_up();
    w.spawn("ada");
    let typed: Vec<String> = w
        .done()
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Agent(_, _, AgentCommand::Inject(injection)) => Some(injection.text),
            _ => None,
        })
        .collect();
    assert_eq!(typed.len(), 1, "one at a time");
    assert!(typed[0].ends_with(": first"), "{typed:?}");
}
