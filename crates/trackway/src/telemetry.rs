//! What the process says of itself: log lines, metrics, health.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::config::settings::{LogFormat, Telemetry};

/// Latencies: 0.5 ms (an append to a local log) to 60 s (the longest question), each about twice the one before.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// Sizes in bytes: one beacon to the largest request.
const BYTES: &[f64] = &[256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 33_554_432.0];

/// Counts: events of a request, rows of a block.
const COUNTS: &[f64] =
    &[1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0, 100_000.0, 1_000_000.0];

/// How often histograms are tidied up when nobody reads them.
const UPKEEP: Duration = Duration::from_secs(5);

/// Connections to `/metrics` at one time: a scraper or two, and a curious person.
const CONNECTIONS_MAX: usize = 32;

/// Begins to write log lines to standard error. Standard output belongs to answers.
///
/// # Errors
/// If it has begun already.
pub fn start_logs(config: &Telemetry) -> anyhow::Result<()> {
    let filter = config.log.parse::<EnvFilter>().context("the filter of log lines")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let colour = std::io::stderr().is_terminal();
    match config.log_format {
        LogFormat::Text => lines.with_target(false).with_ansi(colour).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(|e| anyhow::anyhow!("log lines are written already: {e}"))
}

/// Begins to collect metrics.
///
/// # Errors
/// If they are collected already.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let recorder = recorder()?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are collected already"))?;
    metrics::describe_gauge!("trackway_build_info", "1, with the version as label");
    metrics::gauge!("trackway_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

fn recorder() -> anyhow::Result<PrometheusBuilder> {
    // Without buckets a histogram would become a summary, which cannot be added up over processes.
    Ok(PrometheusBuilder::new()
        .set_buckets(COUNTS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), BYTES)?)
}

/// Serves `/metrics` and `/health` until told to stop.
///
/// - `draining`: while it is set, `/health` answers 503, so that a balancer sends no more.
///
/// # Errors
/// If the port no longer takes connections.
pub async fn serve(
    listener: TcpListener,
    handle: PrometheusHandle,
    draining: Arc<AtomicBool>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP);
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = upkeep.tick() => {
                handle.run_upkeep();
                continue;
            }
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => stream,
                // The peer went away, or files ran out for the moment: neither ends the server.
                Err(e) => {
                    tracing::warn!(error = %e, "connection to the metrics port was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let (handle, draining) = (handle.clone(), draining.clone());
        connections.spawn(async move {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let response = answer(request.uri().path(), &handle, draining.load(Relaxed));
                async { Ok::<_, Infallible>(response) }
            });
            // A reader that breaks off harms only itself.
            let _ = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(path: &str, handle: &PrometheusHandle, draining: bool) -> Response<Full<Bytes>> {
    let (status, kind, body) = match path {
        "/metrics" => (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", handle.render()),
        "/health" if draining => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", "draining\n".to_owned()),
        "/health" => (StatusCode::OK, "text/plain", "ok\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "here are /metrics and /health\n".to_owned()),
    };
    let response = Response::builder().status(status).header(CONTENT_TYPE, kind).body(Full::new(body.into()));
    response.expect("constant parts")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn get(path: &str, draining: bool) -> (u16, String) {
        let recorder = recorder().expect("buckets").build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("append_seconds").record(0.002);
            metrics::histogram!("request_events").record(5.0);
            metrics::histogram!("request_bytes").record(5.0);
        });
        let response = answer(path, &handle, draining);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("no error").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn histograms_have_the_buckets_of_their_unit() {
        let (status, body) = get("/metrics", false).await;
        assert_eq!(status, 200);
        for line in [
            r#"append_seconds_bucket{le="0.001"} 0"#,
            r#"append_seconds_bucket{le="0.0025"} 1"#,
            r#"request_events_bucket{le="10"} 1"#,
            r#"request_bytes_bucket{le="256"} 1"#,
        ] {
            assert!(body.contains(line), "{line} is not in {body}");
        }
    }

    #[tokio::test]
    async fn health_turns_bad_when_the_process_drains() {
        assert_eq!(get("/health", false).await.0, 200);
        assert_eq!(get("/health", true).await.0, 503);
        assert_eq!(get("/", false).await.0, 404);
    }
}
