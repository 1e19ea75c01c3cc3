//! Answers as terminal text. Pure: what they say is tested to the character.

use trackway_query::pb;

use super::text::{
    Align, Look, Table, bar, clean, count, counted, day, freshness, milliseconds, minute, percent, second, seconds,
    short,
};

/// Longest name in a table; longer ones are cut.
pub(super) const NAME_CHARS_MAX: usize = 40;

/// Longest path and query, and longest part of what was sent, in a line.
const TARGET_CHARS_MAX: usize = 160;
const EXCERPT_CHARS_MAX: usize = 400;

/// Steps with their conversion, and the one where most are lost.
pub fn funnel(answer: &pb::FunnelResponse, look: Look) -> String {
    let persons: Vec<u64> = answer.steps.iter().map(|step| step.persons).collect();
    let weakest = weakest(&persons);
    let mut table = Table::new(&[
        ("step", Align::Left),
        ("persons", Align::Right),
        ("of first", Align::Right),
        ("of previous", Align::Right),
        ("", Align::Left),
    ]);
    for (n, step) in answer.steps.iter().enumerate() {
        table.row(vec![
            short(&format!("{} {}", n + 1, step.events.join(" | ")), NAME_CHARS_MAX),
            count(step.persons),
            percent(step.persons, persons[0]),
            if n == 0 { String::new() } else { percent(step.persons, persons[n - 1]) },
            String::new(),
        ]);
    }
    const MARK: &str = "◀ weakest";
    let bar_width = look.width.saturating_sub(table.width_before_last() + 1 + MARK.chars().count()).max(8);
    for (n, row) in table.rows_mut().iter_mut().enumerate() {
        let fraction = if persons[0] == 0 { 0.0 } else { persons[n] as f64 / persons[0] as f64 };
        row[4] = bar(fraction, bar_width);
        if weakest == Some(n) {
            let gap = if row[4].is_empty() { "" } else { " " };
            row[4] = format!("{}{gap}{}", row[4], look.strong(MARK));
        }
    }
    let mut out = table.to_text(look);
    if let Some(median) = answer.median_seconds {
        out.push_str(&format!("\nmedian time from first to last step: {}\n", seconds(median)));
    }
    out + &freshness(answer.freshness.as_ref(), look)
}

/// The step that the smallest part of those before it reached; of equal ones the first. With two steps there is no choice.
fn weakest(persons: &[u64]) -> Option<usize> {
    let conversion = |n: usize| persons[n] as f64 / persons[n - 1] as f64;
    (1..persons.len())
        .filter(|&n| persons.len() > 2 && persons[n - 1] > 0)
        .min_by(|&a, &b| conversion(a).total_cmp(&conversion(b)))
}

/// Pairs, heaviest first, with their part of all.
pub fn paths(answer: &pb::PathsResponse, look: Look) -> String {
    let heaviest = answer.edges.first().map_or(0, |edge| edge.count);
    let mut table = Table::new(&[
        ("from", Align::Left),
        ("to", Align::Left),
        ("times", Align::Right),
        ("of all", Align::Right),
        ("", Align::Left),
    ]);
    for edge in &answer.edges {
        table.row(vec![
            short(&edge.from, NAME_CHARS_MAX / 2 + 4),
            short(&edge.to, NAME_CHARS_MAX / 2 + 4),
            count(edge.count),
            percent(edge.count, answer.pairs),
            String::new(),
        ]);
    }
    bars(&mut table, answer.edges.iter().map(|edge| edge.count), heaviest, look);
    let all = counted(answer.pairs, "pair");
    let shown = counted(answer.edges.len() as u64, "kind");
    format!("{}\n{all} in all, {shown} shown\n", table.to_text(look)) + &freshness(answer.freshness.as_ref(), look)
}

/// Buckets with a bar for events.
pub fn trend(answer: &pb::TrendResponse, hours: bool, look: Look) -> String {
    let most = answer.buckets.iter().map(|bucket| bucket.events).max().unwrap_or(0);
    let by_event = answer.buckets.iter().any(|bucket| !bucket.event.is_empty());
    let mut head = vec![("from", Align::Left)];
    if by_event {
        head.push(("event", Align::Left));
    }
    head.extend([("events", Align::Right), ("persons", Align::Right), ("", Align::Left)]);
    let mut table = Table::new(&head);
    for bucket in &answer.buckets {
        let mut row = vec![match bucket.begin_ms {
            None => "all".to_owned(),
            Some(ms) if hours => minute(ms),
            Some(ms) => day(ms),
        }];
        if by_event {
            row.push(short(&bucket.event, NAME_CHARS_MAX));
        }
        row.extend([count(bucket.events), count(bucket.persons), String::new()]);
        table.row(row);
    }
    bars(&mut table, answer.buckets.iter().map(|bucket| bucket.events), most, look);
    table.to_text(look) + &freshness(answer.freshness.as_ref(), look)
}

