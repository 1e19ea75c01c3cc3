-- What protocols tell beyond names and pages, and whether a machine did it.
--
-- bot: why the sender is taken for a machine (`crawler`, `headless`, `monitor`, `ai_agent`, `hosting`), empty for people.
-- Answers read it with every event, hence LZ4, the default; nearly all values of a part are equal, so it costs next to nothing.
-- revenue: a decimal, since sums of money must be exact (a sum of these is a Decimal(38, 6)); NULL where an event earns
-- nothing, so that averages are right too. A NULL costs a bit before compression.
-- ip: as far as the project's privacy keeps it.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS bot LowCardinality(String),
    ADD COLUMN IF NOT EXISTS revenue Nullable(Decimal(18, 6)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS currency LowCardinality(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS ip String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS tracker_session String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS consent LowCardinality(String) CODEC(ZSTD(1));

-- Bots are in no answer by default, and this table has no column to leave them out by.
-- Made anew, not by MODIFY QUERY: a view changed so (26.7) counts blocks again that are sent again after a crash, which the
-- crash tests showed every time. No worker may insert while this runs.
DROP VIEW IF EXISTS event_counts_daily_view;

CREATE MATERIALIZED VIEW event_counts_daily_view TO event_counts_daily AS
SELECT project, toDate(time) AS day, event, count() AS events, max(time) AS latest
FROM events
WHERE bot = ''
GROUP BY project, day, event;
