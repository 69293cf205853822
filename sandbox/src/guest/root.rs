//! The root of a VM: the host's file systems under an overlay on a tmpfs, with `/proc`, `/sys`, `/dev`, `/run` and `/tmp`
//! of its own. Every mount is made in the VM's mount namespace, so all of them end with it.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::protocol;
use crate::error::{Doing, Error, Result};
use crate::metadata;
use crate::state::{Machine, State, provider_of};
use crate::topology::Provider;

/// Everything the host mounts there is of the host's kernel or of its own running, and a VM gets its own.
const NOT_INHERITED: &[&str] = &["/proc", "/sys", "/dev", "/run", "/tmp", "/var/run", "/var/tmp"];

/// File systems that hold no programs or data a VM could want; overlays are the roots of other people's containers.
const PSEUDO: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "overlay",
    "proc",
    "pstore",
    "ramfs",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "squashfs",
    "sysfs",
    "tmpfs",
    "tracefs",
];

/// This program inside a VM, under the name that makes it speak to the VM's init.
const INIT_CLIENT: &str = "usr/local/sbin/cladnet-init";

/// Makes the VM's root on `disk` and moves into it; init is asked at `socket`.
pub(super) fn enter(disk: &Path, state: &State, name: &str, socket: &Path) -> Result<()> {
    let vm = state.vm(name)?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .doing(|| "part from the host's mounts".into())?;
    let inherited = inherited_mounts()?;
    let size = format!("size={}m,mode=755", vm.disk_mib);
    mount(Some("disk"), disk, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
        .doing(|| "mount the disk".into())?;
    let root = disk.join("root");
    overlay(disk, "root", Path::new("/"), &root)?;
    for (index, path) in inherited.iter().enumerate() {
        let target = root.join(path.strip_prefix("/").unwrap_or(path));
        if target.is_dir() {
            // Some file systems (FAT, most network ones) cannot be below an overlay.
            overlay(disk, &format!("mount-{index}"), path, &target).or_else(|_| show(path, &target))?;
        }
    }
    private_file_systems(&root)?;
    devices(&root.join("dev"), vm.tun)?;
    identity(&root, state, name, vm)?;
    init_client(&root, socket)?;
    pivot(&root)
}

/// The directories where the host has mounted further disks, outermost first.
fn inherited_mounts() -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
    let mut paths: Vec<PathBuf> = text.lines().filter_map(mount_point).filter(|path| path.is_dir()).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

/// The mount point of a line of mountinfo (proc(5)) that a VM should see.
fn mount_point(line: &str) -> Option<PathBuf> {
    let (left, right) = line.split_once(" - ")?;
    let path = left.split(' ').nth(4)?.replace("\\040", " ");
    let kind = right.split(' ').next()?;
    let own = NOT_INHERITED.iter().any(|top| Path::new(&path).starts_with(top));
    (path != "/" && !own && !PSEUDO.contains(&kind)).then(|| path.into())
}

fn overlay(disk: &Path, name: &str, lower: &Path, target: &Path) -> Result<()> {
    let (upper, work) = (disk.join(format!("{name}.upper")), disk.join(format!("{name}.work")));
    for directory in [&upper, &work] {
        make_directory(directory, 0o755)?;
    }
    fs::create_dir_all(target).doing(|| format!("make {}", target.display()))?;
    let quote = |path: &Path| path.display().to_string().replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
    let options = format!("lowerdir={},upperdir={},workdir={}", quote(lower), quote(&upper), quote(&work));
    mount(Some("overlay"), target, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .doing(|| format!("mount an overlay over {}", lower.display()))
}

/// Lets the VM see a directory of the host without changing it.
fn show(path: &Path, target: &Path) -> Result<()> {
    bind(path, target, MsFlags::MS_RDONLY).doing(|| format!("show {}", path.display()))
}

fn bind(path: &Path, target: &Path, flags: MsFlags) -> nix::Result<()> {
    let none = None::<&str>;
    mount(Some(path), target, none, MsFlags::MS_BIND, none)?;
    mount(none, target, none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, none)
}

fn private_file_systems(root: &Path) -> Result<()> {
    let nosuid = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let plain = nosuid | MsFlags::MS_NOEXEC;
    mount_new(root, "proc", "proc", plain, "")?;
    mount_new(root, "sys", "sysfs", plain | MsFlags::MS_RDONLY, "")?;
    mount_new(root, "dev", "tmpfs", MsFlags::MS_NOSUID, "mode=755,size=64k")?;
    mount_new(root, "run", "tmpfs", nosuid, "mode=755")?;
    mount_new(root, "tmp", "tmpfs", nosuid, "mode=1777")?;
    // Settings of the network are the VM's own; the others are the host's and are only shown.
    let sys = root.join("proc/sys");
    bind(&sys, &sys, plain | MsFlags::MS_RDONLY).doing(|| "protect /proc/sys".into())?;
    let net = sys.join("net");
    bind(&net, &net, plain).doing(|| "open /proc/sys/net".into())
}

fn mount_new(root: &Path, at: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    let target = root.join(at);
    fs::create_dir_all(&target).doing(|| format!("make /{at}"))?;
    mount(Some(kind), &target, Some(kind), flags, Some(options)).doing(|| format!("mount {kind} on /{at}"))
}

fn devices(dev: &Path, tun: bool) -> Result<()> {
    let none = MsFlags::empty();
    for (name, major, minor) in
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
    {
        device(&dev.join(name), major, minor)?;
    }
    if tun {
        make_directory(&dev.join("net"), 0o755)?;
        device(&dev.join("net/tun"), 10, 200)?;
    }
    for (directory, kind, options) in
        [("shm", "tmpfs", "mode=1777"), ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620")]
    {
        let target = dev.join(directory);
        make_directory(&target, 0o755)?;
        mount(Some(kind), &target, Some(kind), none, Some(options)).doing(|| format!("mount /dev/{directory}"))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name)).doing(|| format!("make /dev/{name}"))?;
    }
    Ok(())
}

fn device(path: &Path, major: u64, minor: u64) -> Result<()> {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)).doing(|| format!("make {}", path.display()))?;
    // The creation mask of whoever made the sandbox must not matter.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).doing(|| format!("open {}", path.display()))
}

