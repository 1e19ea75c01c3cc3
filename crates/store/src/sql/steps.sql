-- Events that meet a step, in the table's own order. `masks` has a mask for each of `names`: bit n for step n.
SELECT person, time, CAST(transform(event, {names:Array(String)}, {masks:Array(UInt64)}, toUInt64(0)), 'UInt64') AS mask
FROM events
WHERE project = {project:String}
    AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ({include_bots:Bool} OR bot = '')
    AND event IN {names:Array(String)}
ORDER BY project, person, time, sequence, event_key
