//! Commands that part what was joined. They are given between rounds, while nothing is pending: so it is known which events
//! come before them.

use anyhow::Result;
use trackway_query::pb::{self, unmerge_request::What};

use super::input::{PROJECTS, Sent};
use super::oracle;
use super::random::Random;
use crate::roles::Installation;

/// Commands between two rounds at most.
const COMMANDS_MAX: usize = 4;

/// Who is parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parts {
    /// A device becomes a person of its own.
    Visitor(String),
    /// Two users.
    Users(String, String),
}

/// One command.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub project: &'static str,
    pub parts: Parts,
    /// How many of the events that were sent came before it.
    pub after: usize,
}

/// Makes up commands that change something, most of them.
pub(super) fn draw(random: &mut Random, sent: &[Sent], given: &[Command]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for _ in 0..random.below(COMMANDS_MAX + 1) {
        let project = PROJECTS[random.below(PROJECTS.len())];
        let mine: Vec<&Sent> = sent.iter().filter(|sent| sent.project == project).collect();
        let aliases: Vec<&&Sent> = mine.iter().filter(|sent| sent.other.is_some()).collect();
        if aliases.is_empty() {
            continue;
        }
        let event = random.pick(&aliases);
        let (Some(user), Some(other)) = (&event.user, &event.other) else { continue };
        let parts = match random.below(3) {
            0 => Parts::Visitor(other.clone()),
            1 => match &random.pick(&mine).device {
                Some(device) => Parts::Visitor(device.clone()),
                None => continue,
            },
            _ => Parts::Users(user.clone(), other.clone()),
        };
        // A device that is said to be both's joins them too. Whether it still does after the command, if its user changes
        // later, hangs on the order in which events arrive, which nobody knows here.
        let before: Vec<Command> = given.iter().chain(&commands).cloned().collect();
        if let Parts::Users(a, b) = &parts
            && oracle::one_device_has_both(project, sent, &before, [a, b])
        {
            continue;
        }
        commands.push(Command { project, parts, after: sent.len() });
    }
    commands
}

/// Gives them. Each is in the log when this is done.
///
/// # Errors
/// If the query server refuses one.
pub(super) async fn give(installation: &Installation, commands: &[Command]) -> Result<()> {
    for Command { project, parts, .. } in commands {
        let what = match parts.clone() {
            Parts::Visitor(visitor_id) => What::VisitorId(visitor_id),
            Parts::Users(user_id, from_user_id) => What::Users(pb::Users { user_id, from_user_id }),
        };
        let (project, by, reason) = ((*project).to_owned(), "chaos".to_owned(), "drawn".to_owned());
        installation.client().unmerge(pb::UnmergeRequest { project, what: Some(what), by, reason }).await?;
    }
    Ok(())
}
