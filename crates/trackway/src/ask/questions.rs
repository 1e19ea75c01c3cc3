//! What can be asked: subcommands and their options. The comments are the help text.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use trackway_query::pb;

use super::args::{self, Steps, When, duration, names, time};

/// Asks a query server.
#[derive(Debug, Args)]
pub struct AskArgs {
    /// Address of the query server.
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    pub server: String,
    /// Answer with one JSON document (`audience watch`, `tail`: one per line).
    #[arg(long, global = true)]
    pub json: bool,
    /// What.
    #[command(subcommand)]
    pub question: Question,
}

/// Which project, and when.
#[derive(Debug, Args)]
pub struct Scope {
    /// The project.
    #[arg(long, value_name = "PROJECT", default_value = "default")]
    pub project: String,
    /// Only events from this time on: 2024-06-01, 2024-06-01T08:30, or RFC 3339. UTC unless it says otherwise.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// Only events before this time. The time itself is not included.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
}

impl Scope {
    /// As a request has it.
    pub fn range(&self) -> Option<pb::TimeRange> {
        Some(pb::TimeRange { from_ms: self.from, to_ms: self.to })
    }
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Question {
    /// How many persons went through steps, in order.
    ///
    /// Example: trackway ask funnel --project shop --steps "catalog,product_view,cart|wishlist,purchase" --window 7d
    Funnel {
        #[command(flatten)]
        scope: Scope,
        /// Event names in order, separated by commas; `a|b` is either of two.
        #[arg(long, value_name = "STEPS", value_parser = args::steps)]
        steps: Steps,
        /// Longest time from the first step to the last, such as 30m, 1h, 7d. Without it: any.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        window: Option<i64>,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// What persons did next: the most frequent pairs of consecutive events.
    Paths {
        #[command(flatten)]
        scope: Scope,
        /// How many pairs to show.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: u32,
        /// Count only pairs that are no further apart than this, such as 30m.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        session_gap: Option<i64>,
        /// Leave out pairs of an event with itself.
        #[arg(long)]
        collapse_repeats: bool,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// How often events happened.
    Trend {
        #[command(flatten)]
        scope: Scope,
        /// Width of a bucket; without it there is one for all.
        #[arg(long)]
        interval: Option<Interval>,
        /// Only these events, separated by commas.
        #[arg(long, value_name = "NAMES", value_parser = names)]
        events: Option<args::Names>,
        /// A row for each event.
        #[arg(long)]
        by_event: bool,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// How many sessions there were, and how long.
    Sessions {
        #[command(flatten)]
        scope: Scope,
        /// A row for each channel.
        #[arg(long)]
        by_channel: bool,
    },
    /// Touchpoints by stage.
    Touchpoints {
        #[command(flatten)]
        scope: Scope,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// Where persons go from each touchpoint, how long it takes them, and what they say of it.
    Flow {
        #[command(flatten)]
        scope: Scope,
        /// Inactivity that ends a contact with a touchpoint, such as 30m.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        gap: Option<i64>,
        /// How many of the most frequent steps to show.
        #[arg(long, value_name = "N", default_value_t = 20)]
        top: u32,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// What one person did, across visitors and sessions.
    Journey {
        #[command(flatten)]
        scope: Scope,
        #[command(flatten)]
        who: Who,
        /// Only touchpoints.
        #[arg(long)]
        touchpoints_only: bool,
        /// How many of the newest events.
        #[arg(long, value_name = "N", default_value_t = 200)]
        last: u32,
        /// Also what machines did.
        #[arg(long)]
        include_bots: bool,
    },
    /// What was rejected, and why: the newest requests.
    ///
    /// Example: trackway ask rejected --project shop --protocol segment --since 1h
    Rejected {
        #[command(flatten)]
        filter: RejectedFilter,
        /// How many requests.
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
        /// Show their bodies and headers too.
        #[arg(long)]
        bodies: bool,
    },
    /// Shows what arrives from now on, how it was understood, and what was rejected. Ctrl-C ends it.
    ///
    /// For setting up a tracker. It shows personal data as it was sent.
    Tail {
        /// The project.
        #[arg(long, value_name = "PROJECT", default_value = "default")]
        project: String,
        /// Only this protocol, such as segment.
        #[arg(long, value_name = "NAME")]
        protocol: Option<String>,
        /// Only events of this name.
        #[arg(long, value_name = "NAME")]
        event: Option<String>,
        /// Only events of this visitor.
        #[arg(long, value_name = "ID")]
        visitor: Option<String>,
        /// Only events of this user.
        #[arg(long, value_name = "ID")]
        user: Option<String>,
        /// Only what was rejected.
        #[arg(long, conflicts_with_all = ["event", "visitor", "user"])]
        rejected: bool,
    },
    /// How far the tables are behind the log.
    Lag,
    /// Audiences: rules; persons enter and leave.
    #[command(subcommand)]
    Audience(AudienceQuestion),
}

/// Which rejected requests.
#[derive(Debug, Clone, Args)]
pub struct RejectedFilter {
    /// The project. Empty: records of the log that nobody could read.
    #[arg(long, value_name = "PROJECT", default_value = "default")]
    pub project: String,
    /// Only this reason, such as malformed, missing_field, too_large.
    #[arg(long, value_name = "CODE")]
    pub reason: Option<String>,
    /// Only this protocol, such as segment.
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// Only what came since then: 1h (that long ago), 2024-06-01, or a time.
    #[arg(long, value_name = "WHEN", value_parser = args::when)]
    pub since: Option<When>,
    /// Only what came before then.
    #[arg(long, value_name = "WHEN", value_parser = args::when)]
    pub until: Option<When>,
}

impl RejectedFilter {
    /// As a request has it.
    pub fn request(self, page_size: u32, with_body: bool) -> pb::ListRejectedRequest {
        let now_ms = crate::parts::clock().0;
        pb::ListRejectedRequest {
            project: self.project,
            reason: self.reason.unwrap_or_default(),
            protocol: self.protocol.unwrap_or_default(),
            since_ms: self.since.map(|when| when.at(now_ms)),
            until_ms: self.until.map(|when| when.at(now_ms)),
            page_size,
            page_token: String::new(),
            with_body,
        }
    }
}

/// One person.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Who {
    /// Of this user.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// Of this visitor (a browser or device).
    #[arg(long, value_name = "ID")]
    pub visitor: Option<String>,
    /// Of the person with this key, as other answers give it.
    #[arg(long, value_name = "KEY")]
    pub person: Option<String>,
}

/// What can be asked of audiences.
#[derive(Debug, Subcommand)]
pub enum AudienceQuestion {
    /// Makes an audience: persons who did something at least so many times within a time.
    ///
    /// Example: trackway ask audience create buyers --project shop --event purchase --count 2 --window 30d
    Create {
        /// Name: 1 to 64 of a-z 0-9 _ -
        name: String,
        /// The project.
        #[arg(long, default_value = "default")]
        project: String,
        /// Event that counts.
        #[arg(long, value_name = "NAME")]
        event: String,
        /// How many of it make a member.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u32,
        /// Within which time, such as 7d.
        #[arg(long, value_name = "DURATION", value_parser = duration)]
        window: i64,
    },
    /// Lists audiences.
    List {
        /// The project.
        #[arg(long, default_value = "default")]
        project: String,
    },
    /// Shows how one audience stands.
    Get {
        /// Its name.
        name: String,
        /// The project.
        #[arg(long, default_value = "default")]
        project: String,
        /// As of this time; without it: the latest known.
        #[arg(long, value_name = "TIME", value_parser = time)]
        as_of: Option<i64>,
    },
    /// Lists who is in.
    Members {
        /// Its name.
        name: String,
        /// The project.
        #[arg(long, default_value = "default")]
        project: String,
        /// As of this time; without it: the latest known.
        #[arg(long, value_name = "TIME", value_parser = time)]
        as_of: Option<i64>,
        /// How many at most.
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        limit: u32,
    },
    /// Shows who is in, then who enters and leaves, as it happens. Ctrl-C ends it.
    Watch {
        /// Its name.
        name: String,
        /// The project.
        #[arg(long, default_value = "default")]
        project: String,
        /// File that keeps the place: with it the next run goes on where this one ended, and misses nothing.
        #[arg(long, value_name = "FILE")]
        cursor_file: Option<PathBuf>,
    },
}

/// Width of a trend's buckets, in UTC.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Interval {
    /// Full hours.
    Hour,
    /// Days.
    Day,
    /// Weeks from Monday.
    Week,
    /// Calendar months.
    Month,
}

impl Interval {
    /// As a request has it.
    pub fn to_pb(self) -> pb::Interval {
        match self {
            Self::Hour => pb::Interval::Hour,
            Self::Day => pb::Interval::Day,
            Self::Week => pb::Interval::Week,
            Self::Month => pb::Interval::Month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        ask: AskArgs,
    }

    fn parse(line: &str) -> Result<AskArgs, String> {
        let words = std::iter::once("ask").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.ask).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_of_a_funnel_is_understood() {
        let asked = parse("funnel --project shop --steps catalog,cart|wishlist --window 7d --from 2024-06-01 --json")
            .expect("a question");
        assert!(asked.json);
        let Question::Funnel { scope, steps, window, include_bots: false } = asked.question else {
            panic!("{asked:?}")
        };
        assert_eq!(steps.0, [vec!["catalog"], vec!["cart", "wishlist"]]);
        assert_eq!((scope.from, scope.to, window), (Some(1_717_200_000_000), None, Some(604_800_000)));
    }

    #[test]
    fn a_journey_is_of_exactly_one() {
        assert!(parse("journey --user u").is_ok());
        assert!(parse("journey").expect_err("of nobody").contains("--user <ID>"));
        assert!(parse("journey --user u --visitor v").expect_err("of two").contains("cannot be used with"));
    }

    #[test]
    fn rejected_requests_are_asked_for_since_so_long_ago() {
        let asked = parse("rejected --project shop --reason malformed --since 1h --bodies").expect("a question");
        let Question::Rejected { filter, limit: 20, bodies: true } = asked.question else { panic!("{asked:?}") };
        let request = filter.request(20, true);
        let ago_ms = crate::parts::clock().0 - request.since_ms.expect("since then");
        assert!((3_600_000..3_660_000).contains(&ago_ms), "{ago_ms}");
        assert_eq!((request.reason.as_str(), request.until_ms), ("malformed", None));
    }

    #[test]
    fn a_bad_duration_says_what_is_understood() {
        let error = parse("funnel --steps a --window week").expect_err("no duration");
        assert!(error.contains("such as 45s, 30m, 1h30m, 7d"), "{error}");
    }
}
