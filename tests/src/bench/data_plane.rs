//! Data plane: one TCP stream through two static tunnels in two namespaces over a veth pair, and through Debian's
//! `wireguard-go` beside them, by turns. All that carries it shares this machine's cores, so the ratios tell more than the rates.

mod lab;

use anyhow::Result;

use super::Effort;
use crate::report::{Better, Report, percentile};
use lab::{Contender, Lab, Sample};

/// CPU of both ends with an AEAD that is not vectorised over packets, in seconds.
const CPU_TARGET: f64 = 2.4;

pub(super) fn measure(effort: Effort) -> Result<Report> {
    let (rounds, seconds) = match effort {
        Effort::Quick => (3, 4),
        Effort::Normal => (7, 10),
        Effort::Long => (15, 20),
    };
    let mut report = Report::new("data-plane");
    let contenders = [Contender::Cladnet, Contender::CladnetNoOffload, Contender::WireguardGo, Contender::CladnetClear];
    let lab = Lab::raise(&contenders)?;
    let mut samples = contenders.map(|_| Vec::new());
    for _ in 0..rounds {
        for (contender, samples) in contenders.into_iter().zip(&mut samples) {
            samples.push(lab.measure(contender, seconds)?);
        }
    }
    let median =
        |samples: &[Sample], of: fn(&Sample) -> f64| percentile(&samples.iter().map(of).collect::<Vec<_>>(), 50.0);
    for (contender, samples) in contenders.into_iter().zip(&samples) {
        let name = contender.name();
        let rate = median(samples, |sample| sample.gigabits_per_second);
        report.add(format!("tcp_1_stream_{name}"), rate, "Gbit/s", Better::Higher, None);
        let target = (contender == Contender::Cladnet).then_some(CPU_TARGET);
        let cpu = median(samples, |sample| sample.cpu_seconds_per_gigabyte);
        report.add(format!("cpu_per_gb_{name}"), cpu, "s/GB", Better::Lower, target);
    }
    let [ours, one_by_one, reference, clear] =
        [0, 1, 2, 3].map(|index| median(&samples[index], |sample| sample.gigabits_per_second));
    report.add("tcp_1_stream_to_no_offload", ours / one_by_one, "×", Better::Higher, None);
    report.add("tcp_1_stream_to_wireguard_go", ours / reference, "×", Better::Higher, None);
    report.add("tcp_1_stream_clear_to_sealed", clear / ours, "×", Better::Higher, None);
    Ok(report)
}
