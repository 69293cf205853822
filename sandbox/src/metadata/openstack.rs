//! The metadata service of OpenStack Nova: its own JSON documents, and the tree in the shape of EC2's without tokens.
//!
//! It tells a zone and no region. <https://docs.openstack.org/nova/latest/user/metadata.html>

use serde_json::json;

use super::facts::{Facts, identifier, name_uuid};
use super::tree::Tree;
use super::{Answer, Question};

pub(super) fn answer(question: &Question<'_>, facts: &Facts) -> Answer {
    match question.path.trim_end_matches('/') {
        "" => Answer::text("latest\n"),
        "/openstack" => Answer::text("2018-08-27\nlatest"),
        "/openstack/latest" | "/openstack/2018-08-27" => Answer::text("meta_data.json\nnetwork_data.json"),
        "/openstack/latest/meta_data.json" | "/openstack/2018-08-27/meta_data.json" => meta_data(facts),
        "/openstack/latest/network_data.json" | "/openstack/2018-08-27/network_data.json" => network_data(facts),
        path => match path.strip_prefix("/latest/meta-data") {
            Some(path) => ec2_tree(facts).answer(path),
            None => Answer::not_found(),
        },
    }
}

fn meta_data(facts: &Facts) -> Answer {
    Answer::json(&json!({
        "availability_zone": facts.zone,
        "hostname": format!("{}.novalocal", facts.name),
        "launch_index": 0,
        "name": facts.name,
        "project_id": facts.account,
        "uuid": facts.uuid(),
    }))
}

fn network_data(facts: &Facts) -> Answer {
    let interface = name_uuid(&facts.name);
    let link = format!("tap{}", &interface[..8]);
    Answer::json(&json!({
        "links": [{
            "ethernet_mac_address": facts.mac_text(),
            "id": link,
            "mtu": 1500,
            "type": "ovs",
            "vif_id": interface,
        }],
        "networks": [{
            "id": "network0",
            "ip_address": facts.private_address.to_string(),
            "link": link,
            "netmask": facts.subnet_cidr.netmask().to_string(),
            "network_id": name_uuid(&facts.vpc),
            "routes": [{
                "gateway": facts.gateway().map(|address| address.to_string()),
                "netmask": "0.0.0.0",
                "network": "0.0.0.0",
            }],
            "services": [],
            "type": "ipv4",
        }],
        "services": [],
    }))
}

fn ec2_tree(facts: &Facts) -> Tree {
    let mut tree = Tree::default();
    tree.set("hostname", format!("{}.novalocal", facts.name));
    tree.set("instance-id", identifier("i", &facts.machine_id));
    tree.set("local-ipv4", facts.private_address.to_string());
    tree.set("placement/availability-zone", facts.zone.clone());
    tree.set("public-ipv4", facts.public_address.map(|address| address.to_string()));
    tree
}
