//! Trackers: they send again until somebody answers that the events are taken.
//!
//! A send without an answer may or may not have happened. The ids in it make that harmless.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout};

use super::input::Request;
use super::random::Random;
use crate::roles::Installation;

/// Trackers at a time.
const SENDERS: usize = 4;

/// After this a tracker takes its request for lost and sends it again.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Longer than any outage that a round makes. A request that is not taken by then never will be.
const TAKEN_MAX: Duration = Duration::from_secs(60);

/// What became of a round's requests.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Told {
    /// Events that a gateway said are taken, each time it said so.
    pub accepted: usize,
    /// Events of sends that nobody answered.
    pub unknown: usize,
    /// Items that a gateway refused.
    pub rejected: usize,
    /// Sends after the first.
    pub resent: usize,
}

impl std::ops::AddAssign for Told {
    fn add_assign(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.unknown += other.unknown;
        self.rejected += other.rejected;
        self.resent += other.resent;
    }
}

/// Sends all requests, spread over about `span`, each to any gateway.
///
/// # Errors
/// If one is answered with what no retry can mend, or not taken in time.
pub(super) async fn send(
    installation: &Installation,
    requests: Vec<Request>,
    random: &mut Random,
    span: Duration,
) -> Result<Told> {
    let pause = span.div_f64(requests.len().max(1) as f64) * SENDERS as u32;
    let queue = Mutex::new(VecDeque::from(requests));
    let sender = |mut random: Random| {
        let queue = &queue;
        async move {
            let mut told = Told::default();
            loop {
                let next = queue.lock().expect("nobody panicked").pop_front();
                let Some(request) = next else { return anyhow::Ok(told) };
                told += deliver(installation, &request, &mut random).await?;
                sleep(pause).await;
            }
        }
    };
    let [a, b, c, d] = [(); SENDERS].map(|()| Random::new(random.next()));
    let (a, b, c, d) = tokio::try_join!(sender(a), sender(b), sender(c), sender(d))?;
    let mut told = Told::default();
    [a, b, c, d].into_iter().for_each(|each| told += each);
    Ok(told)
}

async fn deliver(installation: &Installation, request: &Request, random: &mut Random) -> Result<Told> {
    let mut told = Told::default();
    let deadline = Instant::now() + TAKEN_MAX;
    loop {
        let gateway = random.below(installation.gateways());
        let send = installation.send_to(gateway, request.project, request.path, request.body.clone());
        match timeout(ANSWER_MAX, send).await {
            Ok(Ok(reply)) if reply.status == 200 => {
                told.accepted += request.events;
                told.rejected += request.bad;
                return Ok(told);
            }
            Ok(Ok(reply)) if reply.status == 503 || reply.status == 429 => told.resent += 1,
            Ok(Ok(reply)) => bail!("{} says {reply:?} to {}", request.path, request.body),
            // Refused, cut off in the middle, or silent.
            Ok(Err(_)) | Err(_) => {
                told.unknown += request.events;
                told.resent += 1;
            }
        }
        if Instant::now() >= deadline {
            bail!("a request was not taken within {TAKEN_MAX:?}: {}", request.body);
        }
        sleep(Duration::from_millis(50 + random.next() % 200)).await;
    }
}
