//! Fan-out: a ring of what was said lately and its subscribers. A publisher never waits; a subscriber that does not keep
//! up is dropped and comes back with the last number it saw. Knows nothing of what it carries.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{TryRecvError, TrySendError};
use parking_lot::Mutex;

use crate::sys::wake::{Receiver, Sender, mailbox};

/// How many items wait for one subscriber before it is dropped.
pub const SUBSCRIBER_QUEUE: usize = 256;
/// How many bytes they may have together, where the topic weighs its items. A single item is always taken.
pub const SUBSCRIBER_BYTES: usize = 8 * 1024 * 1024;

/// The latest value of something that one thread knows and others look at. A value is replaced whole and never changed, so
/// a reader has one that holds together. The lock is a leaf: held to exchange a pointer.
pub struct Latest<T>(Mutex<Arc<T>>);

impl<T: Clone> Latest<T> {
    /// Begins with this value.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Arc::new(value)))
    }

    /// The value as it is now.
    pub fn get(&self) -> Arc<T> {
        self.0.lock().clone()
    }

    /// Replaces the value by a changed copy.
    pub fn update(&self, change: impl FnOnce(&mut T)) {
        let mut latest = self.0.lock();
        change(Arc::make_mut(&mut latest));
    }
}

struct Listener<T> {
    queue: Sender<T>,
    /// Which numbered items it wants; `None` for everything, also what is not kept.
    wants: Option<fn(&T) -> bool>,
    backlog: Arc<Backlog>,
}

