//! Standard input, output and error, as others leave them to us: perhaps non-blocking, because a parent shares them, and
//! perhaps read by nobody. [`Patient`] waits where the stream says "not now". Lines for standard error can be queued
//! ([`queue`]), so that a reader who stopped reading stops a thread that does nothing else.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::sys::thread;

/// A stream that is waited for, also when somebody made it non-blocking: the flag belongs to all who share the stream, so
/// it cannot be taken away. It has no buffer.
#[derive(Debug)]
pub struct Patient<T>(T);

/// Standard input.
pub fn input() -> Patient<io::Stdin> {
    Patient(io::stdin())
}

/// Standard output.
pub fn output() -> Patient<io::Stdout> {
    Patient(io::stdout())
}

/// Standard error.
pub fn error() -> Patient<io::Stderr> {
    Patient(io::stderr())
}

impl<T: AsFd> Patient<T> {
    fn until_done<R>(
        &self,
        interest: PollFlags,
        mut work: impl FnMut(&T) -> Result<R, Errno>,
    ) -> io::Result<R> {
        loop {
            match work(&self.0) {
                Err(Errno::AGAIN) => {
                    // Whatever this finds, the next try says it better.
                    let _ = poll(&mut [PollFd::new(&self.0, interest)], None);
                }
                Err(Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }
}

impl<T: AsFd> Read for Patient<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.until_done(PollFlags::IN, |stream| {
            rustix::io::read(stream, &mut *buffer)
        })
    }
}

impl<T: AsFd> Write for Patient<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.until_done(PollFlags::OUT, |stream| rustix::io::write(stream, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many lines wait for the writer. Full means that a line is lost, and counted.
const LINES: usize = 4096;
/// How many bytes they may have together, likewise.
const BYTES: usize = 1024 * 1024;

enum Item {
    Line(Vec<u8>),
    /// Open the file anew, and say how that went.
    Reopen(Sender<io::Result<()>>),
    /// Everything before it is written once this is dropped.
    Mark(#[allow(dead_code)] Sender<()>),
}

/// Where queued lines go.
trait Outlet: Write {
    /// Begins anew under the same name, because somebody has moved what was there; where there is no name it goes on.
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: AsFd> Outlet for Patient<T> {}

/// A log file, its owner's alone.
struct LogFile {
    path: PathBuf,
    file: File,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = open_log(&path)?;
        Ok(Self { path, file })
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    let mut how = File::options();
    how.append(true).create(true).mode(0o600);
    how.open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outlet for LogFile {
    fn reopen(&mut self) -> io::Result<()> {
        self.file = open_log(&self.path)?;
        if ERROR_IS_LOG.load(Ordering::Acquire) {
            rustix::stdio::dup2_stderr(&self.file)?;
        }
        Ok(())
    }
}

/// Lines on their way to a stream, and what became of those for which there was no room.
struct Queue {
    items: Sender<Item>,
    bytes: AtomicUsize,
    lost: AtomicU64,
}

impl Queue {
    fn new() -> (Self, Receiver<Item>) {
        let (items, rest) = bounded(LINES);
        let queue = Self {
            items,
            bytes: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
        };
        (queue, rest)
    }

    /// Takes a line if there is room for it. Never waits.
    fn line(&self, line: Vec<u8>) {
        let length = line.len();
        let before = self.bytes.fetch_add(length, Ordering::AcqRel);
        if before + length > BYTES || self.items.try_send(Item::Line(line)).is_err() {
            self.bytes.fetch_sub(length, Ordering::AcqRel);
            self.lost.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Takes a line however many wait: waits for room, and then until it is written, for a time each.
    fn insist(&self, line: Vec<u8>, limit: Duration) {
        self.bytes.fetch_add(line.len(), Ordering::AcqRel);
        let _ = self.items.send_timeout(Item::Line(line), limit);
        self.flush(limit);
    }

    /// Waits until everything so far is written, for a time.
    fn flush(&self, limit: Duration) {
        let (mark, written) = bounded(0);
        if self.items.send_timeout(Item::Mark(mark), limit).is_ok() {
            let _ = written.recv_timeout(limit);
        }
    }

    /// Writes what comes, for ever. Losses are told when everything that was taken before them is written.
    fn write_all(&self, items: &Receiver<Item>, to: &mut dyn Outlet, lost: &dyn Fn(u64) -> String) {
        for item in items {
            match item {
                Item::Line(line) => {
                    // A stream that is broken is told nothing; there is nobody else to tell.
                    let _ = to.write_all(&line);
                    self.bytes.fetch_sub(line.len(), Ordering::AcqRel);
                }
                Item::Reopen(asked) => {
                    let _ = asked.send(to.reopen());
                }
                // Dropped at the end of this turn, when losses are told too.
                Item::Mark(_) => {}
            }
            if items.is_empty() {
                let count = self.lost.swap(0, Ordering::AcqRel);
                if count > 0 {
                    let _ = to.write_all(lost(count).as_bytes());
                }
            }
        }
    }
}

/// The queue of this process's standard error, once there is one.
static ERROR: OnceLock<Arc<Queue>> = OnceLock::new();
/// Whether its lines go to a file instead.
static TO_FILE: AtomicBool = AtomicBool::new(false);
/// Whether standard error itself is that file, too.
static ERROR_IS_LOG: AtomicBool = AtomicBool::new(false);

/// Makes standard error a log file, also for what libraries write there without asking; it is opened anew with that file.
///
/// # Errors
/// When the file cannot be opened.
pub fn redirect_error(to: &Path) -> io::Result<()> {
    rustix::stdio::dup2_stderr(open_log(to)?)?;
    ERROR_IS_LOG.store(true, Ordering::Release);
    Ok(())
}

/// Has standard output lead nowhere, for a process that nobody listens to.
///
/// # Errors
/// Where there is no `/dev/null`.
pub fn silence_output() -> io::Result<()> {
    let nowhere = File::options().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(nowhere)?)
}

/// From now on lines for standard error are written by a thread of their own, to `file` if there is one. `lost` makes the
/// line that says how many there was no room for.
///
/// # Errors
/// When the file cannot be opened, or there is no thread to be had.
pub fn queue(
    file: Option<PathBuf>,
    lost: impl Fn(u64) -> String + Send + 'static,
) -> io::Result<()> {
    let to_file = file.is_some();
    let mut outlet: Box<dyn Outlet + Send> = match file {
        Some(path) => Box::new(LogFile::open(path)?),
        None => Box::new(error()),
    };
    let (queue, items) = Queue::new();
    let queue = Arc::new(queue);
    let written = queue.clone();
    // Without its thread there is no queue, so that the reason can still be said.
    thread::start("stderr", 128, move || {
        written.write_all(&items, &mut *outlet, &lost);
    })?;
    if ERROR.set(queue).is_ok() {
        TO_FILE.store(to_file, Ordering::Release);
    }
    Ok(())
}

/// Bytes for standard error, whole lines with their ends: queued if there is a queue.
pub fn complain(lines: &[u8]) {
    match ERROR.get() {
        Some(queue) => queue.line(lines.to_vec()),
        None => {
            // If even that is closed there is nobody to tell.
            let _ = error().write_all(lines);
        }
    }
}

/// As [`complain`] for what must arrive, such as the reason of an end: it is not lost because others fill the queue, and
/// waits for a reader, at most `limit` for room and as long again to be written.
pub fn insist(lines: &[u8], limit: Duration) {
    match ERROR.get() {
        Some(queue) => {
            queue.insist(lines.to_vec(), limit);
            if TO_FILE.load(Ordering::Acquire) {
                speak_up(lines.to_vec(), limit);
            }
        }
        None => complain(lines),
    }
}

/// To standard error itself, which nobody may read.
fn speak_up(lines: Vec<u8>, limit: Duration) {
    let started = thread::start("last word", 64, move || {
        let _ = error().write_all(&lines);
    });
    if let Ok(speaker) = started {
        speaker.ends_within(limit);
    }
}

/// Waits, for a time, until what was written to standard error is read, where somebody may be reading it as it comes. Only a
/// pipe tells whether that is so; the reader of a socket gets a moment.
pub fn until_read(limit: Duration) {
    use rustix::fs::FileType;
    let error = io::stderr();
    let Ok(found) = rustix::fs::fstat(&error) else {
        return;
    };
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo => {
            let mut left = limit;
            while rustix::io::ioctl_fionread(&error).is_ok_and(|waiting| waiting > 0)
                && !left.is_zero()
            {
                std::thread::sleep(MOMENT / 10);
                left = left.saturating_sub(MOMENT / 10);
            }
            std::thread::sleep(MOMENT / 4);
        }
        FileType::Socket => std::thread::sleep(MOMENT),
        _ => {}
    }
}

/// How long a process may take from being able to read to having read.
const MOMENT: Duration = Duration::from_millis(250);

/// Opens the log file anew, once what was queued before is written: somebody has moved it away. Without one nothing is done.
///
/// # Errors
/// When there is no such file to be had; lines go on into the old one.
pub fn reopen(limit: Duration) -> io::Result<()> {
    let Some(queue) = ERROR.get() else {
        return Ok(());
    };
    let (asked, done) = bounded(1);
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    queue
        .items
        .send_timeout(Item::Reopen(asked), limit)
        .map_err(|_| late())?;
    done.recv_timeout(limit).map_err(|_| late())?
}

/// Gives what was queued so far the time to be written.
pub fn flush(limit: Duration) {
    if let Some(queue) = ERROR.get() {
        queue.flush(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::thread::tests::within;

    fn pipe() -> (std::os::fd::OwnedFd, std::os::fd::OwnedFd) {
        rustix::pipe::pipe().expect("a pipe")
    }

    #[test]
    fn a_non_blocking_stream_is_waited_for_in_both_directions() {
        within("all is read that was written", || {
            let (from, to) = pipe();
            rustix::io::ioctl_fionbio(&from, true).expect("ours");
            rustix::io::ioctl_fionbio(&to, true).expect("ours");
            // More than any pipe holds.
            let much = vec![b'x'; 3 << 20];
            let expected = much.clone();
            let writer = std::thread::spawn(move || Patient(to).write_all(&much));
            let mut read = Vec::new();
            Patient(from).read_to_end(&mut read).expect("all of it");
            writer.join().expect("no panic").expect("all of it");
            assert!(read == expected);
        });
    }

    #[test]
    fn lines_that_nobody_reads_hold_nobody_up_and_their_number_is_told_later() {
        within("the number of lost lines is told", || {
            let (from, to) = pipe();
            let (queue, items) = Queue::new();
            let queue = Arc::new(queue);
            let (offered, kept) = (LINES * 2, queue.clone());
            let writer = std::thread::spawn(move || {
                let lost = |count| format!("lost {count}\n");
                kept.write_all(&items, &mut Patient(to), &lost);
            });
            let line = [&[b'x'; 199][..], b"\n"].concat();
            for _ in 0..offered {
                queue.line(line.clone());
            }
            queue.flush(Duration::from_millis(10));
            let mut reader = io::BufReader::new(Patient(from));
            let (mut read, mut told) = (0, None);
            while told.is_none() {
                let mut text = String::new();
                io::BufRead::read_line(&mut reader, &mut text).expect("a line");
                match text.strip_prefix("lost ") {
                    Some(count) => told = count.trim().parse::<usize>().ok(),
                    None => read += 1,
                }
            }
            assert!(read < offered, "a pipe holds less");
            assert_eq!(told, Some(offered - read));
            drop(reader);
            queue.flush(Duration::from_secs(10));
            drop(queue);
            drop(writer);
        });
    }

    #[test]
    fn the_reason_of_an_end_arrives_behind_a_full_queue() {
        let (from, to) = pipe();
        let (queue, items) = Queue::new();
        let queue = Arc::new(queue);
        let kept = queue.clone();
        std::thread::spawn(move || {
            kept.write_all(&items, &mut Patient(to), &|_| String::new());
        });
        let line = [&[b'x'; 199][..], b"\n"].concat();
        for _ in 0..LINES * 2 {
            queue.line(line.clone());
        }
        let speaker = std::thread::spawn(move || {
            queue.insist(b"the reason\n".to_vec(), Duration::from_secs(60));
        });
        let reader = io::BufReader::new(Patient(from));
        let found = io::BufRead::lines(reader).map_while(Result::ok);
        assert!(found.into_iter().any(|line| line == "the reason"));
        speaker.join().expect("no panic");
    }

    #[test]
    fn few_large_lines_are_bounded_too() {
        let (queue, items) = Queue::new();
        for _ in 0..10 {
            queue.line(vec![b'x'; BYTES / 4]);
        }
        assert_eq!(items.len(), 4);
        assert_eq!(queue.lost.load(Ordering::Acquire), 6);
    }
}
