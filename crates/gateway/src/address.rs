//! Whose address a request has, and what is kept of it.

use std::net::{IpAddr, Ipv6Addr};

use hyper::HeaderMap;
use hyper::header::HeaderName;
use trackway_enrich::network::AddressRanges;

use crate::IpPolicy;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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
