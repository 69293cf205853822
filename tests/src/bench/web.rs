//! Web: what the admin web's page of peers costs a browser that has never seen it, with few peers and with many. Plain peers, which
//! are as long in the table as any other; the machine has no delay to its service, so the times are of work and not of distance.

use anyhow::{Context, Result, ensure};
use cladnet_sandbox::Topology;
use serde_json::{Value, json};

use super::Effort;
use crate::{
    report::{Better, Report, percentile},
    script,
    world::{CONTROL, Servers, World},
};

const SIZES: [usize; 2] = [10, 1000];

/// What is measured of each visit: the script's name of it, the figure's, and how many of its unit the figure's unit has.
const FIGURES: [(&str, &str, &str, f64); 5] = [
    ("pageBytes", "files_transferred", "kB", 1e3),
    ("apiBytes", "answers_transferred", "kB", 1e3),
    ("firstRowsMs", "first_rows_seen", "ms", 1.0),
    ("heapBytes", "js_heap", "MB", 1e6),
    ("memoryBytes", "renderer_memory", "MB", 1e6),
];

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let visits = match effort {
        Effort::Quick => 3,
        Effort::Normal => 10,
        Effort::Long => 30,
    };
    let mut report = Report::new("web");
    let topology = format!("internet:\n  - {{ name: {CONTROL}, region: seoul, host_access: true }}\n");
    let world = World::raise(&Topology::from_yaml(&topology)?, Servers::One)?;
    for peers in SIZES {
        let network = format!("bench-{peers}");
        world.admin().run(["network", "create", &network, "--hosts", "2000"])?;
        let given = json!({ "network": network, "peers": peers, "visits": visits });
        let found = script::run("measures/page.js", &world, &given)?;
        for (key, name, unit, scale) in FIGURES {
            let samples = samples(&found, key)?;
            ensure!(samples.len() == visits, "{} visits instead of {visits}", samples.len());
            let median = percentile(&samples, 50.0) / scale;
            report.add(format!("{name}_{peers}_peers"), median, unit, Better::Lower, None);
        }
    }
    Ok(report)
}

fn samples(found: &Value, key: &str) -> Result<Vec<f64>> {
    let visits = found.as_array().context("the script found nothing")?;
    visits.iter().map(|visit| visit[key].as_f64().with_context(|| format!("no {key} in {visit}"))).collect()
}
