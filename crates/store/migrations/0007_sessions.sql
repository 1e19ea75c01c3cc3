-- What more is known of a session, and of how an event tells where its visitor came from.
--
-- session_key: key of the first event. Two sessions may begin, and end, in one millisecond (a session's number of events is
-- bounded, and rules of a project split): without it in the order a merge would take them for one.
-- revenue: in the currency of the first event that earned.
ALTER TABLE sessions
    ADD COLUMN IF NOT EXISTS session_key UInt64 CODEC(ZSTD(1)) AFTER visitor,
    ADD COLUMN IF NOT EXISTS entry_host LowCardinality(String) CODEC(ZSTD(1)) AFTER exit_page,
    ADD COLUMN IF NOT EXISTS exit_host LowCardinality(String) CODEC(ZSTD(1)) AFTER entry_host,
    ADD COLUMN IF NOT EXISTS engaged_ms UInt64 CODEC(ZSTD(1)) AFTER campaign,
    ADD COLUMN IF NOT EXISTS is_bounce Bool CODEC(ZSTD(1)) AFTER engaged_ms,
    ADD COLUMN IF NOT EXISTS revenue Nullable(Decimal(18, 6)) CODEC(ZSTD(1)) AFTER is_bounce,
    ADD COLUMN IF NOT EXISTS currency LowCardinality(String) CODEC(ZSTD(1)) AFTER revenue,
    MODIFY ORDER BY (project, start, visitor, end, events, page_views, session_key);

-- campaign, website, known; empty: the event does not tell where its visitor came from.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS landing LowCardinality(String) CODEC(ZSTD(1)) AFTER campaign;
