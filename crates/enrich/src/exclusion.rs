//! Whose events a project does not want: its own people's, certain programs', referrer spam, pages that are not its own.
//!
//! What is excluded is not kept anywhere, so it can only be decided where events come in. Machines that say so are not
//! excluded here: they are kept and marked ([`crate::bot`]).

mod agents;
mod pages;
mod spam;

use std::fmt;
use std::net::IpAddr;

use crate::network::AddressRanges;
pub use agents::{AgentRules, NoExpression};
pub use pages::{NoPage, Pages};
pub use spam::{Referrers, is_known_spam};

/// Why an event is not wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Excluded {
    /// The client's address.
    Address,
    /// The user agent.
    UserAgent,
    /// The page before belongs to spammers.
    Referrer,
    /// The page belongs to another site.
    Page,
}

impl Excluded {
    /// All, in the order in which they are declared.
    pub const ALL: [Self; 4] = [Self::Address, Self::UserAgent, Self::Referrer, Self::Page];

    /// As metrics say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::UserAgent => "user_agent",
            Self::Referrer => "referrer",
            Self::Page => "page",
        }
    }
}

impl fmt::Display for Excluded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a project excludes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exclusions {
    /// Networks.
    pub addresses: AddressRanges,
    /// Programs.
    pub user_agents: AgentRules,
    /// Sites whose visitors are none.
    pub referrers: Referrers,
    /// The project's own pages; if there are any, no others count.
    pub pages: Pages,
}

impl Exclusions {
    /// Nothing.
    pub const NONE: Self = Self {
        addresses: AddressRanges::NONE,
        user_agents: AgentRules::NONE,
        referrers: Referrers::NONE,
        pages: Pages::ALL,
    };

    /// Why this sender is excluded, if it is.
    ///
    /// - `address`: the client's; `None` if it is not known.
    #[must_use]
    pub fn of_sender(&self, address: Option<IpAddr>, user_agent: &str) -> Option<Excluded> {
        if address.is_some_and(|address| self.addresses.contains(address)) {
            return Some(Excluded::Address);
        }
        self.user_agents.exclude(user_agent).then_some(Excluded::UserAgent)
    }

    /// Why an event on this page is excluded, if it is.
    ///
    /// - `url`, `referrer`: addresses of the page and of the one before; empty if there is none, which excludes nothing:
    ///   servers and apps have none.
    #[must_use]
    pub fn of_page(&self, url: &str, referrer: &str) -> Option<Excluded> {
        if self.referrers.has(referrer) {
            return Some(Excluded::Referrer);
        }
        (!url.is_empty() && !self.pages.has(url)).then_some(Excluded::Page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_excluded_without_a_rule() {
        let address = Some("192.0.2.1".parse().expect("an address"));
        assert_eq!(Exclusions::NONE.of_sender(address, "Mozilla/5.0"), None);
        assert_eq!(Exclusions::NONE.of_page("https://any.example/", "https://semalt.com/"), None);
    }

    #[test]
    fn each_rule_excludes_for_its_reason() {
        let exclusions = Exclusions {
            addresses: AddressRanges::new(vec!["192.0.2.*".parse().expect("a network")]),
            user_agents: AgentRules::new(["monitor"]).expect("a rule"),
            referrers: Referrers::new(true, ["spam.example"]),
            pages: Pages::of(["https://shop.example"]).expect("a page"),
        };
        let sender = |address: &str, agent| exclusions.of_sender(address.parse().ok(), agent);
        assert_eq!(sender("192.0.2.9", "x"), Some(Excluded::Address));
        assert_eq!(sender("192.0.3.9", "Our Monitor"), Some(Excluded::UserAgent));
        assert_eq!(sender("192.0.3.9", "x"), None);
        assert_eq!(sender("", "x"), None);
        let page = |url, referrer| exclusions.of_page(url, referrer);
        assert_eq!(page("https://shop.example/a", "https://news.example/"), None);
        assert_eq!(page("", ""), None, "a server's event has no page");
        assert_eq!(page("https://copy.example/a", ""), Some(Excluded::Page));
        assert_eq!(page("https://shop.example/a", "http://a.spam.example/x"), Some(Excluded::Referrer));
        assert_eq!(page("https://shop.example/a", "http://semalt.com"), Some(Excluded::Referrer));
    }

    #[test]
    fn reasons_stand_at_their_places() {
        assert!(Excluded::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }
}
