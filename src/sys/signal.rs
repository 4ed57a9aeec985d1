//! Signals: what a parent left behind is put right, those that ask the process to leave become plain messages (one thread
//! blocked in the signal pipe, no wake-ups), and stray ones do nothing.

use std::io;
use std::sync::Arc;

use signal_hook::consts as known;
use signal_hook::iterator::Signals;

/// What a daemon does about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalWish {
    /// TERM, INT: leave.
    Stop,
    /// QUIT: say how things stand, and leave.
    DumpAndStop,
    /// USR1: say how things stand.
    Dump,
    /// USR2: go on as another version of the program.
    Upgrade,
    /// HUP: open the log file anew. Never a reason to leave.
    Reopen,
}

/// What asks a process to leave.
const STOPS: [i32; 4] = [known::SIGTERM, known::SIGINT, known::SIGQUIT, known::SIGHUP];
/// What would end the process by default although nobody means that: scripts that take us for another daemon, timers that
/// outlive an `exec`, a power supply, and a file that may not grow, which is an error for whoever writes it. Those of real
/// time, with which some programs talk among themselves, are stray too.
const STRAY: &[i32] = &[
    known::SIGUSR1,
    known::SIGUSR2,
    known::SIGALRM,
    known::SIGVTALRM,
    known::SIGPROF,
    known::SIGIO,
    known::SIGXFSZ,
    known::SIGXCPU,
    #[cfg(target_os = "linux")]
    libc::SIGPWR,
    #[cfg(target_os = "linux")]
    libc::SIGSTKFLT,
];

#[cfg(target_os = "linux")]
fn real_time() -> std::ops::RangeInclusive<i32> {
    libc::SIGRTMIN()..=libc::SIGRTMAX()
}

#[cfg(not(target_os = "linux"))]
fn real_time() -> [i32; 0] {
    []
}

/// First of all in the program's life, before there are threads: a parent that had signals blocked hands that down, and
/// one that had SIGCHLD ignored lets the kernel take the exit statuses of our children.
pub fn settle() {
    // SAFETY: an empty set is a valid one, the calls keep nothing of what they are given, and no other thread exists.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// For the process that becomes an agent's program: every signal does what it does in a new terminal, whatever the parent
/// of the broker had ignored.
pub fn forget() {
    settle();
    for signal in 1..=64 {
        // SAFETY: default actions run no code of ours. The kernel refuses numbers it does not have, KILL and STOP.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// The signals out of `all` that whoever started this process did not have ignored. `nohup` and shells that start a job in
/// the background mean it to go on when the others end.
pub fn heeded(all: &[i32]) -> Vec<i32> {
    all.iter().copied().filter(|s| !is_ignored(*s)).collect()
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: nothing is set, and the structure, for which zeroes are a value, outlives the call.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut now) == 0
            && now.sa_sigaction == libc::SIG_IGN
    }
}

/// Blocks until somebody asks the process to leave. The second return is the second signal, which means "now".
pub struct Stops(Signals);

impl Stops {
    /// Takes over those of TERM, INT, QUIT and HUP that are not ignored, and makes stray signals harmless. PID 1 has no
    /// default actions, so the handlers must be explicit.
    ///
    /// # Errors
    /// When the handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let stray: Vec<i32> = STRAY.iter().copied().chain(real_time()).collect();
        for signal in heeded(&stray) {
            // A handler, because ignoring would be handed down to children.
            signal_hook::flag::register(signal, Arc::default())?;
        }
        Ok(Self(Signals::new(heeded(&STOPS))?))
    }

    /// As [`Stops::listen`] for a process that stays: a hang-up, USR1 and USR2 are wishes too.
    ///
    /// # Errors
    /// As [`Stops::listen`].
    pub fn listen_as_daemon() -> io::Result<Self> {
        let stops = Self::listen()?;
        for signal in heeded(&[known::SIGUSR1, known::SIGUSR2]) {
            stops.0.add_signal(signal)?;
        }
        Ok(stops)
    }

    /// Waits for the next one, as a daemon takes it; `None` once closed.
    pub fn wish(&mut self) -> Option<SignalWish> {
        Some(match self.wait()? {
            known::SIGHUP => SignalWish::Reopen,
            known::SIGUSR1 => SignalWish::Dump,
            known::SIGUSR2 => SignalWish::Upgrade,
            known::SIGQUIT => SignalWish::DumpAndStop,
            _ => SignalWish::Stop,
        })
    }

    /// A handle that ends the waiting from another thread.
    pub fn closer(&self) -> signal_hook::iterator::Handle {
        self.0.handle()
    }

    /// Waits for the next one; `None` once closed.
    pub fn wait(&mut self) -> Option<i32> {
        self.0.forever().next()
    }
}
