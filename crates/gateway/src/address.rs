//! Whose address a request has, and what is kept of it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use hyper::HeaderMap;
use hyper::header::HeaderName;

use crate::IpPolicy;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A network: all addresses that share its first bits. IPv4 lies within IPv6 as `::ffff:a.b.c.d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    first: u128,
    last: u128,
}

/// What is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no network. Write it as 192.0.2.0/24, 2001:db8::/32, or one address")]
pub struct NoRange {
    text: String,
}

impl FromStr for AddressRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let no_range = || NoRange { text: text.to_owned() };
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().map_err(|_| no_range())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| no_range())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let host_bits = width - bits.unwrap_or(width).min(width);
        if bits.is_some_and(|bits| bits > width) {
            return Err(no_range());
        }
        let hosts = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
        let number = number(address);
        Ok(Self { first: number & !hosts, last: number | hosts })
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Networks, to be searched.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AddressRanges(Vec<AddressRange>);

impl AddressRanges {
    /// Of these networks, in any order; they may overlap.
    #[must_use]
    pub fn new(mut ranges: Vec<AddressRange>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<AddressRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(before) if range.first <= before.last => before.last = before.last.max(range.last),
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    /// Whether one of them has `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let after = self.0.partition_point(|range| range.first <= number);
        after > 0 && number <= self.0[after - 1].last
    }

    /// How many there are, once those that overlap are one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for AddressRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} networks", self.0.len())
    }
}

/// The client's address: the peer's, unless the peer is a proxy of ours that says for whom it speaks.
///
/// Of `X-Forwarded-For` the last address counts that is not a proxy of ours: what stands before it is the client's own
/// word, which anyone can forge.
pub(crate) fn client(peer: IpAddr, headers: &HeaderMap, proxies: &AddressRanges) -> IpAddr {
    let peer = peer.to_canonical();
    if proxies.is_empty() || !proxies.contains(peer) {
        return peer;
    }
    let mut client = peer;
    let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
    let addresses: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    for text in addresses.iter().rev() {
        let Some(address) = parse(text) else { break };
        client = address;
        if !proxies.contains(address) {
            break;
        }
    }
    client
}

/// An address as it is written in headers and payloads: alone, with a port, or in brackets.
pub(crate) fn parse(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.parse::<IpAddr>().ok();
    let bare = bare.or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    bare.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
}

/// What is kept of an address, as text; empty if nothing.
pub(crate) fn kept(address: IpAddr, policy: IpPolicy) -> String {
    match (policy, address) {
        (IpPolicy::Drop, _) => String::new(),
        (IpPolicy::Keep, IpAddr::V4(v4)) => dotted(v4.octets()),
        (IpPolicy::Keep, IpAddr::V6(v6)) => v6.to_string(),
        (IpPolicy::Truncate, IpAddr::V4(v4)) => {
            let [a, b, c, _] = v4.octets();
            dotted([a, b, c, 0])
        }
        (IpPolicy::Truncate, IpAddr::V6(v6)) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).to_string(),
    }
}

/// As `Display` has it, without its 1,400 instructions: each request has one.
fn dotted(octets: [u8; 4]) -> String {
    let mut text = String::with_capacity(15);
    for (at, octet) in octets.into_iter().enumerate() {
        if at > 0 {
            text.push('.');
        }
        if octet >= 100 {
            text.push(char::from(b'0' + octet / 100));
        }
        if octet >= 10 {
            text.push(char::from(b'0' + octet / 10 % 10));
        }
        text.push(char::from(b'0' + octet % 10));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn ranges(texts: &[&str]) -> AddressRanges {
        AddressRanges::new(texts.iter().map(|text| text.parse().expect("a network")).collect())
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_range_has_its_first_and_last_address_and_no_other() {
        let ranges = ranges(&["10.0.0.0/30", "10.0.0.2/31", "2001:db8::/32", "192.0.2.7", "0.0.0.0/32"]);
        for inside in ["10.0.0.0", "10.0.0.3", "2001:db8::", "2001:db8:ffff::1", "192.0.2.7", "::ffff:192.0.2.7"] {
            assert!(ranges.contains(ip(inside).to_canonical()), "{inside}");
        }
        for outside in ["10.0.0.4", "9.255.255.255", "2001:db9::", "192.0.2.6", "192.0.2.8", "::"] {
            assert!(!ranges.contains(ip(outside)), "{outside}");
        }
        assert_eq!(ranges.len(), 4);
        assert!(super::AddressRanges::new(vec!["0.0.0.0/0".parse().expect("all of IPv4")]).contains(ip("255.0.0.1")));
        assert!(super::AddressRanges::new(vec!["::/0".parse().expect("everything")]).contains(ip("1.2.3.4")));
    }

    #[test]
    fn what_is_no_network_says_so() {
        for text in ["", "10.0.0.0/33", "2001:db8::/129", "host", "10.0.0.0/x", "10.0.0/8"] {
            assert!(
                text.parse::<AddressRange>().is_err_and(|error| error.to_string().starts_with(&format!("`{text}`")))
            );
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_who_the_client_is() {
        let proxies = ranges(&["10.0.0.0/8"]);
        let check = |peer: &str, forwarded: &[&str], expected: &str| {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append(FORWARDED_FOR, line.parse().expect("a header"));
            }
            assert_eq!(client(ip(peer), &headers, &proxies), ip(expected), "{peer} {forwarded:?}");
        };
        check("192.0.2.1", &["198.51.100.1"], "192.0.2.1");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.1"], "198.51.100.1");
        check("10.0.0.1", &["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1");
        check("10.0.0.1", &["6.6.6.6", "198.51.100.1:4711", "10.0.0.2"], "198.51.100.1");
        check("::ffff:10.0.0.1", &["[2001:db8::1]:80"], "2001:db8::1");
        check("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1");
    }

    #[test]
    fn octets_are_written_as_they_are_read() {
        for octet in 0..=255 {
            let address = Ipv4Addr::new(octet, 255 - octet, 0, octet);
            assert_eq!(dotted(address.octets()), address.to_string());
        }
    }

    #[test]
    fn a_truncated_address_is_its_network() {
        assert_eq!(kept(ip("192.0.2.77"), IpPolicy::Truncate), "192.0.2.0");
        assert_eq!(kept(ip("2001:db8:aa:bb:cc::1"), IpPolicy::Truncate), "2001:db8:aa::");
        assert_eq!(kept(ip("192.0.2.77"), IpPolicy::Keep), "192.0.2.77");
        assert_eq!(kept(ip("192.0.2.77"), IpPolicy::Drop), "");
    }
}
