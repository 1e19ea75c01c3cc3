//! Networks of addresses.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network: all addresses that share its first bits. IPv4 lies within IPv6 as `::ffff:a.b.c.d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    first: u128,
    last: u128,
}

/// What is no network.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no network. Write it as 192.0.2.0/24, 192.0.2.*, 2001:db8::/32, or one address")]
pub struct NoRange {
    text: String,
}

impl FromStr for AddressRange {
    type Err = NoRange;

    fn from_str(text: &str) -> Result<Self, NoRange> {
        let no_range = || NoRange { text: text.to_owned() };
        if let Some(range) = starred(text) {
            return Ok(range);
        }
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

/// `192.0.*.*`: the stars are whole octets, and the last.
fn starred(text: &str) -> Option<AddressRange> {
    let mut rest = text;
    let mut stars = 0;
    while let Some(before) = rest.strip_suffix(".*") {
        (rest, stars) = (before, stars + 1);
    }
    if stars == 0 {
        return None;
    }
    format!("{rest}{}/{}", ".0".repeat(stars), 32 - 8 * stars.min(4)).parse().ok()
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
    /// None.
    pub const NONE: Self = Self(Vec::new());

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

#[cfg(test)]
mod tests {
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
        assert!(AddressRanges::new(vec!["0.0.0.0/0".parse().expect("all of IPv4")]).contains(ip("255.0.0.1")));
        assert!(AddressRanges::new(vec!["::/0".parse().expect("everything")]).contains(ip("1.2.3.4")));
    }

    #[test]
    fn stars_are_octets() {
        for (starred, network) in
            [("192.0.2.*", "192.0.2.0/24"), ("192.0.*.*", "192.0.0.0/16"), ("10.*.*.*", "10.0.0.0/8")]
        {
            assert_eq!(starred.parse::<AddressRange>(), network.parse(), "{starred}");
        }
    }

    #[test]
    fn what_is_no_network_says_so() {
        for text in [
            "",
            "10.0.0.0/33",
            "2001:db8::/129",
            "host",
            "10.0.0.0/x",
            "10.0.0/8",
            "10.*",
            "10.*.0.0",
            "a.*.*.*",
            "10.0.0.*/24",
            "*",
            "1.2.3.4.*",
        ] {
            assert!(
                text.parse::<AddressRange>().is_err_and(|error| error.to_string().starts_with(&format!("`{text}`")))
            );
        }
    }
}
