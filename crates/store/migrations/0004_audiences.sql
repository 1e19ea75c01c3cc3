-- Audiences as they were defined; the newest row of a name counts.
CREATE TABLE IF NOT EXISTS audiences
(
    project LowCardinality(String),
    audience String,
    event String,
    count_min UInt32,
    window_ms Int64,
    created DateTime64(3, 'UTC'),
    changed DateTime64(3, 'UTC'),
    ended Bool
)
ENGINE = ReplacingMergeTree(changed)
ORDER BY (project, audience);

-- Stays in audiences, put in (1) and taken back (-1). The end of a stay is known when it begins, and moves by a retraction
-- and a new row; so the key names one version of one stay.
CREATE TABLE IF NOT EXISTS audience_members
(
    project LowCardinality(String),
    audience LowCardinality(String),
    person UInt128 CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    visitor_id String CODEC(ZSTD(1)),
    entered DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    left DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    partition UInt32 CODEC(ZSTD(1)),
    sign Int8 CODEC(ZSTD(1))
)
ENGINE = CollapsingMergeTree(sign)
ORDER BY (project, audience, person, entered, left)
SETTINGS non_replicated_deduplication_window = 115200;
