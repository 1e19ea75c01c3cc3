//! Every setting: its name, its default, what it does and who should change it.
//!
//! A definition here is all there is: the struct, the default, the commented file that `trackway config` prints and
//! `deploy/trackway.toml` come from it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use super::write_key::WriteKey;

/// Defines a section: a struct, its defaults, and its fields' documentation for [`super::describe`].
macro_rules! section {
    ($(#[doc = $section_doc:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:expr,)+ }) => {
        $(#[doc = $section_doc])+
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl Described for $name {
            const ABOUT: &'static [&'static str] = &[$($section_doc),+];

            fn fields(&self) -> Vec<Field> {
                vec![$(Field {
                    key: stringify!($field),
                    about: &[$($doc),+],
                    value: Value::try_from(&self.$field).expect("a setting is a TOML value"),
                },)+]
            }
        }
    };
}

/// A section that can tell what it holds.
pub trait Described {
    /// Lines of the section's documentation.
    const ABOUT: &'static [&'static str];

    /// Its fields, as they are defined.
    fn fields(&self) -> Vec<Field>;
}

/// One setting, for printing.
#[derive(Debug)]
pub struct Field {
    /// Its key within the section.
    pub key: &'static str,
    /// Lines of its documentation.
    pub about: &'static [&'static str],
    /// Its value.
    pub value: Value,
}

/// All settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where everything lies that must survive a restart.
    pub storage: Storage,
    /// The event log.
    pub log: Log,
    /// The tables.
    pub clickhouse: ClickHouse,
    /// HTTP in.
    pub gateway: Gateway,
    /// From the log to the tables.
    pub worker: Worker,
    /// What is added to events.
    pub enrich: Enrich,
    /// Answers out.
    pub query: Query,
    /// Metrics and logs.
    pub telemetry: Telemetry,
    /// Tenants.
    pub projects: Vec<Project>,
}

impl Settings {
    /// From a table that holds them.
    ///
    /// # Errors
    /// What does not fit.
    pub fn try_from_table(table: &Table) -> Result<Self, toml::de::Error> {
        table.clone().try_into()
    }

    /// Where snapshots of the workers' state go.
    #[must_use]
    pub fn snapshots_folder(&self) -> PathBuf {
        self.or_below_storage(&self.storage.snapshots_folder, "snapshots")
    }

    /// Where workers keep the ids of days that are over.
    #[must_use]
    pub fn ids_folder(&self) -> PathBuf {
        self.or_below_storage(&self.storage.ids_folder, "ids")
    }

    /// A folder that has a setting of its own; empty: `name` in the storage folder.
    fn or_below_storage(&self, folder: &Path, name: &str) -> PathBuf {
        if folder.as_os_str().is_empty() { self.storage.folder.join(name) } else { folder.to_owned() }
    }

    /// Where the gateway keeps what Kafka does not take. By its port: gateways that share a storage folder have each its
    /// own, and find it again.
    #[must_use]
    pub fn spool_folder(&self) -> PathBuf {
        self.storage.folder.join("spool").join(self.gateway.listen.port().to_string())
    }

    /// The projects, or the one that stands in as long as there is none: see [`crate::config::check`].
    #[must_use]
    pub fn projects_or_default(&self) -> Vec<Project> {
        if self.projects.is_empty() { vec![Project::stand_in()] } else { self.projects.clone() }
    }
}

section! {
    /// Where everything lies that must survive a restart.
    Storage {
        /// Folder for the embedded log, the embedded ClickHouse, snapshots and a gateway's spool; it is made if it is missing.
        /// Relative to the working folder. Change it to put data on another disk.
        folder: PathBuf = "trackway-data".into(),
        /// Folder for snapshots of the workers' state. Empty: `snapshots` in `folder`. Workers on several machines need one
        /// that all of them reach.
        snapshots_folder: PathBuf = PathBuf::new(),
        /// Folder for the ids of the last week's events: 8 bytes each, in files without names, which are made anew at every
        /// start. Empty: `ids` in `folder`. A worker is best served by a disk of its own machine, which need not last.
        ids_folder: PathBuf = PathBuf::new(),
    }
}

