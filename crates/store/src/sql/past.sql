-- Every occurrence of one event but those of bots, person by person: what an audience that is made later takes over.
SELECT person, time, event_key, received, user_id, visitor_id
FROM events
WHERE project = {project:String} AND event = {event:String} AND kind IN ('track', 'page', 'screen')
    AND bot = ''
ORDER BY project, person, time, sequence, event_key