impl<T: Clone> Listener<T> {
    /// Whether the listener keeps up, and so goes on listening.
    fn hear(&self, item: &T, weight: usize) -> bool {
        let waiting = self.backlog.bytes.load(Ordering::Acquire);
        if waiting > 0 && waiting + weight > SUBSCRIBER_BYTES {
            self.backlog.lagged.store(true, Ordering::Release);
            return false;
        }
        // Before it can be taken out again.
        self.backlog.bytes.fetch_add(weight, Ordering::AcqRel);
        match self.queue.try_send(item.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.backlog.lagged.store(true, Ordering::Release);
                false
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// What waits for one subscriber.
#[derive(Debug, Default)]
struct Backlog {
    bytes: AtomicUsize,
    /// It became too much.
    lagged: AtomicBool,
}

/// The items of one subscription, as [`Receiver`] gives them.
pub struct Items<T> {
    queue: Receiver<T>,
    weigh: fn(&T) -> usize,
    backlog: Arc<Backlog>,
}

impl<T> Items<T> {
    /// See [`Receiver::clear`].
    pub fn clear(&self) {
        self.queue.clear();
    }

    /// The next item, if one is there.
    ///
    /// # Errors
    /// As [`Receiver::try_recv`].
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.queue.try_recv().inspect(|item| self.taken(item))
    }

    /// See [`Receiver::recv`].
    pub fn recv(&self) -> Option<T> {
        self.queue.recv().inspect(|item| self.taken(item))
    }

    fn taken(&self, item: &T) {
        let weight = (self.weigh)(item);
        self.backlog.bytes.fetch_sub(weight, Ordering::AcqRel);
    }
}

impl<T> AsFd for Items<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

struct Inner<T> {
    ring: VecDeque<(u64, T)>,
    /// What the ring weighs.
    weight: usize,
    listeners: Vec<Listener<T>>,
    newest: u64,
    /// The number before the first that can be told of: what came before was said in an earlier life.
    before: u64,
    /// The newest number that was kept and no longer is; 0 for none.
    forgotten: u64,
    closed: bool,
}

/// One stream of items. The lock is a leaf: held for a push, never across IO.
pub struct Topic<T> {
    inner: Mutex<Inner<T>>,
    keep: usize,
    weigh: fn(&T) -> usize,
    most: usize,
    listening: AtomicUsize,
}

/// What a subscriber holds.
pub struct Subscription<T> {
    /// Wait on it; `Disconnected` means dropped or closed.
    pub items: Items<T>,
    /// Items with a number above the asked one, oldest first: to be sent before anything live.
    pub replay: Vec<(u64, T)>,
    /// The oldest number still kept when something between it and the asked one is gone.
    pub gap: Option<u64>,
    /// How many are gone, where there is a gap.
    pub missing: u64,
    /// The newest number when the subscription began.
    pub newest: u64,
    /// The oldest number that was kept then; the next one where none is.
    pub oldest: u64,
}

impl<T> Subscription<T> {
    /// Whether the subscriber was dropped for being slow.
    pub fn lagged(&self) -> bool {
        self.items.backlog.lagged.load(Ordering::Acquire)
    }
}

impl<T: Clone> Topic<T> {
    /// A topic that keeps the last `keep` numbered items.
    pub fn new(keep: usize) -> Self {
        Self::after(keep, 0)
    }

    /// A topic whose numbers go on after `newest`, said in an earlier life and no longer kept.
    pub fn after(keep: usize, newest: u64) -> Self {
        Self {
            inner: Mutex::new(Inner {
                ring: VecDeque::new(),
                weight: 0,
                listeners: Vec::new(),
                newest,
                before: newest,
                forgotten: 0,
                closed: false,
            }),
            keep,
            weigh: |_| 0,
            most: usize::MAX,
            listening: AtomicUsize::new(0),
        }
    }

    /// The same topic, whose items have so many bytes each: what waits for a subscriber is bounded by them too.
    #[must_use]
    pub fn weighing(mut self, weigh: fn(&T) -> usize) -> Self {
        self.weigh = weigh;
        self
    }

    /// As [`Topic::weighing`], and what is kept weighs at most `most` together; the newest item is always kept.
    #[must_use]
    pub fn at_most(mut self, most: usize, weigh: fn(&T) -> usize) -> Self {
        (self.most, self.weigh) = (most, weigh);
        self
    }

    /// Whether anybody listens to what is not kept: lets a publisher skip making such an item.
    pub fn heard(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    /// Says it to all. Numbered items are kept for later subscribers.
    pub fn publish(&self, number: Option<u64>, item: &T) {
        let weight = (self.weigh)(item);
        let mut inner = self.inner.lock();
        if let Some(number) = number {
            inner.newest = number;
            self.make_room(&mut inner, weight);
            inner.ring.push_back((number, item.clone()));
        }
        inner.listeners.retain(|listener| {
            // Asked here and not by the listener: it sleeps on through what it does not want.
            if (listener.wants).is_some_and(|wants| number.is_none() || !wants(item)) {
                return true;
            }
            listener.hear(item, weight)
        });
        self.count(&inner);
    }

    fn make_room(&self, inner: &mut Inner<T>, weight: usize) {
        inner.weight += weight;
        while inner.ring.len() >= self.keep || inner.weight > self.most {
            let Some((number, oldest)) = inner.ring.pop_front() else {
                return;
            };
            inner.forgotten = number;
            inner.weight -= (self.weigh)(&oldest);
        }
    }

    fn count(&self, inner: &Inner<T>) {
        let all = inner.listeners.iter().filter(|l| l.wants.is_none()).count();
        self.listening.store(all, Ordering::Relaxed);
    }

    /// Listens from now on; `since` also asks for what is kept above that number.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn subscribe(&self, since: Option<u64>) -> io::Result<Subscription<T>> {
        self.listen(since, None)
    }

    /// As [`Topic::subscribe`], but live it hears only numbered items that `wants` accepts.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn subscribe_numbered(
        &self,
        since: Option<u64>,
        wants: fn(&T) -> bool,
    ) -> io::Result<Subscription<T>> {
        self.listen(since, Some(wants))
    }

    fn listen(
        &self,
        since: Option<u64>,
        wants: Option<fn(&T) -> bool>,
    ) -> io::Result<Subscription<T>> {
        let (queue, receiver) = mailbox(SUBSCRIBER_QUEUE)?;
        let items = Items {
            queue: receiver,
            weigh: self.weigh,
            backlog: Arc::default(),
        };
        let mut inner = self.inner.lock();
        // Whoever went away since the last publication gives its descriptor back now.
        inner
            .listeners
            .retain(|l| Arc::strong_count(&l.backlog) > 1);
        let oldest = inner.ring.front().map_or(inner.newest + 1, |(n, _)| *n);
        let (mut replay, mut gap) = (Vec::new(), None);
        if let Some(since) = since {
            replay = inner
                .ring
                .iter()
                .filter(|(n, _)| *n > since)
                .cloned()
                .collect();
            // Asking from 0 asks for what was said in this life, and nothing of an earlier one is missing then.
            let missing = match since {
                0 => inner.forgotten > 0,
                _ => since < inner.newest && oldest > since + 1,
            };
            gap = missing.then_some(oldest);
        }
        let newest = inner.newest;
        let known = since.filter(|since| *since > 0).unwrap_or(inner.before);
        let missing = gap.map_or(0, |oldest| oldest - known - 1);
        if !inner.closed {
            inner.listeners.push(Listener {
                queue,
                wants,
                backlog: items.backlog.clone(),
            });
        }
        self.count(&inner);
        Ok(Subscription {
            items,
            replay,
            gap,
            missing,
            newest,
            oldest,
        })
    }

    /// How many listen to everything now.
    pub fn listeners(&self) -> usize {
        self.listening.load(Ordering::Relaxed)
    }

    /// Ends all subscriptions, present and future; what is queued is still delivered.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.listeners.clear();
        self.listening.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain<T>(s: &Subscription<T>) -> Vec<T> {
        std::iter::from_fn(|| s.items.try_recv().ok()).collect()
    }

    #[test]
    fn a_late_subscriber_gets_what_is_kept_and_then_what_is_new() {
        let topic = Topic::new(3);
        for n in 1..=5 {
            topic.publish(Some(n), &n);
        }
        let s = topic.subscribe(Some(0)).expect("descriptors");
        assert_eq!(
            s.replay.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            [3, 4, 5]
        );
        assert_eq!(
            (s.gap, s.missing),
            (Some(3), 2),
            "who asks for all is told what is gone"
        );
        topic.publish(Some(6), &6);
        topic.publish(None, &99);
        assert_eq!(drain(&s), [6, 99]);
    }

    #[test]
    fn large_items_make_the_ring_short_and_a_returning_subscriber_hears_of_the_gap() {
        let topic = Topic::new(100).at_most(1000, String::len);
        for n in 1..=5 {
            topic.publish(Some(n), &"x".repeat(300));
        }
        topic.publish(Some(6), &"x".repeat(5000));
        let s = topic.subscribe(Some(4)).expect("descriptors");
        assert_eq!(s.replay.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [6]);
        assert_eq!(s.gap, Some(6));
        topic.publish(Some(7), &"x".repeat(300));
        topic.publish(Some(8), &"x".repeat(300));
        let s = topic.subscribe(Some(0)).expect("descriptors");
        assert_eq!(s.replay.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [7, 8]);
    }

    #[test]
    fn a_returning_subscriber_hears_of_a_gap_only_if_there_is_one() {
        let topic = Topic::new(3);
        for n in 1..=5 {
            topic.publish(Some(n), &n);
        }
        assert_eq!(topic.subscribe(Some(1)).expect("descriptors").gap, Some(3));
        assert_eq!(topic.subscribe(Some(2)).expect("descriptors").gap, None);
        assert_eq!(topic.subscribe(Some(5)).expect("descriptors").gap, None);
    }

    #[test]
    fn a_subscriber_of_an_earlier_life_hears_of_the_gap() {
        let topic = Topic::after(3, 1000);
        topic.publish(Some(1001), &1001);
        assert_eq!(
            topic.subscribe(Some(17)).expect("descriptors").gap,
            Some(1001)
        );
        assert_eq!(topic.subscribe(Some(1000)).expect("descriptors").gap, None);
        let fresh = topic.subscribe(Some(0)).expect("descriptors");
        assert_eq!(fresh.gap, None, "nothing of this life is missing");
        for n in 1002..=1005 {
            topic.publish(Some(n), &n);
        }
        let fresh = topic.subscribe(Some(0)).expect("descriptors");
        assert_eq!((fresh.gap, fresh.missing), (Some(1003), 2));
    }

    #[test]
    fn a_subscriber_to_numbered_items_is_spared_the_rest_and_does_not_ask_for_it() {
        let topic = Topic::new(3);
        let odd = |n: &u64| n % 2 == 1;
        let s = topic.subscribe_numbered(None, odd).expect("descriptors");
        assert!(!topic.heard());
        topic.publish(None, &99);
        topic.publish(Some(1), &1);
        topic.publish(Some(2), &2);
        assert_eq!(drain(&s), [1]);
    }

    #[test]
    fn subscribers_that_come_and_go_leave_nothing_behind() {
        let topic = Topic::<u8>::new(1);
        for _ in 0..100 {
            drop(topic.subscribe(None).expect("descriptors"));
        }
        assert!(topic.inner.lock().listeners.len() <= 1);
    }

    #[test]
    fn a_slow_subscriber_is_dropped_and_told() {
        let topic = Topic::new(1);
        let s = topic.subscribe(None).expect("descriptors");
        for n in 0..=SUBSCRIBER_QUEUE as u64 {
            topic.publish(None, &n);
        }
        assert!(s.lagged());
        assert!(!topic.heard());
        assert_eq!(drain(&s).len(), SUBSCRIBER_QUEUE);
    }

    #[test]
    fn a_subscriber_that_leaves_too_many_bytes_waiting_is_dropped_and_told() {
        let topic = Topic::new(0).weighing(String::len);
        let s = topic.subscribe(None).expect("descriptors");
        let (giant, half) = (
            "x".repeat(2 * SUBSCRIBER_BYTES),
            "x".repeat(SUBSCRIBER_BYTES / 2),
        );
        topic.publish(None, &giant);
        assert_eq!(drain(&s).len(), 1, "a single one is always taken");
        for _ in 0..10 {
            topic.publish(None, &half);
            topic.publish(None, &half);
            assert_eq!(drain(&s).len(), 2, "who keeps up is kept");
        }
        for _ in 0..3 {
            topic.publish(None, &half);
        }
        assert!(s.lagged());
        assert_eq!(drain(&s).len(), 2);
    }
}
