//! One struct per table: what the worker writes. Keys are 128 bits (`UInt128`), times `DateTime64(3)` in UTC.

use std::sync::Arc;

/// One event that counts. Table `events`, ORDER BY (project, person, time, sequence, event_key).
///
/// `T` is its texts' type: the worker's rows borrow them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventRow<T = String> {
    /// Tenant.
    pub project: T,
    /// Key that the event is stored under; `identities` says whose person that is today.
    pub person: u128,
    /// Key of the visitor (sessions go by it).
    pub visitor: u128,
    /// The visitor's id as the tracker sent it.
    pub visitor_id: T,
    /// The user's id that this event named, or empty.
    pub user_id: T,
    /// Event time, ms.
    pub time_ms: i64,
    /// Tracker's order at equal times.
    pub sequence: u32,
    /// Key of the event id.
    pub event_key: u64,
    /// The event id as the tracker sent it, or empty.
    pub event_id: T,
    /// `track`, `page`, `screen`, `identify`, `group`, `alias`.
    pub kind: &'static str,
    /// Name.
    pub event: T,
    /// Full address of the page.
    pub url: T,
    /// Host of the page.
    pub host: T,
    /// Path of the page.
    pub path: T,
    /// Title of the page.
    pub title: T,
    /// Full address of the page before.
    pub referrer: T,
    /// Channel (GA4's default grouping), or empty where the event is no landing.
    pub channel: T,
    /// Source of the landing.
    pub source: T,
    /// Medium of the landing.
    pub medium: T,
    /// `utm_campaign`
    pub campaign: T,
    /// How it is known where the visitor came from: `campaign`, `website`, `known`; empty: the event does not tell.
    pub landing: &'static str,
    /// `utm_term`
    pub term: T,
    /// `utm_content`
    pub content: T,
    /// Name of the touchpoint, or empty.
    pub touchpoint: T,
    /// Stage of the touchpoint, or empty.
    pub stage: T,
    /// Browser family.
    pub browser: T,
    /// First number of the browser's version.
    pub browser_version: T,
    /// Operating system family.
    pub os: T,
    /// First two parts of the operating system's version.
    pub os_version: T,
    /// `desktop`, `mobile`, `tablet`, `bot`, … or empty.
    pub device: T,
    /// Maker of the device.
    pub device_brand: T,
    /// Model of the device.
    pub device_model: T,
    /// Language of the client, as the tracker sent it.
    pub locale: T,
    /// The locale's language, for example `de`.
    pub language: T,
    /// Screen width, CSS pixels.
    pub screen_width: u32,
    /// Screen height, CSS pixels.
    pub screen_height: u32,
    /// `small`, `medium`, `large`, `wide` or empty.
    pub screen_class: &'static str,
    /// Tracker.
    pub library: T,
    /// Tracker's version.
    pub library_version: T,
    /// Protocol that was understood.
    pub protocol: T,
    /// JSON object.
    pub properties: T,
    /// JSON object.
    pub traits: T,
    /// Why the sender is taken for a machine, or empty.
    pub bot: T,
    /// What it earned, in millionths of the currency's unit.
    pub revenue_micros: Option<i64>,
    /// Currency of the revenue, or empty.
    pub currency: T,
    /// Kind of feedback it is (`nps`, `csat`, `text`), or empty.
    pub feedback: &'static str,
    /// Score of the feedback, in millionths.
    pub score_micros: Option<i64>,
    /// Words of the feedback, or empty.
    pub comment: T,
    /// Address of the client as far as it is kept, or empty.
    pub ip: T,
    /// Country of the address, two letters.
    pub country: T,
    /// Region of the address.
    pub region: T,
    /// City of the address.
    pub city: T,
    /// The tracker's own session, or empty.
    pub tracker_session: T,
    /// `granted`, `denied`, or empty: the tracker says nothing of it.
    pub consent: &'static str,
    /// When we received it, ms.
    pub received_ms: i64,
    /// `client`, `corrected`, `received`, `replaced`.
    pub time_source: &'static str,
    /// It came behind the watermark.
    pub late: bool,
    /// Partition of topic `events` it came from.
    pub origin_partition: u32,
    /// Offset there.
    pub origin_offset: u64,
    /// Place in that record.
    pub origin_index: u32,
}

