//! `cladnet admin-web`: the page on a port of its own, in front of a service elsewhere.

use std::{
    io::{self, Write as _},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
};

use cladnet_pki::channel::ServiceUrl;
use cladnet_service::front::{DEFAULT_PORT, Front, FrontConfig};
use clap::Args;
use rustls::ClientConfig;
use tokio_util::sync::CancellationToken;

use super::{plan, run};
use crate::{api, args::ClientArgs, failure::Failure};

/// Which service it asks stands with the client's options.
#[derive(Debug, Args)]
pub(crate) struct AdminWebArgs {
    /// TCP address of the page, over TLS; port 0 takes a free one [default: [::]:8054].
    #[arg(long, value_name = "ADDRESS:PORT", env = "CLADNET_LISTEN")]
    listen: Option<SocketAddr>,
    /// Name under which browsers ask for the page, beside addresses and the machine's own name. May be repeated.
    #[arg(long, value_name = "NAME", env = "CLADNET_TLS_NAME", value_delimiter = ',')]
    tls_name: Vec<String>,
    /// Certificate chain, PEM. Without it a self-signed one is made at each start, and its fingerprint told.
    #[arg(long, value_name = "FILE", env = "CLADNET_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Private key of --tls-cert, PEM.
    #[arg(long, value_name = "FILE", env = "CLADNET_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Check the settings and the files they name, then end: 0 if they are right, 64 if not.
    #[arg(long)]
    pub(super) check_config: bool,
    /// What to log on standard error, for example info or cladnet_service=debug,warn [default: info].
    #[arg(long, value_name = "FILTER", env = "CLADNET_LOG")]
    pub(super) log: Option<String>,
}

/// What the role will do, once every setting is known to be right.
pub(super) struct Plan {
    front: FrontConfig,
    services: Vec<ServiceUrl>,
    tls: ClientConfig,
}

impl Plan {
    pub(super) fn new(client: &ClientArgs, args: AdminWebArgs) -> Result<Self, Failure> {
        plan::check_names(&args.tls_name)?;
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT);
        Ok(Self {
            services: api::services(client)?.to_vec(),
            tls: api::tls(client)?,
            front: FrontConfig {
                listen_addr: args.listen.unwrap_or(everywhere),
                tls_names: args.tls_name,
                certificate: plan::certificate(args.tls_cert, args.tls_key)?,
            },
        })
    }

    /// Serves until it is told to stop.
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let shutdown = CancellationToken::new();
        run::stop_on_signals(shutdown.clone())?;
        let front = Front::open(&self.front, &self.services, self.tls, cladnet_admin_web::router())?;
        announce(&front, self.front.tls_names.first().map(String::as_str));
        front.run(shutdown).await;
        Ok(ExitCode::SUCCESS)
    }
}

fn announce(front: &Front, tls_name: Option<&str>) {
    let mut text = String::new();
    if let Ok(address) = front.local_addr() {
        text += &format!("page: {}, sign in with an API key of the service\n", run::page_url(address, tls_name));
    }
    if let Some(fingerprint) = front.fingerprint() {
        text += &format!("certificate of this start, SHA-256: {fingerprint}\n");
    }
    let mut stdout = io::stdout().lock();
    // Whoever started us may have stopped reading.
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
