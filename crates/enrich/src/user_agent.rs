//! Browser, operating system and device, from the user agent, by uap-core's rules (`data/uap-core`).

mod atoms;
mod class;
mod rules;
mod table;

use crate::bot::{self, Bot};
use table::{Fields, TABLE};

/// Bytes of an agent that are read. What names browser, system and device comes first; those of apps that add all their
/// libraries have some 500. It bounds what an agent made to be slow can cost: some milliseconds.
const AGENT_BYTES_MAX: usize = 512;

/// What a user agent says, as tables hold it. Empty: unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserAgent {
    /// Browser, for example `Chrome Mobile`.
    pub browser: String,
    /// The browser's version as reports tell it: the first number.
    pub browser_version: String,
    /// Operating system, for example `Windows`.
    pub os: String,
    /// The system's version as reports tell it: the first two parts, for example `10` or `17.4`.
    pub os_version: String,
    /// `desktop`, `mobile`, `tablet`, `tv`, `console`, `wearable`, `headset`, `bot` or empty.
    pub device: String,
    /// Maker of the device, for example `Samsung`.
    pub device_brand: String,
    /// Model of the device, for example `SM-S911B`.
    pub device_model: String,
    /// What kind of machine it is, if it is one.
    pub bot: Option<Bot>,
}

/// A browser or operating system, as uap-core names it. Empty parts: not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    /// Name; empty: unknown.
    pub family: String,
    /// First part of the version.
    pub major: String,
    /// Second part.
    pub minor: String,
    /// Third part.
    pub patch: String,
}

/// A device, as uap-core names it. Empty: unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Name, for example `Samsung SM-S911B`; `Spider` for many a crawler.
    pub family: String,
    /// Maker.
    pub brand: String,
    /// Model.
    pub model: String,
}

/// All that uap-core's rules find in a user agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Products {
    /// The browser, or the program that calls.
    pub browser: Product,
    /// The operating system.
    pub os: Product,
    /// The device.
    pub device: Device,
}

/// Reads a user agent. Takes tens of microseconds: remember the answers, there are few different ones. What uses an
/// expression for the first time takes a millisecond.
#[must_use]
pub fn parse(user_agent: &str) -> UserAgent {
    let bot = bot::kind(user_agent);
    let Products { browser, os, device } = products(user_agent);
    let class = match bot {
        Some(_) => "bot",
        None => class::class(user_agent, &os.family, &device),
    };
    let (device_brand, device_model) = match device.family.as_str() {
        // That is what it is called where it has no brand.
        "Spider" => (String::new(), String::new()),
        _ => (device.brand, device.model),
    };
    let os_version = if os.minor.is_empty() { os.major } else { format!("{}.{}", os.major, os.minor) };
    UserAgent {
        browser: browser.family,
        browser_version: browser.major,
        os: os.family,
        os_version,
        device: class.to_owned(),
        device_brand,
        device_model,
        bot,
    }
}

/// What uap-core's rules say of a user agent, whole.
#[must_use]
pub fn products(user_agent: &str) -> Products {
    let user_agent = &user_agent[..user_agent.floor_char_boundary(AGENT_BYTES_MAX)];
    if user_agent.is_empty() {
        return Products::default();
    }
    let [browser, os, device] = TABLE.find(user_agent).map(Option::unwrap_or_default);
    // That is the rules' word for what they know and have no name for.
    let known = |family: String| if family == "Other" { String::new() } else { family };
    let product = |[family, major, minor, patch, _]: Fields| Product { family: known(family), major, minor, patch };
    let [family, brand, model, ..] = device;
    let family = known(family);
    Products { browser: product(browser), os: product(os), device: Device { family, brand, model } }
}

/// Makes ready what the first [`parse`] would have to wait for: some tens of milliseconds of work.
pub fn warm() {
    std::sync::LazyLock::force(&TABLE);
}

#[cfg(test)]
mod tests;
