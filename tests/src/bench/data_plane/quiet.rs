//! Whether the machine was ours alone while something was measured.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde::Serialize;

/// Of all CPU time, as a share: beyond this a run says more about the neighbours.
const STOLEN: f64 = 0.02;
/// How long a quiet moment is waited for before a run.
const PATIENCE: Duration = Duration::from_secs(20);
/// What may be running beside us, as a share of one core.
const IDLE_ENOUGH: f64 = 0.15;
const LOOK: Duration = Duration::from_millis(250);

/// CPU time of the whole machine so far, in ticks (proc(5), `/proc/stat`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    total: f64,
    idle: f64,
    stolen: f64,
}

/// What was noticed over a whole benchmark.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(super) struct Noise {
    /// Runs that began though somebody else was busy.
    pub(super) busy_starts: usize,
    /// Runs that were thrown away because the hypervisor took too much.
    pub(super) repeated: usize,
    /// The largest share stolen in a run that counts.
    pub(super) worst_steal: f64,
}

impl Cpu {
    pub(super) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        // user nice system idle iowait irq softirq steal; guests are in user already.
        let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).map(str::parse).collect::<Result<_, _>>()?;
        let [.., idle, iowait, _, _, stolen] = ticks[..] else { anyhow::bail!("/proc/stat has too few fields") };
        Ok(Self { total: ticks.iter().sum(), idle: idle + iowait, stolen })
    }

    /// The share of all CPU time since `earlier` that the hypervisor gave to others.
    fn stolen_since(self, earlier: Self) -> f64 {
        (self.stolen - earlier.stolen) / (self.total - earlier.total).max(1.0)
    }

    /// How many cores were busy since `earlier`.
    fn busy_since(self, earlier: Self) -> f64 {
        let cores = thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        cores * (1.0 - (self.idle - earlier.idle) / (self.total - earlier.total).max(1.0))
    }
}

impl Noise {
    /// Measures in a quiet moment, and again (twice at most) if the hypervisor took too much meanwhile.
    pub(super) fn measured<T>(&mut self, mut measure: impl FnMut() -> Result<T>) -> Result<T> {
        for attempt in 0.. {
            if !is_quiet_soon()? {
                self.busy_starts += 1;
            }
            let before = Cpu::now()?;
            let value = measure()?;
            let stolen = Cpu::now()?.stolen_since(before);
            if stolen <= STOLEN || attempt == 2 {
                self.worst_steal = self.worst_steal.max(stolen);
                return Ok(value);
            }
            self.repeated += 1;
        }
        unreachable!("the third attempt counts")
    }
}

fn is_quiet_soon() -> Result<bool> {
    let start = Instant::now();
    let mut before = Cpu::now()?;
    while start.elapsed() < PATIENCE {
        thread::sleep(LOOK);
        let now = Cpu::now()?;
        if now.busy_since(before) <= IDLE_ENOUGH {
            return Ok(true);
        }
        before = now;
    }
    Ok(false)
}
