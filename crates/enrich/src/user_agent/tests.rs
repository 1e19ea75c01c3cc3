use super::*;

#[track_caller]
fn check(user_agent: &str, expected: [&str; 7]) {
    let UserAgent { browser, browser_version, os, os_version, device, device_brand, device_model, bot: _ } =
        parse(user_agent);
    assert_eq!(
        [browser, browser_version, os, os_version, device, device_brand, device_model],
        expected,
        "{user_agent}"
    );
}

#[test]
fn common_agents_are_known_and_strange_ones_are_empty() {
    check(
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36",
        ["Chrome", "156", "Windows", "10", "desktop", "", ""],
    );
    check(
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
        ["Mobile Safari", "17", "iOS", "17.4", "mobile", "Apple", "iPhone"],
    );
    check(
        "Mozilla/5.0 (Linux; Android 13; SM-S911B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0 Mobile Safari/537.36",
        ["Chrome Mobile", "112", "Android", "13", "mobile", "Samsung", "SM-S911B"],
    );
    check(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Safari/605.1.15",
        ["Safari", "17", "Mac OS X", "10.15", "desktop", "Apple", "Mac"],
    );
    check(
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ["Googlebot", "2", "", "", "bot", "", ""],
    );
    check("strange", [""; 7]);
    check("", [""; 7]);
}

#[test]
fn devices_are_told_apart_by_class() {
    for (class, user_agent) in [
        (
            "tablet",
            "Mozilla/5.0 (iPad; CPU OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.4 Mobile/15E148 Safari/604.1",
        ),
        (
            "tablet",
            "Mozilla/5.0 (Linux; Android 13; SM-X700) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/112.0.0.0 Safari/537.36",
        ),
        (
            "tv",
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 6.0) AppleWebKit/537.36 (KHTML, like Gecko) 76.0.3809.146/6.0 TV Safari/537.36",
        ),
        (
            "tv",
            "Mozilla/5.0 (Web0S; Linux/SmartTV) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/94.0.4606.128 Safari/537.36 WebAppManager",
        ),
        (
            "tv",
            "Mozilla/5.0 (Linux; Android 9; AFTKA) AppleWebKit/537.36 (KHTML, like Gecko) Silk/112.3.1 like Chrome/112.0.5615.213 Safari/537.36",
        ),
        (
            "console",
            "Mozilla/5.0 (PlayStation; PlayStation 5/2.26) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15",
        ),
        (
            "console",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; Xbox; Xbox One) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/58.0.3029.110 Safari/537.36 Edge/16.16299",
        ),
        ("wearable", "atc/1.0 watchOS/5.1.3 model/Watch3,4 hwp/t8004 build/16S535 (6; dt:156)"),
        (
            "headset",
            "Mozilla/5.0 (X11; Linux x86_64; Quest 2) AppleWebKit/537.36 (KHTML, like Gecko) OculusBrowser/26.2.0.0.10 Chrome/110.0.5481.192 VR Safari/537.36",
        ),
        ("mobile", "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A.240205.002)"),
        ("mobile", "Mozilla/5.0 (Mobile; rv:48.0) Gecko/48.0 Firefox/48.0 KAIOS/2.5"),
        ("mobile", "Opera/9.80 (J2ME/MIDP; Opera Mini/9.80) Presto/2.5.25 Version/10.54"),
        ("desktop", "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1; Trident/4.0; Tablet PC 2.0)"),
        (
            "desktop",
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
        ),
        ("desktop", "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0"),
        ("", "python-requests/2.32.3"),
    ] {
        assert_eq!(parse(user_agent).device, class, "{user_agent}");
    }
}

#[test]
fn long_and_foreign_agents_are_read_as_far_as_it_helps() {
    let long = format!("Mozilla/5.0 (X11; Linux x86_64; rv:124.0) Gecko/20100101 Firefox/124.0 {}", "é".repeat(5000));
    assert_eq!((parse(&long).browser.as_str(), parse(&long).os.as_str()), ("Firefox", "Linux"));
    // A model that ends within the cut.
    assert_eq!(parse(&"é".repeat(5000)), UserAgent::default());
    assert_eq!(products("Mozilla/5.0 (Linux; Android 9; modèlé Build/1) Chrome/9.0 Mobile").device.model, "modèlé");
}

/// uap-core's own tests, one in ten.
#[test]
fn agents_of_uap_core_are_read_as_its_tests_say() {
    let mut failed = Vec::new();
    let lines = include_str!("../../data/uap-core/agents.tsv").lines();
    let mut count = 0;
    for line in lines {
        let mut columns = line.split('\t');
        let (kind, user_agent) = (columns.next().expect("a kind"), columns.next().expect("an agent"));
        let expected: Vec<&str> = columns.collect();
        let Products { browser, os, device } = products(user_agent);
        let found = match kind {
            "browser" => vec![browser.family, browser.major, browser.minor, browser.patch],
            "os" => vec![os.family, os.major, os.minor, os.patch],
            "device" => vec![device.family, device.brand, device.model],
            other => panic!("`{other}` is no kind"),
        };
        if found != expected {
            failed.push(format!("{kind} of {user_agent}\n  found {found:?}\n  not   {expected:?}"));
        }
        count += 1;
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    assert!(count > 1000);
}
