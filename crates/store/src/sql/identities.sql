-- Who is whose person, all of a project. One row more than the caller takes tells it that there are more.
WITH parted AS
    (
        SELECT key, person, by_alias
        FROM identities
        WHERE project = {project:String}
            AND key IN (SELECT key FROM identities WHERE project = {project:String} AND removed)
        GROUP BY key, person, by_alias
        HAVING argMax(removed, version)
    )
SELECT DISTINCT key, person
FROM identities
WHERE project = {project:String} AND (key, person, by_alias) NOT IN parted
ORDER BY key, person
LIMIT {rows_max:UInt64}
