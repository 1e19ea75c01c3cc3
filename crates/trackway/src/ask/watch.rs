//! Follows an audience: keeps the cursor, connects again after a break, ends quietly with Ctrl-C.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tonic::{Code, Status};
use trackway_query::pb;

use super::{Asker, answers, explain, json, print};

/// Pauses between attempts to connect: from the first, doubling, to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Watches until Ctrl-C, or until the server says that there is nothing to watch.
pub async fn run(asker: &Asker, project: &str, name: &str, cursor_file: Option<&Path>) -> anyhow::Result<()> {
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        ended = follow(asker, project, name, cursor_file) => ended,
        signal = interrupted => signal.context("cannot wait for Ctrl-C"),
    }
}

async fn follow(asker: &Asker, project: &str, name: &str, cursor_file: Option<&Path>) -> anyhow::Result<()> {
    let mut watch = Watch { cursor: String::new(), cursor_file, members: 0, pause: PAUSE.0 };
    watch.load()?;
    // The first connection must succeed: a wrong address is said at once.
    asker.channel().await?;
    loop {
        let broken = match watch.once(asker, project, name).await? {
            Ended::PipeClosed => return Ok(()),
            Ended::Broken(why) => why,
        };
        eprintln!("the connection ended: {broken}. Connecting again in {} s", watch.pause.as_secs_f64());
        tokio::time::sleep(watch.pause).await;
        watch.pause = (watch.pause * 2).min(PAUSE.1);
    }
}

/// Why one connection ended and no error of ours did it.
enum Ended {
    /// Nobody reads our output any more.
    PipeClosed,
    /// It may be better next time.
    Broken(String),
}

struct Watch<'a> {
    cursor: String,
    cursor_file: Option<&'a Path>,
    /// In the snapshot so far.
    members: u64,
    pause: Duration,
}

impl Watch<'_> {
    /// Until the connection ends.
    async fn once(&mut self, asker: &Asker, project: &str, name: &str) -> anyhow::Result<Ended> {
        let mut client = match asker.audience_client().await {
            Ok(client) => client,
            Err(error) => return Ok(Ended::Broken(error.to_string())),
        };
        self.members = 0;
        let request =
            pb::SubscribeRequest { project: project.to_owned(), name: name.to_owned(), cursor: self.cursor.clone() };
        let mut responses = match client.subscribe(request).await {
            Ok(responses) => responses.into_inner(),
            Err(status) => return self.on_refusal(&status, asker),
        };
        loop {
            match responses.message().await {
                Ok(Some(response)) => {
                    self.pause = PAUSE.0;
                    if !self.on_response(&response, asker)? {
                        return Ok(Ended::PipeClosed);
                    }
                }
                Ok(None) => return Ok(Ended::Broken("the server closed it".to_owned())),
                Err(status) => return self.on_refusal(&status, asker),
            }
        }
    }

    /// Prints, then keeps the cursor: after a crash in between, a change is printed twice and none is lost. False: nobody
    /// reads any more.
    fn on_response(&mut self, response: &pb::SubscribeResponse, asker: &Asker) -> anyhow::Result<bool> {
        if let Some(pb::subscribe_response::Body::Snapshot(snapshot)) = &response.body {
            self.members += snapshot.members.len() as u64;
        }
        let text = if asker.json {
            json::watched(response).iter().map(|line| format!("{line}\n")).collect()
        } else {
            answers::watched(response, self.members, asker.look).unwrap_or_default()
        };
        if !text.is_empty() && !print(&text)? {
            return Ok(false);
        }
        if !response.cursor.is_empty() && response.cursor != self.cursor {
            self.cursor.clone_from(&response.cursor);
            self.save()?;
        }
        Ok(true)
    }

    /// What the server says ends the watch, or only this connection.
    fn on_refusal(&self, status: &Status, asker: &Asker) -> anyhow::Result<Ended> {
        match status.code() {
            // A connection that breaks shows as one of these.
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => Ok(Ended::Broken(super::text::clean(status.message()))),
            Code::OutOfRange | Code::InvalidArgument if self.cursor_file.is_some() && !self.cursor.is_empty() => {
                let file = self.cursor_file.unwrap_or(Path::new("")).display();
                Err(explain(status, &asker.server))
                    .context(format!("cannot go on from the cursor in `{file}`. Remove the file to begin again"))
            }
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => Err(explain(status, &asker.server)),
        }
    }

    fn load(&mut self) -> anyhow::Result<()> {
        let Some(file) = self.cursor_file else { return Ok(()) };
        match std::fs::read_to_string(file) {
            Ok(text) => text.trim().clone_into(&mut self.cursor),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the cursor in `{}`", file.display()));
            }
        }
        Ok(())
    }

    /// Whole or not at all: a new file takes the place of the old one.
    fn save(&self) -> anyhow::Result<()> {
        let Some(file) = self.cursor_file else { return Ok(()) };
        let mut new_name = file.as_os_str().to_owned();
        new_name.push(".new");
        let new = Path::new(&new_name);
        let write = || {
            let mut out = std::fs::File::create(new)?;
            writeln!(out, "{}", self.cursor)?;
            drop(out);
            std::fs::rename(new, file)
        };
        write().with_context(|| format!("cannot keep the cursor in `{}`", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_kept_across_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cursor");
        let watch =
            |cursor: &str| Watch { cursor: cursor.into(), cursor_file: Some(&file), members: 0, pause: PAUSE.0 };
        let mut first = watch("");
        first.load().expect("no file yet");
        assert_eq!(first.cursor, "");
        watch("abc").save().expect("saved");
        watch("def").save().expect("saved again");
        let mut next = watch("");
        next.load().expect("loaded");
        assert_eq!(next.cursor, "def");
    }
}
