//! Answers as JSON: the public messages field by field, with times also as RFC 3339 where a person reads them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use trackway_query::pb;

/// A funnel.
pub fn funnel(answer: &pb::FunnelResponse) -> Value {
    let step = |step: &pb::FunnelStepResult| json!({ "events": step.events, "persons": step.persons });
    json!({
        "steps": answer.steps.iter().map(step).collect::<Value>(),
        "median_seconds": answer.median_seconds,
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// Paths.
pub fn paths(answer: &pb::PathsResponse) -> Value {
    let edge = |edge: &pb::PathEdge| json!({ "from": edge.from, "to": edge.to, "count": edge.count });
    json!({
        "edges": answer.edges.iter().map(edge).collect::<Value>(),
        "pairs": answer.pairs,
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// A trend.
pub fn trend(answer: &pb::TrendResponse) -> Value {
    let bucket = |bucket: &pb::TrendBucket| {
        json!({
            "begin": bucket.begin_ms.map(time),
            "begin_ms": bucket.begin_ms,
            "event": bucket.event,
            "events": bucket.events,
            "persons": bucket.persons,
        })
    };
    json!({
        "buckets": answer.buckets.iter().map(bucket).collect::<Value>(),
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// Sessions.
pub fn sessions(answer: &pb::SessionSummaryResponse) -> Value {
    let row = |row: &pb::SessionSummary| {
        json!({
            "channel": row.channel,
            "sessions": row.sessions,
            "sessions_single_event": row.sessions_single_event,
            "sessions_bounced": row.sessions_bounced,
            "persons": row.persons,
            "events": row.events,
            "page_views": row.page_views,
            "seconds_mean": row.seconds_mean,
            "seconds_median": row.seconds_median,
            "seconds_p95": row.seconds_p95,
            "seconds_max": row.seconds_max,
            "engaged_seconds_mean": row.engaged_seconds_mean,
        })
    };
    json!({
        "rows": answer.rows.iter().map(row).collect::<Value>(),
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// Touchpoints.
pub fn touchpoints(answer: &pb::TouchpointsResponse) -> Value {
    let row = |row: &pb::TouchpointCount| json!({ "stage": row.stage, "touchpoint": row.touchpoint, "events": row.events, "persons": row.persons });
    json!({
        "rows": answer.rows.iter().map(row).collect::<Value>(),
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// Touchpoints and the steps between them.
pub fn touchpoint_flow(answer: &pb::TouchpointFlowResponse) -> Value {
    let feedback = |score: &pb::FeedbackScore| {
        json!({
            "kind": score.kind,
            "answers": score.answers,
            "scores": score.scores,
            "mean": score.mean,
            "nps": score.nps,
        })
    };
    let touchpoint = |row: &pb::TouchpointFlow| {
        json!({
            "stage": row.stage,
            "touchpoint": row.touchpoint,
            "contacts": row.contacts,
            "persons": row.persons,
            "repeats": row.repeats,
            "ends": row.ends,
            "dwell_seconds_mean": row.dwell_seconds_mean,
            "next_seconds_mean": row.next_seconds_mean,
            "feedback": row.feedback.iter().map(feedback).collect::<Value>(),
        })
    };
    let transition = |row: &pb::TouchpointTransition| {
        json!({
            "from_stage": row.from_stage,
            "from": row.from,
            "to_stage": row.to_stage,
            "to": row.to,
            "progress": progress(row.progress()),
            "count": row.count,
            "seconds_mean": row.seconds_mean,
        })
    };
    json!({
        "persons": answer.persons,
        "touchpoints": answer.touchpoints.iter().map(touchpoint).collect::<Value>(),
        "transitions": answer.transitions.iter().map(transition).collect::<Value>(),
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// Progress along the stages, in a word.
pub fn progress(progress: pb::StageProgress) -> &'static str {
    match progress {
        pb::StageProgress::Unspecified => "",
        pb::StageProgress::Forward => "forward",
        pb::StageProgress::Same => "same",
        pb::StageProgress::Back => "back",
    }
}

/// A journey.
pub fn journey(answer: &pb::PersonJourneyResponse) -> Value {
    let event = |event: &pb::JourneyEvent| {
        json!({
            "time": time(event.time_ms),
            "time_ms": event.time_ms,
            "event": event.event,
            "touchpoint": event.touchpoint,
            "stage": event.stage,
            "channel": event.channel,
            "url": event.url,
            // An object as it was sent; text, should it be none.
            "properties": serde_json::from_str(&event.properties).unwrap_or_else(|_| json!(event.properties)),
            "visitor_id": event.visitor_id,
            "device": event.device,
            "bot": event.bot,
        })
    };
    json!({
        "person": answer.person,
        "user_ids": answer.user_ids,
        "visitor_ids": answer.visitor_ids,
        "events": answer.events.iter().map(event).collect::<Value>(),
        "freshness": freshness(answer.freshness.as_ref()),
        "cost": cost(answer.cost.as_ref()),
    })
}

/// An audience.
pub fn audience(audience: &pb::Audience) -> Value {
    let rule = audience.rule.as_ref().map(|rule| match rule {
        pb::audience::Rule::EventCount(rule) => {
            json!({ "event": rule.event, "count_min": rule.count_min, "window_ms": rule.window_ms })
        }
    });
    json!({
        "project": audience.project,
        "name": audience.name,
        "event_count": rule,
        "created": time(audience.created_ms),
        "created_ms": audience.created_ms,
    })
}

/// All audiences of a project.
pub fn audiences(answer: &pb::ListAudiencesResponse) -> Value {
    json!({ "audiences": answer.audiences.iter().map(audience).collect::<Value>() })
}

/// How an audience stands.
pub fn audience_totals(answer: &pb::GetAudienceResponse) -> Value {
    json!({
        "audience": answer.audience.as_ref().map(audience),
        "entered": answer.entered,
        "left": answer.left,
        "members": answer.members,
        "as_of": time(answer.as_of_ms),
        "as_of_ms": answer.as_of_ms,
        "freshness": freshness(answer.freshness.as_ref()),
    })
}

/// Who is in.
pub fn members(answer: &pb::MembersResponse) -> Value {
    json!({
        "members": answer.members.iter().map(member).collect::<Value>(),
        "next_page_token": answer.next_page_token,
        "as_of": time(answer.as_of_ms),
        "as_of_ms": answer.as_of_ms,
        "freshness": freshness(answer.freshness.as_ref()),
    })
}

/// Documents of a watched audience, each for a line of its own.
pub fn watched(response: &pb::SubscribeResponse) -> Vec<Value> {
    use pb::subscribe_response::Body;
    match &response.body {
        None => Vec::new(),
        Some(Body::Snapshot(snapshot)) => {
            let typed = |of: &pb::Member| {
                let mut member = member(of);
                member["type"] = json!("member");
                member
            };
            snapshot.members.iter().map(typed).collect()
        }
        Some(Body::SnapshotEnd(pb::SubscribeSnapshotEnd {})) => {
            vec![json!({ "type": "snapshot_end", "cursor": response.cursor })]
        }
        Some(Body::Change(change)) => vec![json!({
            "type": if change.entered { "entered" } else { "left" },
            "person": change.person,
            "user_id": change.user_id,
            "visitor_id": change.visitor_id,
            "at": time(change.at_ms),
            "at_ms": change.at_ms,
            "cursor": response.cursor,
        })],
    }
}

/// Rejected requests.
pub fn rejected(answer: &pb::ListRejectedResponse) -> Value {
    let request = |request: &pb::RejectedRequest| {
        let item = |item: &pb::RejectedItem| {
            json!({
                "index": item.index,
                "reason": item.reason,
                "message": item.message,
                "excerpt": String::from_utf8_lossy(&item.excerpt),
            })
        };
        let header = |header: &pb::Header| json!({ "name": header.name, "value": header.value });
        let mut value = json!({
            "at": format!("{}.{}", request.partition, request.offset),
            "received": time(request.received_ms),
            "received_ms": request.received_ms,
            "protocol": request.protocol,
            "reason": request.reason,
            "message": request.message,
            "method": request.method,
            "target": request.target,
            "items": request.items.iter().map(item).collect::<Value>(),
            "body_bytes": request.body_bytes,
        });
        if !request.body.is_empty() || !request.headers.is_empty() {
            value["headers"] = request.headers.iter().map(header).collect();
            // Text as it is; other bytes would be lost in it.
            value["body"] = match std::str::from_utf8(&request.body) {
                Ok(text) => json!(text),
                Err(_) => Value::Null,
            };
            value["body_base64"] = json!(STANDARD.encode(&request.body));
        }
        value
    };
    json!({
        "requests": answer.requests.iter().map(request).collect::<Value>(),
        "next_page_token": answer.next_page_token,
    })
}

/// What arrived, for a line of its own.
pub fn tailed(response: &pb::TailResponse) -> Option<Value> {
    use pb::tail_response::Body;
    // An object as it was sent; text, should it be none.
    let object = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let mut value = match response.body.as_ref()? {
        Body::Event(event) => json!({
            "type": "event",
            "received": time(event.received_ms),
            "received_ms": event.received_ms,
            "protocol": event.protocol,
            "visitor_id": event.visitor_id,
            "visitor_is_user": event.visitor_is_user,
            "user_id": event.user_id,
            "other_id": event.other_id,
            "kind": event.kind,
            "event": event.event,
            "event_id": event.event_id,
            "time": time(event.time_ms),
            "time_ms": event.time_ms,
            "time_source": event.time_source,
            "url": event.url,
            "page_name": event.page_name,
            "referrer": event.referrer,
            "library": event.library,
            "library_version": event.library_version,
            "user_agent": event.user_agent,
            "ip": event.ip,
            "properties": object(&event.properties),
            "traits": object(&event.traits),
            "bot": event.bot,
            "revenue_micros": event.revenue_micros,
            "currency": event.currency,
            "session": event.session,
            "consent": event.consent,
        }),
        Body::Rejected(rejected) => json!({
            "type": "rejected",
            "received": time(rejected.received_ms),
            "received_ms": rejected.received_ms,
            "protocol": rejected.protocol,
            "index": rejected.index,
            "reason": rejected.reason,
            "message": rejected.message,
            "method": rejected.method,
            "target": rejected.target,
            "excerpt": String::from_utf8_lossy(&rejected.excerpt),
            "at": format!("{}.{}", rejected.partition, rejected.offset),
        }),
    };
    value["skipped"] = json!(response.skipped);
    Some(value)
}

fn member(member: &pb::Member) -> Value {
    json!({
        "person": member.person,
        "user_id": member.user_id,
        "visitor_id": member.visitor_id,
        "entered": time(member.entered_ms),
        "entered_ms": member.entered_ms,
        "leaves": time(member.leaves_ms),
        "leaves_ms": member.leaves_ms,
    })
}

pub(super) fn freshness(freshness: Option<&pb::Freshness>) -> Value {
    freshness.map_or(Value::Null, |freshness| {
        json!({
            "watermark": freshness.watermark_ms.map(time),
            "watermark_ms": freshness.watermark_ms,
            "pending_records": freshness.pending_records,
        })
    })
}

fn cost(cost: Option<&pb::Cost>) -> Value {
    cost.map_or(
        Value::Null,
        |cost| json!({ "rows_read": cost.rows_read, "bytes_read": cost.bytes_read, "seconds": cost.seconds }),
    )
}

/// RFC 3339; null beyond the years that it has.
pub(super) fn time(ms: i64) -> Value {
    jiff::Timestamp::from_millisecond(ms).map_or(Value::Null, |at| json!(at.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_line_with_its_cursor() {
        let change = pb::MembershipChange { person: "0a".into(), entered: true, at_ms: 500, ..Default::default() };
        let response =
            pb::SubscribeResponse { body: Some(pb::subscribe_response::Body::Change(change)), cursor: "c".into() };
        let lines: Vec<_> = watched(&response).iter().map(Value::to_string).collect();
        assert_eq!(
            lines,
            [concat!(
                r#"{"at":"1970-01-01T00:00:00.5Z","at_ms":500,"cursor":"c","person":"0a","type":"entered","#,
                r#""user_id":"","visitor_id":""}"#
            )]
        );
    }

    #[test]
    fn properties_are_an_object_again() {
        let event = pb::JourneyEvent { properties: r#"{"price":12.50}"#.into(), ..Default::default() };
        let answer = pb::PersonJourneyResponse { events: vec![event], ..Default::default() };
        assert_eq!(journey(&answer)["events"][0]["properties"]["price"], json!(12.5));
    }
}
