-- Names of all activity, in the table's own order. Identify, group and alias calls are book-keeping, not activity.
SELECT person, time, event
FROM events
WHERE project = {project:String}
    AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ({include_bots:Bool} OR bot = '')
    AND kind IN ('track', 'page', 'screen')
ORDER BY project, person, time, sequence, event_key
