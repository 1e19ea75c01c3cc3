-- Rows that name one of the keys on either side. A pair that was said more than once gives its earliest row; one whose
-- newest row takes it back gives none.
SELECT key, person, argMin(first_visitor_id, earliest), argMin(first_user_id, earliest), min(earliest)
FROM
(
    SELECT key, person, by_alias,
        argMinIf(visitor_id, at, NOT removed) AS first_visitor_id,
        argMinIf(user_id, at, NOT removed) AS first_user_id,
        minIf(at, NOT removed) AS earliest
    FROM identities
    WHERE project = {project:String} AND (key IN {keys:Array(UInt128)} OR person IN {keys:Array(UInt128)})
    GROUP BY key, person, by_alias
    HAVING NOT argMax(removed, version)
)
GROUP BY key, person
ORDER BY key, person
