use super::*;

fn load_text(text: &str) -> Result<Settings, ConfigError> {
    read(Some((PathBuf::from("t.toml"), text.to_owned())), BTreeMap::new())
}

fn load_env(variables: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    read(None, variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect())
}

/// Each of `parts` stands in the message with which `text` is refused.
fn refused(text: &str, parts: &[&str]) {
    let message = load_text(text).expect_err(text).to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

#[test]
fn no_file_and_no_variable_is_the_defaults() {
    assert_eq!(read(None, BTreeMap::new()).expect("the defaults are valid"), Settings::default());
}

#[test]
fn a_file_sets_what_it_names_and_leaves_the_rest() {
    let settings = load_text("[gateway]\nlisten = \"127.0.0.1:9\"").expect("valid");
    assert_eq!(settings.gateway.listen.port(), 9);
    assert_eq!(settings.query, Settings::default().query);
}

#[test]
fn an_unknown_field_names_itself_its_line_and_what_there_is() {
    refused("[gateway]\nlissten = 1", &["t.toml", "line 2", "lissten", "listen"]);
    refused("[gatway]\n", &["t.toml", "gatway", "gateway"]);
}

#[test]
fn a_value_of_the_wrong_kind_names_its_line() {
    refused("[log]\nevents_partitions = \"two\"", &["t.toml", "line 2", "events_partitions", "two"]);
    refused("[log]\nkind = \"pulsar\"", &["line 2", "pulsar", "embedded", "kafka"]);
    refused("[query]\nlisten = \"nowhere\"", &["line 2", "nowhere", "socket address"]);
}

#[test]
fn a_value_out_of_range_names_file_key_value_and_range() {
    refused("[worker]\nblock_ms = 10", &["file `t.toml`", "`worker.block_ms`", "`10`", "50 to 60000"]);
    refused("[log]\nevents_partitions = 0", &["`log.events_partitions`", "`0`", "1 to 1024"]);
    refused("[clickhouse]\ndatabase = \"default\"", &["`clickhouse.database`", "`default`"]);
    refused("[clickhouse]\nurl = \"localhost:8123\"", &["`clickhouse.url`", "`localhost:8123`", "http://"]);
    refused("[telemetry]\nlog = \"a=b=c\"", &["`telemetry.log`", "`a=b=c`", "info"]);
    refused("[log]\nkind = \"kafka\"\nbrokers = \"one\"", &["`log.brokers`", "`one`", "HOST:PORT"]);
    refused(
        "[gateway]\nbody_bytes_max = 5000\nbody_bytes_decoded_max = 6000\nin_flight_bytes_max = 10999",
        &["`gateway.in_flight_bytes_max`", "11000 to"],
    );
}

#[test]
fn a_wrong_project_names_its_place() {
    let project = |rest: &str| format!("[[projects]]\nid = \"a\"\nwrite_keys = [\"k\"]\n{rest}");
    assert!(load_text(&project("")).is_ok());
    refused(&project("[[projects]]\nid = \"B\"\nwrite_keys = [\"x\"]"), &["`projects[1].id`", "`B`", "a-z"]);
    refused(&project("[[projects]]\nid = \"a\"\nwrite_keys = [\"x\"]"), &["`projects[1].id`", "only project"]);
    refused("[[projects]]\nid = \"a\"", &["`projects[0].write_keys`", "at least one"]);
    refused(
        &project("[[projects.touchpoints]]\nname = \"t\"\nstage = \"s\""),
        &["`projects[0].touchpoints[0].events`"],
    );
    refused(&project("session_gap_seconds = 0"), &["`projects[0].session_gap_seconds`", "1 to 86400"]);
}

#[test]
fn a_write_key_belongs_to_one_project_and_is_never_told() {
    let text = "[[projects]]\nid = \"a\"\nwrite_keys = [\"hush\"]\n[[projects]]\nid = \"b\"\nwrite_keys = [\"hush\"]";
    refused(text, &["`projects[1].write_keys[0]`", "one project only"]);
    assert!(!load_text(text).expect_err("refused").to_string().contains("hush"));
    refused("[[projects]]\nid = \"a\"\nwrite_keys = [\"a:\"]", &["`projects[0].write_keys[0]`", "`:`"]);
    assert!(load_text("[[projects]]\nid = \"a\"\nwrite_keys = [\"id:secret\"]").is_ok());
}

#[test]
fn a_write_key_may_have_limits_of_its_own() {
    let key = |table: &str| format!("[[projects]]\nid = \"a\"\nwrite_keys = [\"plain\", {{ key = \"k\", {table} }}]");
    let settings = load_text(&key("origins = [\"https://*.x.example\"], events_per_second_max = 7")).expect("valid");
    let keys = &settings.projects[0].write_keys;
    assert_eq!((keys[0].key.as_str(), keys[1].events_per_second_max), ("plain", 7));
    assert_eq!(load_text(&describe(&settings)).expect("valid"), settings);
    let place = "`projects[0].write_keys[1].origins`";
    for wrong in ["x.example", "https://x.example/", "https://x.*", "https://"] {
        refused(&key(&format!("origins = [\"{wrong}\"]")), &[place, wrong, "without a path"]);
    }
    refused(&key("origins = [\"https://x\"], servers_only = true"), &["servers_only"]);
    refused(&key("orgins = []"), &["orgins", "origins"]);
    refused("[[projects]]\nid = \"a\"\nwrite_keys = [7]", &["write key as text"]);
}

#[test]
fn networks_secrets_and_privacy_are_checked() {
    refused("[gateway]\ntrusted_proxies = [\"10.0.0.0/99\"]", &["`gateway.trusted_proxies`", "10.0.0.0/99"]);
    let message = load_text("[gateway]\nsecret = \"hush\"").expect_err("too short").to_string();
    assert!(message.contains("16 bytes") && !message.contains("hush"), "{message}");
    let project = "[[projects]]\nid = \"a\"\nwrite_keys = [\"k\"]\n[projects.privacy]\n";
    refused(&format!("{project}ip = \"half\""), &["half", "truncate"]);
    let text = format!("{project}ip = \"drop\"\nproperties_hash = [\"email\"]");
    let settings = load_text(&text).expect("valid");
    assert_eq!(load_text(&describe(&settings)).expect("valid"), settings);
}

#[test]
fn exclusions_are_checked() {
    let project = "[[projects]]\nid = \"a\"\nwrite_keys = [\"k\"]\n";
    for (key, wrong, said) in [
        ("exclude_addresses", "10.0.0.0/99", "10.1.2.*"),
        ("exclude_user_agents", "/(/", "unclosed group"),
        ("exclude_referrers", "https://spam.example", "spam.example"),
        ("only_pages_of", "shop.example", "https://shop.example"),
    ] {
        refused(&format!("{project}{key} = [\"{wrong}\"]"), &[&format!("projects[0].{key}"), wrong, said]);
    }
    let good = "exclude_addresses = [\"10.*.*.*\"]\nexclude_user_agents = [\"monitor\", \"/^x/i\"]\n\
                exclude_referrers = [\"spam.example\"]\nonly_pages_of = [\"https://shop.example/de\"]\n";
    load_text(&format!("{project}{good}")).expect("valid");
}

#[test]
fn the_dev_key_does_not_listen_to_the_world() {
    refused("[gateway]\nlisten = \"0.0.0.0:7070\"", &["`gateway.listen`", "0.0.0.0:7070", "[[projects]]"]);
    let with_project = "[gateway]\nlisten = \"0.0.0.0:7070\"\n[[projects]]\nid = \"a\"\nwrite_keys = [\"k\"]";
    assert!(load_text(with_project).is_ok());
}

#[test]
fn the_environment_wins_over_the_file() {
    let file = Some((PathBuf::from("t.toml"), "[worker]\nblock_ms = 100\nflush_ms = 7".to_owned()));
    let variables = BTreeMap::from([("TRACKWAY_WORKER__BLOCK_MS".to_owned(), "200".to_owned())]);
    let worker = read(file, variables).expect("valid").worker;
    assert_eq!((worker.block_ms, worker.flush_ms), (200, 7));
}

#[test]
fn a_variable_that_looks_like_a_number_may_be_text() {
    let settings = load_env(&[("TRACKWAY_CLICKHOUSE__PASSWORD", "12345")]).expect("valid");
    assert_eq!(settings.clickhouse.password, "12345");
    let settings = load_env(&[("TRACKWAY_LOG__KIND", "kafka")]).expect("valid");
    assert_eq!(settings.log.kind, settings::LogKind::Kafka);
}

#[test]
fn a_wrong_variable_names_itself() {
    let check = |name: &str, value: &str, parts: &[&str]| {
        let message = load_env(&[(name, value)]).expect_err(name).to_string();
        for part in parts.iter().chain([&name]) {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    check("TRACKWAY_GATEWAY__LISSTEN", "1", &["gateway.lissten", "unknown field"]);
    check("TRACKWAY_GATEWAY_LISTEN", "1", &["gateway_listen", "unknown field"]);
    check("TRACKWAY_WORKER__BLOCK_MS", "soon", &["worker.block_ms", "`soon`", "u32"]);
    check("TRACKWAY_WORKER__BLOCK_MS", "1", &["worker.block_ms", "`1`", "50 to 60000"]);
    check("TRACKWAY_WORKER__BLOCK_MS__X", "1", &["worker.block_ms.x"]);
}

#[test]
fn a_variable_cannot_smuggle_in_a_second_setting() {
    let settings = load_env(&[("TRACKWAY_CLICKHOUSE__PASSWORD", "1\nuser = 'x'")]).expect("valid");
    assert_eq!(settings.clickhouse.user, "default");
    assert_eq!(settings.clickhouse.password, "1\nuser = 'x'");
}

#[test]
fn what_is_printed_reads_back_as_what_it_was() {
    let mut settings = load_text(include_str!("../../../../deploy/demo.toml")).expect("the demo's file is valid");
    settings.log.kafka_settings.insert("security.protocol".into(), "SSL".into());
    settings.log.kafka_settings.insert("b".into(), "x = \"y\"".into());
    assert_eq!(load_text(&describe(&settings)).expect("valid"), settings);
}

#[test]
fn the_shipped_file_is_what_the_settings_say() {
    let shipped = include_str!("../../../../deploy/trackway.toml");
    assert!(
        shipped == describe(&Settings::default()),
        "run: cargo run -p trackway -- config --defaults > deploy/trackway.toml"
    );
    // What is commented out must be valid too, once it is let in.
    let all: String = shipped
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(code)
                if code.starts_with('[')
                    || code
                        .split_once(" = ")
                        .is_some_and(|(k, _)| k.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
            {
                format!("{code}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let settings = load_text(&all).expect(&all);
    assert_eq!(settings.projects[0].touchpoints[0].name, "checkout");
}

#[test]
fn a_password_is_not_printed() {
    let mut settings = Settings::default();
    settings.clickhouse.password = "hush".into();
    settings.gateway.secret = "hush".into();
    assert!(!describe(&settings).contains("hush"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = load(Some(Path::new("/nowhere/t.toml"))).expect_err("no such file").to_string();
    assert!(message.contains("/nowhere/t.toml"), "{message}");
}
