//! The salt of derived visitor ids, which changes each day (UTC), and the key of hashed properties, which does not.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use trackway_domain::id::ProjectId;
use trackway_domain::time::ReceivedAt;

use crate::Secret;

const DAY_MS: i64 = 24 * 3600 * 1000;

type Key = [u8; 32];

/// Derives ids and hashes.
pub(crate) struct Secrets {
    source: Source,
    properties: Key,
    /// Salt of the latest day that was asked for.
    today: Mutex<(i64, Key)>,
}

enum Source {
    File(PathBuf),
    Shared(Key),
}

impl Secrets {
    /// Reads or makes the file, if there is to be one.
    pub(crate) fn new(secret: &Secret, now: ReceivedAt) -> io::Result<Self> {
        let day = now.0.div_euclid(DAY_MS);
        match secret {
            Secret::Shared(text) => {
                let master = blake3::derive_key("trackway gateway shared secret", text.as_bytes());
                let properties = blake3::derive_key("trackway properties", &master);
                let today = Mutex::new((day, salt_of(&master, day)));
                Ok(Self { source: Source::Shared(master), properties, today })
            }
            Secret::File(path) => {
                let (properties, today) = of_file(path, day)?;
                Ok(Self { source: Source::File(path.clone()), properties, today: Mutex::new(today) })
            }
        }
    }

    /// The id of a visitor who has none: the same all day for the same project, address and user agent, and nothing that
    /// could be told from it.
    pub(crate) fn visitor(&self, project: &ProjectId, ip: IpAddr, user_agent: &str, now: ReceivedAt) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.salt(now));
        // Lengths of what comes before are fixed or told, so there is one way to read it.
        hasher.update(project.as_str().as_bytes()).update(&[0]).update(ip.to_string().as_bytes()).update(&[0]);
        hasher.update(user_agent.as_bytes());
        format!("anon-{}", &hasher.finalize().to_hex()[..32])
    }

    /// What stands for a property's value.
    pub(crate) fn property(&self, project: &ProjectId, value: &str) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.properties);
        hasher.update(project.as_str().as_bytes()).update(&[0]).update(value.as_bytes());
        hasher.finalize().to_hex()[..32].to_owned()
    }

    fn salt(&self, now: ReceivedAt) -> Key {
        let day = now.0.div_euclid(DAY_MS);
        let mut today = self.today.lock().expect("not poisoned");
        // A clock that is set back stays with the later day: its salt is the only one that is left.
        if day > today.0 {
            *today = match &self.source {
                Source::Shared(master) => (day, salt_of(master, day)),
                Source::File(path) => match of_file(path, day) {
                    Ok((_, salt)) => salt,
                    Err(error) => {
                        forgotten(path, &error);
                        (day, random().unwrap_or_else(|_| blake3::derive_key("trackway next day", &today.1)))
                    }
                },
            };
        }
        today.1
    }
}

fn salt_of(master: &Key, day: i64) -> Key {
    blake3::keyed_hash(master, &day.to_be_bytes()).into()
}

/// A random id in the form of a UUID, for cookies.
pub(crate) fn fresh_id() -> String {
    let bytes = random().unwrap_or_default();
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[..16]);
    id[6] = id[6] & 0x0F | 0x40;
    id[8] = id[8] & 0x3F | 0x80;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn random() -> io::Result<Key> {
    let mut key = Key::default();
    getrandom::fill(&mut key)?;
    Ok(key)
}

/// Key of properties and salt of `day`, as the file has them; else new ones, which it has from then on. Gateways that share
/// the file agree: they take turns.
fn of_file(path: &Path, day: i64) -> io::Result<(Key, (i64, Key))> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let turn = fs::File::create(path.with_extension("lock"))?;
    turn.lock()?;
    let kept = match fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let (properties, salt) = match kept {
        // A clock that is behind stays with the later day: its salt is the only one that is left.
        Some((properties, kept_day, salt)) if kept_day >= day => return Ok((properties, (kept_day, salt))),
        Some((properties, ..)) => (properties, random()?),
        None => (random()?, random()?),
    };
    match write(path, &properties, (day, salt)) {
        // A full disk is no reason to take nothing; the salt is forgotten with this process.
        Err(error) if kept.is_some() => forgotten(path, &error),
        written => written?,
    }
    Ok((properties, (day, salt)))
}

