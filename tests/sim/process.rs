//! A process's main thread: a machine and its journal in the product's own event loop, with the product's own driver where
//! there is one; made up are only the disk, the inbox and the time. All that the loop does is noted on a tape, in the order
//! in which it does it, for the laws to judge and the world to carry out.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use relay_broker::journal::{Journal, OpenError, Opened, Options};
use relay_broker::machine::event_loop::{Driver, EventLoop, Progress};
use relay_broker::machine::{CommitError, Log, Machine, Out};
use relay_broker::time::{Mono, Now, Wall};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::disk::SimDisk;

/// The folder of every journal here.
pub const FOLDER: &str = "/j";

/// One thing that a process did.
#[derive(Debug)]
pub enum Deed<R, A> {
    /// Its machine decided these.
    Decided(Vec<R>),
    /// All that was decided is on the disk, so its journal says.
    Written,
    /// It died in an operation of its disk, and did nothing after that.
    Died,
    /// Something left it.
    Did(A),
}

/// What a process did and nobody has looked at yet; clones share it.
pub struct Tape<R, A>(Rc<RefCell<Vec<Deed<R, A>>>>);

impl<R, A> Clone for Tape<R, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R, A> Tape<R, A> {
    fn note(&self, deed: Deed<R, A>) {
        self.0.borrow_mut().push(deed);
    }

    /// Something left the process.
    pub fn did(&self, act: A) {
        self.note(Deed::Did(act));
    }

    pub fn take(&self) -> Vec<Deed<R, A>> {
        self.0.take()
    }
}

/// A machine of which it is noted what it decides.
pub struct Watched<M: Machine, A> {
    machine: M,
    tape: Tape<M::Record, A>,
}

