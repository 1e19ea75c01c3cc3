//! Over a small database of documentation's networks, written by hand here: `tests/places.mmdb` is what [`database`] makes.

use std::net::IpAddr;

use super::*;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places.mmdb");

/// A value of a record.
enum Value {
    Text(&'static str),
    Short(u16),
    Number(u32),
    Long(u64),
    Map(Vec<(&'static str, Value)>),
    List(Vec<Value>),
}

use Value::{List, Long, Map, Number, Short, Text};

impl Value {
    /// As "MaxMind DB File Format Specification" 2.0 has it.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Text(text) => {
                out.push(2 << 5 | u8::try_from(text.len()).expect("short"));
                out.extend_from_slice(text.as_bytes());
            }
            Short(number) => {
                out.push(5 << 5 | 2);
                out.extend_from_slice(&number.to_be_bytes());
            }
            // Kinds above 7 say theirs in a second byte.
            Long(number) => {
                out.extend([8, 9 - 7]);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Number(number) => {
                out.push(6 << 5 | 4);
                out.extend_from_slice(&number.to_be_bytes());
            }
            Map(entries) => {
                out.push(7 << 5 | u8::try_from(entries.len()).expect("short"));
                for (key, value) in entries {
                    Text(key).write(out);
                    value.write(out);
                }
            }
            List(values) => {
                out.extend([u8::try_from(values.len()).expect("short"), 4]);
                values.iter().for_each(|value| value.write(out));
            }
        }
    }
}

fn english(name: &'static str) -> Value {
    Map(vec![("names", Map(vec![("en", Text(name))]))])
}

fn networks() -> Vec<(&'static str, u32, Value)> {
    let country = |code| ("country", Map(vec![("iso_code", Text(code))]));
    vec![
        (
            "192.0.2.0",
            24,
            Map(vec![
                country("AT"),
                ("subdivisions", List(vec![Map(vec![("iso_code", Text("9")), ("names", Map(vec![]))])])),
                ("city", english("Vienna")),
            ]),
        ),
        ("198.51.100.0", 25, Map(vec![country("US")])),
        ("203.0.113.0", 24, Map(vec![("country_code", Text("FR"))])),
        ("203.0.114.0", 24, Map(vec![country("Narnia"), ("city", Text("flat"))])),
        ("2001:db8::", 48, Map(vec![country("DE"), ("subdivisions", List(vec![english("Bavaria")]))])),
    ]
}

/// The bytes of a database with these networks.
fn database() -> Vec<u8> {
    let mut data = Vec::new();
    // Records are a number of a node, or above [`DATA`] an offset of data.
    const DATA: usize = 1 << 20;
    let mut nodes: Vec<[Option<usize>; 2]> = vec![[None; 2]];
    for (address, bits, value) in networks() {
        let (address, bits) = match address.parse().expect("an address") {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), bits + 96),
            IpAddr::V6(v6) => (v6.to_bits(), bits),
        };
        let mut node = 0;
        for bit in 0..bits {
            let side = usize::from(address >> (127 - bit) & 1 == 1);
            if bit + 1 == bits {
                nodes[node][side] = Some(DATA + data.len());
            } else {
                let next = nodes.len();
                let known = *nodes[node][side].get_or_insert(next);
                if known == next {
                    nodes.push([None; 2]);
                }
                node = known;
            }
        }
        value.write(&mut data);
    }
    let mut out = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            None => nodes.len(),
            Some(data) if *data >= DATA => nodes.len() + 16 + data - DATA,
            Some(node) => *node,
        };
        out.extend_from_slice(&u32::try_from(number).expect("small").to_be_bytes()[1..]);
    }
    out.extend([0; 16]);
    out.extend(data);
    out.extend(b"\xab\xcd\xefMaxMind.com");
    let metadata = Map(vec![
        ("binary_format_major_version", Short(2)),
        ("binary_format_minor_version", Short(0)),
        ("build_epoch", Long(1_700_000_000)),
        ("database_type", Text("Trackway-Test")),
        ("description", Map(vec![])),
        ("ip_version", Short(6)),
        ("languages", List(vec![Text("en")])),
        ("node_count", Number(u32::try_from(nodes.len()).expect("few"))),
        ("record_size", Short(24)),
    ]);
    metadata.write(&mut out);
    out
}

#[test]
fn the_file_is_what_is_written_here() {
    // After a change: cargo test -p trackway-enrich -- --ignored write_the_file
    assert!(std::fs::read(FILE).expect("the file") == database());
}

#[test]
#[ignore = "writes the file that other tests read"]
fn write_the_file() {
    std::fs::write(FILE, database()).expect("written");
}

#[test]
fn addresses_and_networks_have_the_place_of_their_network() {
    let places = Places::read(database()).expect("a database");
    assert_eq!((places.kind(), places.made_seconds()), ("Trackway-Test", 1_700_000_000));
    for (address, country, region, city) in [
        ("192.0.2.0", "AT", "AT-9", "Vienna"),
        ("192.0.2.255", "AT", "AT-9", "Vienna"),
        ("192.0.3.0", "", "", ""),
        ("198.51.100.0", "US", "", ""),
        ("198.51.100.128", "", "", ""),
        ("203.0.113.1", "FR", "", ""),
        ("203.0.114.1", "", "", ""),
        ("2001:db8::", "DE", "Bavaria", ""),
        ("2001:db8:1::", "", "", ""),
        ("127.0.0.1", "", "", ""),
    ] {
        let found = places.find(address.parse().expect("an address"));
        assert_eq!((&*found.country, &*found.region, &*found.city), (country, region, city), "{address}");
    }
}

#[test]
fn what_is_no_database_says_so() {
    for bytes in [Vec::new(), b"text".to_vec(), database()[..200].to_vec()] {
        let error = Places::read(bytes).expect_err("no database");
        assert!(error.to_string().contains(".mmdb"), "{error}");
    }
}
