//! Which process holds a UDP port: for an error message, so every failure to find out is an answer of none.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// "name (pid N)" of a process that holds `port` in our network namespace, if we may see it.
pub(super) fn of(port: u16) -> Option<String> {
    let sockets: BTreeSet<String> = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"]
        .iter()
        .flat_map(|table| inodes(table, port))
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.map(|pid| (pid, Path::new("/proc").join(pid.to_string()))).find_map(|(pid, process)| {
        let name = holds(&process, &sockets).then(|| fs::read_to_string(process.join("comm")).ok())??;
        Some(format!("{} (pid {pid})", name.trim()))
    })
}

/// As `/proc/PID/fd` shows them: `socket:[INODE]`. Columns: proc(5), /proc/net/udp.
fn inodes(table: &str, port: u16) -> Vec<String> {
    let Ok(text) = fs::read_to_string(table) else { return Vec::new() };
    let suffix = format!(":{port:04X}");
    text.lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(1).is_some_and(|local| local.ends_with(&suffix)))
        .filter_map(|columns| columns.get(9).map(|inode| format!("socket:[{inode}]")))
        .collect()
}

fn holds(process: &Path, sockets: &BTreeSet<String>) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_str().is_some_and(|target| sockets.contains(target)))
}
