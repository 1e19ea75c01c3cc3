//! Downstream services: each follows an audience from its beginning, and resumes where it was when the stream breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use trackway_query::pb::{self, subscribe_response::Body};

use crate::roles::Client;

/// An audience: its project and name.
pub(super) type Audience = (&'static str, &'static str);

/// Where a subscriber thinks each person is: in or out.
#[derive(Debug, Default)]
pub(super) struct Heard {
    is_in: BTreeMap<String, bool>,
    /// Who was in the snapshot. By contract a change that the snapshot shows may be said again, once.
    of_snapshot: BTreeSet<String>,
    /// Changes in all.
    pub changes: usize,
    /// What should never come: somebody entered who is in, or left who is out.
    pub wrong: Vec<String>,
}

impl Heard {
    /// Persons who are in.
    pub fn members(&self) -> Vec<String> {
        self.is_in.iter().filter(|(_, is_in)| **is_in).map(|(person, _)| person.clone()).collect()
    }

    fn change(&mut self, change: pb::MembershipChange) {
        self.changes += 1;
        let before = self.is_in.insert(change.person.clone(), change.entered);
        let was_shown = self.of_snapshot.remove(&change.person) && change.entered;
        if before.unwrap_or(false) == change.entered && !was_shown {
            let what = if change.entered { "entered twice" } else { "left without having entered" };
            self.wrong.push(format!("{} ({}{}) {what}", change.person, change.user_id, change.visitor_id));
        }
    }
}

/// A subscriber; it ends when this is dropped.
pub(super) struct Watch {
    pub audience: Audience,
    heard: Arc<Mutex<Heard>>,
    /// Ended with the watch.
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins to follow an audience.
    pub fn begin(client: Client, audience: Audience) -> Self {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut task = JoinSet::new();
        task.spawn(follow(client, audience, heard.clone()));
        Self { audience, heard, _task: task }
    }

    pub fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().expect("nobody panicked")
    }
}

async fn follow(client: Client, audience: Audience, heard: Arc<Mutex<Heard>>) {
    let mut cursor = String::new();
    loop {
        // Whatever broke, and however often: a subscriber comes again.
        if let Ok(mut stream) = client.subscribe(audience, &cursor).await {
            // A server that was killed may leave its connection open for long.
            while let Ok(Ok(Some(response))) = tokio::time::timeout(SILENCE_MAX, stream.message()).await {
                let mut heard = heard.lock().expect("nobody panicked");
                match response.body {
                    Some(Body::Change(change)) => heard.change(change),
                    Some(Body::Snapshot(snapshot)) => {
                        for member in snapshot.members {
                            heard.of_snapshot.insert(member.person.clone());
                            heard.is_in.insert(member.person, true);
                        }
                    }
                    Some(Body::SnapshotEnd(_)) | None => {}
                }
                if !response.cursor.is_empty() {
                    cursor = response.cursor;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Then a subscriber looks whether the server is still there.
const SILENCE_MAX: Duration = Duration::from_secs(5);
