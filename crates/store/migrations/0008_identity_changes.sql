-- Pairs can be taken back. Of the rows that say the same of one pair the one with the highest version counts; `removed`: the
-- pair held until then. Rows of before have version 0 and hold until a newer one takes them back.
--
-- Order: `by_alias` belongs to the key, since what a device's events say and what aliases say is written by different
-- partitions, and the one must not take back the other.
ALTER TABLE identities
    ADD COLUMN IF NOT EXISTS removed Bool DEFAULT false CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS version UInt64 DEFAULT 0 CODEC(ZSTD(1));
ALTER TABLE identities
    ADD COLUMN IF NOT EXISTS by_alias Bool CODEC(ZSTD(1)),
    MODIFY ORDER BY (project, key, person, by_alias);
-- Commands that changed who is who: what, by whom, when and why. Kept for good.
CREATE TABLE IF NOT EXISTS identity_changes
(
    project LowCardinality(String),
    key UInt128 CODEC(NONE),
    id String CODEC(ZSTD(1)),
    other UInt128 CODEC(NONE),
    other_id String CODEC(ZSTD(1)),
    by String CODEC(ZSTD(1)),
    reason String CODEC(ZSTD(1)),
    ordered DateTime64(3, 'UTC') CODEC(ZSTD(1)),
    applied DateTime64(3, 'UTC') CODEC(ZSTD(1))
)
ENGINE = MergeTree
ORDER BY (project, applied, key)
SETTINGS non_replicated_deduplication_window = 115200;
