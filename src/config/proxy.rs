//! Which HTTP proxy, if any, leads to an engine: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in the spellings and with the
//! meaning that curl and most programs give them. This machine itself is never behind a proxy.

use std::net::IpAddr;

use tungstenite::http::Uri;

use super::env::Env;
use super::error::ConfigError;
use crate::msg::Secret;
use crate::net::http::{decode, endpoint};
use crate::uplink::proxy::Proxy;

/// The proxy for an engine's base URL.
///
/// # Errors
/// When the variable that applies does not name an HTTP proxy; it is named, and its value is not shown, since it may hold
/// a password.
pub(super) fn proxy_for(url: &str, env: &Env) -> Result<Option<Proxy>, ConfigError> {
    let Some(engine) = url.parse::<Uri>().ok().and_then(|uri| Target::of(&uri)) else {
        return Ok(None);
    };
    if engine.is_here() {
        return Ok(None);
    }
    let names: &[&'static str] = if url.starts_with("https:") {
        &["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
    } else {
        &["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
    };
    let Some((name, value)) = env.first(names)? else {
        return Ok(None);
    };
    if let Some((_, exceptions)) = env.first(&["NO_PROXY", "no_proxy"])?
        && engine.is_excepted(&exceptions)
    {
        return Ok(None);
    }
    parse(value.trim()).map(Some).ok_or_else(|| {
        ConfigError::of(name, format!(
            "{name} must be the URL of an HTTP proxy, such as http://proxy.example:3128, not of one that is itself spoken to \
             over TLS (https://) or SOCKS; set it so (what goes to an https engine is encrypted through it), or list the \
             engine's host in NO_PROXY"
        ))
    })
}

fn parse(value: &str) -> Option<Proxy> {
    let value = if value.contains("://") {
        value.to_owned()
    } else {
        format!("http://{value}")
    };
    let uri: Uri = value.parse().ok()?;
    if uri.scheme_str() != Some("http") {
        return None;
    }
    let target = Target::of(&uri)?;
    let login = uri
        .authority()?
        .as_str()
        .rsplit_once('@')
        .map(|(login, _)| {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            (decode(user), Secret::new(decode(password)))
        });
    Some(Proxy {
        host: target.host,
        port: target.port,
        login,
    })
}

/// A host and a port.
struct Target {
    /// In lower case, without brackets.
    host: String,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Option<Self> {
        let (host, port) = endpoint(uri)?;
        Some(Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn is_here(&self) -> bool {
        self.host == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }

    /// Whether a list such as `.corp.example, 10.0.0.0/8, engine:8787` names it.
    fn is_excepted(&self, list: &str) -> bool {
        list.split(',')
            .map(|entry| entry.trim().to_ascii_lowercase())
            .any(|entry| !entry.is_empty() && self.is_named_by(&entry))
    }

    fn is_named_by(&self, entry: &str) -> bool {
        if entry == "*" {
            return true;
        }
        if let Some(ip) = self.ip() {
            let entry = entry.trim_start_matches('[').trim_end_matches(']');
            return entry.parse() == Ok(ip) || in_network(ip, entry);
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (entry, None),
        };
        let domain = host.trim_start_matches('*').trim_start_matches('.');
        let below = self.host.strip_suffix(domain);
        let named =
            !domain.is_empty() && below.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        named && port.is_none_or(|port: u16| port == self.port)
    }
}

/// Whether `network` is written `address/bits` and holds the address.
fn in_network(ip: IpAddr, network: &str) -> bool {
    let Some((base, bits)) = network.split_once('/') else {
        return false;
    };
    let (Ok(base), Ok(bits)) = (base.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    let (ip, base, width) = match (ip, base) {
        (IpAddr::V4(ip), IpAddr::V4(base)) => (ip.to_bits().into(), base.to_bits().into(), 32),
        (IpAddr::V6(ip), IpAddr::V6(base)) => (ip.to_bits(), base.to_bits(), 128),
        _ => return false,
    };
    let differ: u128 = ip ^ base;
    bits <= width && (bits == 0 || differ >> (width - bits) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, pairs: &'static [(&'static str, &'static str)]) -> Option<String> {
        let env = Env::new(move |name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).into())
        });
        proxy_for(url, &env)
            .expect("a proxy or none")
            .map(|proxy| proxy.to_string())
    }

    #[test]
    fn each_scheme_has_its_variable_and_the_engine_on_this_machine_has_none() {
        const BOTH: &[(&str, &str)] = &[
            ("HTTPS_PROXY", "http://tls.example:3128"),
            ("http_proxy", "plain.example"),
        ];
        let tls = chosen("https://cast.example", BOTH);
        assert_eq!(tls.as_deref(), Some("tls.example:3128"));
        let plain = chosen("http://cast.example:8787", BOTH);
        assert_eq!(plain.as_deref(), Some("plain.example:80"));
        for here in [
            "http://127.0.0.1:8787",
            "http://localhost",
            "http://[::1]:1",
        ] {
            assert_eq!(chosen(here, BOTH), None, "{here}");
        }
        assert_eq!(chosen("https://cast.example", &[]), None);
        let all = chosen(
            "https://cast.example",
            &[("ALL_PROXY", "http://all.example:1")],
        );
        assert_eq!(all.as_deref(), Some("all.example:1"));
    }

    #[test]
    fn no_proxy_names_hosts_domains_ports_addresses_and_networks() {
        let target = |url: &str| Target::of(&url.parse().expect("a URL")).expect("a host");
        for (url, list, excepted) in [
            ("https://cast.example", "*", true),
            ("https://cast.example", "other, Example", true),
            ("https://cast.example", ".example", true),
            ("https://cast.example", "*.example", true),
            ("https://cast.example", "cast.example", true),
            ("https://broadcast.example", "cast.example", false),
            ("https://cast.example", "cast.example:443", true),
            ("https://cast.example", "cast.example:8443", false),
            ("https://cast.example", " , ", false),
            ("http://10.1.2.3:8787", "10.0.0.0/8", true),
            ("http://11.1.2.3:8787", "10.0.0.0/8", false),
            ("http://10.1.2.3:8787", "0.0.0.0/0", true),
            ("http://10.1.2.3:8787", "10.1.2.3", true),
            ("http://10.1.2.3:8787", "10.0.0.0/99", false),
            ("http://[fd00::1]:8787", "fd00::/8", true),
            ("http://[fd00::1]:8787", "[fd00::1]", true),
            ("http://10.1.2.3:8787", "fd00::/8", false),
        ] {
            assert_eq!(target(url).is_excepted(list), excepted, "{url} {list}");
        }
    }

    #[test]
    fn a_proxys_login_is_read_and_a_proxy_of_another_kind_is_refused_without_showing_it() {
        let proxy = parse("http://ann:s%40cret@proxy.example:3128/").expect("a proxy");
        let login = Some(("ann".to_owned(), Secret::new("s@cret")));
        assert_eq!((proxy.host.as_str(), proxy.login), ("proxy.example", login));
        let env = Env::new(|name| {
            (name == "HTTPS_PROXY").then(|| "socks5://ann:secret@proxy.example".into())
        });
        let error = proxy_for("https://cast.example", &env).expect_err("not HTTP");
        assert!(error.text.contains("HTTPS_PROXY"), "{error}");
        assert!(!error.text.contains("secret"), "{error}");
        let env = Env::new(|name| {
            (name == "HTTPS_PROXY").then(|| "https://ann:secret@proxy.example".into())
        });
        let error = proxy_for("https://cast.example", &env).expect_err("not plain");
        assert!(error.text.contains("over TLS (https://)"), "{error}");
        assert!(!error.text.contains("secret"), "{error}");
        for elsewhere in [
            "proxy.example:99999",
            "http://ann:secret@proxy.example:port",
        ] {
            assert_eq!(parse(elsewhere), None, "{elsewhere}");
        }
    }
}
