//! `cladnet token`.

use std::{path::PathBuf, time::Duration};

use cladnet_proto::cladnet::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{hand_over, must_be_new};
use crate::{
    api::{Api, all_pages, request},
    failure::Failure,
    output::{Format, Output, Table, age, labels},
    parse,
};

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token, shown once
    ///
    /// One machine and one hour by default. The token is all that standard output gets:
    ///
    ///   TOKEN=$(cladnet token create prod --label role=db)
    ///   cladnet-agent join https://server:8053 "$TOKEN"      # on the machine
    #[command(verbatim_doc_comment)]
    Create(CreateArgs),
    /// List tokens; never their secrets
    ///
    ///   cladnet token list prod
    #[command(verbatim_doc_comment)]
    List {
        /// Of this network only.
        network: Option<String>,
    },
    /// Revoke a token; machines that joined with it stay
    ///
    ///   cladnet token revoke token-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Revoke {
        /// Id of the token, as `cladnet token list` shows it.
        token: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Network that machines join with it.
    network: String,
    /// How many machines may join with it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    uses: u32,
    /// How long it is good for, up to 30d [default: 1h].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    ttl: Option<Duration>,
    /// Label for every peer that joins with it. May be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse::label)]
    label: Vec<(String, String)>,
    /// Write the token to a new file of mode 0600 instead of standard output.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(api: &Api, out: Output, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create(args) => create(api, out, args).await,
        TokenCommand::List { network } => list(api, out, &network.unwrap_or_default()).await,
        TokenCommand::Revoke { token } => {
            api.tokens().revoke_token(request(RevokeTokenRequest { token_id: token.clone() })).await?;
            out.say(&format!("token {token} revoked"))
        }
    }
}

async fn create(api: &Api, out: Output, args: CreateArgs) -> Result<(), Failure> {
    must_be_new("--file", args.file.as_deref())?;
    let ask = CreateTokenRequest {
        network_id: args.network.clone(),
        uses: args.uses,
        ttl: args.ttl.map(parse::to_proto).transpose()?,
        labels: args.label.into_iter().collect(),
        token_id: String::new(),
    };
    let created = api.tokens().create_token(request(ask)).await?.into_inner();
    if out.format() != Format::Table && args.file.is_none() {
        return out.show_text(&created, |_| String::new());
    }
    let token = created.token.unwrap_or_default();
    let remark = format!(
        "token {} for network {}: {} uses, ends {}; it is shown this once",
        token.token_id,
        args.network,
        token.uses_left,
        age(token.expires_at, Timestamp::now())
    );
    hand_over(&created.secret, args.file.as_deref(), &remark)
}

async fn list(api: &Api, out: Output, network_id: &str) -> Result<(), Failure> {
    let fetch = |page_token| async {
        let ask = ListTokensRequest { network_id: network_id.to_owned(), page_size: 0, page_token };
        api.tokens().list_tokens(request(ask)).await
    };
    let (head, now) =
        (["TOKEN", "NETWORK", "STATE", "USES LEFT", "EXPIRES", "LABELS", "CREATED", "BY"], Timestamp::now());
    out.show(&all_pages(fetch).await?, |list| {
        Table::of(head, "no tokens", &list.tokens, |token| {
            [
                token.token_id.clone(),
                token.network_id.clone(),
                token.state.clone(),
                token.uses_left.to_string(),
                age(token.expires_at, now),
                labels(&token.labels),
                age(token.created_at, now),
                token.created_by.clone(),
            ]
        })
    })
}
