//! Metadata services, asked from inside the VMs as an agent asks them.

use cladnet_sandbox::Vm;

use crate::support::sandbox;

const CLOUDS: &str = "
vpcs:
  - { name: aws, provider: aws, region: ap-northeast-2, cidrs: [10.0.0.0/16], subnets: [{ name: aws-s, cidr: 10.0.1.0/24, zone: ap-northeast-2a }] }
  - { name: azure, provider: azure, region: koreacentral, cidrs: [10.0.0.0/16], subnets: [{ name: azure-s, cidr: 10.0.1.0/24, zone: '2' }] }
  - { name: gcp, provider: gcp, region: us-central1, cidrs: [10.0.0.0/16], subnets: [{ name: gcp-s, cidr: 10.0.1.0/24, zone: us-central1-a }] }
  - { name: nova, provider: openstack, region: lab, cidrs: [10.0.0.0/16], subnets: [{ name: nova-s, cidr: 10.0.1.0/24, zone: nova }] }
  - { name: ali, provider: alibaba, region: cn-beijing, cidrs: [10.0.0.0/16], subnets: [{ name: ali-s, cidr: 10.0.1.0/24, zone: cn-beijing-a }] }
  - { name: tencent, provider: tencent, region: ap-seoul, cidrs: [10.0.0.0/16], subnets: [{ name: tencent-s, cidr: 10.0.1.0/24 }] }
vms:
  - { name: aws-vm, vpc: aws, subnet: aws-s }
  - { name: aws-silent, vpc: aws, subnet: aws-s, metadata: none }
  - { name: azure-vm, vpc: azure, subnet: azure-s }
  - { name: gcp-vm, vpc: gcp, subnet: gcp-s }
  - { name: nova-vm, vpc: nova, subnet: nova-s }
  - { name: ali-vm, vpc: ali, subnet: ali-s }
  - { name: tencent-vm, vpc: tencent, subnet: tencent-s }
internet:
  - { name: out, region: seoul }
";

/// A body and the status of an HTTP request made inside a VM.
fn curl(vm: &Vm<'_>, arguments: &[&str]) -> (String, String) {
    let common = ["curl", "-s", "--max-time", "5", "-w", "\n%{http_code}"];
    let text = vm.run(common.iter().chain(arguments)).expect("the service answers");
    let (body, status) = text.rsplit_once('\n').expect("curl prints the status last");
    (body.to_owned(), status.to_owned())
}

#[test]
fn every_provider_answers_as_itself_and_reflects_a_new_address() {
    let sandbox = sandbox(CLOUDS);
    let vm = |name: &str| sandbox.vm(name).expect("it exists");
    let get = |name: &str, header: &str, url: &str| curl(&vm(name), &["-H", header, url]).0;

    let aws = vm("aws-vm");
    assert_eq!(curl(&aws, &["http://169.254.169.254/latest/meta-data/"]).1, "401", "version 1 is refused");
    let lifetime = "X-aws-ec2-metadata-token-ttl-seconds: 60";
    let (token, _) = curl(&aws, &["-X", "PUT", "-H", lifetime, "http://169.254.169.254/latest/api/token"]);
    let token = format!("X-aws-ec2-metadata-token: {token}");
    let aws_get = |path: &str| curl(&aws, &["-H", &token, &format!("http://169.254.169.254/latest/{path}")]);
    assert!(aws_get("dynamic/instance-identity/document").0.contains("\"region\":\"ap-northeast-2\""));
    assert_eq!(aws_get("meta-data/spot/instance-action").1, "404");
    assert_eq!(aws_get("meta-data/public-ipv4").0, aws.public_address().expect("it has one").to_string());
    let new = aws.readdress().expect("it has a public address");
    assert_eq!(aws_get("meta-data/public-ipv4").0, new.to_string());

    let azure = "http://169.254.169.254/metadata/instance/compute/location?api-version=2021-12-13&format=text";
    assert_eq!(get("azure-vm", "Metadata: true", azure), "koreacentral");
    let zone =
        get("gcp-vm", "Metadata-Flavor: Google", "http://metadata.google.internal/computeMetadata/v1/instance/zone");
    assert!(zone.ends_with("/zones/us-central1-a"), "{zone}");
    let nova = get("nova-vm", "Accept: */*", "http://169.254.169.254/openstack/latest/meta_data.json");
    assert!(nova.contains("\"availability_zone\":\"nova\""), "{nova}");
    assert_eq!(get("ali-vm", "Accept: */*", "http://100.100.100.200/latest/meta-data/zone-id"), "cn-beijing-a");
}

#[test]
fn where_there_is_no_service_nothing_ever_answers() {
    let sandbox = sandbox(CLOUDS);
    const TIMED_OUT: i32 = 28;
    for (name, url) in [
        ("aws-silent", "http://169.254.169.254/"),
        ("aws-vm", "http://100.100.100.200/"),
        ("ali-vm", "http://169.254.169.254/"),
        ("tencent-vm", "http://169.254.169.254/"),
        ("out", "http://169.254.169.254/"),
    ] {
        let vm = sandbox.vm(name).expect("it exists");
        let output = vm.exec(["curl", "-s", "--max-time", "1", url]).expect("curl runs");
        assert_eq!(output.status.code(), Some(TIMED_OUT), "{name} {url}");
    }
}
