//! What arrives, over a real Kafka: two gateways, several partitions, a consumer group for a tail.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::timeout;
use trackway_query::pb::{self, tail_response::Body};
use trackway_tests::kafka::KafkaBroker;
use trackway_tests::roles::{Installation, about};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_misses_nothing_and_the_list_is_whole() -> Result<()> {
    const VISITORS: u32 = 40;
    let project = "intake";
    let folder = tempfile::tempdir()?;
    let broker = KafkaBroker::start(folder.path())?;
    let installation = Installation::over_kafka(&broker, &[project], &[]).await?;
    let send = async |n: u32, name: &str| {
        let good =
            json!({"type": "track", "anonymousId": format!("v{n}"), "event": name, "messageId": format!("{name}{n}")});
        let batch = json!({"batch": [good, {"type": "track", "anonymousId": format!("v{n}")}]});
        let reply = installation.send_to(n as usize % 2, project, "/v1/batch", batch.to_string()).await?;
        ensure!(reply.status == 200, "{reply:?}");
        anyhow::Ok(())
    };
    for n in 0..VISITORS {
        send(n, "before").await?;
    }
    // Once it has begun, nothing is missed, although its consumer may still be joining.
    for round in ["first", "second"] {
        let mut tail = installation.client().tail(about::tail(project)).await?;
        for n in 0..VISITORS {
            send(n, round).await?;
        }
        let (mut visitors, mut rejected) = (BTreeSet::new(), 0);
        while visitors.len() < VISITORS as usize || rejected < VISITORS {
            let response = timeout(Duration::from_secs(60), tail.message()).await.with_context(|| {
                format!("{} visitors, {rejected} rejected\n{}", visitors.len(), installation.logs())
            })??;
            let response = response.context("the stream ended")?;
            assert_eq!(response.skipped, 0);
            match response.body.context("something")? {
                Body::Event(event) => {
                    assert_eq!(event.event, round);
                    assert!(visitors.insert(event.visitor_id.clone()), "{} came twice", event.visitor_id);
                }
                Body::Rejected(item) => {
                    assert_eq!((item.index, item.reason.as_str()), (Some(1), "missing_field"));
                    rejected += 1;
                }
            }
        }
    }

    // Page by page, the newest first.
    let mut request = pb::ListRejectedRequest { page_size: 7, with_body: true, ..about::rejected(project) };
    let mut listed = Vec::new();
    loop {
        let page = installation.client().list_rejected(request.clone()).await?;
        listed.extend(page.requests);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let places: BTreeSet<(u32, u64)> = listed.iter().map(|request| (request.partition, request.offset)).collect();
    assert_eq!((listed.len(), places.len()), (3 * VISITORS as usize, 3 * VISITORS as usize));
    assert!(listed.is_sorted_by(|a, b| a.received_ms >= b.received_ms), "the newest come first");
    assert!(listed.iter().all(|request| request.body.starts_with(b"{\"batch\":[")));
    Ok(())
}
