//! Who is whose person, for the questions that count persons in SQL: see `sql/persons.sql`.

use trackway_domain::id::PersonKey;
use trackway_domain::identity::PersonMap;

use super::run::{Question, unexpected};
use super::{QueryError, QueryLimits};
use crate::Store;
use crate::native::Column;

/// Keys of one parameter. ClickHouse refuses form fields above 128 KiB (`http_max_field_value_size`), and a key has 39
/// digits and a comma at most.
const LINKS_MAX: usize = 3_000;

/// The links that SQL does not follow, solved: `persons[n]` is the person of `keys[n]`.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub(super) keys: Vec<u128>,
    pub(super) persons: Vec<u128>,
}

impl Store {
    /// Reads and solves them. In the time between this and the question that uses it a merge may come in; it is then seen
    /// in part, as one that comes a moment later is not seen at all.
    pub(super) async fn merged(&self, project: &str, limits: QueryLimits) -> Result<Merged, QueryError> {
        const QUERY: &str = "links";
        let question = Question::new(self, QUERY, after_parted!("links"), limits);
        let mut map = PersonMap::default();
        let mut keys = Vec::new();
        for block in question.with("project", project).fetch().await? {
            let [Column::U128(from), Column::U128(to)] = &block.columns[..] else {
                return Err(unexpected(QUERY));
            };
            for (&from, &to) in from.iter().zip(to) {
                map.join(PersonKey(from), PersonKey(to));
                keys.extend([from, to]);
            }
        }
        keys.sort_unstable();
        keys.dedup();
        if keys.len() > LINKS_MAX {
            return Err(QueryError::AnswerLimit { query: QUERY, limit: LINKS_MAX as u64 });
        }
        let persons = keys.iter().map(|&key| map.person(PersonKey(key)).0).collect();
        Ok(Merged { keys, persons })
    }
}

impl Merged {
    /// Parameters `merged_keys` and `merged_persons` of `persons.sql`.
    pub(super) fn give(&self, question: Question) -> Question {
        question.with("merged_keys", &self.keys).with("merged_persons", &self.persons)
    }
}
