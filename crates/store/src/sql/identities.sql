-- Who is whose person, all of a project. One row more than the caller takes tells it that there are more.
SELECT DISTINCT key, person
FROM identities
WHERE project = {project:String}
ORDER BY key, person
LIMIT {rows_max:UInt64}
