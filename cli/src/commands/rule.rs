//! `cladnet rule`.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cladnet_model::rule::{RuleDraft, RulesDraft};
use cladnet_proto::cladnet::v1::{
    AddRuleRequest, GetRulesRequest, RemoveRuleRequest, ReplaceRulesRequest, Rule, Rules, TestAccessRequest,
};
use clap::{Args, Subcommand};

use crate::{
    api::{Api, request},
    failure::Failure,
    output::{Output, Table, one_line},
};

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// List the rules of a network in their order
    ///
    ///   cladnet rule list prod
    ///   cladnet rule list prod --document > rules.yaml     # to change and apply
    #[command(verbatim_doc_comment)]
    List {
        /// Id of the network.
        network: String,
        /// Print the document that `cladnet rule apply` takes.
        #[arg(long)]
        document: bool,
    },
    /// Add one rule, at the end or before another
    ///
    ///   cladnet rule add prod access --action allow --from role=web --to role=db \
    ///     --protocol tcp --port 5432
    ///   cladnet rule add prod advertise --prefix 10.20.0.0/16 --via cladnet/name=gateway
    ///   cladnet rule add prod path --from env=prod --to env=prod --forbid public
    #[command(verbatim_doc_comment)]
    Add(Box<AddArgs>),
    /// Remove one rule
    ///
    ///   cladnet rule remove prod no-ssh
    #[command(verbatim_doc_comment)]
    Remove {
        /// Id of the network.
        network: String,
        /// Id of the rule, as `cladnet rule list` shows it.
        rule: String,
    },
    /// Ask whether one may reach the other, and by which rule; exits with 1 if not
    ///
    /// Nothing is sent.
    ///
    ///   cladnet rule test prod web-1 db-1:5432
    ///   cladnet rule test prod web-1 db-1:53 --protocol udp
    ///   cladnet rule test prod 10.9.0.7 db-1 --protocol icmp
    #[command(verbatim_doc_comment)]
    Test {
        /// Id of the network.
        network: String,
        /// Id or name of the host that sends, or an address.
        from: String,
        /// Who receives, with the port: db-1:5432.
        to: String,
        /// tcp, udp or icmp.
        #[arg(long, default_value = "tcp")]
        protocol: String,
    },
    /// Put a file in the place of all rules of a network
    ///
    /// YAML, or TOML where the name ends so. Refused as a whole if anything in it is wrong or
    /// one of its tests fails; the rules in force stay then. The file:
    ///
    ///   default_access: deny
    ///   rules:
    ///     - { id: web-db, kind: access, action: allow, from: role=web, to: role=db,
    ///         protocol: tcp, ports: ["5432"] }
    ///     - { id: ping, kind: access, action: allow, protocol: icmp }
    ///   tests:
    ///     - "expect: web-1 may reach db-1:5432"
    ///     - "expect: web-1 may not reach db-1:22"
    ///
    ///   cladnet rule apply prod -f rules.yaml --dry-run
    ///   cladnet rule apply prod -f rules.yaml
    #[command(verbatim_doc_comment)]
    Apply {
        /// Id of the network.
        network: String,
        /// The document.
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// Only check it, and show what would be in force.
        #[arg(long)]
        dry_run: bool,
        /// Refuse if the rules have another generation by now.
        #[arg(long, value_name = "N")]
        expected_generation: Option<u64>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Id of the network.
    network: String,
    /// access, advertise or path.
    kind: String,
    /// Id of the rule; a new one if it is left out.
    #[arg(long)]
    id: Option<String>,
    /// Why it is there.
    #[arg(long, default_value = "")]
    comment: String,
    /// Id of the rule that it goes before.
    #[arg(long, value_name = "RULE", default_value = "")]
    before: String,
    /// Who sends: a label selector or CIDRs; everybody if it is left out.
    #[arg(long, value_name = "SIDE")]
    from: Option<String>,
    /// Who receives, in the same way.
    #[arg(long, value_name = "SIDE")]
    to: Option<String>,
    /// allow or deny.
    #[arg(long)]
    action: Option<String>,
    /// tcp, udp, icmp or any.
    #[arg(long)]
    protocol: Option<String>,
    /// 443 or 8000-8100. May be repeated.
    #[arg(long, value_name = "PORT")]
    port: Vec<String>,
    /// Subnet behind a peer.
    #[arg(long, value_name = "CIDR")]
    prefix: Option<String>,
    /// Selector of the peer that stands before the subnet.
    #[arg(long, value_name = "SELECTOR")]
    via: Option<String>,
    /// Leave the addresses of packets into the subnet as they are; it needs a route back.
    #[arg(long)]
    no_snat: bool,
    /// Where the others route to in place of the subnet: a CIDR of the same length.
    #[arg(long, value_name = "CIDR")]
    mapped: Option<String>,
    /// Scope that is used if it answers: private, public or public-v6.
    #[arg(long, value_name = "SCOPE")]
    prefer: Option<String>,
    /// Scope that is never used. May be repeated.
    #[arg(long, value_name = "SCOPE")]
    forbid: Vec<String>,
    /// always or public.
    #[arg(long, value_name = "POLICY")]
    encryption: Option<String>,
    /// basic, cost-prioritized, latency-prioritized or balanced.
    #[arg(long)]
    rule_type: Option<String>,
    /// Longest round trip in milliseconds.
    #[arg(long, value_name = "MS")]
    max_rtt_ms: Option<u32>,
    /// Highest price in USD for 10^9 bytes.
    #[arg(long, value_name = "USD", allow_negative_numbers = true)]
    max_usd_per_gb: Option<String>,
}

