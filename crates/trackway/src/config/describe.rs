//! Settings as a commented file: what `trackway config` prints, and what `deploy/trackway.toml` is.

use std::fmt::Write;

use toml::Value;

use super::settings::{Described, Feedback, Field, Project, Settings, Touchpoint};

/// The settings as a TOML file with every setting explained. Passwords are left out.
#[must_use]
pub fn describe(settings: &Settings) -> String {
    let Settings { storage, log, clickhouse, gateway, worker, query, telemetry, projects } = settings;
    let mut out = String::from(
        "# Every setting of Trackway. Values that are not written are as they stand here.\n\
         # An environment variable TRACKWAY_SECTION__FIELD, for example TRACKWAY_GATEWAY__LISTEN, wins over the file.\n",
    );
    section(&mut out, "storage", storage);
    section(&mut out, "log", log);
    section(&mut out, "clickhouse", clickhouse);
    section(&mut out, "gateway", gateway);
    section(&mut out, "worker", worker);
    section(&mut out, "query", query);
    section(&mut out, "telemetry", telemetry);
    if projects.is_empty() {
        // Shown as comments: they are not in force.
        let mut example = String::new();
        let touchpoint = Touchpoint {
            name: "checkout".into(),
            stage: "purchase".into(),
            page: "/checkout/*".into(),
            ..Touchpoint::default()
        };
        let feedback = Feedback { event: "survey answered".into(), kind: "nps".into(), ..Feedback::default() };
        let example_project =
            Project { touchpoints: vec![touchpoint], feedback: vec![feedback], ..Project::stand_in() };
        project(&mut example, &example_project);
        for line in example.lines() {
            let commented =
                if line.is_empty() || line.starts_with('#') { line.to_owned() } else { format!("# {line}") };
            out.push_str(&commented);
            out.push('\n');
        }
    } else {
        projects.iter().for_each(|p| project(&mut out, p));
    }
    out
}

fn project(out: &mut String, project: &Project) {
    about(out, "\n", Project::ABOUT);
    out.push_str("[[projects]]\n");
    project
        .fields()
        .iter()
        .filter(|field| !["touchpoints", "feedback", "privacy"].contains(&field.key))
        .for_each(|f| write_field(out, f));
    section(out, "projects.privacy", &project.privacy);
    for touchpoint in &project.touchpoints {
        about(out, "\n", Touchpoint::ABOUT);
        out.push_str("[[projects.touchpoints]]\n");
        touchpoint.fields().iter().for_each(|f| write_field(out, f));
    }
    for feedback in &project.feedback {
        about(out, "\n", Feedback::ABOUT);
        out.push_str("[[projects.feedback]]\n");
        feedback.fields().iter().for_each(|f| write_field(out, f));
    }
}

fn section<S: Described>(out: &mut String, name: &str, section: &S) {
    about(out, "\n", S::ABOUT);
    writeln!(out, "[{name}]").expect("writing to a string");
    section.fields().iter().for_each(|f| write_field(out, f));
}

fn about(out: &mut String, before: &str, lines: &[&str]) {
    out.push_str(before);
    for line in lines {
        writeln!(out, "#{line}").expect("writing to a string");
    }
}

fn write_field(out: &mut String, field: &Field) {
    about(out, "", field.about);
    let secret =
        ["password", "secret"].contains(&field.key) && field.value.as_str().is_some_and(|text| !text.is_empty());
    let value = match &field.value {
        _ if secret => "\"…\"".to_owned(),
        // As an inline table: a table of its own would end the section.
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => format!("{{ {} }}", table.to_string().trim_end().replace('\n', ", ")),
        value => value.to_string(),
    };
    writeln!(out, "{} = {value}", field.key).expect("writing to a string");
}
