-- The furthest row of each partition.
SELECT topic, partition, offset, watermark_ms, log_time_ms
FROM progress FINAL
WHERE topic = {topic:String}
ORDER BY partition
