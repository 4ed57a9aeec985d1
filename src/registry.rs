//! The registry of running agents: a handle for each, by which whoever is attached reaches its thread. Terminal bytes skip
//! the dispatcher both ways: an attached client looks the handle up here, reads from its topic and writes to its thread,
//! which alone decides how typing and injection take turns. The lock is a leaf: held to look up or replace a handle, never
//! across IO.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::TrySendError;
use parking_lot::{Mutex, RwLock};

use crate::ids::{AgentName, Run, SidecarId};
use crate::msg::{AgentCommand, Secret, SidecarPush, Size};
use crate::pubsub::Topic;
use crate::sys::wake::Sender;
use crate::time::{Mono, Wall};

/// How many inputs wait for one agent's thread. Full means the agent's thread is wedged.
pub const AGENT_QUEUE: usize = 64;

/// Everything an agent's thread is sent.
#[derive(Debug)]
pub enum AgentInput {
    /// An order of the dispatcher.
    Command(AgentCommand),
    /// Keys of an attached client, as they are. The answer comes once they are in the terminal: how many bytes, or why not.
    Type {
        /// What was pressed.
        bytes: Vec<u8>,
        /// Dropped unanswered when the agent goes away.
        done: Option<crossbeam_channel::Sender<Result<usize, String>>>,
    },
    /// The terminal's new size.
    Resize(Size),
    /// The process ended: time to look how.
    Exited,
}

/// How long a claim to a terminal's size lasts without a size being set.
const CLAIM_LASTS: Duration = Duration::from_secs(300);

/// A piece of terminal output.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// As the program wrote it; may end inside a character or an escape sequence.
    pub bytes: Arc<[u8]>,
    /// Bytes of output so far, this piece included. A snapshot with the same or a higher offset holds it already.
    pub offset: u64,
}

/// How one agent's thread is reached.
#[derive(Clone)]
pub struct AgentHandle {
    /// Which life of the name.
    pub run: Run,
    /// What its program shows at the local API: `RELAY_AGENT_TOKEN`. `None` where none could be made.
    pub token: Option<Secret>,
    /// To its thread.
    pub input: Sender<AgentInput>,
    /// The output of its program.
    pub output: Arc<Topic<Chunk>>,
    /// Who is attached.
    pub seats: Arc<Seats>,
    /// When its program last wrote something.
    pub activity: Arc<LastOutput>,
    /// Whether there is anything to look at and to type into.
    pub has_terminal: bool,
}

/// When a program last wrote something to its terminal; the agent's thread notes it, and lists tell it.
#[derive(Debug, Default)]
pub struct LastOutput(AtomicU64);

impl LastOutput {
    /// It has just written something.
    pub fn note(&self, at: Wall) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    /// When that was; `None` if it has written nothing yet.
    pub fn last(&self) -> Option<Wall> {
        Some(Wall(self.0.load(Ordering::Relaxed))).filter(|at| at.0 > 0)
    }
}

/// Somebody who is attached to an agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visitor {
    /// How he calls himself.
    pub who: Option<String>,
    /// Whether he may type.
    pub drives: bool,
    /// What fits on his terminal; `None` for who takes the agent's as it is.
    pub size: Option<Size>,
}

/// Who is attached to one agent, and the size of its terminal that follows from that: as large as fits on every visitor's,
/// and the agent's own when nobody is there. The lock is a leaf: sending under it never waits, and keeps sizes in order.
#[derive(Default)]
pub struct Seats(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    /// The agent's own size.
    own: Option<Size>,
    /// What its terminal was given last.
    given: Option<Size>,
    visitors: Vec<(u64, Visitor)>,
    last: u64,
    /// Who claims the terminal's own size, and when he last set it.
    resizer: Option<(String, Mono)>,
}

impl Seats {
    /// Of a terminal with this size.
    pub fn new(own: Size) -> Self {
        Self(Mutex::new(Taken {
            own: Some(own),
            given: Some(own),
            ..Taken::default()
        }))
    }

    /// Seats somebody; his number, and who is there already.
    ///
    /// # Errors
    /// When the agent's thread takes no sizes; nobody is seated then.
    pub fn take(
        &self,
        visitor: Visitor,
        input: &Sender<AgentInput>,
    ) -> Result<(u64, Vec<Visitor>), TrySendError<AgentInput>> {
        let mut taken = self.0.lock();
        let others = taken.visitors.iter().map(|(_, v)| v.clone()).collect();
        taken.last += 1;
        let number = taken.last;
        taken.visitors.push((number, visitor));
        taken.settle(input).inspect_err(|_| {
            taken.visitors.pop();
        })?;
        Ok((number, others))
    }

