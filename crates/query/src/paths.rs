//! What persons did next. ClickHouse streams names; `domain` counts the pairs.

use tokio::time::Instant;
use trackway_domain::paths::{PathCounts, PathsQuery};
use trackway_domain::time::EventTime;
use trackway_store::queries::NameBlock;

use crate::check::Paths;
use crate::evaluate::Numbers;
use crate::persons::{MergedKeys, Persons};
use crate::service::{Desk, cost};
use crate::status::Fault;
use crate::{evaluate, pb};

pub(crate) async fn answer(desk: &Desk, asked: Paths) -> Result<pb::PathsResponse, Fault> {
    let begin = Instant::now();
    let freshness = desk.events_freshness().await?;
    let project = asked.project.as_str();
    let store = desk.store.metered();
    let identities = store.identities(project, desk.config.identity_pairs_max).await?;
    let stream = store.names(project, asked.scope, desk.config.limits).await?;

    let limits = Limits { held_events: desk.config.merged_events_max, names: desk.config.names_max };
    let (query, edges_max) = (asked.query, asked.edges_max);
    let top = move |blocks| {
        let (counts, names) = evaluate(blocks, &identities, &query, limits)?;
        Ok((counts.top(edges_max, &names), counts.pairs()))
    };
    let (edges, pairs) = evaluate::in_thread(stream, top).await?;

    Ok(pb::PathsResponse {
        edges: edges.into_iter().map(|(from, to, count)| pb::PathEdge { from, to, count }).collect(),
        pairs,
        freshness: Some(freshness),
        cost: Some(cost(&store, begin)),
    })
}

#[derive(Clone, Copy)]
struct Limits {
    held_events: usize,
    names: usize,
}

fn evaluate(
    mut blocks: tokio::sync::mpsc::Receiver<NameBlock>,
    identities: &[(u128, u128)],
    query: &PathsQuery,
    limits: Limits,
) -> Result<(PathCounts, Vec<String>), Fault> {
    let mut persons = Persons::new(MergedKeys::new(identities), limits.held_events);
    let mut counts = PathCounts::new(query);
    let mut numbers = Numbers::new(limits.names);
    let mut add = |events: &[(EventTime, u32)]| counts.person(events);
    while let Some(block) = blocks.blocking_recv() {
        // Of this block's dictionary to ours. Most blocks have the same few names.
        let ours = block.names.into_iter().map(|name| numbers.number(name)).collect::<Result<Vec<_>, _>>()?;
        let rows = block.persons.iter().zip(&block.times_ms).zip(&block.name_indexes);
        for ((&key, &time_ms), &index) in rows {
            persons.event(key, (EventTime(time_ms), ours[index as usize]), &mut add)?;
        }
    }
    persons.finish(&mut add)?;
    Ok((counts, numbers.into_all()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks() -> tokio::sync::mpsc::Receiver<NameBlock> {
        let block = |names: &[&str], rows: &[(u128, i64, u32)]| NameBlock {
            persons: rows.iter().map(|row| row.0).collect(),
            times_ms: rows.iter().map(|row| row.1).collect(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            name_indexes: rows.iter().map(|row| row.2).collect(),
        };
        let (send, receive) = tokio::sync::mpsc::channel(2);
        send.try_send(block(&["home", "cart"], &[(1, 0, 0), (1, 1, 1), (2, 3, 0)])).expect("room for two");
        send.try_send(block(&["cart", "home"], &[(2, 4, 0), (3, 2, 1)])).expect("room for two");
        receive
    }

    const ALL: PathsQuery = PathsQuery { session_gap: None, collapse_repeats: false };

    #[test]
    fn each_block_has_its_own_dictionary_and_merged_persons_one_path() {
        let limits = Limits { held_events: 10, names: 2 };
        let (counts, names) = evaluate(blocks(), &[(3, 1)], &ALL, limits).expect("within limits");
        let edge = |from: &str, to: &str, n| (from.to_owned(), to.to_owned(), n);
        assert_eq!(counts.top(9, &names), [edge("home", "cart", 2), edge("cart", "home", 1)]);
        assert_eq!(counts.pairs(), 3);
    }

    #[test]
    fn the_limit_of_names_is_named() {
        let limits = Limits { held_events: 10, names: 1 };
        let fault = evaluate(blocks(), &[], &ALL, limits).expect_err("two names");
        assert!(fault.to_string().contains("more than 1 different names"), "{fault}");
    }
}
