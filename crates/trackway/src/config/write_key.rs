//! A project's write key in the settings: a text, or a table where it has limits of its own.

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A write key: its text, or a table with limits of its own.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteKey {
    /// The key.
    pub key: String,
    /// Pages that may use it; empty: all.
    pub origins: Vec<String>,
    /// Whether browsers may not use it.
    pub servers_only: bool,
    /// 0: as many as come.
    pub events_per_second_max: u32,
    /// 0: as many as come.
    pub events_per_day_max: u64,
}

/// [`WriteKey`] as a table.
#[derive(Serialize, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct WriteKeyTable {
    key: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    servers_only: bool,
    #[serde(skip_serializing_if = "is_zero")]
    events_per_second_max: u64,
    #[serde(skip_serializing_if = "is_zero")]
    events_per_day_max: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<&str> for WriteKey {
    fn from(key: &str) -> Self {
        Self { key: key.to_owned(), ..Self::default() }
    }
}

impl Serialize for WriteKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if *self == Self::from(self.key.as_str()) {
            return serializer.serialize_str(&self.key);
        }
        let table = WriteKeyTable {
            key: self.key.clone(),
            origins: self.origins.clone(),
            servers_only: self.servers_only,
            events_per_second_max: self.events_per_second_max.into(),
            events_per_day_max: self.events_per_day_max,
        };
        table.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for WriteKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTable;
        impl<'de> Visitor<'de> for TextOrTable {
            type Value = WriteKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a write key as text, or a table with `key` and its limits")
            }

            fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<WriteKey, E> {
                Ok(WriteKey::from(key))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<WriteKey, A::Error> {
                let table = WriteKeyTable::deserialize(MapAccessDeserializer::new(map))?;
                let rate = u32::try_from(table.events_per_second_max);
                let rate = rate.map_err(|_| serde::de::Error::custom("events_per_second_max is above 4294967295"))?;
                Ok(WriteKey {
                    key: table.key,
                    origins: table.origins,
                    servers_only: table.servers_only,
                    events_per_second_max: rate,
                    events_per_day_max: table.events_per_day_max,
                })
            }
        }
        deserializer.deserialize_any(TextOrTable)
    }
}