/// Which event log is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// Files of this process, for one machine.
    Embedded,
    /// A Kafka cluster, or what speaks its protocol.
    Kafka,
}

section! {
    /// The event log between gateway and worker.
    Log {
        /// "embedded" keeps the log in the storage folder, for one process on one machine (`trackway up`). "kafka" uses a
        /// Kafka cluster: choose it to run the roles as processes of their own.
        kind: LogKind = LogKind::Embedded,
        /// Kafka only: brokers to begin with, comma-separated HOST:PORT.
        brokers: String = "127.0.0.1:9092".into(),
        /// Kafka only: further settings of librdkafka by its own names, for example
        /// { "security.protocol" = "SASL_SSL", "sasl.mechanism" = "SCRAM-SHA-512" }. They win over ours: change what you know.
        kafka_settings: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new(),
        /// Seconds that an append may take, with all its retries; then Kafka is away and events go to the spool, or senders
        /// are told to try later. Longer than a broker's fail-over, shorter than what trackers wait for an answer. 1 to 60.
        append_seconds_max: u32 = 6,
        /// Kafka only: MiB of files in which a gateway keeps events while Kafka is away, in `spool` in the storage folder,
        /// which needs a disk that lasts. At 500 bytes an event, 1024 hold two million. When it is full, senders are told to
        /// try later. 0: no spool. 0 to 1048576.
        spool_mib: u32 = 1024,
        /// Embedded only: whether an answer waits until the disk has the events. false survives a crash of the process but no
        /// power cut: for demos.
        fsync: bool = true,
        /// Before the name of every topic and group, so that two installations can share a cluster. Empty: none.
        topic_prefix: String = String::new(),
        /// Kafka only: copies of each partition. Set 3 on a cluster of three or more; cannot change later.
        replicas: u16 = 1,
        /// Partitions of `events`: workers that can share the work, and tasks within one. More cost more small inserts into
        /// ClickHouse. Set it for the largest load that is planned; cannot change once events are in. 1 to 1024.
        events_partitions: u32 = 2,
        /// Partitions of `journeys`, the second stage. As `events_partitions`.
        journeys_partitions: u32 = 2,
        /// Partitions of `audience-changes`. 1 to 1024.
        audience_changes_partitions: u32 = 1,
        /// Hours that records are kept. It is also how long a worker may be away without loss, and how far tables can be
        /// built anew. 24 to 87600.
        retention_hours: u32 = 168,
    }
}

section! {
    /// The tables: an embedded ClickHouse, or a server or cluster of yours.
    ClickHouse {
        /// Address of your server, for example "http://clickhouse:8123". Empty: the process starts an embedded ClickHouse
        /// in the storage folder (not when roles run as processes of their own; `trackway clickhouse` starts one for them).
        url: String = String::new(),
        /// User of your server.
        user: String = "default".into(),
        /// Its password. Better set by TRACKWAY_CLICKHOUSE__PASSWORD than written into a file.
        password: String = String::new(),
        /// Database for all tables; it is made if it is missing. 1 to 64 of a-z 0-9 _, and not "default".
        database: String = "trackway".into(),
        /// Seconds that one insert may take; then it is sent again (and counts once). 1 to 600.
        insert_seconds_max: u32 = 30,
        /// Embedded only: the library libchdb.so. Empty: searched beside the program, then as .trackway/lib/libchdb.so in the
        /// working folder and its parents (`cargo xtask setup` puts it there).
        library: PathBuf = PathBuf::new(),
        /// Embedded only: port on 127.0.0.1 for ClickHouse's HTTP interface. 0: any free one.
        port: u16 = 0,
        /// Embedded only: memory that ClickHouse may use. Raise it for large questions. 600 to 1048576.
        memory_mib: u32 = 1024,
        /// Embedded only: threads of one query. Set it to the number of cores. 1 to 256.
        threads: u32 = 2,
    }
}

