// The peer of `cargo xtask bench worker_log`: session windows of 30 min by Kafka Streams over the same broker.
//
// java -cp LIBS Sessions BROKERS EVENTS: writes the synthetic stream (key: visitor, value: 300 bytes, timestamp: event time)
// into a topic of its own, then counts sessions with 4 partitions, 2 threads, the RocksDB store and its change log, and
// prints `EVENTS CPU_SECONDS WALL_SECONDS SESSIONS` of the second part.

import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.SessionWindows;

public class Sessions {
    static long mix(long z) {
        z += 0x9E3779B97F4A7C15L;
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    public static void main(String[] args) throws Exception {
        String brokers = args[0];
        long n = Long.parseLong(args[1]);
        String topic = "peer-events-" + System.nanoTime();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", brokers))) {
            admin.createTopics(List.of(new NewTopic(topic, 4, (short) 1).configs(Map.of("retention.ms", "-1")))).all().get();
        }
        Properties produce = new Properties();
        produce.putAll(Map.of("bootstrap.servers", brokers, "acks", "all", "linger.ms", "20", "batch.size", "262144",
            "compression.type", "lz4"));
        try (KafkaProducer<String, byte[]> producer =
                new KafkaProducer<>(produce, new StringSerializer(), new ByteArraySerializer())) {
            byte[] value = new byte[300];
            for (long i = 0; i < n; i++) {
                long h = mix(i);
                double u = (h >>> 11) / (double) (1L << 53);
                long visitor = (long) Math.floor(200000.0 * u * u * u);
                long time = 1700000000000L + i * 86400000L / n - Long.remainderUnsigned(mix(h), 5000);
                producer.send(new ProducerRecord<>(topic, null, time, "visitor-" + visitor, value.clone()));
            }
        }

        AtomicLong seen = new AtomicLong();
        AtomicLong sessions = new AtomicLong();
        StreamsBuilder builder = new StreamsBuilder();
        builder.stream(topic, Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .peek((key, value) -> seen.incrementAndGet())
            .groupByKey(Grouped.with(Serdes.String(), Serdes.ByteArray()))
            .windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofMinutes(30), Duration.ofMinutes(5)))
            .count()
            .toStream()
            // A session that grew is taken back (null) and put in anew.
            .foreach((window, count) -> sessions.addAndGet(count == null ? -1 : 1));
        Properties config = new Properties();
        config.putAll(Map.of(
            StreamsConfig.APPLICATION_ID_CONFIG, topic + "-app",
            StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers,
            StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2,
            StreamsConfig.STATE_DIR_CONFIG, args[2],
            StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0,
            "auto.offset.reset", "earliest"));
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        long cpu = system.getProcessCpuTime();
        long began = System.nanoTime();
        streams.start();
        while (seen.get() < n) {
            Thread.sleep(50);
        }
        double cpuSeconds = (system.getProcessCpuTime() - cpu) / 1e9;
        double wallSeconds = (System.nanoTime() - began) / 1e9;
        System.out.println(n + " " + cpuSeconds + " " + wallSeconds + " " + sessions.get());
        streams.close(Duration.ofSeconds(5));
    }
}
