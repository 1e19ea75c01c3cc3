-- Rows that name one of the keys on either side. A pair that was said more than once gives its earliest row.
SELECT key, person, visitor_id, user_id, at
FROM identities
WHERE project = {project:String} AND (key IN {keys:Array(UInt128)} OR person IN {keys:Array(UInt128)})
ORDER BY key, person, at
LIMIT 1 BY key, person
