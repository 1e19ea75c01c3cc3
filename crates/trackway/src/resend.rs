//! `trackway replay-rejected`: sends rejected requests to a gateway again, once what was wrong with them is mended there.
//!
//! Each goes as it came (method, path, headers, body), with headers that say what it is: where it stands in the topic
//! `rejected`, when it was received, and which of its items were rejected. The gateway takes those items alone, reckons
//! their times from when they first came, and gives those without an id one that is made of their place: so a second replay
//! makes no duplicates, nor does one that broke off.

mod send;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use tonic::transport::Channel;
use trackway_query::pb;
use trackway_query::pb::intake_service_client::IntakeServiceClient;

use crate::ask::RejectedFilter;
use send::{Outcome, Resender};

/// Requests on one page: bodies are whole.
const PAGE_SIZE: u32 = 100;

/// Pages are cut at 16 MiB; one request may be as large.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Sends rejected requests to a gateway again.
#[derive(Debug, clap::Args)]
pub struct ResendArgs {
    #[command(flatten)]
    filter: RejectedFilter,
    /// Address of the query server, which has them.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    server: String,
    /// Address of the gateway, which is to take them.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7070")]
    gateway: String,
    /// Write key of the project. (Those that came with the requests are not kept.)
    #[arg(long, value_name = "KEY", required_unless_present = "dry_run")]
    project_key: Option<String>,
    /// Only say what would be sent.
    #[arg(long)]
    dry_run: bool,
    /// Seconds that one request is tried before the replay gives up.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    give_up_after: u64,
    /// One JSON document for each request, and one for all of them.
    #[arg(long)]
    json: bool,
}