impl<M: Machine, A> Watched<M, A>
where
    M::Record: Clone,
{
    /// Lets the machine decide.
    pub fn watch(
        &mut self,
        out: &mut Out<M::Record, M::Effect>,
        think: impl FnOnce(&mut M, &mut Out<M::Record, M::Effect>),
    ) {
        let before = out.records.len();
        think(&mut self.machine, out);
        if out.records.len() > before {
            self.tape
                .note(Deed::Decided(out.records[before..].to_vec()));
        }
    }

    pub fn machine(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine, A> Machine for Watched<M, A>
where
    M::Record: Clone,
{
    type Event = M::Event;
    type Record = M::Record;
    type Effect = M::Effect;

    fn step(&mut self, now: Now, event: M::Event, out: &mut Out<M::Record, M::Effect>) {
        self.watch(out, |machine, out| machine.step(now, event, out));
    }

    fn meanwhile(&self, now: Now, event: &M::Event, effects: &mut Vec<M::Effect>) -> bool {
        self.machine.meanwhile(now, event, effects)
    }

    fn arrange(effects: &mut Vec<M::Effect>) {
        M::arrange(effects);
    }

    fn replay(&mut self, record: &M::Record) {
        self.machine.replay(record);
    }

    fn snapshot(&self) -> Option<M::Record> {
        self.machine.snapshot()
    }

    fn snapshot_size(&self) -> u64 {
        self.machine.snapshot_size()
    }

    fn deadline(&self) -> Option<Mono> {
        self.machine.deadline()
    }
}

/// A journal of which it is noted what it says to have written.
pub struct WatchedJournal<R, A> {
    journal: Journal<R, SimDisk>,
    disk: SimDisk,
    tape: Tape<R, A>,
}

impl<R, A> WatchedJournal<R, A> {
    fn noted<T>(&self, written: Result<T, CommitError>) -> Result<T, CommitError> {
        if self.disk.died() {
            self.tape.note(Deed::Died);
        } else if written.is_ok() {
            self.tape.note(Deed::Written);
        }
        written
    }
}

impl<R: Serialize + DeserializeOwned, A> Log<R> for WatchedJournal<R, A> {
    fn commit(&mut self, records: &[R]) -> Result<(), CommitError> {
        let written = self.journal.commit(records);
        self.noted(written)
    }

    fn date(&mut self, at: Wall) {
        self.journal.date(at);
    }

    fn is_long(&self, snapshot_size: u64) -> bool {
        self.journal.is_long(snapshot_size)
    }

    fn needs_replacement(&self) -> bool {
        self.journal.needs_replacement()
    }

    fn look(&mut self) {
        self.journal.look();
        if self.disk.died() {
            self.tape.note(Deed::Died);
        }
    }

    fn replace(&mut self, snapshot: &R) -> Result<(), CommitError> {
        let written = self.journal.replace(snapshot);
        self.noted(written)
    }
}

/// A machine that has replayed its journal, and decided nothing yet.
pub struct Woken<M: Machine, A> {
    machine: Watched<M, A>,
    journal: WatchedJournal<M::Record, A>,
    /// What the journal may have lost.
    pub damage: Option<String>,
    pub tape: Tape<M::Record, A>,
}

impl<M: Machine, A> Woken<M, A>
where
    M::Record: Clone + Serialize + DeserializeOwned,
{
    /// Opens the journal and replays it.
    pub fn wake(
        disk: &SimDisk,
        kind: &str,
        rotate_bytes: u64,
        mut machine: M,
    ) -> Result<Self, OpenError> {
        let options = Options {
            rotate_bytes,
            ..Options::default()
        };
        let Opened {
            journal,
            records,
            recovery,
        } = Journal::open_on(disk.clone(), Path::new(FOLDER), kind, options)?;
        records.iter().for_each(|record| machine.replay(record));
        let tape = Tape(Rc::default());
        Ok(Self {
            machine: Watched {
                machine,
                tape: tape.clone(),
            },
            journal: WatchedJournal {
                journal,
                disk: disk.clone(),
                tape: tape.clone(),
            },
            damage: recovery.degraded(),
            tape,
        })
    }

    pub fn machine(&self) -> &M {
        &self.machine.machine
    }

    /// Begins with what the machine decides first.
    pub fn begin<V: Driver<Watched<M, A>>>(
        self,
        now: Now,
        driver: V,
        think: impl FnOnce(&mut M, &mut Out<M::Record, M::Effect>),
    ) -> Result<Process<M, A, V>, CommitError> {
        let Self {
            machine,
            journal,
            tape,
            ..
        } = self;
        let think = |watched: &mut Watched<M, A>, out: &mut _| watched.watch(out, think);
        Ok(Process {
            event_loop: EventLoop::begin(machine, journal, now, think)?,
            driver,
            inbox: VecDeque::new(),
            tape,
            runs_at: None,
            syncing: false,
        })
    }
}

/// See the module.
pub struct Process<M: Machine, A, V: Driver<Watched<M, A>>>
where
    M::Record: Clone,
{
    event_loop: EventLoop<Watched<M, A>, WatchedJournal<M::Record, A>>,
    pub driver: V,
    inbox: VecDeque<V::Inbound>,
    tape: Tape<M::Record, A>,
    /// When its thread runs next.
    runs_at: Option<u64>,
    /// Its thread waits for the disk, and takes nothing in.
    syncing: bool,
}

impl<M: Machine, A, V: Driver<Watched<M, A>>> Process<M, A, V>
where
    M::Record: Clone + Serialize + DeserializeOwned,
{
    pub fn machine(&self) -> &M {
        self.event_loop.machine().machine()
    }

    /// Whether nothing is under way to its disk or out of it.
    pub fn is_idle(&self) -> bool {
        self.event_loop.is_idle()
    }

    /// Whether something waits for it.
    pub fn has_more(&self) -> bool {
        !self.event_loop.is_idle() || !self.inbox.is_empty()
    }

    /// Puts something into its inbox.
    pub fn send(&mut self, inbound: V::Inbound) {
        self.inbox.push_back(inbound);
    }

    /// Plans that its thread runs then; false when it does so before, or waits for the disk.
    pub fn plan(&mut self, at: u64) -> bool {
        let sooner = !self.syncing && self.runs_at.is_none_or(|planned| planned > at);
        if sooner {
            self.runs_at = Some(at);
        }
        sooner
    }

    /// Its thread waits for the disk until then.
    pub fn sync_until(&mut self, at: u64) {
        self.runs_at = Some(at);
        self.syncing = true;
    }

    /// Whether its thread was to run now.
    pub fn wakes(&mut self, now: u64) -> bool {
        let due = self.runs_at == Some(now);
        if due {
            self.runs_at = None;
            self.syncing = false;
        }
        due
    }

    /// Its thread takes in what is there and does what is to be done next, as `sys::thread::drive` lets it.
    pub fn run(&mut self, now: Now) -> (Progress, Vec<Deed<M::Record, A>>) {
        while self.event_loop.has_room::<V>()
            && let Some(inbound) = self.inbox.pop_front()
        {
            self.event_loop.take(now, inbound, &mut self.driver);
        }
        (
            self.event_loop.step(now, &mut self.driver),
            self.tape.take(),
        )
    }

    /// The same for this alone, before what waits and without waiting for the disk. Whoever dies in it does nothing more.
    pub fn at_once(&mut self, now: Now, inbound: V::Inbound) -> Vec<Deed<M::Record, A>> {
        self.event_loop.take(now, inbound, &mut self.driver);
        let mut deeds = Vec::new();
        loop {
            let progress = self.event_loop.step(now, &mut self.driver);
            deeds.extend(self.tape.take());
            let died = deeds.iter().any(|deed| matches!(deed, Deed::Died));
            if died || !matches!(progress, Progress::Durable(_)) {
                return deeds;
            }
        }
    }
}
