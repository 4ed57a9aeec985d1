//! The name under which the program is upstream's broker.

use std::ffi::OsString;
use std::path::Path;

/// The name by which the program is upstream's broker.
pub const UPSTREAM_NAME: &str = "agent-relay-broker";
/// Whether the program was started under upstream's name, with or without a platform behind it.
pub fn is_upstream(args: &[OsString]) -> bool {
    let name = args.first().and_then(|name| Path::new(name).file_name());
    name.and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with(UPSTREAM_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_upstreams_by_its_name_alone() {
        let named = |name: &str| is_upstream(&[name.into(), "init".into()]);
        assert!(named("/opt/bin/agent-relay-broker"));
        assert!(named("agent-relay-broker-linux-x64"));
        assert!(!named("/agent-relay-broker/relay-broker"));
        assert!(!is_upstream(&[]));
    }
}
