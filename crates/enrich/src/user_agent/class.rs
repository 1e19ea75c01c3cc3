//! What kind of thing a device is. uap-core names makers and models only.

use super::Device;

/// Words of televisions, and of what makes one of a screen.
const TVS: [&str; 20] = [
    "smart-tv",
    "smarttv",
    "smart tv",
    "hbbtv",
    "appletv",
    "apple tv",
    "tvos",
    "googletv",
    "google tv",
    "android tv",
    "androidtv",
    "bravia",
    "roku",
    "crkey",
    "web0s",
    "netcast",
    "viera",
    "philipstv",
    "vizio",
    "; aft",
];

const CONSOLES: [&str; 3] = ["playstation", "xbox", "nintendo"];

const HEADSETS: [&str; 4] = ["oculusbrowser", "; quest", "vision pro", "pico neo"];

const PHONES: [&str; 13] = [
    "iphone",
    "ipod",
    "mobile",
    "phone",
    "opera mini",
    "opera mobi",
    "ucweb",
    "nokia",
    "j2me",
    "midp",
    "blackberry",
    "series60",
    "symbian",
];

/// Systems of computers with a keyboard.
const DESKTOPS: [&str; 16] = [
    "Windows",
    "Mac OS X",
    "Mac OS",
    "Linux",
    "Ubuntu",
    "Debian",
    "Fedora",
    "Red Hat",
    "CentOS",
    "SUSE",
    "Gentoo",
    "Linux Mint",
    "Arch Linux",
    "Chrome OS",
    "Solaris",
    "Kubuntu",
];

/// `desktop`, `mobile`, `tablet`, `tv`, `console`, `wearable`, `headset`, or empty.
pub(super) fn class(user_agent: &str, os: &str, device: &Device) -> &'static str {
    let agent = user_agent.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| agent.contains(word));
    // An Xbox and a television say what computer or phone their browser was made from, too.
    if says(&CONSOLES) {
        "console"
    } else if says(&TVS) || (os == "Tizen" && says(&["tv"])) || matches!(os, "Chromecast" | "GoogleTV" | "FireHbbTV") {
        "tv"
    } else if os == "WatchOS" || says(&["wear os", "applewatch", "; watch"]) {
        "wearable"
    } else if says(&HEADSETS) {
        "headset"
    } else if is_tablet(&agent, os, device) {
        "tablet"
    } else if matches!(os, "iOS" | "Android" | "KaiOS" | "Firefox OS" | "Bada" | "Tizen") || says(&PHONES) {
        "mobile"
    } else if DESKTOPS.contains(&os) || os.ends_with("BSD") {
        "desktop"
    } else {
        ""
    }
}

fn is_tablet(agent: &str, os: &str, device: &Device) -> bool {
    let says = |word| agent.contains(word);
    if says("ipad") || says("playbook") || says("kindle") || device.family.starts_with("iPad") {
        return true;
    }
    match os {
        // Windows of some years says `Tablet PC` on any computer.
        "Windows" => false,
        // Chrome and what comes of it leave `Mobile` away on tablets; a program (`Dalvik/…`, `okhttp/…`) never says it.
        "Android" if agent.starts_with("mozilla/") => !says("mobile") && !says("opera m"),
        "Android" => says("tablet") || says(" tab ") || says(" sm-t") || says(" sm-x") || says(" pad "),
        _ => says("tablet"),
    }
}
