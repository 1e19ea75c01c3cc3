-- How a key becomes a person, for questions that count persons: `persons` has a row for each key whose person is another
-- (and for some whose person is itself). Every such question begins with this.
--
-- Identities are a graph: visitor to user, user to user by alias, in chains of any length, in circles, one user to several.
-- One person is what is connected. Nearly all of it is visitors with one user, and one step from them; what is left (links
-- among users) is small, is read by `links.sql`, solved by `domain::identity::PersonMap`, and comes back as `merged_*`.
WITH
    merged AS
    (
        SELECT pair.1 AS key, pair.2 AS person
        FROM (SELECT arrayJoin(arrayZip({merged_keys:Array(UInt128)}, {merged_persons:Array(UInt128)})) AS pair)
    ),
    persons AS
    (
        SELECT key, min(person) AS person
        FROM
        (
            SELECT first.key AS key, if(merged.key = 0, first.person, merged.person) AS person
            FROM (SELECT key, min(person) AS person FROM identities WHERE project = {project:String} GROUP BY key) AS first
            LEFT JOIN merged ON first.person = merged.key
            UNION ALL
            SELECT key, person FROM merged
        )
        GROUP BY key
    )
