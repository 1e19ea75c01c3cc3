-- What persons say of what they met. Most events say nothing, so these columns cost next to nothing.
--
-- score: a decimal, since means of scores are compared; NULL where none was given, so that averages are right.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS feedback LowCardinality(String),
    ADD COLUMN IF NOT EXISTS score Nullable(Decimal(18, 6)) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS comment String CODEC(ZSTD(1));