section! {
    /// HTTP in: takes beacons of trackers.
    Gateway {
        /// Address and port. 127.0.0.1 is this machine only; "0.0.0.0:7070" listens to all (put TLS in front).
        listen: SocketAddr = ([127, 0, 0, 1], 7070).into(),
        /// Bytes of one request as it is sent. Trackers cut batches at about 500 kB. 1024 to 14680064.
        body_bytes_max: u32 = 4 << 20,
        /// Bytes of one request after decompression. All of it may become one record of the log, which takes 16 MiB.
        /// 1024 to 14680064.
        body_bytes_decoded_max: u32 = 8 << 20,
        /// Events of one request. 1 to 100000.
        batch_events_max: u32 = 10_000,
        /// Seconds a connection may be idle, and a request's header may take. Longer than the balancer's own, if there is
        /// one. 1 to 3600.
        idle_seconds_max: u32 = 75,
        /// Seconds a request's body may take; phones on bad lines are slow. 1 to 600.
        body_seconds_max: u32 = 30,
        /// Connections at one time; further ones wait. Each needs a file handle and some 20 kB. 1 to 1000000.
        connections_max: u32 = 10_000,
        /// Bytes of requests in work at one time; above it, answers are "503, try later". Memory is about four times this.
        /// At least `body_bytes_max` + `body_bytes_decoded_max`.
        in_flight_bytes_max: u64 = 64 << 20,
        /// Networks of your proxies and balancers: only from there is X-Forwarded-For believed, which says whose address a
        /// client has. For example ["10.0.0.0/8"].
        trusted_proxies: Vec<String> = vec!["127.0.0.0/8".into(), "::1/128".into()],
        /// File with networks of data centres, one a line (192.0.2.0/24, 2001:db8::/32): browsers that send from there are
        /// flagged as bots. Empty: none. Read at start.
        hosting_ranges_file: PathBuf = PathBuf::new(),
        /// Secret from which the daily salt of derived visitor ids and the key of hashed properties come. Set the same on
        /// all gateways of a cluster; 16 bytes or more. Empty: random ones in the storage folder, the salt replaced each
        /// day, so that nobody can tell yesterday's visitors again. Better set by TRACKWAY_GATEWAY__SECRET than in a file.
        secret: String = String::new(),
    }
}

section! {
    /// From the log to the tables: sessions, persons, touchpoints, audiences.
    Worker {
        /// How far the watermark trails the newest event: disorder up to this is awaited. Longer delays what waits for
        /// completeness, shorter makes more events late (they still count). 0 to 86400.
        lateness_seconds: u32 = 300,
        /// Hours a session's state is held after it was last touched, so that late events still repair it. Longer costs
        /// memory. 1 to 720.
        hold_hours: u32 = 24,
        /// Rows that end a block for ClickHouse. 100 to 1000000.
        block_rows_max: u32 = 50_000,
        /// Milliseconds after which a block ends anyway: the larger part of the delay until an event is visible.
        /// 50 to 60000.
        block_ms: u32 = 1000,
        /// Milliseconds after which derived records are sent on: the larger part of the delay of an audience change.
        /// 1 to 10000.
        flush_ms: u32 = 100,
        /// Seconds between snapshots of a partition's state. Longer is cheaper and makes a restart after a crash slower.
        /// 1 to 3600.
        snapshot_seconds: u32 = 30,
        /// Records between two snapshots at most, so that a restart after a burst is quick too. At least 1000.
        snapshot_records_max: u64 = 500_000,
        /// Bytes of records that wait in memory at most, over all partitions. 1048576 to 4294967295.
        buffer_bytes_max: u32 = 64 << 20,
        /// Seconds that a partition may be held for its last snapshot when another worker takes it over. 1 to 120.
        handover_seconds_max: u32 = 20,
    }
}

