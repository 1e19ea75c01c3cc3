-- The ids may have become known after a stay was put in and before it was taken back: they are no part of what cancels.
-- Members at a time, a page of them, by person.
SELECT project, audience, person, max(user_id) AS user_id, max(visitor_id) AS visitor_id, entered, left, partition
FROM audience_members
WHERE project = {project:String} AND audience = {audience:String} AND person > {after:UInt128}
    AND entered <= fromUnixTimestamp64Milli({as_of:Int64}, 'UTC') AND left > fromUnixTimestamp64Milli({as_of:Int64}, 'UTC')
GROUP BY project, audience, person, entered, left, partition
HAVING sum(sign) > 0
ORDER BY person, entered
LIMIT 1 BY person
LIMIT {rows_max:UInt64}