/// Sessions, in all or by channel.
pub fn sessions(answer: &pb::SessionSummaryResponse, look: Look) -> String {
    let mut table = Table::new(&[
        ("channel", Align::Left),
        ("sessions", Align::Right),
        ("single event", Align::Right),
        ("bounced", Align::Right),
        ("persons", Align::Right),
        ("events", Align::Right),
        ("pages", Align::Right),
        ("mean", Align::Right),
        ("median", Align::Right),
        ("95%", Align::Right),
        ("longest", Align::Right),
    ]);
    for row in &answer.rows {
        table.row(vec![
            if row.channel.is_empty() { "all".to_owned() } else { short(&row.channel, NAME_CHARS_MAX) },
            count(row.sessions),
            percent(row.sessions_single_event, row.sessions),
            percent(row.sessions_bounced, row.sessions),
            count(row.persons),
            count(row.events),
            count(row.page_views),
            seconds(row.seconds_mean),
            seconds(row.seconds_median),
            seconds(row.seconds_p95),
            seconds(row.seconds_max),
        ]);
    }
    table.to_text(look) + &freshness(answer.freshness.as_ref(), look)
}

/// Touchpoints, stage by stage as they come.
pub fn touchpoints(answer: &pb::TouchpointsResponse, look: Look) -> String {
    let most = answer.rows.iter().map(|row| row.events).max().unwrap_or(0);
    let mut table = Table::new(&[
        ("stage", Align::Left),
        ("touchpoint", Align::Left),
        ("events", Align::Right),
        ("persons", Align::Right),
        ("", Align::Left),
    ]);
    for row in &answer.rows {
        table.row(vec![
            short(&row.stage, NAME_CHARS_MAX),
            short(&row.touchpoint, NAME_CHARS_MAX),
            count(row.events),
            count(row.persons),
            String::new(),
        ]);
    }
    bars(&mut table, answer.rows.iter().map(|row| row.events), most, look);
    table.to_text(look) + &freshness(answer.freshness.as_ref(), look)
}

/// Who a person is, then what it did, oldest first.
pub fn journey(answer: &pb::PersonJourneyResponse, look: Look) -> String {
    let mut out = format!("person {}\n", clean(&answer.person));
    for (kind, ids) in [("user", &answer.user_ids), ("visitor", &answer.visitor_ids)] {
        if !ids.is_empty() {
            let plural = if ids.len() == 1 { "" } else { "s" };
            out.push_str(&format!("{kind}{plural} {}\n", clean(&ids.join(", "))));
        }
    }
    out.push('\n');
    if answer.events.is_empty() {
        out.push_str("  no events in this range\n");
    } else {
        let mut table = Table::new(&[
            ("time (UTC)", Align::Left),
            ("event", Align::Left),
            ("touchpoint", Align::Left),
            ("channel", Align::Left),
            ("page", Align::Left),
        ]);
        for event in &answer.events {
            let touchpoint = match (event.stage.as_str(), event.touchpoint.as_str()) {
                ("", touchpoint) => touchpoint.to_owned(),
                (stage, touchpoint) => format!("{touchpoint} ({stage})"),
            };
            table.row(vec![
                second(event.time_ms),
                match event.bot.as_str() {
                    "" => short(&event.event, NAME_CHARS_MAX),
                    bot => format!("{} ({})", short(&event.event, NAME_CHARS_MAX), clean(bot)),
                },
                short(&touchpoint, NAME_CHARS_MAX),
                short(&event.channel, NAME_CHARS_MAX),
                short(&event.url, 2 * NAME_CHARS_MAX),
            ]);
        }
        out.push_str(&table.to_text(look));
    }
    out + &freshness(answer.freshness.as_ref(), look)
}

/// What was made.
pub fn audience_created(audience: &pb::Audience, _look: Look) -> String {
    format!(
        "audience `{}` of project `{}`: {}\n\nFollow it with: trackway ask audience watch {} --project {}\n",
        clean(&audience.name),
        clean(&audience.project),
        rule(audience),
        clean(&audience.name),
        clean(&audience.project),
    )
}

