//! The way to the service manager that started us (systemd, or whatever speaks as sd_notify(3) has it): one datagram of
//! `NAME=value` lines for each thing that it should know. Nothing is ever waited for but room in its socket, for a moment.

use std::ffi::OsStr;
use std::io;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::sys::clock;

/// How long a message may wait for room: a service manager that does not read must not stop a broker.
const ROOM_LIMIT: Duration = Duration::from_secs(1);

/// One thing that a service manager is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceState {
    /// The start, or what a reload asked for, is done.
    Ready,
    /// Settings are being read again.
    Reloading,
    /// The end has begun, and may take so long.
    Stopping(Duration),
    /// How things stand, in one line.
    Status(String),
    /// The process works.
    Watchdog,
}

impl ServiceState {
    fn lines(&self) -> String {
        match self {
            Self::Ready => "READY=1\n".into(),
            // The manager tells an answer to this reload from one to an earlier one by the time.
            Self::Reloading => {
                format!(
                    "RELOADING=1\nMONOTONIC_USEC={}\n",
                    clock::monotonic_micros()
                )
            }
            Self::Stopping(limit) => {
                format!(
                    "STOPPING=1\nEXTEND_TIMEOUT_USEC={}\n",
                    limit.as_micros().min(u128::from(u64::MAX))
                )
            }
            Self::Status(text) => {
                let one_line: String = text
                    .chars()
                    .map(|c| if c.is_control() { ' ' } else { c })
                    .collect();
                format!("STATUS={one_line}\n")
            }
            Self::Watchdog => "WATCHDOG=1\n".into(),
        }
    }
}

/// The service manager's socket.
#[derive(Debug)]
pub struct ServiceManager(UnixDatagram);

impl ServiceManager {
    /// Connects to the socket of that name: a path, or an abstract name behind an `@`.
    ///
    /// # Errors
    /// When the name is neither, or nobody listens there.
    pub fn connect(name: &OsStr) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(name)?)?;
        socket.set_write_timeout(Some(ROOM_LIMIT))?;
        Ok(Self(socket))
    }

    /// Tells it. One that is gone or does not read is told nothing, which only the log knows.
    pub fn tell(&self, states: &[ServiceState]) {
        let text: String = states.iter().map(ServiceState::lines).collect();
        if let Err(e) = self.0.send(text.as_bytes()) {
            log::debug!("the service manager cannot be told {text:?}: {e}");
        }
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    use std::os::unix::ffi::OsStrExt;
    match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', hidden @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(hidden)
        }
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a full path nor an abstract name",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_has_the_lines_that_the_manager_reads() {
        let lines = |state: ServiceState| state.lines();
        assert_eq!(lines(ServiceState::Ready), "READY=1\n");
        assert_eq!(lines(ServiceState::Watchdog), "WATCHDOG=1\n");
        assert_eq!(
            lines(ServiceState::Status("one\nREADY=1".into())),
            "STATUS=one READY=1\n"
        );
        assert_eq!(
            lines(ServiceState::Stopping(Duration::from_secs(2))),
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=2000000\n"
        );
        let reloading = lines(ServiceState::Reloading);
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
        assert!(
            at.is_some_and(|at| at.trim().parse::<u64>().is_ok_and(|at| at > 0)),
            "{reloading}"
        );
    }

    #[test]
    fn a_name_that_is_no_socket_is_an_error_and_no_panic() {
        for name in ["", "run/notify", "vsock:2:9999", "/nowhere/at/all"] {
            ServiceManager::connect(OsStr::new(name)).expect_err(name);
        }
    }
}
