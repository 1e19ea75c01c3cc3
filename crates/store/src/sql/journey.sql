-- The newest events of some keys. They come newest first, and are turned round by the caller.
SELECT
    visitor, visitor_id, user_id, time, event_key, kind, event, url, path, title, referrer,
    channel, source, medium, campaign,
    touchpoint, stage, device, properties, bot
FROM events
WHERE project = {project:String}
    AND person IN {keys:Array(UInt128)}
    AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ({include_bots:Bool} OR bot = '')
    AND ({touchpoints_only:Bool} = false OR touchpoint != '')
ORDER BY time DESC, sequence DESC, event_key DESC
LIMIT {rows_max:UInt64}
