//! The connection to the service: TLS, the API key on every request, and lists without pages.

use std::time::Duration;

use cladnet_pki::{
    channel::{self, ServiceUrl},
    client_config,
};
use cladnet_proto::cladnet::v1::{
    ListDeploymentsResponse, ListEventsResponse, ListHostKeysResponse, ListHostsResponse, ListKeysResponse,
    ListNetworksResponse, ListPeersResponse, ListTariffRulesResponse, ListTokensResponse,
    cost_service_client::CostServiceClient, deployment_service_client::DeploymentServiceClient,
    event_service_client::EventServiceClient, host_service_client::HostServiceClient,
    key_service_client::KeyServiceClient, network_service_client::NetworkServiceClient,
    path_service_client::PathServiceClient, peer_service_client::PeerServiceClient,
    rule_service_client::RuleServiceClient, system_service_client::SystemServiceClient,
    tariff_service_client::TariffServiceClient, test_service_client::TestServiceClient,
    token_service_client::TokenServiceClient,
};
use rustls::ClientConfig;
use tonic::{
    Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use zeroize::Zeroizing;

use crate::{args::ClientArgs, failure::Failure, file::read_secret};

/// How long an answer may take, unless a command says otherwise.
const DEADLINE: Duration = Duration::from_secs(60);

/// A test among 500 peers has 249,500 pairs of some 150 bytes, one among a thousand four times as many; gRPC's own limit is
/// 4 MiB.
const LARGEST_RUN: usize = 256 << 20;

/// Documents are bounded by the service; a page of rules repeats their sources.
const LARGEST_BOOK: usize = 16 << 20;

/// A way to every service of the API.
#[derive(Clone)]
pub(crate) struct Api(InterceptedService<Channel, Bearer>);

type Authorized = InterceptedService<Channel, Bearer>;

impl Api {
    /// Reads the files that `client` names and connects.
    pub(crate) async fn connect(client: &ClientArgs) -> Result<Self, Failure> {
        let Access { services, tls, key } = Access::read(client)?;
        Self::over(channel::connect(&services, tls).await?, &key)
    }

    /// The same, but connects with the first request, for callers who can wait for a service that is away.
    pub(crate) fn connect_later(client: &ClientArgs) -> Result<Self, Failure> {
        let Access { services, tls, key } = Access::read(client)?;
        Self::over(channel::connect_lazy(&services, tls), &key)
    }

    fn over(channel: Channel, key: &str) -> Result<Self, Failure> {
        let bearer = Bearer::read(key).ok_or_else(|| Failure::configuration("--key-file: it holds no API key"))?;
        Ok(Self(InterceptedService::new(channel, bearer)))
    }

    pub(crate) fn system(&self) -> SystemServiceClient<Authorized> {
        SystemServiceClient::new(self.0.clone())
    }

    pub(crate) fn networks(&self) -> NetworkServiceClient<Authorized> {
        NetworkServiceClient::new(self.0.clone())
    }

    pub(crate) fn peers(&self) -> PeerServiceClient<Authorized> {
        PeerServiceClient::new(self.0.clone())
    }

    pub(crate) fn hosts(&self) -> HostServiceClient<Authorized> {
        HostServiceClient::new(self.0.clone())
    }

    pub(crate) fn paths(&self) -> PathServiceClient<Authorized> {
        PathServiceClient::new(self.0.clone())
    }

    pub(crate) fn rules(&self) -> RuleServiceClient<Authorized> {
        RuleServiceClient::new(self.0.clone())
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Authorized> {
        TokenServiceClient::new(self.0.clone())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Authorized> {
        KeyServiceClient::new(self.0.clone())
    }

    /// A book with two imported price lists is larger than gRPC's usual answers.
    pub(crate) fn tariffs(&self) -> TariffServiceClient<Authorized> {
        TariffServiceClient::new(self.0.clone()).max_decoding_message_size(LARGEST_BOOK)
    }

    pub(crate) fn tests(&self) -> TestServiceClient<Authorized> {
        TestServiceClient::new(self.0.clone()).max_decoding_message_size(LARGEST_RUN)
    }

    pub(crate) fn deployments(&self) -> DeploymentServiceClient<Authorized> {
        DeploymentServiceClient::new(self.0.clone())
    }

    pub(crate) fn costs(&self) -> CostServiceClient<Authorized> {
        CostServiceClient::new(self.0.clone())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Authorized> {
        EventServiceClient::new(self.0.clone())
    }
}

/// Where the service is, by its replicas.
pub(crate) fn services(client: &ClientArgs) -> Result<&[ServiceUrl], Failure> {
    match client.service.as_slice() {
        [] => Err(missing("--service URL", "CLADNET_SERVICE", "https://HOST:8053 of your service")),
        services => Ok(services),
    }
}

/// Trusts the authority of `--ca-file` and no other.
pub(crate) fn tls(client: &ClientArgs) -> Result<ClientConfig, Failure> {
    let Some(ca_file) = &client.ca_file else {
        return Err(missing("--ca-file FILE", "CLADNET_CA_FILE", "ca.pem of the server's data directory"));
    };
    let authority =
        std::fs::read_to_string(ca_file).map_err(|error| Failure::unreadable("--ca-file", ca_file, &error))?;
    client_config(&authority, None)
        .map_err(|error| Failure::configuration(format!("--ca-file: {}: {error}", ca_file.display())))
}

/// Where the service is, whom to trust there and what to show, as the arguments and the files behind them say.
pub(crate) struct Access {
    pub(crate) services: Vec<ServiceUrl>,
    pub(crate) tls: ClientConfig,
    pub(crate) key: Zeroizing<String>,
}

impl Access {
    pub(crate) fn read(client: &ClientArgs) -> Result<Self, Failure> {
        let services = services(client)?.to_vec();
        let Some(key_file) = &client.key_file else {
            return Err(missing("--key-file FILE", "CLADNET_KEY_FILE", "a file that holds an API key"));
        };
        let key = read_secret("--key-file", key_file)?;
        if Bearer::read(&key).is_none() {
            return Err(Failure::configuration(format!("--key-file: {} holds no API key", key_file.display())));
        }
        Ok(Self { services, tls: tls(client)?, key })
    }
}

fn missing(flag: &str, variable: &str, what: &str) -> Failure {
    Failure::configuration(format!("{flag} is missing: give {what}, by this flag or in {variable}"))
}

/// A request with the default deadline.
pub(crate) fn request<T>(message: T) -> Request<T> {
    request_within(DEADLINE, message)
}

/// A request that may take longer, or not so long.
pub(crate) fn request_within<T>(deadline: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Puts `Authorization: Bearer …` on every request.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn read(key: &str) -> Option<Self> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {key}").parse().ok()?;
        value.set_sensitive(true);
        Some(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

/// An answer that may be one page of several.
pub(crate) trait Page: Sized {
    /// The token of the page after this one, empty for none; taken out, because the whole list has no next page.
    fn take_next(&mut self) -> String;
    /// Adds the items of a later page.
    fn absorb(&mut self, page: Self);
}

macro_rules! pages {
    ($($response:ident.$items:ident)+) => {$(
        impl Page for $response {
            fn take_next(&mut self) -> String {
                std::mem::take(&mut self.next_page_token)
            }

            fn absorb(&mut self, page: Self) {
                self.$items.extend(page.$items);
            }
        }
    )+};
}

pages! {
    ListNetworksResponse.networks
    ListPeersResponse.peers
    ListTariffRulesResponse.rules
    ListHostsResponse.hosts
    ListTokensResponse.tokens
    ListKeysResponse.keys
    ListEventsResponse.events
    ListDeploymentsResponse.deployments
    ListHostKeysResponse.host_keys
}

/// Every page as one; `fetch` asks for the page of a token.
pub(crate) async fn all_pages<P: Page, F>(fetch: impl Fn(String) -> F) -> Result<P, Failure>
where
    F: Future<Output = Result<Response<P>, Status>>,
{
    let mut whole = fetch(String::new()).await?.into_inner();
    let mut next = whole.take_next();
    while !next.is_empty() {
        let mut page = fetch(next).await?.into_inner();
        next = page.take_next();
        whole.absorb(page);
    }
    Ok(whole)
}
