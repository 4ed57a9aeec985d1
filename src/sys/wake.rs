//! Queues that a thread can wait on together with descriptors: a bounded channel beside a wake descriptor, so that one
//! `poll` covers sockets, terminals and messages, and nothing wakes when nothing happens.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{TryRecvError, TrySendError, bounded};

/// A descriptor that becomes readable when poked.
#[derive(Debug)]
pub struct Wake {
    read: OwnedFd,
    /// The other end of a pipe where there is no eventfd.
    write: Option<OwnedFd>,
    poked: AtomicBool,
}

impl Wake {
    /// Makes one, not poked.
    ///
    /// # Errors
    /// When the process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        {
            use rustix::event::{EventfdFlags, eventfd};
            let read = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            Ok(Self {
                read,
                write: None,
                poked: AtomicBool::new(false),
            })
        }
        #[cfg(not(target_os = "linux"))]
        {
            let (read, write) = rustix::pipe::pipe()?;
            for end in [&read, &write] {
                rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC)?;
                rustix::io::ioctl_fionbio(end, true)?;
            }
            Ok(Self {
                read,
                write: Some(write),
                poked: AtomicBool::new(false),
            })
        }
    }

    /// Makes the descriptor readable. Repeated pokes before a [`Wake::clear`] cost nothing.
    pub fn poke(&self) {
        if !self.poked.swap(true, Ordering::AcqRel) {
            let end = self.write.as_ref().unwrap_or(&self.read);
            // A full pipe or counter is readable already, which is all a poke wants.
            let _ = rustix::io::write(end, &1u64.to_ne_bytes());
        }
    }

    /// Makes it unreadable again. Look at your queue after this, not before, or a poke in between is lost.
    pub fn clear(&self) {
        let mut sink = [0; 64];
        let _ = rustix::io::read(&self.read, &mut sink);
        self.poked.swap(false, Ordering::AcqRel);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// How many urgent messages wait. Full means that the receiver is wedged.
const URGENT: usize = 64;

/// The sending end of a [`mailbox`].
#[derive(Debug)]
pub struct Sender<T> {
    queue: Option<crossbeam_channel::Sender<T>>,
    urgent: Option<crossbeam_channel::Sender<T>>,
    wake: Arc<Wake>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            urgent: self.urgent.clone(),
            wake: self.wake.clone(),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // The queue first, so that a receiver who wakes finds it closed.
        self.queue = None;
        self.urgent = None;
        self.wake.poke();
    }
}

impl<T> Sender<T> {
    /// Makes the receiver look at its queue, and at whatever else it looks at then.
    pub fn wake(&self) {
        self.wake.poke();
    }

    /// Sends without waiting.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or nobody receives any more.
    pub fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let Some(queue) = &self.queue else {
            return Err(TrySendError::Disconnected(message));
        };
        let sent = queue.try_send(message);
        self.wake.poke();
        sent
    }

    /// Sends without waiting, past everything that was sent in the ordinary way: for orders that must not find the queue
    /// full of somebody else's messages.
    ///
    /// # Errors
    /// As [`Sender::try_send`], for a queue of its own.
    pub fn try_send_urgent(&self, message: T) -> Result<(), TrySendError<T>> {
        let Some(queue) = &self.urgent else {
            return Err(TrySendError::Disconnected(message));
        };
        let sent = queue.try_send(message);
        self.wake.poke();
        sent
    }

    /// Sends, waiting for room.
    ///
    /// # Errors
    /// Gives the message back when nobody receives any more.
    pub fn send(&self, message: T) -> Result<(), T> {
        match self.try_send(message) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(message)) => Err(message),
            Err(TrySendError::Full(message)) => {
                let Some(queue) = &self.queue else {
                    return Err(message);
                };
                let sent = queue.send(message).map_err(|e| e.0);
                self.wake.poke();
                sent
            }
        }
    }
}

/// The receiving end of a [`mailbox`]. Wait for its descriptor, call [`Receiver::clear`], then take until empty.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: crossbeam_channel::Receiver<T>,
    urgent: crossbeam_channel::Receiver<T>,
    wake: Arc<Wake>,
}

impl<T> Receiver<T> {
    /// See [`Wake::clear`].
    pub fn clear(&self) {
        self.wake.clear();
    }

    /// The next message, if one is there.
    ///
    /// # Errors
    /// `Empty` for none now, `Disconnected` for none ever again.
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        self.urgent.try_recv().or_else(|_| self.queue.try_recv())
    }

    /// Sleeps until there is an ordinary message, for whoever has nothing else to wait for; `None` for none ever again.
    pub fn recv(&self) -> Option<T> {
        self.queue.recv().ok()
    }
}

impl<T> AsFd for Receiver<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// A queue of at most `size` messages whose receiver can be polled.
///
/// # Errors
/// When the process has no descriptors left.
pub fn mailbox<T>(size: usize) -> io::Result<(Sender<T>, Receiver<T>)> {
    let (send, receive) = bounded(size);
    let (send_urgent, urgent) = bounded(URGENT);
    let wake = Arc::new(Wake::new()?);
    let sender = Sender {
        queue: Some(send),
        urgent: Some(send_urgent),
        wake: wake.clone(),
    };
    let receiver = Receiver {
        queue: receive,
        urgent,
        wake,
    };
    Ok((sender, receiver))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    fn readable(fd: &impl AsFd, millis: i64) -> bool {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        let wait = Timespec {
            tv_sec: millis / 1000,
            tv_nsec: (millis % 1000) * 1_000_000,
        };
        poll(&mut fds, Some(&wait)).expect("poll") == 1
    }

    #[test]
    fn a_message_makes_the_descriptor_readable_until_cleared() {
        let (tx, rx) = mailbox(4).expect("descriptors");
        assert!(!readable(&rx, 0));
        tx.try_send(1).expect("room");
        tx.try_send(2).expect("room");
        assert!(readable(&rx, 5000));
        rx.clear();
        assert!(!readable(&rx, 0));
        assert_eq!((rx.try_recv().ok(), rx.try_recv().ok()), (Some(1), Some(2)));
    }

    #[test]
    fn the_last_sender_going_away_is_noticed() {
        let (tx, rx) = mailbox::<u8>(1).expect("descriptors");
        let other = tx.clone();
        drop(tx);
        rx.clear();
        assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
        drop(other);
        assert!(readable(&rx, 5000));
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    }

    #[test]
    fn an_urgent_message_gets_past_a_full_queue() {
        let (tx, rx) = mailbox(1).expect("descriptors");
        tx.try_send('a').expect("room");
        tx.try_send_urgent('!').expect("room of its own");
        rx.clear();
        assert_eq!(
            (rx.try_recv().ok(), rx.try_recv().ok()),
            (Some('!'), Some('a'))
        );
    }

    #[test]
    fn a_full_queue_refuses_and_gives_the_message_back() {
        let (tx, _rx) = mailbox(1).expect("descriptors");
        tx.try_send('a').expect("room");
        assert!(matches!(tx.try_send('b'), Err(TrySendError::Full('b'))));
    }
}
