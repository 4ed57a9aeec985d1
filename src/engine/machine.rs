//! The engine as a [`Machine`]: which method takes each event. The roof of the core: everything else lies below it.

use super::core::EngineCore;
use super::event::{Effect, Event};
use super::record::EngineRecord;
use super::step::Step;
use crate::machine::{Machine, Out};
use crate::time::{Mono, Now};

impl Machine for EngineCore {
    type Event = Event;
    type Record = EngineRecord;
    type Effect = Effect;

    fn step(&mut self, now: Now, event: Event, out: &mut Out<EngineRecord, Effect>) {
        let mut step = Step::new(self, now, out);
        match event {
            Event::Ensure { name, key } => step.ensure_workspace(&name, &key),
            Event::Http {
                ticket,
                call,
                entropy,
            } => step.with_entropy(entropy).http(ticket, &call),
            Event::HttpWithProof {
                ticket,
                call,
                proof,
                entropy,
            } => step
                .with_entropy(entropy)
                .with_proof(proof)
                .http(ticket, &call),
            #[cfg(feature = "faults")]
            Event::Order { orders, entropy } => {
                if let Err(refusal) = step.with_entropy(entropy).obey(&orders) {
                    log::warn!("embedded engine: {}", refusal.message);
                }
            }
            Event::SocketWanted {
                ticket,
                kind,
                token,
            } => step.socket_wanted(ticket, kind, token.as_deref()),
            Event::SocketFrame {
                conn,
                text,
                entropy,
            } => step.with_entropy(entropy).socket_frame(conn, &text),
            Event::SocketDrained { conn, frames } => step.socket_drained(conn, frames),
            Event::SocketClosed { conn } => step.socket_closed(conn),
            Event::Tick => step.sweep(),
            Event::Stop => step.effect(Effect::Exit),
        }
        step.cut_if_due();
    }

    fn replay(&mut self, record: &EngineRecord) {
        self.state.apply(record);
    }

    fn snapshot(&self) -> Option<EngineRecord> {
        Some(EngineRecord::Snapshot(Box::new(self.state.clone())))
    }

    fn snapshot_size(&self) -> u64 {
        let workspaces = self.state.workspaces.values();
        workspaces.map(|w| w.history.bytes() as u64).sum()
    }

    fn deadline(&self) -> Option<Mono> {
        self.sweep_at
    }
}
