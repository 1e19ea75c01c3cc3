//! `trackway replay`: sends a file of events through a gateway, as a tracker would. For samples, back-fills and load.
//!
//! Rows keep their times and have ids that are the same in every run ([`rows::Row::id`]), so a replay that broke off, or
//! was run twice, counts every row once. Rows of one user go over one connection, in order; that is a kindness to the
//! worker, not a need: answers do not depend on the order of arrival.

mod batch;
mod columns;
mod order;
mod rows;
mod send;
mod tally;
mod time;

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use batch::Batch;
use columns::Columns;
use order::Order;
use rows::{Row, Rows};
use send::Sender;
use tally::{Counted, Tally};

/// Sends a file of events through a gateway.
#[derive(Debug, clap::Args)]
pub struct ReplayArgs {
    /// CSV with a header, or JSON lines; plain or gzip. `-`: standard input.
    file: PathBuf,
    /// The gateway. Given several times, connections are shared out among them, and one that fails is passed over.
    #[arg(long, default_value = "http://127.0.0.1:7070")]
    server: Vec<String>,
    /// Write key of the project.
    #[arg(long)]
    project_key: String,
    /// Which columns mean what; `visitor=COLUMN` and `id=COLUMN` may be added. All others become properties.
    #[arg(long, default_value = "user=user_id,event=event,time=timestamp")]
    columns: Columns,
    /// Order of sending: file, user, time, shuffled, shuffled:SEED. All but `file` hold the file in memory.
    #[arg(long, default_value = "file")]
    order: Order,
    /// Copies of the file, each for other users (`NAME~2`, …). More than one holds the file in memory.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    repeat: u32,
    /// Rows a second at most.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Connections that send at one time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    connections: u32,
    /// Rows in one request.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Seconds that a batch is tried before the replay gives up.
    #[arg(long, default_value_t = 300)]
    give_up_after: u64,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

/// Sends the file. Fails with a summary when rows were rejected.
///
/// # Errors
/// If the file cannot be read or the gateway does not take it.
pub async fn run(args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let begin = Instant::now();
    let sender = Sender::new(&args.server, &args.project_key, Duration::from_secs(args.give_up_after))?;
    let tally = Arc::new(Tally::default());
    let json = args.json;

    let (lanes, receivers): (Vec<_>, Vec<_>) = (0..args.connections).map(|_| mpsc::channel(2)).unzip();
    let reader = {
        let tally = tally.clone();
        // Reading and decompressing block; they get a thread of their own.
        tokio::task::spawn_blocking(move || read(&args, lanes, &tally))
    };
    let sending = try_join_all(
        receivers.into_iter().enumerate().map(|(lane, batches)| sender.of_lane(lane).run(batches, &tally)),
    );
    let sent = tokio::select! {
        sent = sending => sent.map(drop),
        () = tally.show() => unreachable!("progress is shown for ever"),
    };
    // A sender's error comes first: the reader then only says that nobody listens.
    sent?;
    reader.await.map_err(|e| anyhow!("the reader ended: {e}"))??;

    if std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        eprint!("\r\x1b[K");
    }
    println!("{}", tally.summary(begin.elapsed(), json));
    Ok(if tally.rejected() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads all rows and hands them to the lanes.
fn read(args: &ReplayArgs, lanes: Vec<mpsc::Sender<Batch>>, tally: &Arc<Tally>) -> anyhow::Result<()> {
    let input: Box<dyn Read + Send> = if args.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot open `{}`", args.file.display()))?;
        tally.bytes_total.store(file.metadata().map_or(0, |m| m.len()), Relaxed);
        Box::new(file)
    };
    let mut rows = Rows::open(Counted { inner: input, tally: tally.clone() }, args.columns.clone())?;
    let mut lanes = Lanes {
        lanes: lanes.into_iter().map(|lane| (lane, Batch::default())).collect(),
        sent: 0,
        begin: Instant::now(),
        args,
    };

    if args.order == Order::File && args.repeat == 1 {
        while let Some(row) = rows.next()? {
            match row {
                Ok(row) => lanes.push(&row)?,
                Err(bad) => tally.reject(bad.number, &bad.reason),
            }
        }
    } else {
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            match row {
                Ok(row) => all.push(row),
                Err(bad) => tally.reject(bad.number, &bad.reason),
            }
        }
        args.order.arrange(&mut all);
        tally.rows_total.store(all.len() as u64 * u64::from(args.repeat), Relaxed);
        for n in 1..=args.repeat {
            for row in &all {
                lanes.push(&order::copy(row, n))?;
            }
        }
    }
    lanes.flush()
}

/// Connections, each with the batch that is being filled for it.
struct Lanes<'a> {
    lanes: Vec<(mpsc::Sender<Batch>, Batch)>,
    sent: u64,
    begin: Instant,
    args: &'a ReplayArgs,
}

impl Lanes<'_> {
    fn push(&mut self, row: &Row) -> anyhow::Result<()> {
        let mut hasher = DefaultHasher::new();
        (&row.user, &row.visitor).hash(&mut hasher);
        let lane = (hasher.finish() % self.lanes.len() as u64) as usize;
        let (sender, batch) = &mut self.lanes[lane];
        batch.push(row);
        if batch.is_full(self.args.batch as usize) {
            send(sender, batch)?;
        }
        self.sent += 1;
        if let Some(rate) = self.args.rate {
            self.hold_back(rate)?;
        }
        Ok(())
    }

    /// Waits for a tenth of a second's worth at a time: precise enough, and cheap at high rates.
    fn hold_back(&mut self, rate: u32) -> anyhow::Result<()> {
        if self.sent.is_multiple_of(u64::from(rate).div_ceil(10)) {
            // At a low rate a full batch would be long in coming.
            self.flush()?;
            let due = self.begin + Duration::from_secs_f64(self.sent as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        self.lanes
            .iter_mut()
            .filter(|(_, batch)| !batch.numbers.is_empty())
            .try_for_each(|(lane, batch)| send(lane, batch))
    }
}

fn send(lane: &mpsc::Sender<Batch>, batch: &mut Batch) -> anyhow::Result<()> {
    lane.blocking_send(std::mem::take(batch)).map_err(|_| anyhow!("sending has stopped"))
}
