-- One visitor's activity in a range of time, in order: what sessions are cut from. Rows of before migration 7 do not say how
-- a landing is known.
SELECT
    time, sequence, event_key, visitor_id, user_id, kind, event, protocol, properties,
    host, path, page_name, channel, source, medium, campaign, landing,
    ifNull(toString(revenue), '') AS earned, currency
FROM events
WHERE project = {project:String} AND visitor = {visitor:UInt128}
    AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND kind IN ('track', 'page', 'screen')
    AND bot = ''
ORDER BY time, sequence, event_key
LIMIT {rows_max:UInt64}