    /// His terminal has another size.
    ///
    /// # Errors
    /// As [`Seats::take`]; his size counts at the next change.
    pub fn resize(
        &self,
        number: u64,
        size: Size,
        input: &Sender<AgentInput>,
    ) -> Result<(), TrySendError<AgentInput>> {
        let mut taken = self.0.lock();
        for (_, visitor) in taken.visitors.iter_mut().filter(|(n, _)| *n == number) {
            visitor.size = Some(size);
        }
        taken.settle(input)
    }

    /// He has left; what fits is reckoned without him.
    pub fn leave(&self, number: u64, input: &Sender<AgentInput>) {
        let mut taken = self.0.lock();
        taken.visitors.retain(|(n, _)| *n != number);
        // Of an agent whose thread is gone nobody needs the size.
        let _ = taken.settle(input);
    }

    /// Claims the terminal's own size for one of the clients that set it by calls; whether it is his now. A claim lapses when
    /// its owner sets no size for long ([local-api 2.5](crate::docs::local_api#2.5)).
    pub fn claim(&self, who: &str, now: Mono) -> bool {
        let may = self.may_claim(who, now);
        if may {
            self.0.lock().resizer = Some((who.to_owned(), now));
        }
        may
    }

    /// Whether nobody else claims the size.
    pub fn may_claim(&self, who: &str, now: Mono) -> bool {
        let taken = self.0.lock();
        let other = taken.resizer.as_ref().filter(|(owner, _)| owner != who);
        other.is_none_or(|(_, at)| now.since(*at) >= CLAIM_LASTS)
    }

    /// Gives a claim up; whether there was one.
    pub fn give_up(&self, who: &str) -> bool {
        let mut taken = self.0.lock();
        taken.resizer.take_if(|(owner, _)| owner == who).is_some()
    }

    /// The size that the terminal was given last.
    pub fn size(&self) -> Size {
        let taken = self.0.lock();
        taken.given.or(taken.own).unwrap_or_default()
    }

    /// The agent's own size from now on; it has it at once, whoever is there.
    ///
    /// # Errors
    /// As [`Seats::take`]; the size stays as it is.
    pub fn set(
        &self,
        own: Size,
        input: &Sender<AgentInput>,
    ) -> Result<(), TrySendError<AgentInput>> {
        let mut taken = self.0.lock();
        input.try_send(AgentInput::Resize(own))?;
        (taken.own, taken.given) = (Some(own), Some(own));
        Ok(())
    }
}

impl Taken {
    fn settle(&mut self, input: &Sender<AgentInput>) -> Result<(), TrySendError<AgentInput>> {
        let sizes = self.visitors.iter().filter_map(|(_, visitor)| visitor.size);
        let fits = sizes.reduce(|a, b| Size {
            rows: a.rows.min(b.rows),
            cols: a.cols.min(b.cols),
        });
        if let Some(size) = fits.or(self.own)
            && self.given != Some(size)
        {
            input.try_send(AgentInput::Resize(size))?;
            self.given = Some(size);
        }
        Ok(())
    }
}

/// The ways to connected programs that serve actions.
#[derive(Default)]
pub struct SidecarRegistry {
    last: AtomicU64,
    open: RwLock<HashMap<SidecarId, Sender<SidecarPush>>>,
}

impl SidecarRegistry {
    /// Registers a connection, under a number of its own.
    pub fn open(&self, sender: Sender<SidecarPush>) -> SidecarId {
        let id = SidecarId(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        self.open.write().insert(id, sender);
        id
    }

    /// Removes it.
    pub fn close(&self, id: SidecarId) {
        self.open.write().remove(&id);
    }

    /// Whether it is still registered.
    pub fn is_open(&self, id: SidecarId) -> bool {
        self.open.read().contains_key(&id)
    }

    /// Sends without waiting. A program that does not read what it is sent loses its place here, and so its connection.
    pub fn push(&self, id: SidecarId, push: SidecarPush) {
        let sender = self.open.read().get(&id).cloned();
        if sender.is_some_and(|sender| sender.try_send(push).is_err()) {
            self.close(id);
        }
    }
}

/// The handles of all running agents, by name.
#[derive(Default)]
pub struct Registry(RwLock<HashMap<AgentName, AgentHandle>>);

impl Registry {
    /// The handle of a running agent.
    pub fn get(&self, name: &AgentName) -> Option<AgentHandle> {
        self.0.read().get(name).cloned()
    }

