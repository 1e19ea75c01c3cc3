//! Audiences: made, listed, counted, and who is in.

use trackway_domain::id::PersonKey;
use trackway_eventlog::NewRecord;
use trackway_store::rows::{AudienceDefinition, MemberRow};
use trackway_wire::log::{encode, pb as log_pb};

use crate::backfill;
use crate::check::{self, Members, NewAudience, page_token};
use crate::freshness::PartitionState;
use crate::pb;
use crate::service::Desk;
use crate::status::Fault;

/// Stores the definition, then tells every partition of `journeys`, then gives them the past.
///
/// In this order a crash in between leaves an audience that is listed and has no members yet; making it again finds the
/// same rule and tells the partitions, which know a repeated change by its rule and do nothing. The other order could
/// leave partitions that follow a rule which no table names, and another rule might take the name.
pub(crate) async fn create(desk: &Desk, asked: NewAudience) -> Result<pb::CreateAudienceResponse, Fault> {
    let _one_at_a_time = desk.creating.lock().await;
    let now_ms = (desk.clock)().0;
    let found = desk.store.audience(asked.project.as_str(), &asked.name).await?.filter(|found| !found.ended);
    let definition = match found {
        Some(found) if same_rule(&found, &asked) => found,
        Some(found) => {
            return Err(Fault::AudienceDiffers { have: rule_text(&found), audience: asked.name });
        }
        None => {
            let definition = AudienceDefinition {
                project: asked.project.as_str().to_owned(),
                audience: asked.name,
                event: asked.event,
                count_min: asked.count_min,
                window_ms: asked.window_ms,
                created_ms: now_ms,
                changed_ms: now_ms,
                ended: false,
            };
            desk.store.put_audience(&definition).await?;
            definition
        }
    };
    let record = encode(&log_pb::JourneysRecord {
        body: Some(log_pb::journeys_record::Body::Audience(log_pb::AudienceChange {
            project: definition.project.clone(),
            audience: definition.audience.clone(),
            rule: Some(log_pb::AudienceRule {
                event: definition.event.clone(),
                count_min: definition.count_min,
                window_ms: definition.window_ms,
            }),
            created_ms: definition.created_ms,
        })),
    });
    let records = (0..desk.journeys_partitions)
        .map(|partition| NewRecord { partition, timestamp_ms: now_ms, value: record.clone() })
        .collect();
    desk.log.append(&desk.config.topics.journeys, records).await?;
    backfill::run(desk, &definition).await?;
    Ok(pb::CreateAudienceResponse { audience: Some(to_pb(definition)) })
}

pub(crate) async fn list(desk: &Desk, request: pb::ListAudiencesRequest) -> Result<pb::ListAudiencesResponse, Fault> {
    let project = check::project(&request.project)?;
    let mut audiences = desk.store.audiences(project.as_str()).await?;
    audiences.retain(|audience| !audience.ended);
    audiences.sort_by(|a, b| a.audience.cmp(&b.audience));
    Ok(pb::ListAudiencesResponse { audiences: audiences.into_iter().map(to_pb).collect() })
}

pub(crate) async fn totals(desk: &Desk, request: pb::GetAudienceRequest) -> Result<pb::GetAudienceResponse, Fault> {
    let project = check::project(&request.project)?;
    let name = check::plain_name("name", request.name)?;
    let asked = check::as_of(request.as_of_ms)?;
    let (freshness, journeys) = desk.journeys_freshness().await?;
    let definition = existing(desk, project.as_str(), &name).await?;
    let as_of_ms = as_of(desk, project.as_str(), asked, &journeys).await?;
    let totals = desk.store.audience_totals(project.as_str(), &name, as_of_ms).await?;
    Ok(pb::GetAudienceResponse {
        audience: Some(to_pb(definition)),
        entered: totals.entered,
        left: totals.left,
        members: totals.members,
        as_of_ms,
        freshness: Some(freshness),
    })
}

pub(crate) async fn members(desk: &Desk, asked: Members) -> Result<pb::MembersResponse, Fault> {
    let (freshness, journeys) = desk.journeys_freshness().await?;
    let project = asked.project.as_str();
    existing(desk, project, &asked.audience).await?;
    let as_of_ms = as_of(desk, project, asked.as_of_ms, &journeys).await?;
    let rows = desk.store.audience_members(project, &asked.audience, as_of_ms, asked.after.0, asked.page_size).await?;
    let next_page_token = match rows.last() {
        Some(last) if rows.len() >= asked.page_size as usize => page_token(as_of_ms, PersonKey(last.person)),
        Some(_) | None => String::new(),
    };
    Ok(pb::MembersResponse {
        members: rows.into_iter().map(member_to_pb).collect(),
        next_page_token,
        as_of_ms,
        freshness: Some(freshness),
    })
}

/// The definition, or the fault that there is none.
pub(crate) async fn existing(desk: &Desk, project: &str, audience: &str) -> Result<AudienceDefinition, Fault> {
    desk.store
        .audience(project, audience)
        .await?
        .filter(|found| !found.ended)
        .ok_or_else(|| Fault::NoSuchAudience { project: project.to_owned(), audience: audience.to_owned() })
}

/// The time asked for, else the latest that is known: of the project's newest event, or of a watermark beyond it, which
/// rises while nothing happens.
async fn as_of(desk: &Desk, project: &str, asked: Option<i64>, journeys: &[PartitionState]) -> Result<i64, Fault> {
    if let Some(asked) = asked {
        return Ok(asked);
    }
    let latest = desk.store.latest_event_ms(project).await?;
    let watermark = journeys.iter().filter_map(PartitionState::watermark_ms).max();
    Ok(latest.max(watermark).unwrap_or(0))
}

fn same_rule(found: &AudienceDefinition, asked: &NewAudience) -> bool {
    found.event == asked.event && found.count_min == asked.count_min && found.window_ms == asked.window_ms
}

fn rule_text(found: &AudienceDefinition) -> String {
    let window = match found.window_ms {
        ms if ms % 86_400_000 == 0 => format!("{} d", ms / 86_400_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms => format!("{ms} ms"),
    };
    format!("at least {} of `{}` within {window}", found.count_min, found.event)
}

fn to_pb(definition: AudienceDefinition) -> pb::Audience {
    pb::Audience {
        project: definition.project,
        name: definition.audience,
        rule: Some(pb::audience::Rule::EventCount(pb::EventCountRule {
            event: definition.event,
            count_min: definition.count_min,
            window_ms: definition.window_ms,
        })),
        created_ms: definition.created_ms,
    }
}

pub(crate) fn member_to_pb(row: MemberRow) -> pb::Member {
    pb::Member {
        person: PersonKey(row.person).to_string(),
        user_id: row.user_id,
        visitor_id: row.visitor_id,
        entered_ms: row.entered_ms,
        leaves_ms: row.left_ms,
    }
}
