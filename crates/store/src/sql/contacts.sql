-- Touchpoints and feedback, in the table's own order. Feedback is its kind's number, 0 for none, and its score in millionths,
-- the smallest integer for none.
SELECT
    person, time, stage, touchpoint,
    CAST(transform(feedback, ['nps', 'csat', 'text'], [1, 2, 3], 0), 'UInt64') AS said,
    ifNull(toInt64(score * 1000000), -9223372036854775808) AS score_micros
FROM events
WHERE project = {project:String}
    AND time >= fromUnixTimestamp64Milli({from:Int64}, 'UTC') AND time < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND ({include_bots:Bool} OR bot = '')
    AND (touchpoint != '' OR feedback != '')
ORDER BY project, person, time, sequence, event_key
