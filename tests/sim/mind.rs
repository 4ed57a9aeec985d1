//! A machine with its journal, driven as `sys::thread::drive` drives it: decide, make durable, and only then perform. The
//! three steps are events of their own, so that the process can die between them.

use std::path::Path;

use relay_broker::journal::{Journal, OpenError, Opened, Options};
use relay_broker::machine::{Machine, Out, decide, persist};
use relay_broker::time::Now;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::SimDisk;

/// The folder of every journal here.
pub const FOLDER: &str = "/j";

/// What a thread is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It waits for events.
    Idle,
    /// Its batch is on the way to the disk.
    Syncing,
    /// The disk refuses its batch.
    Trouble,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// There was nothing to write.
    Nothing,
    Done,
    Trouble,
    /// The process died in it.
    Died,
}

/// See the module.
pub struct Mind<M: Machine>
where
    M::Record: Serialize + DeserializeOwned,
{
    pub machine: M,
    journal: Journal<M::Record, SimDisk>,
    pub out: Out<M::Record, M::Effect>,
    pub phase: Phase,
    /// The turn that is planned.
    pub turn_at: Option<u64>,
    disk: SimDisk,
}

impl<M: Machine> Mind<M>
where
    M::Record: Serialize + DeserializeOwned,
{
    /// Opens the journal and replays it.
    pub fn wake(
        disk: &SimDisk,
        kind: &str,
        rotate_bytes: u64,
        machine: M,
    ) -> Result<(Self, String), OpenError> {
        let options = Options {
            rotate_bytes,
            ..Options::default()
        };
        let opened = Journal::open_on(disk.clone(), Path::new(FOLDER), kind, options)?;
        let Opened {
            journal,
            records,
            recovery,
        } = opened;
        let mut mind = Self {
            machine,
            journal,
            out: Out::default(),
            phase: Phase::Idle,
            turn_at: None,
            disk: disk.clone(),
        };
        for record in &records {
            mind.machine.replay(record);
        }
        Ok((mind, recovery.degraded().unwrap_or_default()))
    }

    pub fn decide(&mut self, now: Now, batch: impl IntoIterator<Item = M::Event>) {
        decide(&mut self.machine, now, batch, &mut self.out);
    }

    pub fn write(&mut self) -> Wrote {
        let nothing = self.out.records.is_empty();
        let written = persist(&self.machine, &mut self.journal, &mut self.out);
        match written {
            _ if self.disk.died() => Wrote::Died,
            Ok(()) if nothing => Wrote::Nothing,
            Ok(()) => Wrote::Done,
            Err(_) => Wrote::Trouble,
        }
    }
}
