-- Events and their persons, by bucket of time and name. Persons are joined after the first sum: once for each person and
-- bucket, not for each event.
SELECT bucket, event, sum(found) AS events, uniqExact(person) AS persons
FROM
(
    SELECT counts.bucket AS bucket, counts.event AS event, counts.found AS found,
        if(persons.key = 0, counts.person, persons.person) AS person
    FROM
    (
        SELECT
            multiIf(
                {interval:String} = 'hour', toUnixTimestamp(toStartOfHour(time)),
                {interval:String} = 'day', toUnixTimestamp(toStartOfDay(time)),
                {interval:String} = 'week', toUnixTimestamp(toDateTime(toStartOfWeek(time, 1, 'UTC'), 'UTC')),
                {interval:String} = 'month', toUnixTimestamp(toDateTime(toStartOfMonth(time, 'UTC'), 'UTC')),
                0
            ) * toInt64(1000) AS bucket,
            if({by_event:Bool}, events.event, '') AS event,
            person,
            count() AS found
        FROM events
        WHERE project = {project:String}
            AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
            AND ({include_bots:Bool} OR bot = '')
            AND (empty({events:Array(String)}) OR has({events:Array(String)}, events.event))
        GROUP BY bucket, event, person
    ) AS counts
    LEFT JOIN persons ON counts.person = persons.key
)
GROUP BY bucket, event
ORDER BY bucket, event