/// Shows the VM what it speaks to its init with.
fn init_client(root: &Path, socket: &Path) -> Result<()> {
    let program = std::env::current_exe().doing(|| "find this program's own path".into())?;
    let inside = protocol::SOCKET_INSIDE.trim_start_matches('/');
    for (path, target, read_only) in
        [(&*program, root.join(INIT_CLIENT), MsFlags::MS_RDONLY), (socket, root.join(inside), MsFlags::empty())]
    {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).doing(|| format!("make {}", parent.display()))?;
        }
        File::create(&target).doing(|| format!("make {}", target.display()))?;
        bind(path, &target, read_only).doing(|| format!("show {}", path.display()))?;
    }
    Ok(())
}

/// The files that make one machine different from another; what the host has of cladnet and its host keys are not the VM's.
fn identity(root: &Path, state: &State, name: &str, vm: &Machine) -> Result<()> {
    replace(&root.join("etc/hostname"), &format!("{name}\n"), 0o644)?;
    replace(&root.join("etc/machine-id"), &format!("{}\n", vm.machine_id), 0o444)?;
    replace(&root.join("etc/resolv.conf"), "# There is no name service in a sandbox.\n", 0o644)?;
    let mut hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n");
    if provider_of(state, vm) == Some(Provider::Gcp) {
        hosts += &format!("{} metadata.google.internal metadata\n", metadata::ADDRESSES[0]);
    }
    replace(&root.join("etc/hosts"), &hosts, 0o644)?;
    hide(root)
}

/// Where a machine keeps what the host's is not to be mistaken for, and how its names begin.
const HIDDEN: &[(&str, &str)] = &[
    ("etc", "cladnet"),
    ("etc/ssh", "ssh_host_"),
    ("etc/systemd/system", "cladnet"),
    ("etc/systemd/system/multi-user.target.wants", "cladnet"),
    ("usr/local/bin", "cladnet"),
    ("usr/local/sbin", "cladnet"),
    ("usr/bin", "cladnet"),
    ("var/lib", "cladnet"),
    ("var/log", "cladnet"),
];

fn hide(root: &Path) -> Result<()> {
    for (parent, prefix) in HIDDEN {
        for entry in fs::read_dir(root.join(parent)).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()) {
                let path = entry.path();
                let is_directory = path.is_dir() && !path.is_symlink();
                let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.doing(|| format!("hide the host's {}", path.display()))?;
            }
        }
    }
    Ok(())
}

/// Writes a file that may have been a link to somewhere else.
fn replace(path: &Path, text: &str, mode: u32) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::Io { doing: format!("replace {}", path.display()), source: error });
        }
        _ => {}
    }
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .doing(|| format!("write {}", path.display()))
}

fn pivot(root: &Path) -> Result<()> {
    std::env::set_current_dir(root).doing(|| "enter the root".into())?;
    // The old root ends up on top of the new one and is taken off: pivot_root(2), "pivot_root(".", ".")".
    nix::unistd::pivot_root(".", ".").doing(|| "change the root".into())?;
    umount2(".", MntFlags::MNT_DETACH).doing(|| "leave the host's root".into())?;
    std::env::set_current_dir("/").doing(|| "enter the root".into())
}

fn make_directory(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .doing(|| format!("make {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_host_has_of_cladnet_is_hidden_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let of_the_host = ["usr/local/bin/cladnet-agent", "etc/systemd/system/cladnet-agent.service", "etc/cladnet/x"];
        let of_others = ["usr/local/bin/other", "etc/systemd/system/other.service", "etc/ssh/sshd_config"];
        for file in of_the_host.iter().chain(&of_others) {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let link = root.path().join("usr/local/bin/cladnet");
        symlink(root.path().join("etc/ssh"), &link).unwrap();
        hide(root.path()).unwrap();
        assert!(of_the_host.iter().all(|file| !root.path().join(file).exists()) && !link.is_symlink());
        assert!(of_others.iter().all(|file| root.path().join(file).exists()), "what a link names stays too");
    }

    #[test]
    fn only_disks_of_the_host_are_inherited() {
        let line = |path: &str, kind: &str| format!("36 35 98:0 / {path} rw,noatime shared:1 - {kind} /dev/x rw");
        assert_eq!(mount_point(&line("/home", "ext4")), Some("/home".into()));
        assert_eq!(mount_point(&line("/data\\040disk", "xfs")), Some("/data disk".into()));
        for (path, kind) in
            [("/", "ext4"), ("/proc", "proc"), ("/run/lock", "tmpfs"), ("/tmp", "ext4"), ("/x", "tmpfs")]
        {
            assert_eq!(mount_point(&line(path, kind)), None, "{path} {kind}");
        }
    }
}