/// All audiences of a project.
pub fn audiences(answer: &pb::ListAudiencesResponse, look: Look) -> String {
    if answer.audiences.is_empty() {
        return "no audiences. Make one with: trackway ask audience create NAME --event EVENT --window 7d\n".to_owned();
    }
    let mut table =
        Table::new(&[("audience", Align::Left), ("members are persons with", Align::Left), ("made", Align::Left)]);
    for audience in &answer.audiences {
        table.row(vec![clean(&audience.name), rule(audience), minute(audience.created_ms)]);
    }
    table.to_text(look)
}

/// How an audience stands.
pub fn audience_totals(answer: &pb::GetAudienceResponse, look: Look) -> String {
    let audience = answer.audience.clone().unwrap_or_default();
    let mut table = Table::new(&[("members", Align::Right), ("entered", Align::Right), ("left", Align::Right)]);
    table.row(vec![count(answer.members), count(answer.entered), count(answer.left)]);
    format!(
        "audience `{}`: {}\nas of {}\n\n{}{}",
        clean(&audience.name),
        rule(&audience),
        minute(answer.as_of_ms),
        table.to_text(look),
        freshness(answer.freshness.as_ref(), look)
    )
}

/// Who is in.
pub fn members(answer: &pb::MembersResponse, look: Look) -> String {
    let mut table = Table::new(&[
        ("person", Align::Left),
        ("user", Align::Left),
        ("visitor", Align::Left),
        ("entered (UTC)", Align::Left),
        ("leaves (UTC)", Align::Left),
    ]);
    for member in &answer.members {
        table.row(vec![
            clean(&member.person),
            short(&member.user_id, NAME_CHARS_MAX),
            short(&member.visitor_id, NAME_CHARS_MAX),
            second(member.entered_ms),
            second(member.leaves_ms),
        ]);
    }
    let shown = counted(answer.members.len() as u64, "member");
    let more = if answer.next_page_token.is_empty() { "" } else { ", there are more (`--limit`)" };
    format!("{}\n{shown} as of {}{more}\n", table.to_text(look), minute(answer.as_of_ms))
        + &freshness(answer.freshness.as_ref(), look)
}

/// One line of a watched audience; `None` where there is nothing to tell.
pub fn watched(response: &pb::SubscribeResponse, members: u64, look: Look) -> Option<String> {
    use pb::subscribe_response::Body;
    Some(match response.body.as_ref()? {
        Body::Snapshot(snapshot) => snapshot
            .members
            .iter()
            .map(|m| {
                let who = who(&m.user_id, &m.visitor_id, &m.person);
                format!("{}  member   {who}, until {}\n", second(m.entered_ms), second(m.leaves_ms))
            })
            .collect(),
        Body::SnapshotEnd(pb::SubscribeSnapshotEnd {}) => {
            let line = format!(
                "{} now. What follows happens from now on; times are event times in UTC",
                counted(members, "member")
            );
            format!("{}\n", look.dim(&line))
        }
        Body::Change(change) => {
            let what = if change.entered { "entered" } else { "left   " };
            let who = who(&change.user_id, &change.visitor_id, &change.person);
            format!("{}  {}  {who}\n", second(change.at_ms), look.strong(what))
        }
    })
}

/// Rejected requests, the newest first, each with its items.
pub fn rejected(answer: &pb::ListRejectedResponse, look: Look) -> String {
    if answer.requests.is_empty() {
        return "nothing was rejected\n".to_owned();
    }
    let mut out = String::new();
    for request in &answer.requests {
        let (protocol, reason) = (clean(&request.protocol), clean(&request.reason));
        out.push_str(&format!("{}  {protocol}  {}", second(request.received_ms), look.strong(&reason)));
        if request.items.is_empty() {
            out.push_str(&format!("  {}", clean(&request.message)));
        }
        let bytes = counted(request.body_bytes, "byte");
        let (method, target) = (clean(&request.method), short(&request.target, TARGET_CHARS_MAX));
        let at = format!("{method} {target}, {bytes}, at {}.{}", request.partition, request.offset);
        out.push_str(&format!("\n    {}\n", look.dim(&at)));
        for item in &request.items {
            let excerpt = String::from_utf8_lossy(&item.excerpt);
            out.push_str(&format!(
                "    item {}  {}: {}\n        {}\n",
                item.index,
                clean(&item.reason),
                clean(&item.message),
                short(&excerpt, EXCERPT_CHARS_MAX)
            ));
        }
        for header in &request.headers {
            out.push_str(&format!("    {}: {}\n", clean(&header.name), clean(&header.value)));
        }
        if !request.body.is_empty() {
            out.push_str(&format!("    {}\n", clean(&String::from_utf8_lossy(&request.body))));
        }
    }
    let shown = counted(answer.requests.len() as u64, "request");
    let more = if answer.next_page_token.is_empty() { "" } else { ", there are more (`--limit`)" };
    format!("{out}\n{shown}{more}\n")
}

