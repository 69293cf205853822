//! The nftables ruleset of one machine that breaks TCP connections to it, wherever they come from. It is in the machine's own
//! network, where neighbours on its subnet meet it too, and there is none while there is nothing to break.

use super::{line, set};
use crate::state::{Machine, TcpFault};

pub(crate) fn ruleset(vm: &Machine) -> String {
    let ports =
        |fault| -> Vec<u16> { vm.tcp_faults.iter().filter(|(_, its)| **its == fault).map(|(port, _)| *port).collect() };
    let (black_holes, resets) = (ports(TcpFault::BlackHole), ports(TcpFault::Reset));
    let mut text = String::new();
    line(&mut text, format_args!("table inet sandbox_fault\ndelete table inet sandbox_fault"));
    if vm.tcp_faults.is_empty() {
        return text;
    }
    line(&mut text, format_args!("table inet sandbox_fault {{\n  chain input {{"));
    line(&mut text, format_args!("    type filter hook input priority raw;"));
    if !black_holes.is_empty() {
        line(&mut text, format_args!("    iifname != \"lo\" tcp dport {} drop", set(&black_holes)));
    }
    if !resets.is_empty() {
        // A reset of the other side, who is told already, may end the connection here.
        let not_reset = "tcp flags & rst == 0 reject with tcp reset";
        line(&mut text, format_args!("    iifname != \"lo\" tcp dport {} {not_reset}", set(resets)));
    }
    line(&mut text, format_args!("  }}\n  chain output {{"));
    line(&mut text, format_args!("    type filter hook output priority raw;"));
    if !black_holes.is_empty() {
        line(&mut text, format_args!("    oifname != \"lo\" tcp sport {} drop", set(black_holes)));
    }
    line(&mut text, format_args!("  }}\n}}"));
    text
}
