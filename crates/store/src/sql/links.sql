-- The identities that two steps do not settle: see persons.sql. Where there are any, the aliases too, since they may go on
-- where these end. The order makes the solution the same each time.
-- It follows parted.sql.
    , mine AS
    (
        SELECT key, person, by_alias
        FROM identities
        WHERE project = {project:String} AND (key, person, by_alias) NOT IN parted
    ),
    unsettled AS
    (
        SELECT key, person
        FROM mine
        WHERE key IN (SELECT key FROM mine GROUP BY key HAVING min(person) != max(person))
            OR (by_alias = false AND key IN (SELECT person FROM mine))
            OR (by_alias AND person IN (SELECT key FROM mine))
    )
SELECT DISTINCT key, person
FROM mine
WHERE (key, person) IN unsettled OR (by_alias AND (SELECT count() FROM unsettled) > 0)
ORDER BY key, person
