-- "This key's person is that key's." A pair said twice is one row after merges.
--
-- Order: `person` belongs to the key although a visitor has one user only, because a user can be aliased to several others:
-- all of them are one person, whichever was said last.
-- Index: walking from a person to its keys must not read the project. Keys are hashes, so a granule's filter excludes
-- nearly all of them.
CREATE TABLE IF NOT EXISTS identities
(
    project LowCardinality(String),
    key UInt128 CODEC(NONE),
    person UInt128 CODEC(NONE),
    visitor_id String CODEC(ZSTD(1)),
    user_id String CODEC(ZSTD(1)),
    at DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    INDEX by_person person TYPE bloom_filter(0.001) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
ORDER BY (project, key, person)
SETTINGS non_replicated_deduplication_window = 115200;
