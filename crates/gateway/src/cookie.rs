//! The first-party id: a cookie of the gateway's own domain, for projects that want one.

use hyper::HeaderMap;
use hyper::header::{COOKIE, HeaderName, HeaderValue};

const NAME: &str = "_trackway_id";

/// A year, from each visit on. Browsers cut longer ones.
const MAX_AGE_SECONDS: u32 = 365 * 24 * 3600;

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The id that the browser brings, if it is one that we gave.
pub(crate) fn id(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let id = pairs.find(|(name, _)| *name == NAME)?.1;
    // Whatever else stands there was not given by us, and is no id to store.
    (id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')).then_some(id)
}

/// Gives the id, or gives it for another year.
pub(crate) fn give(id: &str, headers: &HeaderMap) -> HeaderValue {
    // Beacons of another site carry the cookie only with `SameSite=None`, which browsers take over TLS only. A gateway on
    // the site's own domain needs neither.
    let secure = headers.get(FORWARDED_PROTO).is_some_and(|proto| proto == "https");
    let same_site = if secure { "None; Secure" } else { "Lax" };
    let text = format!("{NAME}={id}; Max-Age={MAX_AGE_SECONDS}; Path=/; HttpOnly; SameSite={same_site}");
    HeaderValue::from_str(&text).expect("an id of hexadecimal digits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_of_ours_is_taken() {
        let check = |cookie: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_str(cookie).expect("a header"));
            assert_eq!(id(&headers), expected, "{cookie}");
        };
        let ours = "8c5c3ab0-95ab-4d5c-8d4c-2f0c8c5c3ab0";
        check(&format!("a=b; {NAME}={ours}; c=d"), Some(ours));
        check(&format!("x{NAME}={ours}"), None);
        check(&format!("{NAME}=<script>"), None);
        check("", None);
        assert!(give(ours, &HeaderMap::new()).to_str().expect("text").contains("SameSite=Lax"));
        let mut tls = HeaderMap::new();
        tls.insert(FORWARDED_PROTO, HeaderValue::from_static("https"));
        assert!(give(ours, &tls).to_str().expect("text").ends_with("SameSite=None; Secure"));
    }
}
