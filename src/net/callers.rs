//! Which names a server answers to: nothing is said to a browser page that reached us under another one, because a name
//! that resolves to loopback is how web pages reach local servers.

use std::net::{IpAddr, Ipv6Addr};

use super::http::Request;

/// Whether `Host` and `Origin` are ours: names of this machine, or among the `allowed` ones, which are addresses that the
/// server is bound to.
///
/// # Errors
/// Says which of them is not, and what would be.
pub fn check_caller(request: &Request, allowed: &[String]) -> Result<(), String> {
    match request.header("host") {
        Some(host) if host_name(host).is_some_and(|name| is_ours(name, allowed)) => {}
        Some(host) => {
            return Err(format!(
                "this API is not reachable as {host:?}; use 127.0.0.1, localhost or the address it is bound to"
            ));
        }
        None => return Err("the request has no Host header".into()),
    }
    match request.header("origin") {
        None => Ok(()),
        Some(origin) if origin_host(origin).is_some_and(is_loopback) => Ok(()),
        Some(origin) => Err(format!(
            "pages of {origin:?} may not use this API; only pages of this machine may"
        )),
    }
}

/// The name in `name`, `name:port`, `[v6]`, `[v6]:port` or a bare `v6`. Nothing may stand before, between or behind, for a
/// browser takes another part for the name.
fn host_name(host: &str) -> Option<&str> {
    if host.parse::<Ipv6Addr>().is_ok() {
        return Some(host);
    }
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']')?;
            address.parse::<Ipv6Addr>().ok()?;
            let port = behind.strip_prefix(':');
            (address, if behind.is_empty() { None } else { Some(port?) })
        }
        None => {
            let (name, port) = host
                .split_once(':')
                .map_or((host, None), |(n, p)| (n, Some(p)));
            let letter = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            name.chars().all(letter).then_some((name, port))?
        }
    };
    let is_port =
        |text: &str| text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit());
    port.is_none_or(is_port).then_some(name)
}

fn origin_host(origin: &str) -> Option<&str> {
    match origin.split_once("://")? {
        ("http" | "https", host) => host_name(host),
        _ => None,
    }
}

fn is_loopback(name: &str) -> bool {
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_ours(name: &str, allowed: &[String]) -> bool {
    if is_loopback(name) || allowed.iter().any(|a| a.eq_ignore_ascii_case(name)) {
        return true;
    }
    // Bound to every address we cannot list them; a literal is no name, so it cannot have been re-bound.
    let everywhere = allowed
        .iter()
        .any(|a| a.parse().is_ok_and(|a: IpAddr| a.is_unspecified()));
    everywhere && name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_its_loopback_names() {
        for host in [
            "127.0.0.1:3889",
            "127.0.0.1",
            "localhost:1",
            "LOCALHOST",
            "[::1]:3889",
            "127.9.9.9",
        ] {
            assert_eq!(
                check_caller(&Request::with_headers(&[("host", host)]), &[]),
                Ok(()),
                "{host}"
            );
        }
        for host in [
            "evil.example:3889",
            "127.0.0.1.evil.example",
            "localhost.evil",
            "10.0.0.1",
            "",
            "[::1",
            "0.0.0.0",
            "[::1].evil",
            "[::1]evil:80",
            "[::1]:",
            "[127.0.0.1]",
            "localhost:80@evil.example",
            "localhost:80:80",
            "localhost:+80",
            "localhost:99999",
            "evil.example/localhost",
            "127.0.0.1, evil.example",
        ] {
            assert!(
                check_caller(&Request::with_headers(&[("host", host)]), &[]).is_err(),
                "{host}"
            );
        }
        assert!(check_caller(&Request::with_headers(&[]), &[]).is_err());
    }

    #[test]
    fn a_broker_bound_elsewhere_is_known_by_that_address() {
        let bound = ["10.0.0.1".to_owned()];
        assert!(check_caller(&Request::with_headers(&[("host", "10.0.0.1:3889")]), &bound).is_ok());
        assert!(
            check_caller(&Request::with_headers(&[("host", "10.0.0.2:3889")]), &bound).is_err()
        );
        let everywhere = ["0.0.0.0".to_owned()];
        assert!(
            check_caller(
                &Request::with_headers(&[("host", "10.0.0.2:3889")]),
                &everywhere
            )
            .is_ok()
        );
        assert!(
            check_caller(
                &Request::with_headers(&[("host", "evil.example")]),
                &everywhere
            )
            .is_err()
        );
    }

    #[test]
    fn only_pages_of_this_machine_may_ask() {
        let from = |origin| Request::with_headers(&[("host", "localhost"), ("origin", origin)]);
        for origin in [
            "http://localhost:5173",
            "http://127.0.0.1",
            "https://[::1]:8",
        ] {
            assert!(check_caller(&from(origin), &[]).is_ok(), "{origin}");
        }
        for origin in [
            "null",
            "https://evil.example",
            "file://",
            "http://localhost.evil.example",
            "",
            "http://127.0.0.1:80@evil.example",
            "http://127.0.0.1@evil.example",
            "http://localhost:80/",
            "http://[::1].evil",
            "http://evil.example#://localhost",
            "http://localhost http://evil.example",
        ] {
            assert!(check_caller(&from(origin), &[]).is_err(), "{origin}");
        }
    }
}
