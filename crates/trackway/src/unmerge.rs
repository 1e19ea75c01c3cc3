//! `trackway unmerge`: parts what was joined wrongly, and keeps who ordered it and why.

use std::process::ExitCode;

use anyhow::Context as _;
use tonic::transport::Channel;
use trackway_query::pb;
use trackway_query::pb::identity_service_client::IdentityServiceClient;
use trackway_query::pb::unmerge_request::What;

/// Parts a visitor from its person, or two users from each other.
#[derive(Debug, clap::Args)]
pub struct UnmergeArgs {
    /// The project.
    #[arg(long, value_name = "PROJECT", default_value = "default")]
    project: String,
    /// This visitor is a person of its own, until an event that arrives later names a user again.
    #[arg(long, value_name = "ID", required_unless_present = "user", conflicts_with = "user")]
    visitor: Option<String>,
    /// This user is parted from the one of `--from`, until an alias joins them again.
    #[arg(long, value_name = "ID", requires = "from")]
    user: Option<String>,
    /// See `--user`.
    #[arg(long, value_name = "ID", requires = "user")]
    from: Option<String>,
    /// Who orders it; it is kept.
    #[arg(long, value_name = "WHO")]
    by: String,
    /// Why; it is kept.
    #[arg(long, value_name = "WHY")]
    reason: String,
    /// Address of the query server.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    server: String,
}

/// Orders it. It takes effect as soon as the worker has read it.
///
/// # Errors
/// If the query server does not answer, or refuses.
pub async fn run(args: UnmergeArgs) -> anyhow::Result<ExitCode> {
    let server = Channel::from_shared(args.server.clone()).with_context(|| {
        format!("`--server` is `{}`, must be an address such as http://127.0.0.1:7071", args.server)
    })?;
    let server = server.connect().await.with_context(|| format!("no query server answers at {}", args.server))?;
    let what = match (args.visitor, args.user, args.from) {
        (Some(visitor_id), _, _) => Some(What::VisitorId(visitor_id)),
        (None, Some(user_id), Some(from_user_id)) => Some(What::Users(pb::Users { user_id, from_user_id })),
        (None, _, _) => None,
    };
    let request = pb::UnmergeRequest { project: args.project, what, by: args.by, reason: args.reason };
    let answer = IdentityServiceClient::new(server).unmerge(request).await;
    let answer = answer.map_err(|status| {
        anyhow::anyhow!("the query server at {} does not do it: {}", args.server, status.message())
    })?;
    println!("ordered; `identity_changes` has it with `ordered` {}", answer.into_inner().ordered_ms);
    Ok(ExitCode::SUCCESS)
}
