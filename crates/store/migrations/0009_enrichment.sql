-- What an event's context says beyond the families of browser and system.
--
-- os holds the family alone from now on (`Windows`, before: `Windows 10`); what is stored keeps its name.
-- browser_version: the first number; os_version: the first two parts. More of them would be a column of nearly unique texts.
-- country, region, city: of the address as far as it is kept, by the operator's database; empty without one.
-- language: the first part of the locale; screen_class: small, medium, large, wide.
-- device_model and city are LowCardinality although both can have many values: a part of events has some thousands, and a
-- dictionary of a part that has too many falls back to plain text by itself.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS browser_version LowCardinality(String) CODEC(ZSTD(1)) AFTER browser,
    ADD COLUMN IF NOT EXISTS os_version LowCardinality(String) CODEC(ZSTD(1)) AFTER os,
    ADD COLUMN IF NOT EXISTS device_brand LowCardinality(String) CODEC(ZSTD(1)) AFTER device,
    ADD COLUMN IF NOT EXISTS device_model LowCardinality(String) CODEC(ZSTD(1)) AFTER device_brand,
    ADD COLUMN IF NOT EXISTS country LowCardinality(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS region LowCardinality(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS city LowCardinality(String) CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS language LowCardinality(String) CODEC(ZSTD(1)) AFTER locale,
    ADD COLUMN IF NOT EXISTS screen_class LowCardinality(String) CODEC(ZSTD(1)) AFTER screen_height;
