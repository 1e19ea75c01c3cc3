//! A page's address, taken apart.

/// Host and path of an address. Empty where the address has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page<'a> {
    /// Host, as written, without `www.` and port.
    pub host: &'a str,
    /// Path from its first slash on, `/` if the address ends with the host.
    pub path: &'a str,
    /// What stands between `?` and `#`.
    pub query: &'a str,
}

/// Takes an address apart; a bare path is one without a host. Anything else foreign gives empty parts, never an error.
#[must_use]
pub fn parse(address: &str) -> Page<'_> {
    let (rest, has_host) = match address.find("://") {
        Some(at) if address[..at].bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')) => {
            (&address[at + 3..], true)
        }
        _ => match address.strip_prefix("//") {
            Some(rest) => (rest, true),
            None => (address, false),
        },
    };
    let rest = rest.split('#').next().unwrap_or_default();
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !has_host {
        let path = if before_query.starts_with('/') { before_query } else { "" };
        return Page { host: "", path, query };
    }
    let (authority, path) = match before_query.find('/') {
        Some(at) => before_query.split_at(at),
        None => (before_query, "/"),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    Page { host: host.strip_prefix("www.").unwrap_or(host), path, query }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, host: &str, path: &str, query: &str) {
        assert_eq!(parse(address), Page { host, path, query }, "{address}");
    }

    #[test]
    fn addresses_come_apart() {
        check("https://www.shop.example/a/b?x=1#top", "shop.example", "/a/b", "x=1");
        check("http://u:p@shop.example:8080", "shop.example", "/", "");
        check("https://[::1]:80/x", "[::1]", "/x", "");
        check("//shop.example/x", "shop.example", "/x", "");
        check("/only/path?q", "", "/only/path", "q");
        check("android-app://com.example/x", "com.example", "/x", "");
    }

    #[test]
    fn foreign_text_gives_empty_parts() {
        check("", "", "", "");
        check("not an address", "", "", "");
        check("?a=b", "", "", "a=b");
    }
}
