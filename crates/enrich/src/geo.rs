//! Country, region and city of an address, from a database that the operator supplies (a file in MaxMind's format, as many
//! vendors sell and give away). None is shipped: their licences ask for an agreement with each user.

use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

/// Where an address is, as the database knows it. Empty: unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Country, two letters of ISO 3166-1, for example `AT`.
    pub country: String,
    /// Region: ISO 3166-2 where the database has the code, for example `AT-9`; else its English name.
    pub region: String,
    /// English name of the city.
    pub city: String,
}

/// A database of places.
pub struct Places {
    reader: Reader<Vec<u8>>,
}

/// What is no database of places.
#[derive(Debug, thiserror::Error)]
#[error("it is no database in MaxMind's format (`.mmdb`)")]
pub struct NoPlaces {
    #[source]
    source: maxminddb::MaxMindDbError,
}

impl Places {
    /// Of a file's bytes. They stay in memory: a file mapped into it that is overwritten in place would end the process.
    ///
    /// # Errors
    /// [`NoPlaces`] if they are something else.
    pub fn read(bytes: Vec<u8>) -> Result<Self, NoPlaces> {
        let reader = Reader::from_source(bytes).map_err(|source| NoPlaces { source })?;
        Ok(Self { reader })
    }

    /// The database's own name of its kind, for example `GeoLite2-City`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn made_seconds(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Where `address` is. That of a network (`192.0.2.0`) stands for the network.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Place {
        // An IPv6 address in a database of IPv4 is as unknown as one that it does not have.
        let Ok(found) = self.reader.lookup(address) else { return Place::default() };
        let text = |path: &[PathElement<'_>]| found.decode_path::<&str>(path).ok().flatten().unwrap_or_default();
        let key = PathElement::Key;
        let first = PathElement::Index(0);
        // Databases of other vendors are flat.
        let country = [text(&[key("country"), key("iso_code")]), text(&[key("country_code")])];
        let country = country.into_iter().find(|code| is_code(code)).unwrap_or_default();
        let region = match text(&[key("subdivisions"), first.clone(), key("iso_code")]) {
            code if code.is_empty() || country.is_empty() => {
                text(&[key("subdivisions"), first, key("names"), key("en")]).to_owned()
            }
            code => format!("{country}-{code}"),
        };
        let city = text(&[key("city"), key("names"), key("en")]);
        Place { country: country.to_owned(), region, city: city.to_owned() }
    }
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "places of {}", self.kind())
    }
}

fn is_code(code: &str) -> bool {
    code.len() == 2 && code.bytes().all(|letter| letter.is_ascii_uppercase())
}

#[cfg(test)]
mod tests;
