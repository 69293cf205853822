//! `cladnet key`.

use std::{path::PathBuf, time::Duration};

use cladnet_proto::cladnet::v1::{CreateKeyRequest, ListKeysRequest, RevokeKeyRequest};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{hand_over, must_be_new};
use crate::{
    api::{Api, all_pages, request},
    failure::Failure,
    output::{Format, Output, Table, age},
    parse,
};

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Make an API key, shown once
    ///
    ///   cladnet key create --role viewer --name dashboard --ttl 90d --file dashboard.key
    #[command(verbatim_doc_comment)]
    Create(CreateArgs),
    /// List keys; never their secrets
    ///
    ///   cladnet key list
    #[command(verbatim_doc_comment)]
    List,
    /// Revoke a key at once
    ///
    ///   cladnet key revoke key-a4dqobyha4dqobyh
    #[command(verbatim_doc_comment)]
    Revoke {
        /// Id of the key, as `cladnet key list` shows it.
        key: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What it may do: admin (everything), operator (everything but keys), viewer (reads), provisioner (networks,
    /// tokens, peers, hosts, deployments).
    #[arg(long)]
    role: String,
    /// Name for people [default: the role].
    #[arg(long)]
    name: Option<String>,
    /// How long it is good for [default: until revoked].
    #[arg(long, value_name = "DURATION", value_parser = parse::duration)]
    ttl: Option<Duration>,
    /// Write the key to a new file of mode 0600 instead of standard output.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(api: &Api, out: Output, command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::Create(args) => create(api, out, args).await,
        KeyCommand::List => list(api, out).await,
        KeyCommand::Revoke { key } => {
            api.keys().revoke_key(request(RevokeKeyRequest { key_id: key.clone() })).await?;
            out.say(&format!("key {key} revoked"))
        }
    }
}

async fn create(api: &Api, out: Output, args: CreateArgs) -> Result<(), Failure> {
    must_be_new("--file", args.file.as_deref())?;
    let name = args.name.unwrap_or_else(|| args.role.clone());
    let ask = CreateKeyRequest { name, role: args.role, ttl: args.ttl.map(parse::to_proto).transpose()? };
    let created = api.keys().create_key(request(ask)).await?.into_inner();
    if out.format() != Format::Table && args.file.is_none() {
        return out.show_text(&created, |_| String::new());
    }
    let key = created.key.unwrap_or_default();
    let remark = format!("key {} of role {}; it is shown this once", key.key_id, key.role);
    hand_over(&created.secret, args.file.as_deref(), &remark)
}

async fn list(api: &Api, out: Output) -> Result<(), Failure> {
    let fetch =
        |page_token| async { api.keys().list_keys(request(ListKeysRequest { page_size: 0, page_token })).await };
    let (head, now) = (["KEY", "NAME", "ROLE", "CREATED", "EXPIRES"], Timestamp::now());
    out.show(&all_pages(fetch).await?, |list| {
        Table::of(head, "no keys", &list.keys, |key| {
            let expires = key.expires_at.map_or("never".to_owned(), |at| age(Some(at), now));
            [key.key_id.clone(), key.name.clone(), key.role.clone(), age(key.created_at, now), expires]
        })
    })
}