/// One session put in (`sign` 1) or taken back (`sign` -1). Table `sessions`, a CollapsingMergeTree.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionRow {
    /// Tenant.
    pub project: Arc<str>,
    /// Key of the visitor.
    pub visitor: u128,
    /// Key of the first event.
    pub session_key: u64,
    /// Time of the first event, ms.
    pub start_ms: i64,
    /// Time of the last event, or of what prolonged the session after it, ms.
    pub end_ms: i64,
    /// Number of events.
    pub events: u32,
    /// Number of pages and screens among them.
    pub page_views: u32,
    /// Path of the first page.
    pub entry_page: String,
    /// Path of the last page.
    pub exit_page: String,
    /// Host of the first page.
    pub entry_host: String,
    /// Host of the last page.
    pub exit_host: String,
    /// Channel of the first event that tells where the visitor came from.
    pub channel: String,
    /// Its source.
    pub source: String,
    /// Its medium.
    pub medium: String,
    /// Its campaign.
    pub campaign: String,
    /// Milliseconds of engagement that trackers measured.
    pub engaged_ms: u64,
    /// Whether the visitor turned round at the door.
    pub is_bounce: bool,
    /// What was earned, in millionths of `currency`; `None`: nothing was.
    pub revenue_micros: Option<i64>,
    /// Currency of the first event that earned, or empty.
    pub currency: String,
    /// 1 or -1.
    pub sign: i8,
}

/// "This key's person is that key's", or is so no longer. Table `identities`, a ReplacingMergeTree by (project, key,
/// person, by_alias): of each of these the row with the highest version counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IdentityRow {
    /// Tenant.
    pub project: Arc<str>,
    /// Key of the visitor, or of the user that an alias joined to another.
    pub key: u128,
    /// Key of the user.
    pub person: u128,
    /// The joined id as the tracker sent it.
    pub visitor_id: String,
    /// The user's id as the tracker sent it.
    pub user_id: String,
    /// Event time of the event that said so, ms.
    pub at_ms: i64,
    /// It follows from aliases, not from what happened on the device: the two do not take each other back.
    pub by_alias: bool,
    /// It was so until now.
    pub removed: bool,
    /// Grows from row to row of whoever writes this key: see [`identity_version`].
    pub version: u64,
}

/// Version of what a record says, from the time of the log and its offset there: grows within a partition, whatever the
/// offsets of a topic that was made anew.
#[must_use]
pub fn identity_version(log_time_ms: i64, offset: u64) -> u64 {
    (log_time_ms.max(0).unsigned_abs() << 20) | (offset & 0xf_ffff)
}

/// A command that changed who is who. Table `identity_changes`: the audit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct IdentityChangeRow {
    /// Tenant.
    pub project: Arc<str>,
    /// Key of the device or user that was parted.
    pub key: u128,
    /// Its id as the command said.
    pub id: String,
    /// Key of the user that it was parted from; 0: it was nobody's.
    pub other: u128,
    /// Id of that user, where the command said it.
    pub other_id: String,
    /// Who ordered it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When it was ordered, ms.
    pub ordered_ms: i64,
    /// Time of the log when it took effect, ms.
    pub applied_ms: i64,
}

/// One stay of a person in an audience, put in (1) or taken back (-1). Table `audience_members`, a CollapsingMergeTree.
/// A stay's end is known when it begins (the window runs out then, unless something extends it): so "who is a member at T"
/// is `entered <= T < left`, with no timer involved.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemberRow {
    /// Tenant.
    pub project: Arc<str>,
    /// Name of the audience.
    pub audience: Arc<str>,
    /// Key of the person.
    pub person: u128,
    /// The user's id, or empty.
    pub user_id: String,
    /// A visitor's id, or empty.
    pub visitor_id: String,
    /// Event time of entering, ms.
    pub entered_ms: i64,
    /// Event time of leaving, ms.
    pub left_ms: i64,
    /// Partition of topic `journeys` that owns the person.
    pub partition: u32,
    /// 1 or -1.
    pub sign: i8,
}

/// How far a partition's effects are in the tables. Table `progress`, a ReplacingMergeTree by (topic, partition), version
/// `offset`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProgressRow {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: u32,
    /// Next record: all before it are in the tables.
    pub offset: u64,
    /// Watermark there, ms; `i64::MIN` before any event.
    pub watermark_ms: i64,
    /// Highest received time there, ms.
    pub log_time_ms: i64,
}

/// An audience as it was defined. Table `audiences`, a ReplacingMergeTree by (project, audience), version `changed_ms`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AudienceDefinition {
    /// Tenant.
    pub project: String,
    /// Name.
    pub audience: String,
    /// Event that counts.
    pub event: String,
    /// How many of it make a member.
    pub count_min: u32,
    /// Within which time, ms.
    pub window_ms: i64,
    /// When it was made, ms.
    pub created_ms: i64,
    /// When this row was written, ms.
    pub changed_ms: i64,
    /// Whether it was ended.
    pub ended: bool,
}
