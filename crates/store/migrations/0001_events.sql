-- Every event that counts, once.
--
-- Order: ordered questions (funnels, paths, journeys) stream a project's events person by person; equal times by the
-- tracker's own order, then by the event's key, so that every reader sees one order.
-- Partition: a month, so that time ranges skip whole parts and old months can be dropped. A block spans few of them.
-- Codecs: LZ4 (the default) for person, time and event, which ordered questions read at the speed of decoding; ZSTD for
-- all that is read for a few rows at a time; NONE for what is a hash and would only cost time.
-- non_replicated_deduplication_window: how many blocks' tokens are remembered, of all writers together. A block sent again
-- after a crash counts once only while its token is. Blocks are cut once a second for each topic partition, so 16
-- partitions make 115200 in two hours, the longest time that a partition may go without an owner (or a snapshot) while the
-- others go on. A token costs some 0.3 KB of memory (estimated by its types) and a line of a log that is read at start.
CREATE TABLE IF NOT EXISTS events
(
    project LowCardinality(String),
    person UInt128,
    visitor UInt128 CODEC(ZSTD(1)),
    visitor_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    time DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),
    sequence UInt32 CODEC(ZSTD(1)),
    event_key UInt64 CODEC(NONE),
    event_id String CODEC(ZSTD(1)),
    kind LowCardinality(String),
    event LowCardinality(String),
    url String CODEC(ZSTD(1)),
    host LowCardinality(String) CODEC(ZSTD(1)),
    path String CODEC(ZSTD(1)),
    title String CODEC(ZSTD(1)),
    referrer String CODEC(ZSTD(1)),
    channel LowCardinality(String) CODEC(ZSTD(1)),
    source LowCardinality(String) CODEC(ZSTD(1)),
    medium LowCardinality(String) CODEC(ZSTD(1)),
    campaign LowCardinality(String) CODEC(ZSTD(1)),
    term String CODEC(ZSTD(1)),
    content String CODEC(ZSTD(1)),
    touchpoint LowCardinality(String) CODEC(ZSTD(1)),
    stage LowCardinality(String) CODEC(ZSTD(1)),
    browser LowCardinality(String) CODEC(ZSTD(1)),
    os LowCardinality(String) CODEC(ZSTD(1)),
    device LowCardinality(String) CODEC(ZSTD(1)),
    locale LowCardinality(String) CODEC(ZSTD(1)),
    screen_width UInt32 CODEC(ZSTD(1)),
    screen_height UInt32 CODEC(ZSTD(1)),
    library LowCardinality(String) CODEC(ZSTD(1)),
    library_version LowCardinality(String) CODEC(ZSTD(1)),
    protocol LowCardinality(String) CODEC(ZSTD(1)),
    properties String CODEC(ZSTD(1)),
    traits String CODEC(ZSTD(1)),
    received DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    time_source LowCardinality(String) CODEC(ZSTD(1)),
    late Bool CODEC(ZSTD(1)),
    origin_partition UInt32 CODEC(ZSTD(1)),
    origin_offset UInt64 CODEC(ZSTD(1)),
    origin_index UInt32 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(time)
ORDER BY (project, person, time, sequence, event_key)
SETTINGS non_replicated_deduplication_window = 115200;

-- Events by day and name, and the time of the latest: kept up by the view below, exact under resent blocks (each block's
-- share is deduplicated with it). Sums and maxima are formed when parts merge, so readers aggregate once more.
CREATE TABLE IF NOT EXISTS event_counts_daily
(
    project LowCardinality(String),
    day Date,
    event LowCardinality(String),
    events SimpleAggregateFunction(sum, UInt64),
    latest SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (project, day, event)
SETTINGS non_replicated_deduplication_window = 115200;

CREATE MATERIALIZED VIEW IF NOT EXISTS event_counts_daily_view TO event_counts_daily AS
SELECT project, toDate(time) AS day, event, count() AS events, max(time) AS latest
FROM events
GROUP BY project, day, event;