fn forgotten(path: &Path, error: &io::Error) {
    let (file, error) = (path.display().to_string(), error as &dyn std::error::Error);
    tracing::warn!(file, error, "cannot keep the day's salt; a restart derives other ids");
}

/// `<key of properties> <day> <salt>`
fn parse(text: &str) -> Option<(Key, i64, Key)> {
    let mut words = text.split_whitespace();
    let mut key = || blake3::Hash::from_hex(words.next()?).ok().map(Key::from);
    let properties = key()?;
    let (day, salt) = (words.next()?.parse().ok()?, words.next()?);
    Some((properties, day, blake3::Hash::from_hex(salt).ok()?.into()))
}

/// Whole or not at all, and for nobody else to read.
fn write(path: &Path, properties: &Key, (day, salt): (i64, Key)) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let hex = |key: &Key| blake3::Hash::from(*key).to_hex();
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    writeln!(file, "{} {day} {}", hex(properties), hex(&salt))?;
    file.sync_all()?;
    fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: ReceivedAt = ReceivedAt(20_000 * DAY_MS);
    const TOMORROW: ReceivedAt = ReceivedAt(20_001 * DAY_MS);

    fn visitor(secrets: &Secrets, now: ReceivedAt) -> String {
        let shop = ProjectId::parse("shop").expect("a project id");
        secrets.visitor(&shop, "192.0.2.1".parse().expect("an address"), "UA", now)
    }

    fn property(secrets: &Secrets) -> String {
        secrets.property(&ProjectId::parse("shop").expect("a project id"), "a@b")
    }

    #[test]
    fn a_visitor_is_the_same_all_day_and_another_the_next() {
        let secrets = Secrets::new(&Secret::Shared("s".into()), NOW).expect("no file");
        assert_eq!(visitor(&secrets, NOW), visitor(&secrets, ReceivedAt(TOMORROW.0 - 1)));
        let today = visitor(&secrets, NOW);
        assert_ne!(visitor(&secrets, TOMORROW), today);
        let shop = ProjectId::parse("shop").expect("a project id");
        let ip = "192.0.2.1".parse().expect("an address");
        assert_ne!(secrets.visitor(&shop, ip, "UB", TOMORROW), visitor(&secrets, TOMORROW));
    }

    #[test]
    fn gateways_with_one_secret_derive_the_same() {
        let secrets = |text: &str| Secrets::new(&Secret::Shared(text.into()), NOW).expect("no file");
        assert_eq!(visitor(&secrets("s"), NOW), visitor(&secrets("s"), NOW));
        assert_eq!(property(&secrets("s")), property(&secrets("s")));
        assert_ne!(visitor(&secrets("s"), NOW), visitor(&secrets("t"), NOW));
        assert_ne!(property(&secrets("s")), property(&secrets("t")));
    }

    #[test]
    fn a_file_keeps_the_days_salt_over_a_restart_and_no_salt_of_yesterday() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secret::File(folder.path().join("below/secret"));
        let secrets = |now| Secrets::new(&secret, now).expect("a file");
        let first = secrets(NOW);
        let (today, hashed) = (visitor(&first, NOW), property(&first));
        assert_eq!(visitor(&secrets(NOW), NOW), today);
        let tomorrow = visitor(&first, TOMORROW);
        assert_eq!(visitor(&secrets(TOMORROW), TOMORROW), tomorrow);
        assert_ne!(visitor(&secrets(NOW), NOW), today, "yesterday's salt is gone");
        assert_eq!(property(&secrets(NOW)), hashed);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &fs::metadata(folder.path().join("below/secret")).expect("it is there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn gateways_that_share_a_file_derive_the_same_ids() {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = Secret::File(folder.path().join("secret"));
        let ids = std::thread::scope(|scope| {
            let start = || visitor(&Secrets::new(&secret, NOW).expect("a file"), NOW);
            let gateways: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
            gateways.into_iter().map(|gateway| gateway.join().expect("it starts")).collect::<Vec<_>>()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }

    #[test]
    fn a_fresh_id_is_a_uuid_and_never_the_same() {
        let id = fresh_id();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert_ne!(fresh_id(), id);
    }
}
