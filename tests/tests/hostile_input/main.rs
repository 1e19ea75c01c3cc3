//! What strangers send to a gateway on the open internet: each kind gets a named answer, none hurts another sender.
//!
//! The table is in `rows/`. Every line of it runs against a real gateway with the real embedded log, while another sender,
//! on a connection that lives as long as the test, sends good events. After each line:
//!
//! - the answers are the line's, and the connection is closed or still in step, as the line says;
//! - the log has the line's events and rejections, and no other;
//! - the memory that bodies may take is free again: a body of the limit is taken, which needs nearly all of it.
//!
//! In the end everything is counted once more from the begin of the log.

mod client;
mod gateway;
mod row;
mod rows;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use trackway_eventlog::embedded::system_clock;
use trackway_gateway::Limits;

use client::{Client, PATIENCE};
use gateway::{BODY_TIMEOUT, DECODED_BYTES_MAX, Gateway, Kept, limits};
use row::{Row, Sent, event, get, post};

/// How long a good sender waits at most. Nobody's promise: it tells "served" from "stuck" on a busy machine.
const GOOD_MAX: Duration = Duration::from_secs(5);

/// Memory of the process at most, with all lines' bytes, the log and two more senders: a request must not become much.
const PEAK_MB_MAX: usize = 300;

/// Name of the good sender's events.
const GOOD: &str = "good";

/// Sends one good event after the other on one connection, as long as it is let.
struct GoodSender {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    tasks: JoinSet<Result<()>>,
}

impl GoodSender {
    async fn start(address: SocketAddr) -> Result<Self> {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut client = Client::connect(address).await?;
        let (until, count) = (stop.clone(), accepted.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while !until.load(Ordering::SeqCst) {
                let answer = timeout(GOOD_MAX, client.ask(&post("/v1/track", "", event(GOOD)))).await;
                let answer = answer.context("the good sender is not served")??;
                ensure!(answer.status == 200, "the good sender is told {}", answer.text());
                count.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        });
        Ok(Self { stop, accepted, tasks })
    }

    /// Waits until it was answered for one event that it sent after this call.
    async fn is_served(&mut self) -> Result<()> {
        let before = self.accepted.load(Ordering::SeqCst);
        // The first may have been on its way before.
        while self.accepted.load(Ordering::SeqCst) < before + 2 {
            if let Some(ended) = self.tasks.try_join_next() {
                ended??;
            }
            ensure!(!self.tasks.is_empty(), "the good sender ended");
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Ends it; how many events it was told are accepted.
    async fn end(mut self) -> Result<usize> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended??;
        }
        Ok(self.accepted.load(Ordering::SeqCst))
    }
}