pub(super) async fn run(api: &Api, out: Output, command: RuleCommand) -> Result<ExitCode, Failure> {
    match command {
        RuleCommand::List { network, document } => {
            let rules = api.rules().get_rules(request(GetRulesRequest { network_id: network })).await?.into_inner();
            if document {
                return out.write(&written(rules)?).map(|()| ExitCode::SUCCESS);
            }
            show(out, &rules)?;
        }
        RuleCommand::Add(args) => {
            let added = api.rules().add_rule(request(args.into_request())).await?.into_inner();
            show(out, &added)?;
        }
        RuleCommand::Remove { network, rule } => {
            let ask = RemoveRuleRequest { network_id: network, rule_id: rule, expected_generation: None };
            show(out, &api.rules().remove_rule(request(ask)).await?.into_inner())?;
        }
        RuleCommand::Test { network, from, to, protocol } => return test(api, out, network, from, &to, protocol).await,
        RuleCommand::Apply { network, file, dry_run, expected_generation } => {
            let draft = read(&file)?;
            let ask = ReplaceRulesRequest {
                network_id: network,
                default_access: draft.default_access,
                rules: draft.rules.into_iter().map(Into::into).collect(),
                tests: draft.tests,
                expected_generation,
                validate_only: dry_run,
            };
            show(out, &api.rules().replace_rules(request(ask)).await?.into_inner())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn test(
    api: &Api,
    out: Output,
    network_id: String,
    from: String,
    to: &str,
    protocol: String,
) -> Result<ExitCode, Failure> {
    let (to, port) = receiver(to, &protocol)?;
    let ask = TestAccessRequest { network_id, from, to: to.to_owned(), protocol, port };
    let answer = api.rules().test_access(request(ask)).await?.into_inner();
    out.show_text(&answer, |answer| {
        let verdict = if answer.allowed { "allowed" } else { "denied" };
        format!("{verdict}: {}", one_line(&answer.reason))
    })?;
    Ok(if answer.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Who receives, and at which port, where the protocol has one.
fn receiver<'a>(text: &'a str, protocol: &str) -> Result<(&'a str, u32), Failure> {
    if protocol == "icmp" {
        return Ok((text, 0));
    }
    let (to, port) = text.rsplit_once(':').ok_or_else(|| Failure::usage(format!("{text:?} has no port: db-1:5432")))?;
    let port = port.parse().map_err(|_| Failure::usage(format!("{port:?} is no port: db-1:5432")))?;
    Ok((to.trim_start_matches('[').trim_end_matches(']'), port))
}

impl AddArgs {
    fn into_request(self) -> AddRuleRequest {
        let rule = Rule {
            id: self.id,
            kind: self.kind,
            comment: self.comment,
            enabled: None,
            from: self.from,
            to: self.to,
            action: self.action,
            protocol: self.protocol,
            ports: self.port,
            prefix: self.prefix,
            via: self.via,
            snat: self.no_snat.then_some(false),
            mapped: self.mapped,
            prefer: self.prefer,
            forbid: self.forbid,
            encryption: self.encryption,
            rule_type: self.rule_type,
            max_rtt_ms: self.max_rtt_ms,
            max_usd_per_gb: self.max_usd_per_gb,
        };
        AddRuleRequest { network_id: self.network, rule: Some(rule), before: self.before, expected_generation: None }
    }
}

/// A document from a file: TOML by its name, else YAML.
fn read(path: &Path) -> Result<RulesDraft, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::unreadable("-f", path, &error))?;
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    match path.extension().is_some_and(|extension| extension == "toml") {
        true => toml::from_str(&text).map_err(|error| wrong(&error)),
        false => serde_norway::from_str(&text).map_err(|error| wrong(&error)),
    }
}

fn written(rules: Rules) -> Result<String, Failure> {
    let document = RulesDraft {
        default_access: Some(rules.default_access),
        rules: rules.rules.into_iter().map(RuleDraft::from).collect(),
        tests: rules.tests,
    };
    serde_norway::to_string(&document).map_err(|error| Failure::failed(format!("cannot write the rules: {error}")))
}

fn show(out: Output, rules: &Rules) -> Result<(), Failure> {
    out.show_text(rules, |rules| {
        let about = Table::sheet([
            ("network", rules.network_id.clone()),
            ("generation", rules.generation.to_string()),
            ("default access", rules.default_access.clone()),
        ]);
        let table = Table::of(["RULE", "KIND", "FROM", "TO", "WHAT", "COMMENT"], "no rules", &rules.rules, |rule| {
            let side = |side: &Option<String>| side.clone().unwrap_or_default();
            let (from, to) = match rule.kind.as_str() {
                "advertise" => (side(&rule.via), side(&rule.prefix)),
                _ => (side(&rule.from), side(&rule.to)),
            };
            [rule.id.clone().unwrap_or_default(), rule.kind.clone(), from, to, what(rule), rule.comment.clone()]
        });
        let mut text = format!("{}\n\n{}", out.render(about), out.render(table));
        let notes = [("test", &rules.tests), ("warning", &rules.warnings)];
        for (name, lines) in notes.iter().filter(|(_, lines)| !lines.is_empty()) {
            text.push('\n');
            for line in lines.iter() {
                let _ = write!(text, "\n{name}: {}", one_line(line));
            }
        }
        for pending in &rules.pending {
            let (network, host, prefix) = (&rules.network_id, &pending.host_id, &pending.prefix);
            let line = format!(
                "{prefix} behind {}; approve it: cladnet rule add {network} advertise --prefix {prefix} --via cladnet/host={host}",
                pending.host_name
            );
            let _ = write!(text, "\npending: {}", one_line(&line));
        }
        text
    })
}

/// What a rule does, in the words that it is written in.
fn what(rule: &Rule) -> String {
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let parts = [
        (rule.enabled == Some(false)).then(|| "(disabled)".to_owned()),
        rule.action.clone(),
        rule.protocol.clone(),
        (!rule.ports.is_empty()).then(|| rule.ports.join(",")),
        (rule.snat == Some(false)).then(|| "no-snat".to_owned()),
        named("as", &rule.mapped),
        named("prefer", &rule.prefer),
        (!rule.forbid.is_empty()).then(|| format!("forbid {}", rule.forbid.join(","))),
        named("encryption", &rule.encryption),
        rule.rule_type.clone(),
        rule.max_rtt_ms.map(|rtt| format!("rtt <= {rtt} ms")),
        rule.max_usd_per_gb.as_ref().map(|price| format!("<= {price} USD/GB")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn a_document_is_yaml_or_toml() {
        let (_yaml, yaml) = file(
            "rules.yaml",
            "default_access: deny\nrules:\n  - { kind: access, action: allow, from: role=web, ports: ['443'], protocol: tcp }\n",
        );
        let (_toml, toml) = file(
            "rules.toml",
            "default_access = 'deny'\n[[rules]]\nkind = 'access'\naction = 'allow'\nfrom = 'role=web'\nports = ['443']\nprotocol = 'tcp'\n",
        );
        assert_eq!(read(&yaml).unwrap(), read(&toml).unwrap());
        let (_wrong, wrong) = file("rules.yaml", "rules:\n  - { kind: access, form: role=web }\n");
        let error = read(&wrong).unwrap_err().to_string();
        assert!(error.contains("form") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn who_receives_is_told_from_the_port() {
        assert_eq!(receiver("db-1:5432", "tcp").unwrap(), ("db-1", 5432));
        assert_eq!(receiver("[fd00::1]:53", "udp").unwrap(), ("fd00::1", 53));
        assert_eq!(receiver("db-1", "icmp").unwrap(), ("db-1", 0));
        assert!(receiver("db-1", "tcp").is_err() && receiver("db-1:ssh", "tcp").is_err());
    }
}
