-- Sessions that stand, by the sum of their signs: exact while retracted rows are not merged away yet.
-- Grouped by the columns that are used here only: rows that differ elsewhere have signs that add up all the same.
SELECT
    channel,
    count() AS sessions,
    countIf(events = 1) AS single_event_sessions,
    sum(events) AS events_all,
    sum(page_views) AS page_views_all,
    uniqExact(if(persons.key = 0, standing.visitor, persons.person)) AS persons,
    avg(seconds) AS mean_seconds,
    quantileExactInclusive(0.5)(seconds) AS median_seconds,
    quantileExactInclusive(0.95)(seconds) AS p95_seconds,
    max(seconds) AS max_seconds,
    countIf(is_bounce) AS bounces,
    avg(engaged_seconds) AS mean_engaged_seconds
FROM
(
    SELECT
        if({by_channel:Bool}, sessions.channel, '') AS channel,
        visitor,
        toUInt64(events) AS events,
        toUInt64(page_views) AS page_views,
        (toUnixTimestamp64Milli(end) - toUnixTimestamp64Milli(start)) / 1000 AS seconds,
        is_bounce,
        engaged_ms / 1000 AS engaged_seconds,
        sum(sign) AS times
    FROM sessions
    WHERE project = {project:String}
        AND start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND start < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    GROUP BY sessions.channel, visitor, start, end, events, page_views, is_bounce, engaged_ms
    HAVING times > 0
) AS standing
-- Once, but for sessions of one visitor that are alike in all of this.
ARRAY JOIN range(toUInt64(times)) AS nth
LEFT JOIN persons ON standing.visitor = persons.key
GROUP BY channel
ORDER BY channel
