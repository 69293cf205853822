//! The data plane under the control side's hand: two devices on one machine, talking over loopback.

use std::net::{SocketAddr, UdpSocket};

use cladnet_agent::device::{Device, DeviceError, InterfaceConfig};
use cladnet_agent::netlink::Netlink;
use cladnet_agent::offload::{OffloadPolicy, Offloads};
use cladnet_agent::tun::TunError;
use cladnet_tunnel::{Implementation, PeerConfig, PrivateKey, PublicKey, Roaming};

use crate::namespace::{eventually, ip, isolated};

fn interface(name: &str, private_key: &PrivateKey, network: u8, peers: Vec<PeerConfig>) -> InterfaceConfig {
    let address = format!("10.9.{network}.1/24").parse().unwrap();
    InterfaceConfig {
        name: name.into(),
        private_key: private_key.clone(),
        address,
        mtu: 1420,
        peers,
        subnets: vec![],
        access: None,
    }
}

fn peer(public_key: PublicKey, device: &Device) -> PeerConfig {
    PeerConfig {
        public_key,
        preshared_key: None,
        allowed_ips: vec!["10.9.77.0/24".parse().unwrap()],
        endpoint: Some(SocketAddr::from(([127, 0, 0, 1], device.port().unwrap()))),
        persistent_keepalive: None,
        roaming: Roaming::ByPackets,
        probes: true,
        trusted_endpoints: vec![],
    }
}

fn open() -> Device {
    Device::open(0, Implementation::default(), OffloadPolicy::WherePossible).unwrap()
}

async fn has_session(device: &Device, name: &str) -> bool {
    device.peer_stats(name).await.iter().any(|stats| stats.last_handshake.is_some())
}

#[test]
fn peers_greet_each_other_as_soon_as_they_are_configured() {
    isolated(|| async {
        let (a, b) = (open(), open());
        let mut rng = rand::rng();
        let (key_a, key_b) = (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng));
        let knows_b = interface("cbnet0", &key_a, 0, vec![peer(key_b.public_key(), &b)]);
        a.add_interface(knows_b.clone()).await.unwrap();
        b.add_interface(interface("cbnet1", &key_b, 1, vec![peer(key_a.public_key(), &a)])).await.unwrap();
        eventually("a session", async || has_session(&a, "cbnet0").await && has_session(&b, "cbnet1").await).await;
        let netlink = Netlink::connect().unwrap();
        let index = netlink.link("cbnet0").await.unwrap().unwrap().index;
        let addresses = netlink.addresses().await.unwrap();
        let own: Vec<_> = addresses.iter().filter(|address| address.interface == index).collect();
        assert_eq!(own.len(), 1, "no link-local address: {own:?}");
        let before = a.peer_stats("cbnet0").await;
        assert!(before[0].tx_bytes > 0 && before[0].rx_bytes > 0);

        // The same again is no change; another MTU is, and costs no session.
        a.update_interface(knows_b.clone()).await.unwrap();
        a.update_interface(InterfaceConfig { mtu: 1380, ..knows_b.clone() }).await.unwrap();
        assert!(has_session(&a, "cbnet0").await);
        assert_eq!(netlink.link("cbnet0").await.unwrap().unwrap().mtu, 1380);

        // A new identity under the old name.
        let key_c = PrivateKey::generate(&mut rng);
        a.update_interface(interface("cbnet0", &key_c, 0, knows_b.peers)).await.unwrap();
        assert!(!has_session(&a, "cbnet0").await);
        b.update_interface(interface("cbnet1", &key_b, 1, vec![peer(key_c.public_key(), &a)])).await.unwrap();
        eventually("a session of the new key", async || has_session(&a, "cbnet0").await).await;
        a.close().await;
        b.close().await;
    });
}

#[test]
fn a_peer_is_proved_at_the_endpoints_where_it_answers() {
    isolated(|| async {
        let (a, b) = (open(), open());
        let mut rng = rand::rng();
        let (key_a, key_b) = (PrivateKey::generate(&mut rng), PrivateKey::generate(&mut rng));
        a.add_interface(interface("cbnet0", &key_a, 0, vec![peer(key_b.public_key(), &b)])).await.unwrap();
        b.add_interface(interface("cbnet1", &key_b, 1, vec![peer(key_a.public_key(), &a)])).await.unwrap();
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = SocketAddr::from(([127, 0, 0, 1], b.port().unwrap()));
        let endpoints = vec![there, silent.local_addr().unwrap()];
        a.probe("cbnet0", key_b.public_key(), endpoints, 1400).await.unwrap();
        eventually("an answer", async || !a.proofs("cbnet0", &key_b.public_key()).await.is_empty()).await;
        let proofs = a.proofs("cbnet0", &key_b.public_key()).await;
        assert_eq!((proofs.len(), proofs[0].endpoint, proofs[0].longest), (1, there, 1400));
        assert_eq!(proofs[0].mapped.port(), a.port().unwrap());
        let nowhere = a.probe("cbnet7", key_b.public_key(), vec![there], 0).await;
        assert!(matches!(nowhere, Err(DeviceError::UnknownInterface(_))));
        a.close().await;
        b.close().await;
    });
}

