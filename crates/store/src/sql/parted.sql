-- Pairs of identities whose newest row takes them back. They are few, and an IN of few costs less than the newest row of each
-- pair would. Every question that reads who is whose person begins with this.
WITH
    parted AS
    (
        SELECT key, person, by_alias
        FROM identities
        WHERE project = {project:String}
            AND key IN (SELECT key FROM identities WHERE project = {project:String} AND removed)
        GROUP BY key, person, by_alias
        HAVING argMax(removed, version)
    )
