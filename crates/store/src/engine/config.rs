//! The server's configuration files and its password.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The application's user.
pub(super) const USER: &str = "trackway";

/// Readable by the owner alone: both files below hold the password.
const OWNER_ONLY: u32 = 0o600;

/// The server's own settings.
///
/// - `users`: path of the file that [`users_xml`] makes.
/// - `memory_bytes_max`: as in [`super::EngineConfig`].
pub(super) fn server_xml(users: &Path, memory_bytes_max: u64) -> String {
    let users = escape(&users.to_string_lossy());
    // Caches hold marks and primary keys. 1/16 each: a day's queries touch a few MB of them; the defaults (5 GiB each) are
    // made for big servers and would count against the limit of a small one.
    let cache = memory_bytes_max / 16;
    // After a loss of power, inserts that we were told are done must still be there, since the log's offset is committed on
    // their strength; by default ClickHouse leaves that to its replicas, which one machine does not have. So each inserted
    // part is synced (no difference could be measured at blocks of 10 000 rows: 135 ms with, 137 ms without). Merged parts
    // need no sync: ClickHouse keeps their sources for 8 min.
    //
    // The numbers of free entries in the pool: the defaults assume 16 threads and more; a machine of two would never merge
    // big parts, and streams in order (`steps.sql`) pay for every part.
    format!(
        "<clickhouse>
    <users_config>{users}</users_config>
    <max_server_memory_usage>{memory_bytes_max}</max_server_memory_usage>
    <mark_cache_size>{cache}</mark_cache_size>
    <primary_index_cache_size>{cache}</primary_index_cache_size>
    <asynchronous_metrics_update_period_s>60</asynchronous_metrics_update_period_s>
    <keep_alive_timeout>30</keep_alive_timeout>
    <merge_tree>
        <fsync_after_insert>1</fsync_after_insert>
        <fsync_part_directory>1</fsync_part_directory>
        <number_of_free_entries_in_pool_to_lower_max_size_of_merge>2</number_of_free_entries_in_pool_to_lower_max_size_of_merge>
        <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
        <number_of_free_entries_in_pool_to_execute_optimize_entire_partition>1</number_of_free_entries_in_pool_to_execute_optimize_entire_partition>
    </merge_tree>
</clickhouse>
"
    )
}

/// The two users: `default`, which the engine itself needs without a password, and so may do next to nothing; and ours.
pub(super) fn users_xml(password: &str, memory_bytes_max: u64, threads_max: u32) -> String {
    let password = escape(password);
    // One query leaves room for inserts and merges, and spills to disk long before it is refused.
    let (query, spill) = (memory_bytes_max / 2, memory_bytes_max / 6);
    format!(
        "<clickhouse>
    <profiles><default>
        <max_threads>{threads_max}</max_threads>
        <max_memory_usage>{query}</max_memory_usage>
        <max_bytes_before_external_group_by>{spill}</max_bytes_before_external_group_by>
        <max_bytes_before_external_sort>{spill}</max_bytes_before_external_sort>
    </default></profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants><query>GRANT SYSTEM LISTEN, READ, CREATE TEMPORARY TABLE ON *.*</query></grants>
        </default>
        <{USER}>
            <password>{password}</password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants><query>GRANT ALL ON *.*</query></grants>
        </{USER}>
    </users>
</clickhouse>
"
    )
}

/// Replaces a file's content, readable by the owner alone.
pub(super) fn write_private(path: &Path, content: &str) -> io::Result<()> {
    // The mode applies to new files only; one that somebody left here with other rights is replaced.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path)?;
    file.write_all(content.as_bytes())
}

/// The password kept in this file; a new one of 128 random bits, if there is no file.
pub(super) fn password_in(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(password) => Ok(password.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; 16];
            fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
            let password = format!("{:032x}", u128::from_le_bytes(random));
            write_private(path, &password)?;
            Ok(password)
        }
        Err(error) => Err(error),
    }
}

/// Text of an XML element.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_paths_cannot_leave_their_element() {
        let users = users_xml("a&b</password><x>", 1, 1);
        assert!(users.contains("<password>a&amp;b&lt;/password&gt;&lt;x&gt;</password>"), "{users}");
        assert!(server_xml(Path::new("/a&b"), 1).contains("<users_config>/a&amp;b</users_config>"));
    }
}
