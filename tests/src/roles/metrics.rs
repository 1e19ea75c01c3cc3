//! What a process says of itself in Prometheus' text.

use std::collections::BTreeMap;

/// What a process counts.
#[derive(Debug, Default)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// From Prometheus' text. Label values of ours have neither quotes nor commas.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',').filter_map(|label| {
                let (name, value) = label.split_once('=')?;
                Some((name.to_owned(), value.trim_matches('"').to_owned()))
            });
            Some((name.to_owned(), labels.collect(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    /// The sum of a counter over all series with these labels.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let has = |series: &BTreeMap<String, String>| {
            labels.iter().all(|(name, value)| series.get(*name).is_some_and(|found| found == value))
        };
        self.0.iter().filter(|(series, with, _)| series == name && has(with)).map(|(.., value)| *value as u64).sum()
    }

    /// What gateways did with a project's events: `accepted`, `rejected`, `retry` or `nothing`.
    #[must_use]
    pub fn gateway_events(&self, project: &str, fate: &str) -> u64 {
        self.sum("gateway_events_total", &[("project", project), ("fate", fate)])
    }

    /// What workers did with a project's events: `counted`, `late`, `duplicate` or `rejected`.
    #[must_use]
    pub fn worker_events(&self, project: &str, fate: &str) -> u64 {
        self.sum("worker_events_total", &[("project", project), ("fate", fate)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_summed_over_the_series_that_have_the_labels() {
        let text =
            "# TYPE x counter\nx{a=\"1\",b=\"p\"} 3\nx{a=\"1\",b=\"q\"} 4\nx{a=\"2\",b=\"q\"} 5\nxy{a=\"1\"} 9\nz 1\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("x", &[("a", "1")]), 7);
        assert_eq!(metrics.sum("x", &[("b", "q"), ("a", "2")]), 5);
        assert_eq!((metrics.sum("z", &[]), metrics.sum("none", &[])), (1, 0));
    }
}
