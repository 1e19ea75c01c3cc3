-- Sessions, as rows put in (1) and taken back (-1): sums over `sign` are exact at every moment, merged or not.
--
-- Order: summaries read a project's range of starts. The rest of the key names one version of one session, so that a merge
-- collapses a row only with its own retraction.
CREATE TABLE IF NOT EXISTS sessions
(
    project LowCardinality(String),
    visitor UInt128 CODEC(ZSTD(1)),
    start DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    end DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    events UInt32 CODEC(ZSTD(1)),
    page_views UInt32 CODEC(ZSTD(1)),
    entry_page String CODEC(ZSTD(1)),
    exit_page String CODEC(ZSTD(1)),
    channel LowCardinality(String) CODEC(ZSTD(1)),
    source LowCardinality(String) CODEC(ZSTD(1)),
    medium LowCardinality(String) CODEC(ZSTD(1)),
    campaign LowCardinality(String) CODEC(ZSTD(1)),
    sign Int8 CODEC(ZSTD(1))
)
ENGINE = CollapsingMergeTree(sign)
PARTITION BY toYYYYMM(start)
ORDER BY (project, start, visitor, end, events, page_views)
SETTINGS non_replicated_deduplication_window = 115200;
