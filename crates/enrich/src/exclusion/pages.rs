//! A project's own pages. A copied snippet sends from somebody else's.

use crate::page;

/// Sites, or parts of sites below a path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pages(Vec<Site>);

/// In lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Site {
    host: String,
    /// Without a slash at the end.
    path: String,
}

/// What is no address of a site.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{text}` is no address of a site. Write it as https://shop.example or https://shop.example/part")]
pub struct NoPage {
    text: String,
}

impl Pages {
    /// Any page is the project's own.
    pub const ALL: Self = Self(Vec::new());

    /// Of these addresses. `https`, `http`, `www.` and ports make no difference; other hosts below a host are other sites.
    ///
    /// # Errors
    /// The first that has no host.
    pub fn of<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Result<Self, NoPage> {
        let site = |address: &'a str| {
            let at = page::parse(address.trim());
            if at.host.is_empty() {
                return Err(NoPage { text: address.to_owned() });
            }
            let path = at.path.trim_end_matches('/').to_ascii_lowercase();
            Ok(Site { host: at.host.to_ascii_lowercase(), path })
        };
        addresses.into_iter().map(site).collect::<Result<_, _>>().map(Self)
    }

    /// Whether the page at `url` is one of them.
    #[must_use]
    pub fn has(&self, url: &str) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let at = page::parse(url);
        self.0.iter().any(|site| at.host.eq_ignore_ascii_case(&site.host) && is_below(at.path, &site.path))
    }
}

/// Whether `path` is `site` or goes on behind a slash.
fn is_below(path: &str, site: &str) -> bool {
    let Some((first, rest)) = path.split_at_checked(site.len()) else { return false };
    first.eq_ignore_ascii_case(site) && (rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sites: &[&str], own: &[&str], foreign: &[&str]) {
        let pages = Pages::of(sites.iter().copied()).expect("sites");
        for url in own {
            assert!(pages.has(url), "{url}");
        }
        for url in foreign {
            assert!(!pages.has(url), "{url}");
        }
    }

    #[test]
    fn a_site_is_its_host_and_no_other() {
        check(
            &["https://shop.example", "http://sub.blog.example:8080/"],
            &[
                "https://shop.example",
                "http://www.SHOP.example:81/a?b",
                "https://shop.example/",
                "http://sub.blog.example/x",
            ],
            &[
                "https://x.shop.example",
                "https://xshop.example",
                "https://shop.example.org",
                "https://blog.example",
                "",
                "/a",
            ],
        );
        check(&[], &["https://any.example", ""], &[]);
    }

    #[test]
    fn a_path_ends_at_a_slash() {
        check(
            &["https://shop.example/part", "https://shop.example/other/Dir/"],
            &[
                "https://shop.example/part",
                "https://shop.example/part/",
                "https://shop.example/PART/a",
                "https://shop.example/other/dir",
            ],
            &[
                "https://shop.example/",
                "https://shop.example/part1",
                "https://shop.example/par",
                "https://shop.example/other",
            ],
        );
    }

    #[test]
    fn what_has_no_host_is_named() {
        let error = Pages::of(["https://a.example", "/path"]).expect_err("no host");
        assert!(error.to_string().starts_with("`/path` is no address"), "{error}");
    }
}
