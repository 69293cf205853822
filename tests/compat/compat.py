"""What callers of the interfaces see, by grpcio and curl. Every expectation is written by hand, out of cb-network's
interface and our own documentation; nothing here shares code with the service."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlparse

import grpc
from google.protobuf import duration_pb2, empty_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from openapi_spec_validator import OpenAPIV2SpecValidator, OpenAPIV31SpecValidator

from cbnet.v1 import cloud_barista_network_pb2 as cb
from cbnet.v1 import cloud_barista_network_pb2_grpc as cb_rpc
from cladnet.v1 import admin_pb2 as admin
from cladnet.v1 import admin_pb2_grpc as admin_rpc
from cladnet.v1 import agent_pb2 as agent
from cladnet.v1 import agent_pb2_grpc as agent_rpc

NETWORK = "compat-1"
PREFIX = "compat-10"  # the other's id begins it
SPACE = "10.231.0.0/24"


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def equal(self, what, found, expected):
        if found == expected:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}\n  expected {expected!r}\n  found    {found!r}")

    def true(self, what, found, shown=None):
        self.equal(what if found else f"{what}: {shown!r}", bool(found), True)


class Rest:
    """curl, as an old caller would use it."""

    def __init__(self, service, key, ca):
        self.service, self.key, self.ca = service, key, ca

    def __call__(self, method, path, body=None, key=True, headers=()):
        command = ["curl", "--silent", "--show-error", "--max-time", "60", "--cacert", self.ca, "-X", method]
        if key:
            command += ["-H", f"Authorization: Bearer {self.key}"]
        for header in headers:
            command += ["-H", header]
        if body is not None:
            command += ["--data-binary", body if isinstance(body, str) else json.dumps(body)]
        command += ["-w", "\n%{http_code} %{content_type}", self.service + path]
        text, _, end = subprocess.run(command, check=True, capture_output=True, text=True).stdout.rpartition("\n")
        status, _, content_type = end.partition(" ")
        try:
            text = json.loads(text)
        except ValueError:
            pass
        return int(status), content_type, text


def eventually(what, ask, done):
    deadline = time.monotonic() + 20
    while True:
        found = ask()
        if done(found):
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain until {what}; last seen: {found!r}")
        time.sleep(0.05)


def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        field = dict((key, value) for key, value in error.trailing_metadata() or ()).get("field", "")
        return error.code(), error.details(), field
    return None, "", ""


def main():
    arguments = argparse.ArgumentParser()
    for name in ("--service", "--key-file", "--ca-file"):
        arguments.add_argument(name, required=True)
    arguments = arguments.parse_args()
    files = [Path(arguments.key_file), Path(arguments.ca_file)]
    eventually("key and certificate are written", lambda: [f.exists() and f.read_text() for f in files], all)
    key, ca = Path(arguments.key_file).read_text().strip(), Path(arguments.ca_file).read_bytes()

    rest = Rest(arguments.service, key, arguments.ca_file)
    address = urlparse(arguments.service)
    channel = grpc.secure_channel(
        f"{address.hostname}:{address.port}",
        grpc.ssl_channel_credentials(ca),
        [("grpc.ssl_target_name_override", "service.cladnet.internal")],
    )
    grpc.channel_ready_future(channel).result(timeout=20)
    checks = Checks()
    call = Call(checks, rest, channel, [("authorization", f"Bearer {key}")])
    for part in (
        call.health,
        call.networks_by_rest,
        call.networks_by_grpc,
        call.address_spaces,
        call.enrolment,
        call.peers,
        call.commands_and_tests,
        call.errors,
        call.our_own_interface,
        call.deletion,
        call.documents,
        call.reflection,
    ):
        part()
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


class Call:
    def __init__(self, checks, rest, channel, metadata):
        self.checks, self.rest, self.channel, self.metadata = checks, rest, channel, metadata
        self.system = cb_rpc.SystemManagementServiceStub(channel)
        self.networks = cb_rpc.CloudAdaptiveNetworkServiceStub(channel)
        self.host = None

    def by(self, method, request):
        return method(request, metadata=self.metadata, timeout=60)

    def health(self):
        self.checks.equal("GET /health", self.rest("GET", "/health", key=False), (200, "application/json", "healthy"))
        self.checks.equal("health", self.system.health(empty_pb2.Empty(), timeout=10).value, "healthy")

    def networks_by_rest(self):
        status, content_type, body = self.rest("GET", "/v1/cladnet")
        self.checks.equal("an empty list is NOT_FOUND", (status, body["code"]), (404, 5))
        self.checks.equal("problem document", content_type, "application/problem+json")
        specification = {"cladnetId": NETWORK, "name": "compat", "ipv4AddressSpace": SPACE, "description": "by hand"}
        expected = specification | {"ruleType": "basic"}
        self.checks.equal("POST /v1/cladnet", self.rest("POST", "/v1/cladnet", specification), (200, "application/json", expected))
        self.checks.equal("GET /v1/cladnet/{id}", self.rest("GET", f"/v1/cladnet/{NETWORK}")[2], expected)
        self.checks.equal("GET /v1/cladnet", self.rest("GET", "/v1/cladnet")[2], {"cladnetSpecifications": [expected]})
        # Names of the .proto file and unknown fields, as grpc-gateway took them.
        change = {"rule_type": "cost-prioritized", "somethingNew": 1}
        expected["ruleType"] = "cost-prioritized"
        self.checks.equal("PUT /v1/cladnet/{id}", self.rest("PUT", f"/v1/cladnet/{NETWORK}", change), (200, "application/json", expected))

    def networks_by_grpc(self):
        found = self.by(self.networks.getCLADNet, cb.CLADNetRequest(cladnet_id=NETWORK))
        self.checks.equal(
            "getCLADNet",
            found,
            cb.CLADNetSpecification(
                cladnet_id=NETWORK,
                name="compat",
                ipv4_address_space=SPACE,
                description="by hand",
                rule_type="cost-prioritized",
            ),
        )
        made = self.by(
            self.networks.createCLADNet,
            cb.CLADNetSpecification(cladnet_id=PREFIX, name="prefix", ipv4_address_space="10.232.0.0/24"),
        )
        self.checks.equal("createCLADNet", (made.cladnet_id, made.rule_type), (PREFIX, "basic"))
        made.description = "changed"
        self.checks.equal("updateCLADNet", self.by(self.networks.updateCLADNet, made), made)
        listed = self.by(self.networks.getCLADNetList, empty_pb2.Empty()).cladnet_specifications
        self.checks.equal("getCLADNetList", [network.cladnet_id for network in listed], [NETWORK, PREFIX])

    def address_spaces(self):
        taken = ["10.0.0.0/9", "10.128.0.0/9", "172.16.0.0/12", "192.168.0.0/17"]
        status, _, body = self.rest("POST", "/v1/cladnet/availableIPv4AddressSpaces", {"ipv4Cidrs": taken})
        self.checks.equal("status of the recommendation", status, 200)
        self.checks.equal(
            "names of the recommendation",
            sorted(body),
            ["addressSpace10s", "addressSpace172s", "addressSpace192s", "recommendedIpv4PrivateAddressSpace"],
        )
        self.checks.equal("nothing is left of 10/8 and 172.16/12", (body["addressSpace10s"], body["addressSpace172s"]), ([], []))
        best = body["recommendedIpv4PrivateAddressSpace"]
        self.checks.true("the best lies in the free half", best.startswith("192.168.") and int(best.split(".")[2]) >= 128, best)
        found = self.by(self.networks.recommendAvailableIPv4PrivateAddressSpaces, cb.IPv4CIDRs(ipv4_cidrs=taken))
        self.checks.equal("the same by gRPC", found.recommended_ipv4_private_address_space, best)
        code, details, field = refusal(
            lambda: self.by(self.networks.recommendAvailableIPv4PrivateAddressSpaces, cb.IPv4CIDRs(ipv4_cidrs=["abc"]))
        )
        self.checks.equal("a wrong CIDR", (code, field), (grpc.StatusCode.INVALID_ARGUMENT, "ipv4_cidrs[0]"))

    def enrolment(self):
        tokens = admin_rpc.TokenServiceStub(self.channel)
        made = self.by(tokens.CreateToken, admin.CreateTokenRequest(network_id=NETWORK, labels={"tier": "web"}))
        self.checks.true("a token names itself", made.secret.startswith("cladnet1_"), made.secret[:12])
        agents = agent_rpc.AgentServiceStub(self.channel)
        request = agent.EnrolRequest(
            token=made.secret,
            certificate_request=certificate_request(),
            public_key=bytes(range(1, 33)),
            facts=agent.HostFacts(
                host_name="vm-1",
                machine_id="compat-machine",
                agent_version="0.0.1",
                endpoints=[
                    agent.AgentEndpoint(address="10.9.1.4:8055", scope="private", source="interface"),
                    agent.AgentEndpoint(address="203.0.113.7:8055", scope="public", source="stun"),
                ],
                routes=["10.9.0.0/16"],
                private_ipv4_cidr="10.9.1.4/24",
            ),
        )
        self.host = agents.Enrol(request, timeout=20).host_id
        again = agents.Enrol(request, timeout=20)
        self.checks.equal("a repeated enrolment is the same host", again.host_id, self.host)
        code, details, _ = refusal(
            lambda: agents.Enrol(
                agent.EnrolRequest(
                    token=made.secret,
                    certificate_request=certificate_request(),
                    public_key=bytes(range(2, 34)),
                    facts=agent.HostFacts(host_name="vm-2"),
                ),
                timeout=20,
            )
        )
        self.checks.true("a used token is refused", code is not None and "used" in details, (code, details))
        code, _, _ = refusal(lambda: agents.Join(agent.JoinRequest(), timeout=20))
        self.checks.equal("an agent's call without a certificate", code, grpc.StatusCode.UNAUTHENTICATED)

    def peers(self):
        path = f"/v1/cladnet/{NETWORK}/peer"
        self.checks.equal("peers of the network that begins like it", self.rest("GET", f"/v1/cladnet/{PREFIX}/peer")[0], 404)
        eventually("the peer has an address", lambda: self.rest("GET", f"{path}/{self.host}")[2], lambda peer: peer.get("ip"))
        expected = {
            "cladnetId": NETWORK,
            "hostId": self.host,
            "hostName": "vm-1",
            "hostPrivateIpv4Cidr": "10.9.1.4/24",
            "hostPrivateIp": "10.9.1.4",
            "hostPublicIp": "203.0.113.7",
            "ipv4Cidr": "10.231.0.1/24",
            "ip": "10.231.0.1",
            "state": "configuring",
            "details": {
                "providerName": "",
                "regionId": "",
                "availabilityZoneId": "",
                "virtualNetworkId": "",
                "subnetId": "",
            },
        }
        self.checks.equal("GET peer", self.rest("GET", f"{path}/{self.host}"), (200, "application/json", expected))
        self.checks.equal("GET peers", self.rest("GET", path)[2], {"peers": [expected]})
        details = {
            "cloudInformation": {
                "providerName": "aws",
                "regionId": "ap-northeast-2",
                "availabilityZoneId": "apne2-az1",
                "virtualNetworkId": "vpc-1",
                "subnetId": "subnet-1",
            }
        }
        expected["details"] = details["cloudInformation"]
        self.checks.equal("PUT details", self.rest("PUT", f"{path}/{self.host}/details", details), (200, "application/json", expected))
        found = self.by(self.networks.getPeer, cb.PeerRequest(cladnet_id=NETWORK, host_id=self.host))
        self.checks.equal("getPeer", (found.ip, found.details.virtual_network_id), ("10.231.0.1", "vpc-1"))
        found = self.by(
            self.networks.updateDetailsOfPeer,
            cb.UpdateDetailsRequest(
                cladnet_id=NETWORK, host_id=self.host, cloud_information=cb.CloudInformation(subnet_id="subnet-2")
            ),
        )
        self.checks.equal("updateDetailsOfPeer", (found.details.subnet_id, found.details.provider_name), ("subnet-2", "aws"))
        self.checks.equal(
            "getPeerList", len(self.by(self.networks.getPeerList, cb.PeerRequest(cladnet_id=NETWORK)).peers), 1
        )
        self.networking_rule(path)

    def networking_rule(self, path):
        peers = admin_rpc.PeerServiceStub(self.channel)
        plain = self.by(
            peers.CreatePlainPeer,
            admin.CreatePlainPeerRequest(
                network_id=NETWORK,
                name="laptop",
                public_key="xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
                endpoint="198.51.100.9:51820",
            ),
        )
        self.checks.equal("a plain peer's address", plain.peer.ipv4_address, "10.231.0.2")
        self.checks.equal(
            "what it is told of the other", [(r.host_name, list(r.allowed_ips), r.endpoint) for r in plain.remotes],
            [("vm-1", ["10.231.0.1/32"], "203.0.113.7:8055")],
        )
        expected = {
            "cladnetId": NETWORK,
            "hostId": [plain.peer.host_id],
            "hostName": ["laptop"],
            "peerIp": ["10.231.0.2"],
            "selectedIp": ["198.51.100.9"],
            "peerScope": ["inter"],
            "state": ["tunneling"],
        }
        self.checks.equal("GET networkingRule", self.rest("GET", f"{path}/{self.host}/networkingRule"), (200, "application/json", expected))
        found = self.by(self.networks.getPeerNetworkingRule, cb.PeerRequest(cladnet_id=NETWORK, host_id=self.host))
        self.checks.equal("getPeerNetworkingRule", list(found.selected_ip), ["198.51.100.9"])

    def commands_and_tests(self):
        control = f"/v1/control/cladnet/{NETWORK}/command"
        status, _, body = self.rest("GET", f"{control}/DOWN")
        self.checks.equal("GET command DOWN", (status, body["isSucceeded"]), (200, True))
        self.checks.true("an offline peer is told as such", "offline" in body["message"] and "vm-1" in body["message"], body)
        answer = self.by(
            self.system.controlCloudAdaptiveNetwork, cb.ControlRequest(cladnet_id=NETWORK, command_type=cb.UP)
        )
        self.checks.true("controlCloudAdaptiveNetwork", answer.is_succeeded, answer)
        answer = self.by(
            self.system.controlCloudAdaptiveNetwork,
            cb.ControlRequest(cladnet_id=NETWORK, command_type=cb.DISABLE_ENCRYPTION),
        )
        self.checks.true("DISABLE_ENCRYPTION is explained", answer.is_succeeded and "public" in answer.message, answer)
        policy = self.rest("GET", f"/api/v1/networks/{NETWORK}")[2]["encryptionPolicy"]
        self.checks.equal("DISABLE_ENCRYPTION is stored", policy, "public")
        self.rest("GET", f"{control}/3")  # ENABLE_ENCRYPTION by its number
        policy = self.rest("GET", f"/api/v1/networks/{NETWORK}")[2]["encryptionPolicy"]
        self.checks.equal("ENABLE_ENCRYPTION is stored", policy, "always")
        status, _, body = self.rest("GET", f"{control}/SUSPEND")
        self.checks.equal("an unknown command is no UP", (status, body["code"], body["field"]), (400, 3, "command_type"))

        began = time.monotonic()
        status, _, body = self.rest("POST", f"/v1/test/cladnet/{NETWORK}/type/CONNECTIVITY", {"testSpec": '{"trialCount": 1}'})
        self.checks.equal("POST test", (status, sorted(body)), (200, ["isSucceeded", "message"]))
        message = json.loads(body["message"])
        self.checks.true("the message has cb-network's shape", "interHostNetworkStatus" in message, message)
        self.checks.true("a test without agents ends", time.monotonic() - began < 30)
        answer = self.by(self.system.testCloudAdaptiveNetwork, cb.TestRequest(cladnet_id=NETWORK, test_spec="string"))
        self.checks.equal("a test that nobody took part in did not succeed", answer.is_succeeded, False)

    def errors(self):
        for what, method, path, body, status, field in (
            ("a public space", "POST", "/v1/cladnet", {"ipv4AddressSpace": "8.8.8.0/24"}, 400, "ipv4AddressSpace"),
            ("an overlap", "POST", "/v1/cladnet", {"ipv4AddressSpace": "10.231.0.128/25"}, 400, "ipv4AddressSpace"),
            ("an id with a slash", "POST", "/v1/cladnet", {"cladnetId": "a/b", "ipv4AddressSpace": "10.99.0.0/24"}, 400, "cladnetId"),
            ("a rule type", "PUT", f"/v1/cladnet/{NETWORK}", {"ruleType": "x"}, 400, "ruleType"),
            ("a duplicate", "POST", "/v1/cladnet", {"cladnetId": NETWORK, "ipv4AddressSpace": "10.99.0.0/24"}, 409, "cladnetId"),
            ("no JSON", "POST", "/v1/cladnet", "{", 400, None),
            ("no such network", "GET", "/v1/cladnet/nowhere", None, 404, None),
            ("no such path", "GET", "/v1/nowhere", None, 404, None),
            ("no such method", "PATCH", "/v1/cladnet", None, 405, None),
        ):
            found, content_type, document = self.rest(method, path, body)
            self.checks.equal(f"{what}: status", found, status)
            self.checks.equal(f"{what}: kind", content_type, "application/problem+json")
            self.checks.equal(f"{what}: field", document.get("field"), field)
            self.checks.true(f"{what}: request id", document.get("request_id"), document)
        code, _, field = refusal(
            lambda: self.by(self.networks.createCLADNet, cb.CLADNetSpecification(ipv4_address_space="10.1.2.0/31"))
        )
        self.checks.equal("gRPC names the field too", (code, field), (grpc.StatusCode.INVALID_ARGUMENT, "ipv4_address_space"))
        code, _, _ = refusal(lambda: self.networks.getCLADNetList(empty_pb2.Empty(), timeout=10))
        self.checks.equal("no key", code, grpc.StatusCode.UNAUTHENTICATED)
        self.checks.equal("no key by REST", self.rest("GET", "/v1/cladnet", key=False)[0], 401)

    def our_own_interface(self):
        networks = admin_rpc.NetworkServiceStub(self.channel)
        made = self.by(networks.CreateNetwork, admin.CreateNetworkRequest(network_id="compat-own"))
        self.checks.true("a recommended space is private", made.ipv4_address_space.startswith(("10.", "172.", "192.168.")), made)
        shown = self.rest("GET", "/api/v1/networks/compat-own")[2]
        self.checks.equal(
            "both show one network",
            (shown["networkId"], shown["ipv4AddressSpace"], shown["ruleType"], shown["generation"]),
            ("compat-own", made.ipv4_address_space, "cost-prioritized", "1"),
        )
        ttl = duration_pb2.Duration(seconds=90)
        tokens = admin_rpc.TokenServiceStub(self.channel)
        token = self.by(tokens.CreateToken, admin.CreateTokenRequest(network_id="compat-own", uses=2, ttl=ttl)).token
        self.checks.equal("a token", (token.uses_left, token.state), (2, "usable"))
        self.by(tokens.RevokeToken, admin.RevokeTokenRequest(token_id=token.token_id))
        listed = self.rest("GET", "/api/v1/tokens?networkId=compat-own")[2]["tokens"]
        self.checks.equal("a revoked token", [found["state"] for found in listed], ["revoked"])
        events = self.rest("GET", "/api/v1/events?network_id=compat-own&pageSize=1")[2]
        self.checks.equal("newest event first", [event["kind"] for event in events["events"]], ["token.revoked"])
        watch = admin_rpc.EventServiceStub(self.channel).WatchEvents(
            admin.WatchEventsRequest(network_id="compat-own"), metadata=self.metadata, timeout=30
        )
        # The stream's headers say that it stands: what happens from here on is seen.
        watch.initial_metadata()
        self.by(networks.DeleteNetwork, admin.DeleteNetworkRequest(network_id="compat-own"))
        self.checks.equal("an event as it happens", next(watch).kind, "network.deleted")
        watch.cancel()

    def deletion(self):
        status, _, body = self.rest("DELETE", f"/v1/cladnet/{NETWORK}")
        self.checks.equal("DELETE /v1/cladnet/{id}", (status, body["isSucceeded"]), (200, True))
        self.checks.equal("what was deleted", body["cladnetSpecification"]["cladnetId"], NETWORK)
        deleted = self.by(self.networks.deleteCLADNet, cb.CLADNetRequest(cladnet_id=PREFIX))
        self.checks.true("deleteCLADNet", deleted.is_succeeded, deleted)
        code, _, _ = refusal(lambda: self.by(self.networks.getCLADNetList, empty_pb2.Empty()))
        self.checks.equal("the list is empty again", code, grpc.StatusCode.NOT_FOUND)

    def documents(self):
        document = self.rest("GET", "/openapi.json", key=False)[2]
        OpenAPIV31SpecValidator(document).validate()
        self.checks.equal("OpenAPI version", document["openapi"], "3.1.0")
        self.checks.true("our routes are in it", "/api/v1/networks/{network_id}" in document["paths"])
        document = self.rest("GET", "/cloud_barista_network.swagger.json", key=False)[2]
        OpenAPIV2SpecValidator(document).validate()
        operations = sorted(operation["operationId"] for path in document["paths"].values() for operation in path.values())
        self.checks.equal(
            "cb-network's thirteen operations",
            operations,
            [
                "CloudAdaptiveNetworkService_createCLADNet",
                "CloudAdaptiveNetworkService_deleteCLADNet",
                "CloudAdaptiveNetworkService_getCLADNet",
                "CloudAdaptiveNetworkService_getCLADNetList",
                "CloudAdaptiveNetworkService_getPeer",
                "CloudAdaptiveNetworkService_getPeerList",
                "CloudAdaptiveNetworkService_getPeerNetworkingRule",
                "CloudAdaptiveNetworkService_recommendAvailableIPv4PrivateAddressSpaces",
                "CloudAdaptiveNetworkService_updateCLADNet",
                "CloudAdaptiveNetworkService_updateDetailsOfPeer",
                "SystemManagementService_controlCloudAdaptiveNetwork",
                "SystemManagementService_health",
                "SystemManagementService_testCloudAdaptiveNetwork",
            ],
        )
        for page in ("/docs/", "/swagger/"):
            status, content_type, html = self.rest("GET", page, key=False)
            self.checks.equal(f"{page} is a page", (status, content_type), (200, "text/html"))
            self.checks.true(f"{page} loads nothing from elsewhere", "http://" not in html and "https://" not in html)

    def reflection(self):
        stub = reflection_pb2_grpc.ServerReflectionStub(self.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(iter(stub.ServerReflectionInfo(iter([request]), timeout=10)))
        names = {service.name for service in answer.list_services_response.service}
        wanted = {"cbnet.v1.SystemManagementService", "cbnet.v1.CloudAdaptiveNetworkService", "cladnet.v1.NetworkService"}
        self.checks.true("reflection lists the services", wanted <= names, names)


def certificate_request():
    """PKCS#10 with a fresh P-256 key, by openssl."""
    with tempfile.TemporaryDirectory() as directory:
        command = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=host -outform DER".split()
        command += ["-keyout", f"{directory}/key.pem", "-out", f"{directory}/request.der"]
        subprocess.run(command, check=True, capture_output=True)
        return Path(f"{directory}/request.der").read_bytes()


if __name__ == "__main__":
    main()
