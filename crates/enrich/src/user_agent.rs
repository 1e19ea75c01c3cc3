//! Browser, operating system and kind of device, from the user agent.

use woothee::parser::Parser;

use crate::bot::{self, Bot};

/// What a user agent says. Empty: unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// Browser, for example `Chrome`.
    pub browser: String,
    /// Operating system, for example `Windows 10`.
    pub os: String,
    /// `desktop`, `mobile`, `bot`, `misc` or empty.
    pub device: String,
    /// What kind of machine it is, if it is one.
    pub bot: Option<Bot>,
}

/// Reads a user agent. Takes some microseconds: remember the answers, there are few different ones.
#[must_use]
pub fn parse(user_agent: &str) -> UserAgent {
    let Some(found) = Parser::new().parse(user_agent) else {
        return UserAgent { bot: bot::kind(user_agent, false), ..UserAgent::default() };
    };
    let known = |text: &str| if text == "UNKNOWN" { String::new() } else { text.to_owned() };
    let device = match found.category {
        "pc" => "desktop",
        "smartphone" | "mobilephone" => "mobile",
        "crawler" => "bot",
        "appliance" | "misc" => "misc",
        _ => "",
    };
    let bot = bot::kind(user_agent, found.category == "crawler");
    let device = if bot.is_some() { "bot" } else { device };
    UserAgent { browser: known(found.name), os: known(found.os), device: device.to_owned(), bot }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_agents_are_known_and_strange_ones_are_empty() {
        let chrome = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36";
        let found = parse(chrome);
        assert_eq!(
            (found.browser.as_str(), found.os.as_str(), found.device.as_str()),
            ("Chrome", "Windows 10", "desktop")
        );
        let iphone = "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1";
        assert_eq!(parse(iphone).device, "mobile");
        assert_eq!(parse("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)").device, "bot");
        assert_eq!(parse(""), UserAgent::default());
    }
}