/// Sends them, the newest first: answers do not depend on the order of arrival. Fails when some were rejected again.
///
/// # Errors
/// If the query server does not answer, or the gateway does not for long.
pub async fn run(args: ResendArgs) -> anyhow::Result<ExitCode> {
    let server = Channel::from_shared(args.server.clone()).with_context(|| {
        format!("`--server` is `{}`, must be an address such as http://127.0.0.1:7071", args.server)
    })?;
    let server = server.connect().await.with_context(|| format!("no query server answers at {}", args.server))?;
    let mut client = IntakeServiceClient::new(server).max_decoding_message_size(RESPONSE_BYTES_MAX);
    let resender = match &args.project_key {
        Some(key) if !args.dry_run => Some(Resender::new(&args.gateway, key, Duration::from_secs(args.give_up_after))?),
        Some(_) | None => None,
    };
    let reason = args.filter.reason.clone();
    let mut request = args.filter.request(PAGE_SIZE, true);
    let mut totals = Totals::default();
    loop {
        let page = client.list_rejected(request.clone()).await.map_err(|status| {
            anyhow::anyhow!("the query server at {} does not list them: {}", args.server, status.message())
        })?;
        let page = page.into_inner();
        for rejected in &page.requests {
            let only = items(rejected, reason.as_deref());
            if only.is_empty() && !rejected.items.is_empty() {
                continue; // Without places it would be sent as a whole.
            }
            let outcome = match &resender {
                Some(resender) => Some(resender.deliver(rejected, &only).await?),
                None => None,
            };
            totals.add(&only, outcome.as_ref());
            println!("{}", line(rejected, &only, outcome.as_ref(), args.json));
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    println!("{}", totals.summary(args.dry_run, args.json));
    Ok(if totals.rejected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Places of the items to send; none: the request as a whole.
fn items(rejected: &pb::RejectedRequest, reason: Option<&str>) -> Vec<u32> {
    let wanted = |item: &&pb::RejectedItem| reason.is_none_or(|reason| item.reason == reason);
    rejected.items.iter().filter(wanted).map(|item| item.index).collect()
}

/// What became of all of them.
#[derive(Debug, Default)]
struct Totals {
    requests: u64,
    /// Items that were sent; a request as a whole counts as one.
    items: u64,
    accepted: u64,
    rejected: u64,
}

impl Totals {
    fn add(&mut self, only: &[u32], outcome: Option<&Outcome>) {
        self.requests += 1;
        self.items += only.len().max(1) as u64;
        if let Some(Outcome { accepted, rejected }) = outcome {
            self.accepted += accepted;
            self.rejected += rejected.len() as u64;
        }
    }

    fn summary(&self, dry_run: bool, json: bool) -> String {
        let Self { requests, items, accepted, rejected } = self;
        match (json, dry_run) {
            (true, _) => json!({
                "requests": requests, "items": items, "accepted": accepted, "rejected": rejected, "dry_run": dry_run,
            })
            .to_string(),
            (false, true) => format!("{requests} requests with {items} items would be sent"),
            (false, false) => format!("{requests} requests sent: {accepted} items accepted, {rejected} still rejected"),
        }
    }
}

fn line(rejected: &pb::RejectedRequest, only: &[u32], outcome: Option<&Outcome>, json: bool) -> String {
    let at = format!("{}.{}", rejected.partition, rejected.offset);
    if json {
        let again = outcome.map(|outcome| {
            let again = outcome.rejected.iter().map(|(index, why)| json!({ "index": index, "reason": why }));
            json!({ "accepted": outcome.accepted, "rejected": again.collect::<serde_json::Value>() })
        });
        let (protocol, target) = (&rejected.protocol, &rejected.target);
        return json!({ "at": at, "protocol": protocol, "target": target, "items": only, "outcome": again })
            .to_string();
    }
    let what = match only {
        [] => "whole request".to_owned(),
        [one] => format!("item {one}"),
        many => format!("items {}", many.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")),
    };
    let clean = |text: &str| text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    let head = format!("{at}  {} {} {}, {what}", clean(&rejected.protocol), rejected.method, clean(&rejected.target));
    let Some(outcome) = outcome else { return format!("{head}: {}", clean(&rejected.message)) };
    let mut lines = format!("{head}: {} accepted", outcome.accepted);
    for (index, why) in &outcome.rejected {
        let which = index.map(|index| format!("item {index} ")).unwrap_or_default();
        lines.push_str(&format!("\n    {which}still rejected: {}", clean(why)));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(items: &[(u32, &str)]) -> pb::RejectedRequest {
        let item =
            |&(index, reason): &(u32, &str)| pb::RejectedItem { index, reason: reason.into(), ..Default::default() };
        pb::RejectedRequest {
            offset: 17,
            protocol: "segment".into(),
            method: "POST".into(),
            target: "/v1/batch".into(),
            items: items.iter().map(item).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn items_of_other_reasons_stay_where_they_are() {
        let request = rejected(&[(3, "malformed"), (7, "too_large"), (9, "malformed")]);
        assert_eq!(items(&request, Some("malformed")), [3, 9]);
        assert_eq!(items(&request, None), [3, 7, 9]);
        assert!(items(&rejected(&[]), Some("malformed")).is_empty());
    }

    #[test]
    fn each_request_is_told_and_all_are_summed_up() {
        let outcome = Outcome { accepted: 1, rejected: vec![(Some(7), "too_large: it is".into())] };
        let request = rejected(&[(3, "malformed"), (7, "too_large")]);
        assert_eq!(
            line(&request, &[3, 7], Some(&outcome), false),
            "0.17  segment POST /v1/batch, items 3, 7: 1 accepted\n    item 7 still rejected: too_large: it is"
        );
        let mut totals = Totals::default();
        totals.add(&[3, 7], Some(&outcome));
        totals.add(&[], Some(&Outcome { accepted: 1, rejected: Vec::new() }));
        assert_eq!(totals.summary(false, false), "2 requests sent: 2 items accepted, 1 still rejected");
        assert_eq!(
            totals.summary(false, true),
            r#"{"accepted":2,"dry_run":false,"items":3,"rejected":1,"requests":2}"#
        );
    }
}
