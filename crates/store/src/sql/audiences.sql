-- Definitions, the newest of each name. The table is small: FINAL costs nothing here.
SELECT project, audience, event, count_min, window_ms, created, changed, ended
FROM audiences FINAL
WHERE project = {project:String} AND (empty({names:Array(String)}) OR has({names:Array(String)}, audience))
ORDER BY audience
