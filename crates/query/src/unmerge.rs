//! Parts what was joined wrongly: a command to the worker, through the log.

use trackway_domain::id::PersonKey;
use trackway_domain::identity::aliases;
use trackway_eventlog::NewRecord;
use trackway_wire::log::{encode, pb as log_pb};

use crate::check::{Parted, Unmerge};
use crate::pb;
use crate::service::Desk;
use crate::status::Fault;

/// Appends the command where it takes effect: a visitor's to the partition of its events, two users' to that of the
/// project's aliases. Once it is there it holds, whatever crashes.
pub(crate) async fn order(desk: &Desk, asked: Unmerge) -> Result<pb::UnmergeResponse, Fault> {
    let now_ms = (desk.clock)().0;
    let command = Some(log_pb::Command { by: asked.by, reason: asked.reason, at_ms: now_ms });
    let project = asked.project.as_str().to_owned();
    let topics = &desk.config.topics;
    let (topic, partition, value) = match asked.parted {
        Parted::Visitor(visitor_id) => {
            let device = PersonKey::of_device(&asked.project, &visitor_id);
            let unmerge = log_pb::VisitorUnmerge { project, visitor_id, command };
            let record = log_pb::EventsRecord { body: Some(log_pb::events_record::Body::Unmerge(unmerge)) };
            let partitions = desk.log.partitions(&topics.events).await?;
            (&topics.events, device.partition(partitions), encode(&record))
        }
        Parted::Users(user_id, from_user_id) => {
            let home = aliases::home(&asked.project);
            let unmerge = log_pb::UserUnmerge { project, user_id, from_user_id, command };
            let record = log_pb::JourneysRecord { body: Some(log_pb::journeys_record::Body::Unmerge(unmerge)) };
            (&topics.journeys, home.partition(desk.journeys_partitions), encode(&record))
        }
    };
    desk.log.append(topic, vec![NewRecord { partition, timestamp_ms: now_ms, value }]).await?;
    Ok(pb::UnmergeResponse { ordered_ms: now_ms })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use trackway_domain::id::ProjectId;
    use trackway_eventlog::TopicPartition;
    use trackway_wire::log::decode;

    use super::*;
    use crate::check;
    use crate::server::tests::desk_with_log;

    fn asked(what: Option<pb::unmerge_request::What>, by: &str) -> Result<Unmerge, String> {
        let (project, by, reason) = ("shop".into(), by.into(), "a shared tablet".into());
        check::unmerge(pb::UnmergeRequest { project, what, by, reason }).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_command_goes_where_it_takes_effect_with_who_and_why() {
        use pb::unmerge_request::What;
        let shop = ProjectId::parse("shop").expect("a project id");
        let (mut desk, _folder) = desk_with_log(&[("events", 5), ("journeys", 3)]).await;
        Arc::get_mut(&mut desk).expect("nobody else has it").journeys_partitions = 3;
        for (n, id) in ["tablet", "phone", "kiosk"].into_iter().enumerate() {
            order(&desk, asked(Some(What::VisitorId(id.into())), "ops").expect("checked")).await.expect("appended");
            let partition = PersonKey::of_device(&shop, id).partition(5);
            let at = TopicPartition { topic: "events".into(), partition };
            let records = desk.log.read(&at, 0, 10, Duration::ZERO).await.expect("read");
            let last = records.last().expect("it is in the partition of the visitor's events").value.clone();
            let Some(log_pb::events_record::Body::Unmerge(unmerge)) =
                decode::<log_pb::EventsRecord>(last).expect("ours").body
            else {
                panic!("command {n} is another record")
            };
            let command = unmerge.command.expect("who and why");
            assert_eq!((unmerge.visitor_id.as_str(), command.by.as_str()), (id, "ops"));
            assert_eq!(command.reason, "a shared tablet");
        }
        let users = pb::Users { user_id: "a".into(), from_user_id: "b".into() };
        order(&desk, asked(Some(What::Users(users)), "ops").expect("checked")).await.expect("appended");
        let partition = aliases::home(&shop).partition(3);
        let at = TopicPartition { topic: "journeys".into(), partition };
        let records = desk.log.read(&at, 0, 10, Duration::ZERO).await.expect("read");
        let record: log_pb::JourneysRecord = decode(records[0].value.clone()).expect("ours");
        assert!(matches!(record.body, Some(log_pb::journeys_record::Body::Unmerge(u)) if u.from_user_id == "b"));
    }

    #[test]
    fn nobody_orders_without_a_name_or_without_a_person() {
        let tablet = Some(pb::unmerge_request::What::VisitorId("tablet".into()));
        assert_eq!(asked(tablet, "").err().as_deref(), Some("`by` is missing"));
        assert_eq!(asked(None, "ops").err().as_deref(), Some("`visitor_id` or `users` is missing"));
    }
}
