-- How far a topic partition's effects are in the tables; the row with the highest offset counts.
-- Times are plain milliseconds, because "before any event" is the smallest integer, which no DateTime64 shows.
CREATE TABLE IF NOT EXISTS progress
(
    topic LowCardinality(String),
    partition UInt32,
    offset UInt64,
    watermark_ms Int64,
    log_time_ms Int64
)
ENGINE = ReplacingMergeTree(offset)
ORDER BY (topic, partition)
SETTINGS non_replicated_deduplication_window = 115200;
