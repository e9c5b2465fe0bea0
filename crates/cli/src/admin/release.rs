//! `lockstead release --force`.

use lockstead_types::Token;
use serde_json::json;

use crate::{
    args::{ConnectArgs, Name, ReasonArgs, SpaceArgs, name},
    connect::{About, connect, explain, space},
    exit::{Exit, Outcome},
    output::OutputArgs,
    runtime,
};

/// Options of `lockstead release`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Take a lock from its holder.\n\nThe token must be that of the grant to undo (`lockstead show NAME` prints \
                  it), so that a lock which changed hands meanwhile is left alone. The holder is told that it lost the \
                  lock; `lockstead lock` stops its command then. The reason is kept in the node's audit log.",
    after_long_help = "Examples:\n  lockstead show orders\n  \
                       lockstead release --force orders --token 1099511627777 --reason 'host db3 is gone'\n\n\
                       With -o json prints {\"name\", \"lockspace\", \"token\", \"released\": true}. Exits 1 where the \
                       token is not that of a lock held there."
)]
pub(crate) struct Args {
    /// Say that you mean it: the holder may be at work
    #[arg(long, required = true)]
    force: bool,
    /// The resource; %XX is any byte
    #[arg(value_parser = name)]
    name: Name,
    /// The token of the grant to undo
    #[arg(long, value_name = "N", value_parser = token)]
    token: Token,
    #[command(flatten)]
    why: ReasonArgs,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Reads a token.
///
/// # Errors
/// What is wrong with the text.
fn token(text: &str) -> Result<Token, String> {
    let number = text.parse().ok().and_then(Token::from_u64).filter(|token| *token != Token::NONE);
    number.ok_or_else(|| "a token is a whole number from 1 to 2^63 - 1".to_owned())
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(release(args))
}

async fn release(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let space = space(&client, &args.space.space).await?;
    let (name, token) = (args.name.to_string(), args.token);
    let released = client.force_release(space.id(), &args.name.0, token, &args.why.reason).await;
    released.map_err(|error| match error.refusal() {
        Some(lockstead::Refusal::NotHeld) => Exit::NotObtained(1)
            .because(format!("{name}: no lock there has token {token}; `lockstead show {name}` shows what is held")),
        _ => explain(error, &About::Lock { space: &space, name: &name, mode: "release" }),
    })?;
    args.output.print(
        || json!({ "lockspace": space.name(), "name": name, "token": token.to_string(), "released": true }),
        || format!("{name}: released, token {token}"),
    )?;
    Ok(Exit::Success)
}
