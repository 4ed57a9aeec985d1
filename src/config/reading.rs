//! Files that an operator names: read without waiting for ever, and without taking in something endless.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;

use crate::net::link;
use crate::sys::clock;

/// How long whoever writes into a pipe may take: a program that asks its user for a password first.
const PIPE_LIMIT: Duration = Duration::from_secs(60);

/// The text of a plain file of at most so many bytes. What lies there instead is said: a program may read it anew at any
/// time, which a pipe does not bear.
///
/// # Errors
/// When it is not there, is no plain file, is too long, is no text, or cannot be read.
pub(super) fn file(path: &Path, most: u64) -> io::Result<String> {
    let file = open(path)?;
    match what(&file)? {
        None => text(file, most),
        Some(what) => Err(io::Error::other(format!("it is {what} and not a file"))),
    }
}

/// The text of a file that holds one value. A pipe serves, as shells make them; something endless does not.
///
/// # Errors
/// As [`file`], and when nothing comes out of a pipe in time.
pub(super) fn value(path: &Path, most: u64) -> io::Result<String> {
    let file = open(path)?;
    match what(&file)? {
        None => text(file, most),
        Some(what @ ("a folder" | "a block device")) => {
            Err(io::Error::other(format!("it is {what} and not a file")))
        }
        Some(_) => text(PatientReader(file), most),
    }
}

/// Opens without waiting for whoever writes into a pipe of that name.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)
}

/// What it is, unless it is a plain file.
fn what(file: &File) -> io::Result<Option<&'static str>> {
    let found = file.metadata()?.file_type();
    Ok(match () {
        () if found.is_file() => None,
        () if found.is_dir() => Some("a folder"),
        () if found.is_fifo() => Some("a pipe"),
        () if found.is_char_device() => Some("a device"),
        () if found.is_block_device() => Some("a block device"),
        () => Some("something else"),
    })
}

fn text(from: impl Read, most: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let kib = most / 1024;
        return Err(io::Error::other(format!("it is longer than {kib} KiB")));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        io::Error::other(format!("line {line} is not UTF-8 text"))
    })
}

/// Waits for each piece, but not for ever.
struct PatientReader(File);

impl Read for PatientReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let until = clock::now().mono + PIPE_LIMIT;
        loop {
            let left = until.since(clock::now().mono);
            if left.is_zero() {
                let secs = PIPE_LIMIT.as_secs();
                let late = format!("nobody wrote into the pipe for {secs} s");
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
            let mut fds = [PollFd::new(&self.0, PollFlags::IN)];
            link::wait(&mut fds, Some(left))?;
            if fds[0].revents().is_empty() {
                continue;
            }
            match self.0.read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::disk::tests::Scratch;

    #[test]
    fn what_is_no_file_is_said_at_once() {
        let scratch = Scratch::new();
        let pipe = scratch.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("room");
        for (path, says) in [
            (pipe.as_path(), "it is a pipe and not a file"),
            (Path::new("/dev/zero"), "it is a device and not a file"),
            (scratch.path(), "it is a folder and not a file"),
        ] {
            let error = file(path, 1024).expect_err("no file").to_string();
            assert!(error.contains(says), "{error}");
        }
        let endless = value(Path::new("/dev/zero"), 64 * 1024).expect_err("endless");
        assert!(endless.to_string().contains("longer than 64 KiB"));
    }

    #[test]
    fn a_value_may_come_out_of_a_pipe_whenever_its_writer_comes() {
        let scratch = Scratch::new();
        let pipe = scratch.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).expect("room");
        let to = pipe.clone();
        let writer = crate::sys::thread::start("writer", 64, move || {
            drop(std::fs::write(&to, "rk_1\n"));
        });
        assert_eq!(value(&pipe, 1024).expect("read"), "rk_1\n");
        drop(writer);
    }

    #[test]
    fn what_is_no_text_is_named_by_its_line() {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, b"a\nb\xff").expect("room");
        let error = file(&path, 1024).expect_err("no text").to_string();
        assert!(error.contains("line 2 is not UTF-8"), "{error}");
    }
}
