-- How a key becomes a person, for questions that count persons: `persons` has a row for each key whose person is another
-- (and for some whose person is itself). Every such question begins with this.
--
-- Identities are a graph, and one person is what is connected. Nearly all of it is visitors with one user, and one step
-- from them. Aliases join users in one more step, since the worker names each person by one user (`by_alias`). What these
-- two steps do not settle (rows of before it did so, and what is on its way) is small, is read by `links.sql`, solved by
-- `domain::identity::PersonMap`, and comes back as `merged_*`.
-- It follows parted.sql.
    , merged AS
    (
        SELECT pair.1 AS key, pair.2 AS person
        FROM (SELECT arrayJoin(arrayZip({merged_keys:Array(UInt128)}, {merged_persons:Array(UInt128)})) AS pair)
    ),
    named AS
    (
        SELECT key, min(person) AS person
        FROM identities
        WHERE project = {project:String} AND by_alias AND (identities.key, identities.person, identities.by_alias) NOT IN parted
        GROUP BY key
    ),
    persons AS
    (
        SELECT key, min(person) AS person
        FROM
        (
            SELECT first.key AS key,
                multiIf(merged.key != 0, merged.person, named.key != 0, named.person, first.person) AS person
            FROM
            (
                SELECT key, min(person) AS person
                FROM identities
                WHERE project = {project:String} AND (identities.key, identities.person, identities.by_alias) NOT IN parted
                GROUP BY key
            ) AS first
            LEFT JOIN named ON first.person = named.key
            LEFT JOIN merged ON first.person = merged.key
            UNION ALL
            SELECT key, person FROM merged
        )
        GROUP BY key
    )
