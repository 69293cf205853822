use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::*;

/// A metadata service of a few lines: answers by method and path, if the header that it wants is there.
struct Fake {
    places: Places,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Page {
    needs: &'static str,
    status: &'static str,
    headers: &'static str,
    body: String,
}

fn page(needs: &'static str, body: &str) -> Page {
    Page { needs, status: "200 OK", headers: "", body: body.into() }
}

impl Fake {
    async fn serve(pages: impl IntoIterator<Item = (&'static str, Page)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let base = format!("http://{}", listener.local_addr().expect("address"));
        let pages: Arc<BTreeMap<_, _>> = Arc::new(pages.into_iter().collect());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, pages.clone()));
            }
        });
        Self { places: Places { link_local: base, alibaba: None }, task }
    }

    async fn ask(&self) -> Answer {
        ask(&self.places).await
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: TcpStream, pages: Arc<BTreeMap<&'static str, Page>>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(request) = lines.next_line().await? {
        let mut headers = String::new();
        while let Some(line) = lines.next_line().await?.filter(|line| !line.is_empty()) {
            headers.push_str(&line.to_ascii_lowercase());
            headers.push('\n');
        }
        let found = pages.get(request.trim_end_matches(" HTTP/1.1")).filter(|page| headers.contains(page.needs));
        let missing = Page { status: "404 Not Found", ..page("", "") };
        let Page { status, headers, body, .. } = found.unwrap_or(&missing);
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n");
        writer.write_all(head.as_bytes()).await?;
        writer.write_all(body.as_bytes()).await?;
    }
    Ok(())
}

fn aws() -> Vec<(&'static str, Page)> {
    let token = "x-aws-ec2-metadata-token: secret";
    let document = r#"{"region":"ap-northeast-2","accountId":"111122223333","instanceId":"i-1","availabilityZone":"ap-northeast-2a","privateIp":"10.0.1.4"}"#;
    vec![
        ("PUT /latest/api/token", page("x-aws-ec2-metadata-token-ttl-seconds", "secret")),
        ("GET /latest/dynamic/instance-identity/document", page(token, document)),
        ("GET /latest/meta-data/placement/availability-zone-id", page(token, "apne2-az1")),
        ("GET /latest/meta-data/mac", page(token, "02:00:00:00:00:01\n")),
        ("GET /latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/vpc-id", page(token, "vpc-1")),
        ("GET /latest/meta-data/network/interfaces/macs/02:00:00:00:00:01/subnet-id", page(token, "subnet-1")),
        ("GET /latest/meta-data/public-ipv4", page(token, "203.0.113.4")),
    ]
}

