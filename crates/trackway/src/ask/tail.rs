//! Follows what arrives: a line each, connects again after a break, ends quietly with Ctrl-C.

use std::time::Duration;

use anyhow::Context as _;
use tonic::{Code, Status};
use trackway_query::pb;

use super::{Asker, answers, explain, json, print, text};

/// Pauses between attempts to connect: from the first, doubling, to the last.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Shows until Ctrl-C, or until the server refuses.
pub async fn run(asker: &Asker, request: &pb::TailRequest) -> anyhow::Result<()> {
    tokio::select! {
        ended = follow(asker, request) => ended,
        signal = tokio::signal::ctrl_c() => signal.context("cannot wait for Ctrl-C"),
    }
}

async fn follow(asker: &Asker, request: &pb::TailRequest) -> anyhow::Result<()> {
    // The first connection must succeed: a wrong address is said at once.
    asker.channel().await?;
    let mut pause = PAUSE.0;
    loop {
        let why = match once(asker, request, &mut pause).await? {
            Ended::PipeClosed => return Ok(()),
            Ended::Broken(why) => why,
        };
        eprintln!(
            "the connection ended: {why}. Connecting again in {} s; what comes until then is missed",
            pause.as_secs_f64()
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Why one connection ended and no error of ours did it.
enum Ended {
    /// Nobody reads our output any more.
    PipeClosed,
    /// It may be better next time.
    Broken(String),
}

async fn once(asker: &Asker, request: &pb::TailRequest, pause: &mut Duration) -> anyhow::Result<Ended> {
    let mut client = match asker.intake_client().await {
        Ok(client) => client,
        Err(error) => return Ok(Ended::Broken(error.to_string())),
    };
    let mut responses = match client.tail(request.clone()).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return on_refusal(&status, asker),
    };
    *pause = PAUSE.0;
    if !asker.json {
        eprintln!(
            "showing what arrives for project `{}`. Ctrl-C ends it; times are UTC",
            text::clean(&request.project)
        );
    }
    loop {
        match responses.message().await {
            Ok(Some(response)) => {
                let line = if asker.json {
                    json::tailed(&response).map(|value| format!("{value}\n"))
                } else {
                    answers::tailed(&response, asker.look)
                };
                if !print(&line.unwrap_or_default())? {
                    return Ok(Ended::PipeClosed);
                }
            }
            Ok(None) => return Ok(Ended::Broken("the server closed it".to_owned())),
            Err(status) => return on_refusal(&status, asker),
        }
    }
}

/// What the server says ends the tail, or only this connection.
fn on_refusal(status: &Status, asker: &Asker) -> anyhow::Result<Ended> {
    match status.code() {
        // A connection that breaks shows as one of these.
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::Internal
        | Code::Aborted
        | Code::DeadlineExceeded
        | Code::ResourceExhausted => Ok(Ended::Broken(text::clean(status.message()))),
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