section! {
    /// What the worker adds to events, beside what it reads off them.
    Enrich {
        /// Database of places in MaxMind's format (.mmdb), by which events get country, region and city: of GeoLite2, GeoIP2,
        /// DB-IP and others. None is shipped. It is read at start, into memory (a database of cities has some 60 MB), and
        /// told what is kept of addresses: the network is enough. Empty: places are unknown.
        geo_database: PathBuf = PathBuf::new(),
    }
}

section! {
    /// Answers out: gRPC.
    Query {
        /// Address and port. Whoever reaches it may read everything: keep it on a private network.
        listen: SocketAddr = ([127, 0, 0, 1], 7071).into(),
        /// Seconds that one question may take. 1 to 3600.
        seconds_max: u32 = 60,
        /// Rows that one question may read. At least 1000.
        rows_read_max: u64 = 2_000_000_000,
        /// Bytes that one question may read, uncompressed. At least 1000000.
        bytes_read_max: u64 = 200_000_000_000,
        /// Questions at one time; each about order keeps a core busy. Set it to twice the cores. 1 to 1000.
        queries_max: u32 = 4,
        /// Seconds a question waits for its turn before it is refused. 0 to 600.
        queue_seconds_max: u32 = 30,
        /// Pairs of visitor and user that one project may have in a question about order, about 100 bytes each while it
        /// runs. At least 1000.
        identity_pairs_max: u32 = 5_000_000,
        /// Events of persons with several visitors that one question about order may hold, 16 bytes each. At least 1000.
        merged_events_max: u32 = 8_000_000,
        /// Different event names that one question about paths may meet. 10 to 1000000.
        names_max: u32 = 10_000,
        /// Visitors and users that one person's journey may have. 1 to 1000000.
        person_keys_max: u32 = 1000,
        /// Audience subscriptions and tails at one time. 1 to 100000.
        subscribers_max: u32 = 1000,
        /// Newest audience changes kept in memory for subscribers, per partition, about 300 bytes each. 1 to 10000000.
        recent_changes_max: u32 = 20_000,
        /// Seconds that running questions get when the process stops. 0 to 8.
        drain_seconds_max: u32 = 2,
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

section! {
    /// Metrics and logs of this process.
    Telemetry {
        /// Address and port of /metrics (Prometheus) and /health. Processes on one machine need one each.
        listen: SocketAddr = ([127, 0, 0, 1], 7072).into(),
        /// Which log lines are written, to standard error: error, warn, info, debug, or a filter such as
        /// "info,trackway_worker=debug".
        log: String = "info,fjall=warn,lsm_tree=warn".into(),
        /// "text" for people, "json" for log collectors.
        log_format: LogFormat = LogFormat::Text,
    }
}

section! {
    /// A tenant. None at all: a project `default` with the write key `dev`, as long as the gateway listens on this machine
    /// only. Keys, limits, privacy and exclusions are read again when the file changes; the rest holds from the worker's next start.
    Project {
        /// Its name. 1 to 64 of a-z 0-9 _ -
        id: String = String::new(),
        /// Keys by which trackers may write to it (never read). Several, so that one can be replaced without a gap. What
        /// names the site in a tracker of another vendor is its key here: Google's G-XXXX, Plausible's domain, Matomo's
        /// idsite, Umami's website id and so on. A key may have limits of its own, for example
        /// { key = "wk_1", origins = ["https://shop.example", "https://*.shop.example"], events_per_second_max = 100 } or
        /// { key = "wk_2", servers_only = true, events_per_day_max = 1000000 }.
        write_keys: Vec<WriteKey> = Vec::new(),
        /// Events a second that are taken on the average of some seconds, by each gateway; more are told to come again.
        /// 0: as many as come.
        events_per_second_max: u32 = 0,
        /// Events a day (UTC) that are taken by each gateway since its start. 0: as many as come.
        events_per_day_max: u64 = 0,
        /// What is kept of visitors.
        privacy: Privacy = Privacy::default(),
        /// Networks whose events are not wanted, for example of your office: ["192.0.2.0/24", "198.51.100.*"]. What is excluded,
        /// by these and by what follows, is counted and not kept. A server that sends for its visitors and says their addresses
        /// is judged by those.
        exclude_addresses: Vec<String> = Vec::new(),
        /// User agents whose events are not wanted: texts that they have in them, in any case of letters, or
        /// "/a regular expression/i". Known bots need no rule: they are kept, marked, and in no answer unless asked for.
        exclude_user_agents: Vec<String> = Vec::new(),
        /// Sites whose visitors are not wanted, by the page before: hosts, each with all below it.
        exclude_referrers: Vec<String> = Vec::new(),
        /// Whether sites that are known for referrer spam are excluded, too.
        exclude_known_spam: bool = true,
        /// Your sites, for example ["https://shop.example", "https://example.com/shop"]: events on pages of others are not
        /// wanted, such as of a copy of your pages. Events without a page (of servers, of apps) are taken. Empty: any page.
        only_pages_of: Vec<String> = Vec::new(),
        /// Inactivity that ends a session; an event exactly this much later still belongs to it. Change it only with the
        /// people who read the reports: it changes what a session is. 1 to 86400.
        session_gap_seconds: u32 = 1800,
        /// Length that ends a session. 60 to 604800.
        session_length_max_seconds: u32 = 86_400,
        /// Time zone whose midnight ends a session, for example "Europe/Berlin". Empty: midnight ends none. A change of
        /// this and of what follows cuts the sessions that are still held anew.
        session_midnight_zone: String = String::new(),
        /// Whether another campaign begins a session.
        session_split_campaign: bool = false,
        /// Whether coming from another website (no search engine, no social network) begins a session.
        session_split_referral: bool = false,
        /// Whether an event of another user on the same device begins a session.
        session_split_user: bool = false,
        /// Whether what trackers report by themselves prolongs a session: heartbeats, engagement, that a page was left.
        /// They are never counted as its events.
        session_passive_extends: bool = true,
        /// A session of one event that is shorter and less engaged than this is a bounce. 0 to 3600; 0: none is.
        session_bounce_seconds: u32 = 10,
        /// Touchpoints: which events are contacts on the customer's way. The first rule that matches an event wins. A change
        /// holds for events that come after the worker's restart.
        touchpoints: Vec<Touchpoint> = Vec::new(),
        /// Stages of the customer's way, first to last: answers tell by it whether a step went forward or back.
        stages: Vec<String> = ["awareness", "consideration", "purchase", "retention", "advocacy"].map(String::from).into(),
        /// Which events are feedback: what persons say, as a score or in words. It joins the touchpoint that it follows. None:
        /// events `nps`, `csat` and `feedback`, with properties `score` and `comment`.
        feedback: Vec<Feedback> = Vec::new(),
        /// Rules by which visits are grouped into channels: "ga4" (Google's default channel group), "plausible" or "posthog".
        /// A change of this and of what follows holds for events that come after the worker's restart.
        channels: String = "ga4".into(),
        /// Your own rules, before those.
        channel_rules: Vec<ChannelRule> = Vec::new(),
        /// Your sites and parts of sites, for example ["shop.example", "example.com/shop"]: who comes from there has not come
        /// from elsewhere. Empty: the host of the page, with what lies below and above it.
        own_sites: Vec<String> = Vec::new(),
        /// Pages that visitors come back from and that say nothing, for example a payment's: ["paypal.com", "bank.example/pay"].
        ignored_referrers: Vec<String> = Vec::new(),
    }
}

/// What becomes of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IpPolicy {
    /// Kept whole.
    Keep,
    /// The network is kept.
    Truncate,
    /// Nothing is kept.
    Drop,
}

/// What an objection does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objection {
    /// Nothing.
    Ignore,
    /// The event counts, without whose it is.
    Anonymise,
    /// Nothing is kept.
    Refuse,
}

