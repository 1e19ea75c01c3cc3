CREATE TABLE IF NOT EXISTS migrations
(
    number UInt32,
    name String,
    checksum UInt64,
    applied_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY number
