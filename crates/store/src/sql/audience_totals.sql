-- Stays that stand, by the sum of their signs, and what they were at a time.
SELECT
    count() AS entered,
    countIf(left <= fromUnixTimestamp64Milli({as_of:Int64}, 'UTC')) AS ended,
    uniqExactIf(person, left > fromUnixTimestamp64Milli({as_of:Int64}, 'UTC')) AS members
FROM
(
    SELECT person, entered, left
    FROM audience_members
    WHERE project = {project:String} AND audience = {audience:String}
        AND entered <= fromUnixTimestamp64Milli({as_of:Int64}, 'UTC')
    GROUP BY person, entered, left
    HAVING sum(sign) > 0
)