    /// The running agent whose token it is, by a comparison of the caller's.
    pub fn whose(&self, is_it: impl Fn(&Secret) -> bool) -> Option<AgentName> {
        let handles = self.0.read();
        let mut handles = handles.iter();
        let found = handles.find(|(_, handle)| handle.token.as_ref().is_some_and(&is_it));
        found.map(|(name, _)| name.clone())
    }

    /// Registers an agent, replacing one of an earlier life.
    pub fn put(&self, name: AgentName, handle: AgentHandle) {
        self.0.write().insert(name, handle);
    }

    /// Removes the agent of that life; one of a later life stays.
    pub fn remove(&self, name: &AgentName, run: Run) {
        let mut handles = self.0.write();
        if handles.get(name).is_some_and(|handle| handle.run == run)
            && let Some(handle) = handles.remove(name)
        {
            handle.output.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::wake::mailbox;

    fn size(rows: u16, cols: u16) -> Size {
        Size { rows, cols }
    }

    fn with(rows: u16, cols: u16) -> Visitor {
        Visitor {
            size: Some(size(rows, cols)),
            drives: true,
            ..Visitor::default()
        }
    }

    #[test]
    fn a_claim_to_the_size_lapses_when_its_owner_sets_none_for_long() {
        let seats = Seats::new(size(24, 80));
        let at = |secs: u64| Mono(0) + Duration::from_secs(secs);
        assert!(seats.claim("s1", at(0)));
        assert!(!seats.claim("s2", at(200)));
        assert!(seats.claim("s1", at(200)), "it goes on from here");
        assert!(!seats.claim("s2", at(499)));
        assert!(seats.claim("s2", at(500)));
        assert!(!seats.give_up("s1") && seats.give_up("s2"));
        assert!(seats.may_claim("s1", at(501)));
    }

    #[test]
    fn the_terminal_is_as_large_as_fits_those_who_are_there_and_its_own_size_comes_back() {
        let (input, inbox) = mailbox(8).expect("descriptors");
        let given = || match inbox.try_recv() {
            Ok(AgentInput::Resize(size)) => Some((size.rows, size.cols)),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        };
        let seats = Seats::new(size(24, 80));
        let (one, others) = seats.take(with(50, 90), &input).expect("room");
        assert_eq!((given(), others.len()), (Some((50, 90)), 0));
        let (two, others) = seats.take(with(3, 120), &input).expect("room");
        assert_eq!((given(), others), (Some((3, 90)), vec![with(50, 90)]));
        let (looks, _) = seats.take(Visitor::default(), &input).expect("room");
        assert_eq!(given(), None, "who takes it as it is changes nothing");
        seats.resize(two, size(60, 100), &input).expect("room");
        assert_eq!(given(), Some((50, 90)));
        seats.leave(one, &input);
        assert_eq!(given(), Some((60, 100)));
        seats.leave(two, &input);
        assert_eq!(given(), Some((24, 80)), "only one who has no size is left");
        seats.leave(looks, &input);
        assert_eq!(given(), None);
    }

    #[test]
    fn a_size_that_a_program_asks_for_is_the_one_that_comes_back() {
        let (input, inbox) = mailbox(8).expect("descriptors");
        let seats = Seats::new(size(24, 80));
        let (one, _) = seats.take(with(50, 90), &input).expect("room");
        seats.set(size(30, 100), &input).expect("room");
        seats.leave(one, &input);
        let given = std::iter::from_fn(|| inbox.try_recv().ok()).last();
        assert!(matches!(
            given,
            Some(AgentInput::Resize(Size {
                rows: 30,
                cols: 100
            }))
        ));
    }

    #[test]
    fn nobody_is_seated_at_a_terminal_that_takes_no_sizes() {
        let (input, inbox) = mailbox(1).expect("descriptors");
        let seats = Seats::new(size(24, 80));
        input
            .try_send(AgentInput::Resize(size(1, 1)))
            .expect("room");
        assert!(seats.take(with(50, 90), &input).is_err());
        inbox.try_recv().expect("what filled it");
        let (_, others) = seats.take(with(40, 90), &input).expect("room");
        assert!(others.is_empty());
    }
}