/// A good body that takes nearly all the memory for bodies while it is in work.
fn large_body() -> Vec<u8> {
    let mut plain = event(GOOD).into_bytes();
    // As sent it has some bytes more.
    plain.resize(DECODED_BYTES_MAX - 200, b' ');
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    encoder.write_all(&plain).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// Does what a line says, and checks what comes back.
async fn play(address: SocketAddr, row: &Row) -> Result<()> {
    let Client { mut reader, mut writer } = Client::connect(address).await?;
    // A gateway that has answered may close before all is sent: that is no failure.
    let sending = async {
        match &row.sent {
            Sent::Bytes(bytes) => drop(writer.write_all(bytes).await),
            Sent::HalfClosed(bytes) => {
                drop(writer.write_all(bytes).await);
                drop(writer.shutdown().await);
            }
            Sent::Drip(first, again, every) => {
                let mut sent = writer.write_all(first).await;
                while sent.is_ok() {
                    sleep(*every).await;
                    sent = writer.write_all(again).await;
                }
            }
            Sent::Flood(bytes) => while writer.write_all(bytes).await.is_ok() {},
        }
        writer
    };
    if let Sent::Flood(_) = row.sent {
        // It never reads: that the gateway ends it shows in the sending.
        timeout(PATIENCE, sending).await.context("the gateway lets it hold the connection for ever")?;
        return Ok(());
    }
    let receiving = async {
        for (at, (status, what)) in row.answers.iter().enumerate() {
            let answer = reader.answer().await?.with_context(|| format!("closed before answer {at}"))?;
            let text = answer.text();
            ensure!(answer.status == *status && text.contains(what), "{at}: not {status} `{what}` but {text:.1000}");
        }
        if row.closes {
            let rest = reader.read_to_end().await?;
            let says_so = rest.windows(4).any(|frame| frame == [0x07, 0, 0, 0]);
            ensure!(says_so == row.goes_away, "said at the end: {:?}", String::from_utf8_lossy(&rest));
        }
        Ok(reader)
    };
    if row.closes {
        // Whoever only waits is let go, too: the sending need not end.
        let mut sending = std::pin::pin!(sending);
        let mut receiving = std::pin::pin!(receiving);
        tokio::select! {
            ended = &mut receiving => drop(ended?),
            writer = &mut sending => {
                let _still_open = writer;
                receiving.await?;
            }
        }
        return Ok(());
    }
    let (mut writer, reader) = tokio::join!(sending, receiving);
    let mut reader = reader?;
    ensure!(reader.unread().is_empty(), "one answer too many: {:?}", String::from_utf8_lossy(reader.unread()));
    // Whatever came, both sides agree on where the next request begins.
    writer.write_all(&get("/health", "")).await.context("the connection is still there")?;
    let answer = reader.answer().await?.context("the connection still serves")?;
    ensure!(answer.status == 200 && answer.body == b"ok", "out of step: {}", answer.text());
    Ok(())
}

/// Compares what came into the log, but for the good sender's events, with what the lines say.
fn check_kept<'a>(kept: &Kept, rows: impl Iterator<Item = &'a Row> + Clone) -> Result<()> {
    let mut names: Vec<_> =
        kept.events.iter().map(|(_, event)| event.name.as_str()).filter(|name| *name != GOOD).collect();
    let mut expected: Vec<_> = rows.clone().flat_map(|row| row.kept.iter().map(String::as_str)).collect();
    names.sort_unstable();
    expected.sort_unstable();
    ensure!(names == expected, "in topic `events`: {names:.500?}, not {expected:.500?}");
    let mut unexpected: Vec<_> = kept.rejected.iter().map(|record| (&*record.reason, &*record.message)).collect();
    // The most exact first, so that none takes what another means.
    let mut expected: Vec<_> = rows.flat_map(|row| &row.rejected).collect();
    expected.sort_by_key(|(_, message)| std::cmp::Reverse(message.len()));
    for (code, message) in expected {
        let found = unexpected.iter().position(|(reason, text)| reason == code && text.contains(message));
        let found = found.with_context(|| format!("`{code}: {message}` is not among the rejected: {unexpected:?}"))?;
        unexpected.swap_remove(found);
    }
    ensure!(unexpected.is_empty(), "rejected besides: {unexpected:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_kind_gets_its_answer_and_hurts_nobody() -> Result<()> {
    let mut gateway = Gateway::start(limits()).await?;
    let mut good = GoodSender::start(gateway.address).await?;
    let (large, mut large_sent) = (post("/v1/track", "", large_body()), 0);
    let quick = rows::quick();
    let slow = rows::slow();
    let mut all: Vec<&str> = quick.iter().chain(&slow).map(|row| &*row.name).collect();
    all.sort_unstable();
    ensure!(all.windows(2).all(|pair| pair[0] != pair[1]), "two lines have one name");
    let mut failures = Vec::new();
    let mut times = Vec::new();
    for row in &quick {
        let begun = system_clock();
        forget_peak();
        let played = async {
            play(gateway.address, row).await?;
            good.is_served().await?;
            check_kept(&gateway.kept().await?, std::iter::once(row))?;
            let told = status_of(gateway.address, &large).await?;
            ensure!(told == 200, "a body of the limit is told {told}");
            large_sent += 1;
            Ok(())
        };
        let played = played.await;
        let peak = peak_mb()?;
        times.push((system_clock() - begun, peak, &*row.name));
        if peak > PEAK_MB_MAX {
            failures.push(format!("{}: {peak} MB of memory, limit is {PEAK_MB_MAX}", row.name));
        }
        if let Err(error) = played {
            failures.push(format!("{}: {error:#}", row.name));
            // So that the next line is not blamed.
            gateway.kept().await?;
        }
    }
    // Those that take their time do so side by side.
    let mut playing = JoinSet::new();
    let slow: Vec<Arc<Row>> = slow.into_iter().map(Arc::new).collect();
    for row in slow.iter().cloned() {
        let address = gateway.address;
        playing.spawn(async move { play(address, &row).await.with_context(|| row.name.clone()) });
    }
    while let Some(ended) = playing.join_next().await {
        failures.extend(ended?.err().map(|error| format!("{error:#}")));
        good.is_served().await?;
    }
    // Requests whose senders went away are in the log a moment later.
    let told = status_of(gateway.address, &large).await?;
    ensure!(told == 200, "a body of the limit is told {told}");
    large_sent += 1;
    if let Err(error) = check_kept(&gateway.kept().await?, slow.iter().map(|row| &**row)) {
        failures.push(format!("the slow ones: {error:#}"));
    }
    times.sort_unstable();
    for (ms, peak, name) in times.iter().rev().take(12) {
        println!("{ms} ms, {peak} MB: {name}");
    }
    let peak = times.iter().map(|(_, peak, _)| *peak).max();
    println!("{} MB at most", peak.unwrap_or(0));
    println!("{} lines, {} of them slow", quick.len() + slow.len(), slow.len());
    ensure!(failures.is_empty(), "{} lines failed:\n{}", failures.len(), failures.join("\n"));
    let accepted = good.end().await? + large_sent;
    gateway.rewind();
    let kept = gateway.kept().await?;
    check_kept(&kept, quick.iter().chain(slow.iter().map(|row| &**row)))?;
    let counted = kept.events.iter().filter(|(_, event)| event.name == GOOD).count();
    ensure!(counted == accepted, "{accepted} good events were accepted, {counted} are in the log");
    // Nothing of a request that names a person's way to us is kept with what was rejected.
    for record in &kept.rejected {
        let names: BTreeMap<_, _> = record.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
        ensure!(!names.contains_key("authorization") && !names.contains_key("cookie"), "{names:?}");
    }
    gateway.stop().await
}

/// Makes the system forget how much memory this process had at most.
fn forget_peak() {
    // Where it is not allowed, the peak is that of all lines, and the check only harder.
    drop(std::fs::write("/proc/self/clear_refs", "5"));
}

fn peak_mb() -> Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the system tells it")?;
    let kb: usize = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kb / 1024)
}

