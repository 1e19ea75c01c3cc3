-- Who is whose person, all of a project. One row more than the caller takes tells it that there are more.
-- It follows parted.sql.
SELECT DISTINCT key, person
FROM identities
WHERE project = {project:String} AND (key, person, by_alias) NOT IN parted
ORDER BY key, person
LIMIT {rows_max:UInt64}
