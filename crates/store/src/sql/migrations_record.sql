INSERT INTO migrations (number, name, checksum, applied_at)
SELECT {number:UInt32}, {name:String}, {checksum:UInt64}, now64(3, 'UTC')
