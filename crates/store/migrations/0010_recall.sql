-- What the worker needs to find one visitor's past again, when an event comes long after its neighbours.
--
-- Both tables are in another order (events by person, sessions by start), and a visitor may be some ten rows in a million: the
-- filters tell which granules cannot have it. One false positive in a hundred costs 10 bits a visitor and granule.
-- They are made for new parts and by merges; what is there already is filled in the background.
-- page_name: a screen has no other name, and sessions tell their first and last one.
ALTER TABLE events
    ADD COLUMN IF NOT EXISTS page_name LowCardinality(String) CODEC(ZSTD(1)) AFTER title,
    ADD INDEX IF NOT EXISTS visitor_filter visitor TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE sessions ADD INDEX IF NOT EXISTS visitor_filter visitor TYPE bloom_filter(0.01) GRANULARITY 1;

ALTER TABLE events MATERIALIZE INDEX visitor_filter SETTINGS mutations_sync = 0;

ALTER TABLE sessions MATERIALIZE INDEX visitor_filter SETTINGS mutations_sync = 0;
