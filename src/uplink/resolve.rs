//! From a host's name to its addresses, within a deadline, for calls and for the link. The system's resolver knows none, so
//! a thread of its own waits for it; an address is its own answer. Where no thread is to be had that is an error like
//! others, with the limit's name.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crossbeam_channel::bounded;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::sys::{clock, limits, thread};
use crate::time::Mono;

/// How many addresses of one name are tried.
const ADDRESSES: usize = 16;
/// How long a call may wait for them that has no time of its own.
const LONGEST: Duration = Duration::from_secs(60);

/// The addresses of a name.
///
/// # Errors
/// When there are none, or not in time, or there is no thread to wait for them.
pub(super) fn resolve(host: &str, port: u16, until: Mono) -> io::Result<Vec<SocketAddr>> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = plain.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (found, wait) = bounded(1);
    let name = host.to_owned();
    let asking = thread::start("resolve", 256, move || {
        let addresses = (name.as_str(), port).to_socket_addrs();
        let _ = found.try_send(addresses.map(Iterator::collect::<Vec<_>>));
    });
    let named = |e: &io::Error, why: &str| io::Error::new(e.kind(), format!("{host}: {why}"));
    asking.map_err(|e| named(&e, &limits::explain(&e)))?;
    match wait.recv_timeout(left(until)?) {
        Ok(addresses) => addresses.map_err(|e| named(&e, &e.to_string())),
        Err(_) => Err(late(&format!("the address of {host}"))),
    }
}

/// What is left of the time.
///
/// # Errors
/// When nothing is.
pub(super) fn left(until: Mono) -> io::Result<Duration> {
    let left = until.since(clock::now().mono);
    if left.is_zero() {
        return Err(late("a connection"));
    }
    Ok(left)
}

/// That something did not come in time.
pub(super) fn late(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} did not come in time"),
    )
}

/// The same for calls over HTTP: the library's own resolver panics where no thread is to be had.
#[derive(Debug)]
pub(super) struct HostResolver;

impl Resolver for HostResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let bad = || ureq::Error::BadUri(uri.to_string());
        let usual = match uri.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            _ => return Err(bad()),
        };
        let host = uri.host().ok_or_else(bad)?;
        let until = clock::now().mono + (*timeout.after).min(LONGEST);
        let found = resolve(host, uri.port_u16().unwrap_or(usual), until)?;
        let mut addresses = self.empty();
        found
            .into_iter()
            .take(ADDRESSES)
            .for_each(|address| addresses.push(address));
        match addresses.is_empty() {
            true => Err(ureq::Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Mono {
        clock::now().mono + Duration::from_secs(30)
    }

    #[test]
    fn an_address_is_its_own_answer_also_in_brackets() {
        for (host, found) in [
            ("127.0.0.1", "127.0.0.1:81"),
            ("::1", "[::1]:81"),
            ("[::1]", "[::1]:81"),
        ] {
            let addresses = resolve(host, 81, soon()).expect("an address");
            assert_eq!(addresses, [found.parse().expect("an address")]);
        }
    }

    #[test]
    fn a_name_that_is_not_looked_up_in_time_is_named() {
        let error = resolve("engine.invalid", 1, clock::now().mono).expect_err("no time");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
