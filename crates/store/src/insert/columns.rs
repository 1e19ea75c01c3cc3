//! Which column of its table each field of a row type is. Types must equal those of `migrations/`; a test inserts and reads
//! back every one.

use super::Values;
use crate::rows::{AudienceDefinition, EventRow, IdentityChangeRow, IdentityRow, MemberRow, ProgressRow, SessionRow};

/// A row type's table and columns.
pub trait Columns: Sized + 'static {
    /// The table.
    const TABLE: &'static str;

    /// Name and values of each column.
    #[doc(hidden)]
    #[expect(
        private_interfaces,
        reason = "sealed: only this crate can name the type, so only it can implement the trait"
    )]
    fn columns() -> &'static [(&'static str, Values<Self>)];
}

macro_rules! columns {
    ($row:ty, $table:literal, $($column:literal: $kind:ident($of:expr),)+) => {
        impl Columns for $row {
            const TABLE: &'static str = $table;

            #[expect(private_interfaces, reason = "see the trait")]
            fn columns() -> &'static [(&'static str, Values<Self>)] {
                &[$(($column, Values::$kind($of))),+]
            }
        }
    };
}

columns! { EventRow, "events",
    "project": Name(|row| &row.project),
    "person": U128(|row| row.person),
    "visitor": U128(|row| row.visitor),
    "visitor_id": Text(|row| &row.visitor_id),
    "user_id": Text(|row| &row.user_id),
    "time": Time(|row| row.time_ms),
    "sequence": U32(|row| row.sequence),
    "event_key": U64(|row| row.event_key),
    "event_id": Text(|row| &row.event_id),
    "kind": Name(|row| row.kind),
    "event": Name(|row| &row.event),
    "url": Text(|row| &row.url),
    "host": Name(|row| &row.host),
    "path": Text(|row| &row.path),
    "title": Text(|row| &row.title),
    "referrer": Text(|row| &row.referrer),
    "channel": Name(|row| &row.channel),
    "source": Name(|row| &row.source),
    "medium": Name(|row| &row.medium),
    "campaign": Name(|row| &row.campaign),
    "landing": Name(|row| row.landing),
    "term": Text(|row| &row.term),
    "content": Text(|row| &row.content),
    "touchpoint": Name(|row| &row.touchpoint),
    "stage": Name(|row| &row.stage),
    "browser": Name(|row| &row.browser),
    "browser_version": Name(|row| &row.browser_version),
    "os": Name(|row| &row.os),
    "os_version": Name(|row| &row.os_version),
    "device": Name(|row| &row.device),
    "device_brand": Name(|row| &row.device_brand),
    "device_model": Name(|row| &row.device_model),
    "locale": Name(|row| &row.locale),
    "language": Name(|row| &row.language),
    "screen_width": U32(|row| row.screen_width),
    "screen_height": U32(|row| row.screen_height),
    "screen_class": Name(|row| row.screen_class),
    "library": Name(|row| &row.library),
    "library_version": Name(|row| &row.library_version),
    "protocol": Name(|row| &row.protocol),
    "properties": Text(|row| &row.properties),
    "traits": Text(|row| &row.traits),
    "bot": Name(|row| &row.bot),
    "revenue": Money(|row| row.revenue_micros),
    "currency": Name(|row| &row.currency),
    "feedback": Name(|row| row.feedback),
    "score": Money(|row| row.score_micros),
    "comment": Text(|row| &row.comment),
    "ip": Text(|row| &row.ip),
    "country": Name(|row| &row.country),
    "region": Name(|row| &row.region),
    "city": Name(|row| &row.city),
    "tracker_session": Text(|row| &row.tracker_session),
    "consent": Name(|row| row.consent),
    "received": Time(|row| row.received_ms),
    "time_source": Name(|row| row.time_source),
    "late": Bool(|row| row.late),
    "origin_partition": U32(|row| row.origin_partition),
    "origin_offset": U64(|row| row.origin_offset),
    "origin_index": U32(|row| row.origin_index),
}

columns! { SessionRow, "sessions",
    "project": Name(|row| &row.project),
    "visitor": U128(|row| row.visitor),
    "session_key": U64(|row| row.session_key),
    "start": Time(|row| row.start_ms),
    "end": Time(|row| row.end_ms),
    "events": U32(|row| row.events),
    "page_views": U32(|row| row.page_views),
    "entry_page": Text(|row| &row.entry_page),
    "exit_page": Text(|row| &row.exit_page),
    "entry_host": Name(|row| &row.entry_host),
    "exit_host": Name(|row| &row.exit_host),
    "channel": Name(|row| &row.channel),
    "source": Name(|row| &row.source),
    "medium": Name(|row| &row.medium),
    "campaign": Name(|row| &row.campaign),
    "engaged_ms": U64(|row| row.engaged_ms),
    "is_bounce": Bool(|row| row.is_bounce),
    "revenue": Money(|row| row.revenue_micros),
    "currency": Name(|row| &row.currency),
    "sign": I8(|row| row.sign),
}

columns! { IdentityRow, "identities",
    "project": Name(|row| &row.project),
    "key": U128(|row| row.key),
    "person": U128(|row| row.person),
    "visitor_id": Text(|row| &row.visitor_id),
    "user_id": Text(|row| &row.user_id),
    "at": Time(|row| row.at_ms),
    "by_alias": Bool(|row| row.by_alias),
    "removed": Bool(|row| row.removed),
    "version": U64(|row| row.version),
}

columns! { IdentityChangeRow, "identity_changes",
    "project": Name(|row| &row.project),
    "key": U128(|row| row.key),
    "id": Text(|row| &row.id),
    "other": U128(|row| row.other),
    "other_id": Text(|row| &row.other_id),
    "by": Text(|row| &row.by),
    "reason": Text(|row| &row.reason),
    "ordered": Time(|row| row.ordered_ms),
    "applied": Time(|row| row.applied_ms),
}

columns! { MemberRow, "audience_members",
    "project": Name(|row| &row.project),
    "audience": Name(|row| &row.audience),
    "person": U128(|row| row.person),
    "user_id": Text(|row| &row.user_id),
    "visitor_id": Text(|row| &row.visitor_id),
    "entered": Time(|row| row.entered_ms),
    "left": Time(|row| row.left_ms),
    "partition": U32(|row| row.partition),
    "sign": I8(|row| row.sign),
}

columns! { ProgressRow, "progress",
    "topic": Name(|row| &row.topic),
    "partition": U32(|row| row.partition),
    "offset": U64(|row| row.offset),
    "watermark_ms": I64(|row| row.watermark_ms),
    "log_time_ms": I64(|row| row.log_time_ms),
}

columns! { AudienceDefinition, "audiences",
    "project": Name(|row| &row.project),
    "audience": Text(|row| &row.audience),
    "event": Text(|row| &row.event),
    "count_min": U32(|row| row.count_min),
    "window_ms": I64(|row| row.window_ms),
    "created": Time(|row| row.created_ms),
    "changed": Time(|row| row.changed_ms),
    "ended": Bool(|row| row.ended),
}
