//! The command line.

use std::{path::PathBuf, process::ExitCode};

use cladnet_pki::channel::ServiceUrl;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    commands::{
        cost::CostCommand, deploy::DeployArgs, deployment::DeploymentCommand, event::EventCommand, host::HostCommand,
        host_key::HostKeyCommand, key::KeyCommand, network::NetworkCommand, path::PathCommand, peer::PeerCommand,
        rule::RuleCommand, tariff::TariffCommand, test::TestCommand, token::TokenCommand,
    },
    output::Format,
    roles::{AdminWebArgs, ControllerArgs, ProvisionerArgs, ServerArgs, ServiceArgs},
};

/// cladnet: one private network over VMs of any clouds
///
/// `cladnet server` runs the control plane; every other command asks a running one. Where it is,
/// which key to show and whose certificates to trust come by flag or by environment:
///
///   export CLADNET_SERVICE=https://server:8053 CLADNET_KEY_FILE=admin.key CLADNET_CA_FILE=ca.pem
///
/// Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 conflict, 5 denied,
/// 6 unreachable, 64 wrong configuration.
#[derive(Debug, Parser)]
#[command(name = "cladnet", version, verbatim_doc_comment, propagate_version = true)]
pub(crate) struct Invocation {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to reach the service, and how to show what it says.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub(crate) struct ClientArgs {
    /// Where the service is: https://HOST[:8053]; several replicas with commas between them.
    #[arg(long, global = true, value_name = "URL", env = "CLADNET_SERVICE", value_delimiter = ',')]
    pub(crate) service: Vec<ServiceUrl>,
    /// File that holds the API key.
    #[arg(long, visible_alias = "api-key-file", global = true, value_name = "FILE", env = "CLADNET_KEY_FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Certificate of the service's authority: ca.pem of the server's data directory.
    #[arg(long, visible_alias = "service-ca", global = true, value_name = "FILE", env = "CLADNET_CA_FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// How to show the answer.
    #[arg(
        long,
        short,
        global = true,
        value_enum,
        value_name = "FORMAT",
        env = "CLADNET_OUTPUT",
        default_value = "table"
    )]
    pub(crate) output: Format,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole control plane on this machine: controller, service, provisioner, embedded store
    ///
    ///   cladnet server --data-dir /var/lib/cladnet --admin-key-file /root/cladnet.key
    ///
    /// The same settings as a file for --config:
    ///
    ///   data-dir = "/var/lib/cladnet"
    ///   listen = "[::]:8053"
    ///   tls-name = ["cladnet.example"]
    #[command(verbatim_doc_comment)]
    Server(ServerArgs),
    /// Run a controller on etcd; any number may run, one leads
    ///
    ///   cladnet controller --etcd https://etcd-1:2379,https://etcd-2:2379 --etcd-ca etcd-ca.pem
    #[command(verbatim_doc_comment)]
    Controller(ControllerArgs),
    /// Run a replica of the service on etcd
    ///
    ///   openssl rand -base64 32 > secret.key           # once, the same for every replica
    ///   cladnet service --etcd https://etcd-1:2379 --etcd-ca etcd-ca.pem \
    ///     --secret-key-file secret.key
    #[command(verbatim_doc_comment)]
    Service(ServiceArgs),
    /// Run a provisioner on etcd: it puts agents onto machines over SSH; any number may run
    ///
    ///   cladnet key create --name provisioner --role provisioner --file provisioner.key
    ///   cladnet provisioner --etcd https://etcd-1:2379 --etcd-ca etcd-ca.pem \
    ///     --secret-key-file secret.key --service https://server:8053 \
    ///     --ca-file ca.pem --key-file provisioner.key
    #[command(verbatim_doc_comment)]
    Provisioner(ProvisionerArgs),
    /// Serve the admin web on a port of its own, in front of a service elsewhere
    ///
    ///   cladnet admin-web --service https://server:8053 --service-ca ca.pem
    ///
    /// `cladnet server` and `cladnet service` serve it too, on their own port.
    #[command(verbatim_doc_comment)]
    AdminWeb(AdminWebArgs),
    #[command(flatten)]
    Admin(AdminCommand),
    /// Print the completions of a shell
    ///
    ///   cladnet completions bash > /etc/bash_completion.d/cladnet
    #[command(verbatim_doc_comment)]
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

/// What is asked of a running service.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Networks: make, look, change, delete, plan
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Peers: the hosts of one network
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Hosts: the machines that run the agent
    #[command(subcommand)]
    Host(HostCommand),
    /// Join tokens: what a machine shows once to join a network
    #[command(subcommand)]
    Token(TokenCommand),
    /// API keys: who may do what
    #[command(subcommand)]
    Key(KeyCommand),
    /// Put agents onto machines over SSH: install, upgrade, uninstall
    ///
    /// Exits with 0 only if every machine is done. Ctrl-C asks whether to cancel. The file:
    ///
    ///   defaults: { user: debian, key: ~/.ssh/id_ed25519 }   # paths begin where the file is
    ///   hosts:
    ///     - name: edge
    ///       address: 192.0.2.10         # or a DNS name; behind a bastion an address
    ///       host_key: SHA256:…          # else the first key that it shows must be confirmed
    ///     - name: db-1
    ///       address: 10.0.0.5
    ///       bastion: edge               # another machine of this file
    ///       labels: { tier: db }
    ///       overlay_address: 10.9.0.20  # of the network, if it matters which
    ///       location: { provider: aws, region: ap-northeast-2, zone: apne2-az1 }
    ///
    ///   cladnet deploy -f hosts.yaml --network prod
    ///   cladnet deploy -f hosts.yaml --network prod --upgrade --accept-new-host-keys
    #[command(verbatim_doc_comment)]
    Deploy(DeployArgs),
    /// Deployments: how far they are, confirm keys, cancel
    #[command(subcommand)]
    Deployment(DeploymentCommand),
    /// SSH host keys that deployments trust
    #[command(subcommand)]
    HostKey(HostKeyCommand),
    /// Tests that send traffic
    #[command(subcommand)]
    Test(TestCommand),
    /// Paths: which way packets go, and why
    #[command(subcommand)]
    Path(PathCommand),
    /// Costs: what bytes cost, and what they would have cost otherwise
    #[command(subcommand)]
    Cost(CostCommand),
    /// Tariffs: what data transfer costs, and where the figures come from
    #[command(subcommand)]
    Tariff(TariffCommand),
    /// Rules: who may reach whom, what is behind peers, which paths a pair may use
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Events: what happened
    #[command(subcommand)]
    Event(EventCommand),
    /// Show which service answers, and as whom it knows you
    ///
    ///   cladnet info
    #[command(verbatim_doc_comment)]
    Info,
}

/// Writes completions to standard output.
pub(crate) fn print_completions(shell: Shell) -> ExitCode {
    clap_complete::generate(shell, &mut Invocation::command(), "cladnet", &mut std::io::stdout());
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Invocation::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let long = command.get_long_about().map(ToString::to_string).unwrap_or_default();
            assert!(long.lines().all(|line| line.len() <= 95), "a line of the help of {path} does not fit 100 columns");
            assert!(command.get_about().is_some() || command.get_name() == "help", "{path}");
            let is_leaf = command.get_subcommands().next().is_none() && command.get_name() != "help";
            assert!(!is_leaf || long.contains(path.trim()), "{path} has no example");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{path} {}", argument.get_id());
            }
            command.get_subcommands().for_each(|sub| check(sub, &path));
        }
        check(&Invocation::command(), "");
    }
}