#[test]
fn interfaces_come_and_go_and_leave_nothing_behind() {
    isolated(|| async {
        let device = open();
        let netlink = Netlink::connect().unwrap();
        let mut rng = rand::rng();
        for round in 0..3 {
            for (name, network) in [("cbnet0", 0), ("cbnet1", 1)] {
                let config = interface(name, &PrivateKey::generate(&mut rng), network, vec![]);
                device.add_interface(config.clone()).await.unwrap();
                let again = device.add_interface(config).await;
                assert!(matches!(again, Err(DeviceError::InterfaceExists(_))), "round {round}");
            }
            device.remove_interface("cbnet0").await.unwrap();
            assert!(matches!(device.remove_interface("cbnet0").await, Err(DeviceError::UnknownInterface(_))));
            assert!(netlink.link("cbnet0").await.unwrap().is_none());
            device.remove_interface("cbnet1").await.unwrap();
        }
        device.close().await;
    });
}

#[test]
fn an_interface_that_somebody_changed_is_set_up_again() {
    isolated(|| async {
        let device = open();
        let netlink = Netlink::connect().unwrap();
        let config = interface("cbnet0", &PrivateKey::generate(&mut rand::rng()), 0, vec![]);
        device.add_interface(config.clone()).await.unwrap();
        for meddling in [
            &["address", "flush", "dev", "cbnet0"][..],
            &["link", "set", "cbnet0", "down"],
            &["link", "set", "cbnet0", "mtu", "1000"],
            &["link", "del", "cbnet0"],
        ] {
            ip(meddling);
            let is_whole = async || netlink.is_configured("cbnet0", config.address, config.mtu).await.unwrap();
            eventually(&format!("whole again after {meddling:?}"), is_whole).await;
        }
        device.close().await;
    });
}

#[test]
fn a_refused_interface_is_not_left_half_made() {
    isolated(|| async {
        let device = open();
        let key = PrivateKey::generate(&mut rand::rng());
        device.add_interface(interface("cbnet0", &key, 0, vec![])).await.unwrap();
        let same_key = device.add_interface(interface("cbnet1", &key, 1, vec![])).await;
        assert!(matches!(same_key, Err(DeviceError::Config { .. })));
        let netlink = Netlink::connect().unwrap();
        eventually("no interface", async || netlink.link("cbnet1").await.unwrap().is_none()).await;

        ip(&["link", "add", "taken0", "type", "bridge"]);
        let other_key = PrivateKey::generate(&mut rand::rng());
        let taken = device.add_interface(interface("taken0", &other_key, 2, vec![])).await;
        assert!(matches!(taken, Err(DeviceError::Tun(TunError::Busy { name })) if name == "taken0"));
        device.close().await;
    });
}

#[test]
fn a_second_device_is_told_whose_the_port_is() {
    isolated(|| async {
        let device = Device::open(8055, Implementation::default(), OffloadPolicy::WherePossible).unwrap();
        let message =
            Device::open(8055, Implementation::default(), OffloadPolicy::WherePossible).err().unwrap().to_string();
        assert!(message.starts_with("UDP port 8055 is in use by "), "{message}");
        device.close().await;
    });
}

#[test]
fn stun_shares_the_tunnels_socket() {
    isolated(|| async {
        let device = open();
        let mut replies = device.stun_replies();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut request = [0; 20];
        request[1] = 1;
        request[4..8].copy_from_slice(&0x2112_a442_u32.to_be_bytes());
        device.send_stun(server.local_addr().unwrap(), &request).unwrap();
        let mut received = [0; 64];
        let (len, from) = server.recv_from(&mut received).unwrap();
        assert_eq!((&received[..len], from.port()), (request.as_slice(), device.port().unwrap()));

        request[0] = 1;
        server.send_to(&request, from).unwrap();
        let reply = replies.recv().await.unwrap();
        assert_eq!((reply.from, reply.message.as_slice()), (server.local_addr().unwrap(), request.as_slice()));
        device.close().await;
    });
}

#[test]
fn rubbish_is_counted_by_reason() {
    isolated(|| async {
        let device = open();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in [&b""[..], b"\x01\x00\x00\x00", &[0xff; 2000], &[0; 65_507]] {
            client.send_to(datagram, ("127.0.0.1", device.port().unwrap())).unwrap();
        }
        let malformed = || device.discards().iter().find(|(reason, _)| reason.label() == "malformed").unwrap().1;
        eventually("four discards", async || malformed() == 4).await;
        device.close().await;
    });
}

#[test]
fn the_library_that_seals_is_told() {
    isolated(|| async {
        for (engine, libraries) in
            [(Implementation::Own, &["ring", "intel-ipsec-mb"][..]), (Implementation::Boringtun, &["ring"])]
        {
            let device = Device::open(0, engine, OffloadPolicy::WherePossible).unwrap();
            assert!(libraries.contains(&device.aead_library()), "{}", device.aead_library());
            device.close().await;
        }
    });
}

#[test]
fn offloads_are_told_as_they_are_in_use() {
    isolated(|| async {
        for (policy, is_used) in [(OffloadPolicy::WherePossible, true), (OffloadPolicy::Never, false)] {
            let device = Device::open(0, Implementation::default(), policy).unwrap();
            assert!(!device.offloads().tun.tso4, "there is no interface yet");
            let config = interface("cbnet0", &PrivateKey::generate(&mut rand::rng()), 0, vec![]);
            device.add_interface(config).await.unwrap();
            // Every kernel that we run on has these.
            let Offloads { tun, udp } = device.offloads();
            assert_eq!([tun.checksum, tun.tso4, tun.tso6, udp.segment, udp.gro], [is_used; 5]);
            device.close().await;
        }
    });
}
