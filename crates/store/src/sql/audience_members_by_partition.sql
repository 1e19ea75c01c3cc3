-- The ids may have become known after a stay was put in and before it was taken back: they are no part of what cancels.
-- Members whose stay ends after the watermark of their own partition. Plain milliseconds, since a watermark may be the
-- smallest integer, which no DateTime64 holds.
SELECT project, audience, person, max(user_id) AS user_id, max(visitor_id) AS visitor_id, entered, left, partition
FROM audience_members
WHERE project = {project:String} AND audience = {audience:String}
    AND has({partitions:Array(UInt32)}, partition)
    AND toUnixTimestamp64Milli(left)
        > arrayElement({watermarks:Array(Int64)}, indexOf({partitions:Array(UInt32)}, partition))
GROUP BY project, audience, person, entered, left, partition
HAVING sum(sign) > 0
ORDER BY person, entered
