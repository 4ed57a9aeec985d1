//! What a service manager tells the program by variables: its socket, the pace of its watchdog, and secrets in a folder.

use std::ffi::OsString;
use std::time::Duration;

use super::env::{Env, read_secret};
use super::error::ConfigError;

/// How often a watchdog wants to hear of us.
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
/// Of whom it wants to hear.
const WATCHDOG_PID: &str = "WATCHDOG_PID";

impl Env {
    /// The socket of the service manager (`NOTIFY_SOCKET`).
    pub fn notify_socket(&self) -> Option<OsString> {
        self.raw("NOTIFY_SOCKET")
    }

    /// Within which time the service manager wants to hear of the process `pid`, if it watches that one.
    ///
    /// # Errors
    /// When `WATCHDOG_USEC` or `WATCHDOG_PID` is no number.
    pub fn watchdog(&self, pid: u32) -> Result<Option<Duration>, ConfigError> {
        let of_another = self
            .number(WATCHDOG_PID)?
            .is_some_and(|it| it != u64::from(pid));
        let micros = self.number(WATCHDOG_USEC)?.filter(|micros| *micros > 0);
        Ok(micros.filter(|_| !of_another).map(Duration::from_micros))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.raw(name) else {
            return Ok(None);
        };
        let number = value.to_str().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| {
            ConfigError::of(name, format!(
                "{name} is {value:?}, which is no number; systemd sets it for services with WatchdogSec=, others unset it"
            ))
        })
    }

    /// A secret that the service manager keeps for us (systemd's `LoadCredential=`): the file of that name in the folder
    /// `CREDENTIALS_DIRECTORY`, if there is one.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is empty.
    pub(super) fn credential(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let path = self
            .path("CREDENTIALS_DIRECTORY")
            .map(|folder| folder.join(name));
        match path.filter(|path| path.exists()) {
            Some(path) => read_secret(&path, "CREDENTIALS_DIRECTORY").map(Some),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &'static [(&str, &str)]) -> Env {
        Env::new(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_watchdog_counts_only_for_the_process_that_it_names() {
        let second = Some(Duration::from_secs(1));
        let pace = |variables| env(variables).watchdog(7);
        assert_eq!(pace(&[]), Ok(None));
        assert_eq!(pace(&[("WATCHDOG_USEC", "1000000")]), Ok(second));
        assert_eq!(
            pace(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "7")]),
            Ok(second)
        );
        assert_eq!(
            pace(&[("WATCHDOG_USEC", "1000000"), ("WATCHDOG_PID", "8")]),
            Ok(None)
        );
        assert_eq!(pace(&[("WATCHDOG_USEC", "0")]), Ok(None));
    }

    #[test]
    fn a_watchdog_that_cannot_be_meant_is_named() {
        let wrong = env(&[("WATCHDOG_USEC", "1min")])
            .watchdog(7)
            .expect_err("no number");
        assert!(wrong.text.contains("WATCHDOG_USEC"), "{wrong}");
    }
}
