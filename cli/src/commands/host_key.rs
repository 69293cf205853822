//! `cladnet host-key`.

use cladnet_proto::cladnet::v1::{ForgetHostKeyRequest, ListHostKeysRequest};
use clap::Subcommand;
use jiff::Timestamp;

use crate::{
    api::{Api, all_pages, request},
    failure::Failure,
    output::{Output, Table, age},
};

#[derive(Debug, Subcommand)]
pub(crate) enum HostKeyCommand {
    /// List the SSH host keys that deployments trust
    ///
    ///   cladnet host-key list
    #[command(verbatim_doc_comment)]
    List,
    /// Forget the key of a machine that was rebuilt; its next one must be vouched for again
    ///
    ///   cladnet host-key forget 192.0.2.10:22
    #[command(verbatim_doc_comment)]
    Forget {
        /// Where the machine answers SSH; IPv6 in brackets.
        #[arg(value_name = "ADDRESS:PORT")]
        address: String,
    },
}

pub(super) async fn run(api: &Api, out: Output, command: HostKeyCommand) -> Result<(), Failure> {
    match command {
        HostKeyCommand::List => list(api, out).await,
        HostKeyCommand::Forget { address } => {
            let ask = ForgetHostKeyRequest { address: address.clone() };
            api.deployments().forget_host_key(request(ask)).await?;
            out.say(&format!("host key of {address} forgotten"))
        }
    }
}

async fn list(api: &Api, out: Output) -> Result<(), Failure> {
    let fetch = |page_token| async {
        let ask = ListHostKeysRequest { page_size: 0, page_token };
        api.deployments().list_host_keys(request(ask)).await
    };
    let (head, now) = (["ADDRESS", "ALGORITHM", "FINGERPRINT", "PINNED", "BY"], Timestamp::now());
    out.show(&all_pages(fetch).await?, |list| {
        Table::of(head, "no host keys", &list.host_keys, |key| {
            let (address, algorithm) = (key.address.clone(), key.algorithm.clone());
            [address, algorithm, key.fingerprint.clone(), age(key.pinned_at, now), key.pinned_by.clone()]
        })
    })
}
