-- Time of a project's latest event, out of the daily counts: the events are ordered by person, and would all be read.
SELECT CAST(max(latest), 'DateTime64(3, \'UTC\')') AS latest
FROM event_counts_daily
WHERE project = {project:String}
HAVING count() > 0
