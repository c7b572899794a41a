//! The names this service answers to.

use std::net::{IpAddr, SocketAddr};

/// Which Host headers are ours. A foreign page that points its own name at
/// this address (DNS rebinding) arrives with that name and is refused; an
/// address literal cannot be pointed elsewhere.
#[derive(Clone, Debug)]
pub struct HostRules {
    listen: IpAddr,
    names: Vec<String>,
}

impl HostRules {
    /// Loopback names, the address listened on, and the configured names.
    #[must_use]
    pub fn new(listen: SocketAddr, allowed: &[String]) -> Self {
        Self {
            listen: listen.ip(),
            names: allowed.to_vec(),
        }
    }

    /// Whether a request to `host` (with or without port) is meant for us.
    #[must_use]
    pub fn allow(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        match name.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => {
                address.is_loopback() || self.listen.is_unspecified() || address == self.listen
            }
            Err(_) => name == "localhost" || self.names.contains(&name),
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_own_are_allowed() {
        let local = HostRules::new(
            ([127, 0, 0, 1], 9502).into(),
            &["hearth.example.org".into()],
        );
        for host in [
            "localhost",
            "LOCALHOST:9502",
            "127.0.0.1:9502",
            "127.9.9.9",
            "[::1]:9502",
            "hearth.example.org:443",
        ] {
            assert!(local.allow(host), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "10.0.0.1:9502",
            "",
            ":9502",
        ] {
            assert!(!local.allow(host), "{host}");
        }
        let wide = HostRules::new(([0, 0, 0, 0], 9502).into(), &[]);
        assert!(wide.allow("10.0.0.1:9502"));
        assert!(!wide.allow("evil.example"));
    }
}
