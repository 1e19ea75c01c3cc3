-- One visitor's sessions that stand and begin in a range of time, with all that their rows say.
SELECT
    session_key, start, end, events, page_views, entry_page, exit_page, entry_host, exit_host,
    channel, source, medium, campaign, engaged_ms, is_bounce, ifNull(toString(revenue), '') AS earned, currency,
    toUInt64(sum(sign)) AS times
FROM sessions
WHERE project = {project:String} AND visitor = {visitor:UInt128}
    AND start >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND start < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
GROUP BY
    session_key, start, end, events, page_views, entry_page, exit_page, entry_host, exit_host,
    channel, source, medium, campaign, engaged_ms, is_bounce, revenue, currency
HAVING sum(sign) > 0
ORDER BY start, session_key, end, events
