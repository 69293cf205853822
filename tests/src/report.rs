//! What a benchmark writes: one shape for all, so that results can be kept and compared.

use std::{fs, path::Path, thread};

use anyhow::{Context, Result};
use serde::Serialize;

/// The whole result of one benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    bench: &'static str,
    commit: String,
    machine: Machine,
    results: Vec<Figure>,
}

/// Where it ran, and how busy that machine was before it began.
#[derive(Debug, Serialize)]
struct Machine {
    cpus: usize,
    model: String,
    kernel: String,
    memory_mib: u64,
    /// One-minute load average when the benchmark began.
    load: f64,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    Higher,
    Lower,
}

/// One figure; names are stable over commits.
#[derive(Debug, Serialize)]
pub struct Figure {
    name: String,
    /// Absent when it could not be measured; `reason` says why.
    value: Option<f64>,
    unit: &'static str,
    better: Better,
    target: Option<f64>,
    pass: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    comparison: Option<Comparison>,
}

/// What a figure is of, and how it stands to others of the same run.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Whose it is.
    pub peer: &'static str,
    pub link: &'static str,
    pub scenario: String,
    /// Where the median lies with 95 % confidence.
    pub interval: [f64; 2],
    pub samples: usize,
    /// Ours through theirs.
    pub ratio_to_ours: Option<f64>,
    /// What is left of the same without encryption.
    pub percent_of_null: Option<f64>,
}

impl Report {
    /// An empty report of this machine, now.
    pub fn new(bench: &'static str) -> Self {
        let commit = std::env::var("CLADNET_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
        Self { bench, commit, machine: Machine::here(), results: Vec::new() }
    }

    /// Adds a figure, judged against its target if it has one.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        better: Better,
        target: Option<f64>,
    ) {
        let pass = target.map(|target| match better {
            Better::Higher => value >= target,
            Better::Lower => value <= target,
        });
        let (name, value) = (name.into(), Some(value));
        self.results.push(Figure { name, value, unit, better, target, pass, reason: None, comparison: None });
    }

    /// Adds the median of several samples, as one of a comparison.
    pub fn compare(
        &mut self,
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        better: Better,
        comparison: Comparison,
    ) {
        self.add(name, value, unit, better, None);
        if let Some(figure) = self.results.last_mut() {
            figure.comparison = Some(comparison);
        }
    }

    /// Adds a figure that could not be measured.
    pub fn miss(&mut self, name: impl Into<String>, unit: &'static str, better: Better, reason: impl Into<String>) {
        let reason = Some(reason.into());
        let name = name.into();
        self.results.push(Figure {
            name,
            value: None,
            unit,
            better,
            target: None,
            pass: None,
            reason,
            comparison: None,
        });
    }

    /// A line per figure, for people.
    pub fn print(&self) {
        for figure in &self.results {
            let value = figure.value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"));
            let judged = match (figure.target, figure.pass) {
                (Some(target), Some(true)) => format!("  (target {target}: met)"),
                (Some(target), Some(false)) => format!("  (target {target}: MISSED)"),
                _ => figure.reason.as_deref().map(|reason| format!("  ({reason})")).unwrap_or_default(),
            };
            let judged = match figure.comparison.as_ref().map(|comparison| comparison.interval) {
                Some([low, high]) => format!("{judged}  [{low:.3} to {high:.3}]"),
                None => judged,
            };
            println!("{:<42} {value:>12} {}{judged}", figure.name, figure.unit);
        }
    }

    /// Writes the report as JSON.
    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(file, text + "\n").with_context(|| format!("could not write {}", file.display()))
    }
}

impl Machine {
    fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory_kib = field(&read("/proc/meminfo"), "MemTotal");
        Self {
            cpus: thread::available_parallelism().map_or(1, usize::from),
            model: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_mib: memory_kib.and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0)
                / 1024,
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        }
    }
}

/// The value below which `percent` of the samples lie (nearest rank); the samples need not be sorted.
pub fn percentile(samples: &[f64], percent: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let samples = [5.0, 1.0, 4.0, 2.0, 3.0];
        assert_eq!(percentile(&samples, 50.0), 3.0);
        assert_eq!(percentile(&samples, 95.0), 5.0);
        assert_eq!(percentile(&samples, 1.0), 1.0);
    }
}
