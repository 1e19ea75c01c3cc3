-- Touchpoints by stage, with their events and persons. Joined after the first sum, as in trend.sql.
SELECT stage, touchpoint, sum(found) AS events, uniqExact(if(persons.key = 0, counts.person, persons.person)) AS persons
FROM
(
    SELECT events.stage AS stage, events.touchpoint AS touchpoint, person, count() AS found
    FROM events
    WHERE project = {project:String}
        AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
        AND ({include_bots:Bool} OR bot = '')
        AND events.touchpoint != ''
    GROUP BY stage, touchpoint, person
) AS counts
LEFT JOIN persons ON counts.person = persons.key
GROUP BY stage, touchpoint
ORDER BY stage, touchpoint
