//! Migrations: once, twice, at the same time, and over what they do not know.

mod common;

use common::{client, engine_config, store_config};
use tempfile::TempDir;
use trackway_store::Store;
use trackway_store::engine::Engine;
use trackway_store::migrate::MigrateError;

/// Numbers of all files: a file that the program does not know of would never be applied.
fn numbers() -> Vec<u32> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut numbers: Vec<u32> = names.map(|name| name[..4].parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test]
async fn they_are_applied_once_and_safe_at_the_same_time() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let store = Store::connect(store_config(&engine)).unwrap();
    let (a, b, c) = tokio::join!(store.migrate(), store.migrate(), store.migrate());
    let all = numbers();
    for applied in [a, b, c] {
        // Each may have found some done by the others.
        let applied = applied.unwrap();
        assert!(all.ends_with(&applied), "{applied:?}");
    }
    assert!(store.migrate().await.unwrap().is_empty());

    let client = client(&engine);
    client.query("OPTIMIZE TABLE migrations FINAL").execute().await.unwrap();
    let recorded: Vec<u32> = client.query("SELECT number FROM migrations ORDER BY number").fetch_all().await.unwrap();
    assert_eq!(recorded, all);

    // A crash between the last statement and its record: everything is run again.
    client.query("TRUNCATE TABLE migrations").execute().await.unwrap();
    assert_eq!(store.migrate().await.unwrap(), all);
    engine.stop().await;
}

#[tokio::test]
async fn other_databases_have_tables_of_their_own() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    for database in ["one", "two"] {
        let mut config = store_config(&engine);
        config.database = database.to_owned();
        assert_eq!(Store::connect(config).unwrap().migrate().await.unwrap(), numbers());
    }
    let mut config = store_config(&engine);
    config.database = "one; DROP DATABASE two".to_owned();
    assert!(Store::connect(config).unwrap_err().to_string().contains("`one; DROP DATABASE two`"));
    engine.stop().await;
}

#[tokio::test]
async fn a_changed_or_unknown_migration_stops_it() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let store = Store::connect(store_config(&engine)).unwrap();
    store.migrate().await.unwrap();
    let client = client(&engine);

    client.query("INSERT INTO migrations VALUES (99, 'later', 1, now())").execute().await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(
        matches!(error, MigrateError::Newer { found: 99, known, .. } if Some(&known) == numbers().last()),
        "{error:?}"
    );
    client.query("TRUNCATE TABLE migrations").execute().await.unwrap();

    client.query("INSERT INTO migrations VALUES (2, '0002_sessions', 1, now())").execute().await.unwrap();
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, MigrateError::Changed { name: "0002_sessions", applied: 1, .. }), "{error:?}");
    engine.stop().await;
}

#[tokio::test]
async fn ping_tells_a_server_that_lets_us_in_from_one_that_does_not() {
    let folder = TempDir::new().unwrap();
    let engine = Engine::start(engine_config(folder.path())).await.unwrap();
    let right = store_config(&engine);
    // Before any table is there.
    Store::connect(right.clone()).unwrap().ping().await.unwrap();
    let mut wrong = right.clone();
    wrong.password = "wrong".to_owned();
    Store::connect(wrong).unwrap().ping().await.unwrap_err();
    engine.stop().await;
    let error = Store::connect(right.clone()).unwrap().ping().await.unwrap_err();
    assert!(error.to_string().contains(&right.url), "{error}");
}
