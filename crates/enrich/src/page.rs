//! A page's address, taken apart.

use memchr::{memchr, memchr2, memchr3, memrchr};

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
    let Some(authority_at) = authority_at(address) else {
        let (before_query, query) = split_query(address);
        return Page { host: "", path: if before_query.starts_with('/') { before_query } else { "" }, query };
    };
    let rest = &address[authority_at..];
    let (authority, rest) = rest.split_at(memchr3(b'/', b'?', b'#', rest.as_bytes()).unwrap_or(rest.len()));
    let (path, query) = split_query(rest);
    Page { host: host(authority), path: if path.is_empty() { "/" } else { path }, query }
}

/// Where the host begins: behind `scheme://` or `//`.
fn authority_at(address: &str) -> Option<usize> {
    let bytes = address.as_bytes();
    if bytes.starts_with(b"//") {
        return Some(2);
    }
    let scheme = memchr2(b':', b'/', bytes)?;
    let is_scheme = bytes[scheme..].starts_with(b"://")
        && bytes[..scheme].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    is_scheme.then_some(scheme + 3)
}

fn split_query(rest: &str) -> (&str, &str) {
    match memchr2(b'?', b'#', rest.as_bytes()) {
        None => (rest, ""),
        Some(at) if rest.as_bytes()[at] == b'#' => (&rest[..at], ""),
        Some(at) => {
            let query = &rest[at + 1..];
            (&rest[..at], memchr(b'#', query.as_bytes()).map_or(query, |end| &query[..end]))
        }
    }
}

fn host(authority: &str) -> &str {
    let authority = memrchr(b'@', authority.as_bytes()).map_or(authority, |at| &authority[at + 1..]);
    let end = if authority.starts_with('[') {
        memchr(b']', authority.as_bytes()).map(|at| at + 1)
    } else {
        memchr(b':', authority.as_bytes())
    };
    let host = &authority[..end.unwrap_or(authority.len())];
    host.strip_prefix("www.").unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the parts mean, one cut after the other.
    fn slowly(address: &str) -> Page<'_> {
        let before_fragment = address.split('#').next().unwrap_or_default();
        let (before_query, query) = before_fragment.split_once('?').unwrap_or((before_fragment, ""));
        let is_scheme = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
        let rest = match before_query.split_once("://") {
            Some((scheme, rest)) if is_scheme(scheme) => Some(rest),
            _ => before_query.strip_prefix("//"),
        };
        let Some(rest) = rest else {
            return Page { host: "", path: if before_query.starts_with('/') { before_query } else { "" }, query };
        };
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = match host.split_once(']') {
            Some((inner, _)) if host.starts_with('[') => &host[..=inner.len()],
            _ if host.starts_with('[') => host,
            _ => host.split(':').next().unwrap_or_default(),
        };
        Page { host: host.strip_prefix("www.").unwrap_or(host), path: if path.is_empty() { "/" } else { path }, query }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]
        #[test]
        fn an_address_comes_apart_as_one_cut_after_the_other_says(address in "(a://|//|www\\.)?[a:/?#@.\\[\\]ö]{0,9}") {
            prop_assert_eq!(parse(&address), slowly(&address));
        }
    }

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
        check("https://shop.example?a=b/c", "shop.example", "/", "a=b/c");
        check("https://shop.example#a?b", "shop.example", "/", "");
        check("https://shop.example/a#b?c", "shop.example", "/a", "");
        check("https://shop.example/a?b?c#d#e", "shop.example", "/a", "b?c");
        check("/a?from=https://b.example/", "", "/a", "from=https://b.example/");
    }

    #[test]
    fn foreign_text_gives_empty_parts() {
        check("", "", "", "");
        check("not an address", "", "", "");
        check("?a=b", "", "", "a=b");
        check("https://", "", "/", "");
        check("a b://c", "", "", "");
        check("https://[::1", "[::1", "/", "");
    }
}