section! {
    /// What is kept of a project's visitors. It is applied before anything is written.
    Privacy {
        /// Addresses: "truncate" keeps the network (IPv4 /24, IPv6 /48), which is enough for geography; "drop" keeps nothing,
        /// "keep" all.
        ip: IpPolicy = IpPolicy::Truncate,
        /// Know visitors by a hash of address and user agent that changes daily, whatever ids their trackers send. Who
        /// identifies as a user is still known as that user.
        cookieless: bool = false,
        /// Give visitors whose tracker has no id one in a cookie of the gateway's own domain; else they get a daily hash.
        id_cookie: bool = false,
        /// What a browser's `DNT: 1` or `Sec-GPC: 1` does: "ignore" nothing; "anonymise" keeps the event without visitor,
        /// user, traits, session and address; "refuse" keeps nothing.
        do_not_track: Objection = Objection::Ignore,
        /// What a tracker's "consent denied" does; the same words.
        consent_denied: Objection = Objection::Anonymise,
        /// Whether consent that a tracker does not speak of counts as denied.
        consent_required: bool = false,
        /// Names of properties and traits to keep; a name may end with `*`. Empty: all.
        properties_allow: Vec<String> = Vec::new(),
        /// Names of properties and traits to drop.
        properties_deny: Vec<String> = Vec::new(),
        /// Names of properties and traits of which a keyed hash is kept: equal values stay equal, nobody can read them.
        properties_hash: Vec<String> = Vec::new(),
    }
}

