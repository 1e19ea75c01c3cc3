-- The identities that one step does not settle: of a key that is itself somebody's person, or that has several.
-- See persons.sql. The order makes the solution the same each time.
WITH mine AS (SELECT key, person FROM identities WHERE project = {project:String})
SELECT DISTINCT key, person
FROM mine
WHERE key IN (SELECT person FROM mine) OR key IN (SELECT key FROM mine GROUP BY key HAVING min(person) != max(person))
ORDER BY key, person
