use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::Text;

/// Longest origin, in bytes: a DNS name has at most 253.
const BYTES_MAX: usize = 253 + "https://:65535".len();

/// Where HTTP requests go to: scheme, host and port. RFC 6454, section 4.
///
/// Written as in `https://api.example.org` or `http://127.0.0.1:8080`: in lower case, without the scheme's own port, with
/// nothing after it. IPv6 addresses stand in brackets.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Origin(String);

impl Origin {
    /// The origin of `scheme`, `host` and `port`, as far as there is one: names and scheme in any case.
    ///
    /// # Errors
    /// [`InvalidOrigin`].
    pub fn new(scheme: &str, host: &str, port: Option<u16>) -> Result<Self, InvalidOrigin> {
        let scheme = scheme.to_ascii_lowercase();
        let port = port.filter(|port| Some(*port) != default_port(&scheme));
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{scheme}://{}{port}", host.to_ascii_lowercase()).parse()
    }

    /// As it's written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether requests are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.starts_with("https:")
    }

    /// The host: a name or an address, the latter without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = split(&self.0).map_or("", |(_, host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        let port = split(&self.0).and_then(|(scheme, _, port)| match port {
            Some(port) => port.parse().ok(),
            None => default_port(scheme),
        });
        port.unwrap_or(0)
    }
}

/// The text isn't an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "origin {0:?} must be like https://api.example.org or http://127.0.0.1:8080: in lower case, without the scheme's own port, with nothing after it"
)]
pub struct InvalidOrigin(String);

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let holds = split(text).is_some_and(|(scheme, host, port)| {
            let port_holds = port.is_none_or(|port| {
                let number = port.parse::<u16>();
                number.is_ok_and(|n| {
                    n > 0 && n.to_string() == port && default_port(scheme) != Some(n)
                })
            });
            default_port(scheme).is_some() && is_host(host) && port_holds
        });
        if !holds || text.len() > BYTES_MAX {
            return Err(InvalidOrigin(text.chars().take(80).collect()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Origin {
    type Error = InvalidOrigin;

    fn try_from(text: String) -> Result<Self, InvalidOrigin> {
        text.parse()
    }
}

impl From<Origin> for String {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl BorshDeserialize for Origin {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        Text::<BYTES_MAX>::deserialize_reader(reader)?.as_str().parse().map_err(io::Error::other)
    }
}

/// Scheme, host (an IPv6 address with its brackets) and port, if it's written.
fn split(text: &str) -> Option<(&str, &str, Option<&str>)> {
    let (scheme, rest) = text.split_once("://")?;
    let end_of_host = rest.rfind(']').map_or(0, |end| end + 1);
    match rest[end_of_host..].split_once(':') {
        Some((more, port)) => Some((scheme, &rest[..end_of_host + more.len()], Some(port))),
        None => Some((scheme, rest, None)),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "https" => Some(443),
        "http" => Some(80),
        _ => None,
    }
}

/// A DNS name in lower case (letters, digits, hyphens, dots), an IPv4 address, or an IPv6 address in its one short form.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address);
    }
    let is_label = |label: &str| {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    (1..=253).contains(&host.len()) && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_taken_apart() {
        for (text, https, host, port) in [
            ("https://api.example.org", true, "api.example.org", 443),
            ("http://127.0.0.1:8080", false, "127.0.0.1", 8080),
            ("http://[::1]:8080", false, "::1", 8080),
            ("http://[::1]", false, "::1", 80),
        ] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!((origin.is_https(), origin.host(), origin.port()), (https, host, port));
        }
    }

    #[test]
    fn each_origin_has_one_form() {
        for text in [
            "",
            "api.example.org",
            "ftp://a",
            "https://",
            "https://A",
            "https://a/",
            "https://a/b",
            "https://a:443",
            "http://a:80",
            "https://a:0443",
            "https://a:0",
            "https://a:65536",
            "https://a:",
            "https://user@a",
            "https://a?b",
            "https://a..b",
            "https://*.a",
            "http://[::0:1]",
            "http://[::1",
            "http://::1",
            "https://é",
        ] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }

    #[test]
    fn written_out_parts_make_the_one_form() {
        let origin = Origin::new("HTTPS", "API.example.org", Some(443)).unwrap();
        assert_eq!(origin.as_str(), "https://api.example.org");
    }
}