impl Project {
    /// The project that exists as long as none is configured.
    #[must_use]
    pub fn stand_in() -> Self {
        Self { id: "default".into(), write_keys: vec!["dev".into()], ..Self::default() }
    }
}

section! {
    /// Names a touchpoint. All conditions that are given must hold; at least one of `events`, `page`, `channel`, `properties`.
    Touchpoint {
        /// Its name, for example "checkout".
        name: String = String::new(),
        /// awareness, consideration, purchase, retention or advocacy; or a word of yours.
        stage: String = String::new(),
        /// Exact names of events. Empty: any.
        events: Vec<String> = Vec::new(),
        /// Pattern of the page's path, `*` for any run of characters. Empty: any.
        page: String = String::new(),
        /// Exact channel, for example "Email". Empty: any.
        channel: String = String::new(),
        /// Conditions on properties: "plan" (it is there), "plan = pro", "plan != free", "plan ~ pro" (contains), "total >= 100",
        /// "total <= 99.5".
        properties: Vec<String> = Vec::new(),
    }
}

section! {
    /// Names a channel. The first rule that matches a visit wins.
    ChannelRule {
        /// Its name, for example "Partners".
        channel: String = String::new(),
        /// Conditions on utm_source, utm_medium, utm_campaign, referring_domain, url, hostname and pathname: "utm_source" (it is
        /// there), "!utm_source" (it is not), "utm_source = a | b", "url ~ a | b" (contains), "pathname =~ ^/p[0-9]+$" (regular
        /// expression), and the opposites with != !~ !=~. Letters of either case are equal.
        conditions: Vec<String> = Vec::new(),
        /// Whether one of the conditions is enough; otherwise all must hold.
        any: bool = false,
    }
}

section! {
    /// Makes an event feedback.
    Feedback {
        /// Exact name of the event.
        event: String = String::new(),
        /// "nps" (0 to 10), "csat" (1 to 5), or "text" (words without a score).
        kind: String = String::new(),
        /// Name of the property with the score.
        score: String = "score".into(),
        /// Name of the property with the words.
        text: String = "comment".into(),
    }
}