async fn status_of(address: SocketAddr, request: &[u8]) -> Result<u16> {
    Ok(Client::connect(address).await?.ask(request).await?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_leaves_those_that_are_served_alone() -> Result<()> {
    let header_timeout = Duration::from_millis(500);
    let gateway = Gateway::start(Limits { connections_max: 20, header_timeout, ..limits() }).await?;
    let mut good = GoodSender::start(gateway.address).await?;
    good.is_served().await?;
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(Client::connect(gateway.address).await?);
    }
    good.is_served().await?;
    // A new good sender has its turn once those that say nothing are let go.
    let served = async { Client::connect(gateway.address).await?.ask(&post("/v1/track", "", event(GOOD))).await };
    drop(flood.split_off(100));
    let rounds = u32::try_from(flood.len()).expect("some") / 19 + 2;
    let answer = timeout(header_timeout * rounds + PATIENCE, served).await.context("it waits for ever")??;
    ensure!(answer.status == 200, "{}", answer.text());
    good.is_served().await?;
    good.end().await?;
    gateway.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_holds_the_memory_for_bodies_stops_large_ones_for_a_while_and_small_ones_never() -> Result<()> {
    let in_flight = 4 << 20;
    let mut gateway = Gateway::start(Limits { in_flight_bytes_max: in_flight, ..limits() }).await?;
    let mut good = GoodSender::start(gateway.address).await?;
    // Bodies whose last byte never comes, of every size, until there is room for none.
    let mut holding = Vec::new();
    for length in [1 << 20, 1 << 20, 1 << 20, 1 << 19, 1 << 17, 1 << 17, 1 << 17, 1 << 17] {
        let mut client = Client::connect(gateway.address).await?;
        let whole = post("/v1/track", "", event("held") + &" ".repeat(length - event("held").len()));
        client.writer.write_all(&whole[..whole.len() - 1]).await?;
        holding.push(client);
    }
    sleep(Duration::from_millis(300)).await;
    good.is_served().await?;
    let large = post("/v1/track", "", large_body());
    let told = Client::connect(gateway.address).await?.ask(&large).await?;
    ensure!(
        told.status == 503 && told.text().contains(" bytes, limit is 3 670 016. Send again later"),
        "{}",
        told.text()
    );
    ensure!(told.head.contains("\r\nretry-after: 1\r\n"), "{}", told.head);
    for mut client in holding {
        let answer = timeout(BODY_TIMEOUT + PATIENCE, client.reader.answer()).await??.context("an answer")?;
        ensure!(matches!(answer.status, 408 | 503), "{}", answer.text());
    }
    ensure!(status_of(gateway.address, &large).await? == 200, "the memory is given back");
    good.is_served().await?;
    good.end().await?;
    let kept = gateway.kept().await?;
    ensure!(kept.events.iter().all(|(_, event)| event.name == GOOD) && kept.rejected.is_empty());
    gateway.stop().await
}