fn openstack() -> Vec<(&'static str, Page)> {
    let data = r#"{"uuid":"u-1","availability_zone":"nova","project_id":"p-1","name":"vm"}"#;
    vec![
        ("GET /openstack/latest/meta_data.json", page("", data)),
        ("GET /openstack/latest/network_data.json", page("", r#"{"networks":[{"network_id":"n-1"}]}"#)),
        ("GET /latest/meta-data/public-ipv4", page("", "198.51.100.4")),
        ("GET /latest/dynamic/instance-identity/document", page("", "{}")),
    ]
}

fn gcp(flavor: &'static str) -> Vec<(&'static str, Page)> {
    let needs = "metadata-flavor: google";
    let zone = Page { headers: flavor, ..page(needs, "projects/42/zones/us-central1-a") };
    let interfaces = r#"[{"network":"projects/42/networks/default","ip":"10.0.0.2","accessConfigs":[{"externalIp":"203.0.113.7","type":"ONE_TO_ONE_NAT"}]}]"#;
    vec![
        ("GET /computeMetadata/v1/instance/zone", zone),
        ("GET /computeMetadata/v1/instance/network-interfaces/?recursive=true", page(needs, interfaces)),
        ("GET /computeMetadata/v1/project/project-id", page(needs, "my-project")),
        ("GET /computeMetadata/v1/instance/id", page(needs, "123456")),
    ]
}

fn azure(compute: &str) -> Vec<(&'static str, Page)> {
    let body = format!(
        r#"{{"compute":{compute},"network":{{"interface":[{{"ipv4":{{"ipAddress":[{{"privateIpAddress":"10.1.0.4","publicIpAddress":""}}]}}}}]}}}}"#
    );
    let balancer =
        r#"{"loadbalancer":{"publicIpAddresses":[{"frontendIpAddress":"203.0.113.8","privateIpAddress":"10.1.0.4"}]}}"#;
    vec![
        ("GET /metadata/instance?api-version=2021-12-13&format=json", page("metadata: true", &body)),
        ("GET /metadata/loadbalancer?api-version=2020-10-01&format=json", page("metadata: true", balancer)),
    ]
}

fn fields(answer: &Answer) -> Vec<&str> {
    let location = &answer.instance().unwrap_or_else(|| panic!("found, not {answer:?}")).location;
    let CloudLocation { provider, account, region, zone, vpc, subnet, instance } = location;
    [provider, account, region, zone, vpc, subnet, instance]
        .into_iter()
        .map(|field| field.as_ref().map_or("-", |located| located.value.as_str()))
        .collect()
}

fn public(answer: &Answer) -> Option<Ipv4Addr> {
    answer.instance()?.public_ipv4
}

#[tokio::test]
async fn aws_tells_the_zones_identity_and_the_vpc() {
    let answer = Fake::serve(aws()).await.ask().await;
    assert_eq!(fields(&answer), ["aws", "111122223333", "ap-northeast-2", "apne2-az1", "vpc-1", "subnet-1", "i-1"]);
    assert_eq!(public(&answer), Some(Ipv4Addr::new(203, 0, 113, 4)));
}

#[tokio::test]
async fn gcp_is_believed_with_its_header_only() {
    let answer = Fake::serve(gcp("Metadata-Flavor: Google\r\n")).await.ask().await;
    let vpc = "projects/42/networks/default";
    assert_eq!(fields(&answer), ["gcp", "my-project", "us-central1", "us-central1-a", vpc, "-", "123456"]);
    assert_eq!(public(&answer), Some(Ipv4Addr::new(203, 0, 113, 7)));
    let answer = Fake::serve(gcp("")).await.ask().await;
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
}

#[tokio::test]
async fn azure_prefers_the_zones_identity_and_finds_standard_addresses() {
    let compute = r#"{"vmId":"v-1","location":"koreacentral","zone":"1","physicalZone":"koreacentral-az2","subscriptionId":"s-1"}"#;
    let answer = Fake::serve(azure(compute)).await.ask().await;
    assert_eq!(fields(&answer), ["azure", "s-1", "koreacentral", "koreacentral-az2", "-", "-", "v-1"]);
    assert_eq!(public(&answer), Some(Ipv4Addr::new(203, 0, 113, 8)));
    let nobody = Fake::serve(azure(r#"{"vmId":"","location":"koreacentral"}"#)).await.ask().await;
    assert!(matches!(nobody, Answer::Failed(_)), "{nobody:?}");
}

#[tokio::test]
async fn openstack_is_not_taken_for_aws_although_it_has_its_tree() {
    let answer = Fake::serve(openstack()).await.ask().await;
    assert_eq!(fields(&answer), ["openstack", "p-1", "-", "nova", "n-1", "-", "u-1"]);
    assert_eq!(public(&answer), Some(Ipv4Addr::new(198, 51, 100, 4)));
}

#[tokio::test]
async fn aws_goes_before_those_who_imitate_it() {
    let answer = Fake::serve(openstack().into_iter().chain(aws())).await.ask().await;
    assert_eq!(fields(&answer)[0], "aws");
}

#[tokio::test]
async fn nobody_there_and_somebody_unknown_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let closed = format!("http://{}", listener.local_addr().expect("address"));
    drop(listener);
    assert_eq!(ask(&Places { link_local: closed, alibaba: None }).await, Answer::Nobody);
    let unknown = Fake::serve([("GET /", page("", "hello"))]).await.ask().await;
    assert!(matches!(unknown, Answer::Failed(_)), "{unknown:?}");
}

#[tokio::test]
async fn a_service_that_accepts_and_says_nothing_is_nobody_within_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let silent = format!("http://{}", listener.local_addr().expect("address"));
    let started = Instant::now();
    assert_eq!(ask(&Places { link_local: silent, alibaba: None }).await, Answer::Nobody);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn an_endless_body_and_a_redirect_are_refused() {
    let long = "x".repeat(70 << 10);
    let mut pages = gcp("Metadata-Flavor: Google\r\n");
    pages[1].1.body = long;
    assert!(matches!(Fake::serve(pages).await.ask().await, Answer::Failed(_)));

    let moved = Page { status: "302 Found", headers: "location: /openstack/elsewhere.json\r\n", ..page("", "") };
    let data = page("", r#"{"uuid":"u-1"}"#);
    let here =
        Fake::serve([("GET /openstack/latest/meta_data.json", moved), ("GET /openstack/elsewhere.json", data)]).await;
    assert!(matches!(here.ask().await, Answer::Failed(_)));
}

#[tokio::test]
async fn alibaba_is_asked_where_the_machine_says_it_is_one_of_theirs() {
    let token = "x-aliyun-ecs-metadata-token: secret";
    let pages = [
        ("PUT /latest/api/token", page("x-aliyun-ecs-metadata-token-ttl-seconds", "secret")),
        ("GET /latest/meta-data/owner-account-id", page(token, "99")),
        ("GET /latest/meta-data/region-id", page(token, "ap-northeast-2")),
        ("GET /latest/meta-data/zone-id", page(token, "ap-northeast-2a")),
        ("GET /latest/meta-data/vpc-id", page(token, "vpc-a")),
        ("GET /latest/meta-data/vswitch-id", page(token, "vsw-a")),
        ("GET /latest/meta-data/instance-id", page(token, "i-a")),
        ("GET /latest/meta-data/eipv4", page(token, "203.0.113.9")),
    ];
    let mut fake = Fake::serve(pages).await;
    fake.places.alibaba = Some(fake.places.link_local.clone());
    let answer = fake.ask().await;
    assert_eq!(fields(&answer), ["alibaba", "99", "ap-northeast-2", "ap-northeast-2a", "vpc-a", "vsw-a", "i-a"]);
    assert_eq!(public(&answer), Some(Ipv4Addr::new(203, 0, 113, 9)));
}