/// A line of a tail; `None` where there is nothing to tell.
pub fn tailed(response: &pb::TailResponse, look: Look) -> Option<String> {
    use pb::tail_response::Body;
    let mut out = String::new();
    if response.skipped > 0 {
        let line = format!("{} came too fast and are not shown", counted(response.skipped, "event"));
        out.push_str(&format!("{}\n", look.strong(&line)));
    }
    match response.body.as_ref()? {
        Body::Event(event) => {
            let name = if event.event == event.kind { String::new() } else { format!(" {}", clean(&event.event)) };
            out.push_str(&format!("{}  {}  {}{name}", second(event.received_ms), clean(&event.protocol), event.kind));
            for (what, value) in [
                (if event.visitor_is_user { "user" } else { "visitor" }, &event.visitor_id),
                ("user", &event.user_id),
                ("other", &event.other_id),
                ("page", &event.page_name),
                ("url", &event.url),
                ("bot", &event.bot),
            ] {
                if !value.is_empty() {
                    out.push_str(&format!(" {what}={}", clean(value)));
                }
            }
            // Only where it tells more than the first column.
            if (event.received_ms - event.time_ms).abs() >= 1_000 || event.time_source == "replaced" {
                out.push_str(&format!(" time={} ({})", second(event.time_ms), clean(&event.time_source)));
            }
            for (what, object) in [("", &event.properties), ("traits=", &event.traits)] {
                if object != "{}" {
                    out.push_str(&format!(" {what}{}", clean(object)));
                }
            }
            if !event.library.is_empty() {
                let library = format!("{} {}", clean(&event.library), clean(&event.library_version));
                out.push_str(&format!(" {}", look.dim(&format!("[{}]", library.trim_end()))));
            }
        }
        Body::Rejected(rejected) => {
            let what = format!("REJECTED {}", clean(&rejected.protocol));
            out.push_str(&format!("{}  {}", second(rejected.received_ms), look.strong(&what)));
            if let Some(index) = rejected.index {
                out.push_str(&format!(" item {index}"));
            }
            let excerpt = String::from_utf8_lossy(&rejected.excerpt);
            out.push_str(&format!(" {}: {}", clean(&rejected.reason), clean(&rejected.message)));
            if !excerpt.is_empty() {
                out.push_str(&format!("  {}", look.dim(&short(&excerpt, EXCERPT_CHARS_MAX))));
            }
        }
    }
    out.push('\n');
    Some(out)
}

fn who(user: &str, visitor: &str, person: &str) -> String {
    match (user, visitor) {
        ("", "") => format!("person {}", clean(person)),
        ("", visitor) => format!("visitor {}", short(visitor, NAME_CHARS_MAX)),
        (user, _) => format!("user {}", short(user, NAME_CHARS_MAX)),
    }
}

fn rule(audience: &pb::Audience) -> String {
    match &audience.rule {
        Some(pb::audience::Rule::EventCount(rule)) => format!(
            "{} or more `{}` within {}",
            count(rule.count_min.into()),
            short(&rule.event, NAME_CHARS_MAX),
            milliseconds(rule.window_ms)
        ),
        // A newer server's kind of rule.
        None => "a rule that this program does not know".to_owned(),
    }
}

/// Fills the last column with bars that end where the line does.
fn bars(table: &mut Table, values: impl Iterator<Item = u64>, most: u64, look: Look) {
    let width = look.width.saturating_sub(table.width_before_last()).max(8);
    for (row, value) in table.rows_mut().iter_mut().zip(values) {
        if let Some(last) = row.last_mut() {
            *last = bar(if most == 0 { 0.0 } else { value as f64 / most as f64 }, width);
        }
    }
}

#[cfg(test)]
mod tests;
