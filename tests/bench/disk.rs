//! What this disk takes for what the journal does at each commit, and how to make it take longer.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::now_ns;

/// Bytes of one append; a commit of the journal for a message has a few hundred.
const BYTES: usize = 200;

/// A file beside the journals, written as they are.
pub struct Disk {
    file: File,
    added: Duration,
}

impl Disk {
    /// A new file. The delay is slept here, because the library that adds it is loaded into the broker alone.
    pub fn open(path: &Path, delay: Option<&Delay>) -> io::Result<Disk> {
        let file = File::options().append(true).create(true).open(path)?;
        let added = delay.map_or(Duration::ZERO, |delay| delay.added);
        Ok(Disk { file, added })
    }

    /// Nanoseconds of one append with its fdatasync.
    pub fn one(&mut self) -> io::Result<u64> {
        let begin = now_ns();
        self.file.write_all(&[b'x'; BYTES])?;
        self.file.sync_data()?;
        if !self.added.is_zero() {
            thread::sleep(self.added);
        }
        Ok(now_ns() - begin)
    }
}

/// A library that makes every fdatasync of a process take longer: it is loaded before the C library. Tracing the process
/// instead would slow all its other calls down too.
pub struct Delay {
    library: PathBuf,
    pub added: Duration,
}

impl Delay {
    /// Builds it with the C compiler that Rust links with.
    pub fn build(dir: &Path, added: Duration) -> io::Result<Delay> {
        let (source, library) = (dir.join("delay.c"), dir.join("delay.so"));
        let text = format!(
            "#define _GNU_SOURCE\n#include <errno.h>\n#include <sys/syscall.h>\n#include <time.h>\n#include <unistd.h>\n\
             int fdatasync(int fd) {{\n\
             \x20 int result = (int)syscall(SYS_fdatasync, fd), kept = errno;\n\
             \x20 struct timespec added = {{ {}, {} }};\n\
             \x20 nanosleep(&added, 0);\n\
             \x20 errno = kept;\n\
             \x20 return result;\n}}\n",
            added.as_secs(),
            added.subsec_nanos()
        );
        std::fs::write(&source, text)?;
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .status()?;
        if !built.success() {
            return Err(io::Error::other(
                "cc cannot build the library that delays fdatasync",
            ));
        }
        let delay = Delay { library, added };
        let mut once = Command::new(std::env::current_exe()?);
        once.arg("sync").arg(dir.join("once"));
        delay.put_on(&mut once);
        let out = once.output()?;
        let took: Option<u64> = String::from_utf8_lossy(&out.stdout).trim().parse().ok();
        if took.is_none_or(|ns| u128::from(ns) < added.as_nanos()) {
            return Err(io::Error::other(
                "fdatasync cannot be delayed on this system",
            ));
        }
        Ok(delay)
    }

    pub fn put_on(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library);
    }
}
