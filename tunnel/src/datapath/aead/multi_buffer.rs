//! ChaCha20-Poly1305 by Intel's Multi-Buffer Crypto library, which has it for AVX-512 with IFMA where ring ends with
//! AVX2.
//!
//! Short packets, and all on other CPUs, are ring's.

#![expect(unsafe_code, reason = "calls a library in C")]

use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::LazyLock;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::chacha::RingAead;
use super::{Aead, TAG_LEN, nonce};
use crate::discard::Discard;

/// Shorter texts are ring's, which is as fast there.
const SHORTEST: usize = 256;

pub(in crate::datapath) struct MultiBufferAead {
    key: Zeroizing<[u8; 32]>,
    ring: RingAead,
}

impl Aead for MultiBufferAead {
    fn new(key: &[u8; 32]) -> Self {
        Self { key: Zeroizing::new(*key), ring: RingAead::new(key) }
    }

    fn seal(&self, counter: u64, packet: &mut [u8]) {
        let (text, room) = packet.split_at_mut(packet.len() - TAG_LEN);
        match self.run(Direction::Seal, counter, text) {
            Some(tag) => room.copy_from_slice(&tag),
            None => self.ring.seal(counter, packet),
        }
    }

    fn open(&self, counter: u64, packet: &mut [u8]) -> Result<(), Discard> {
        let (text, claimed) = packet.split_at_mut(packet.len() - TAG_LEN);
        match self.run(Direction::Open, counter, text) {
            Some(tag) if bool::from(tag.ct_eq(claimed)) => Ok(()),
            Some(_) => {
                // Nobody is to read what became of a forgery.
                text.fill(0);
                Err(Discard::NotAuthentic)
            }
            None => self.ring.open(counter, packet),
        }
    }

    fn library() -> &'static str {
        if *SERVES { "intel-ipsec-mb" } else { RingAead::library() }
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Seal,
    Open,
}

impl MultiBufferAead {
    /// The text sealed or opened where it lies, and the tag of its ciphertext. `None`: untouched, this one is ring's.
    fn run(&self, direction: Direction, counter: u64, text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        if text.len() < SHORTEST {
            return None;
        }
        let run = |manager: &Manager| {
            manager.run(direction, &self.key, &nonce(counter), text).expect("it did the same when it was tried")
        };
        // A thread that ends has none any more.
        MANAGER.try_with(|manager| manager.as_ref().map(run)).ok().flatten()
    }
}

/// Whether the library serves this CPU, and makes of packets here what ring does.
static SERVES: LazyLock<bool> =
    LazyLock::new(|| cpu_has_what_it_takes() && Manager::new().is_some_and(|manager| manager.agrees_with_ring()));

thread_local! {
    /// A manager serves one thread; it takes 200 KB.
    static MANAGER: Option<Manager> = SERVES.then(Manager::new).flatten();
}

/// Asked before the library is: it does not look whether the kernel keeps the wide registers, and what it misses
/// otherwise it calls all the same.
fn cpu_has_what_it_takes() -> bool {
    let has_older = is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("sse4.2")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("bmi2");
    has_older
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512ifma")
}

/// The library's `IMB_MGR`.
struct Manager(NonNull<Opaque>);

/// Known by its address only.
#[repr(C)]
struct Opaque([u8; 0]);

// multi_buffer.c
unsafe extern "C" {
    fn cladnet_multi_buffer_manager() -> *mut Opaque;
    fn cladnet_multi_buffer_free(manager: *mut Opaque);
    fn cladnet_multi_buffer_run(
        manager: *mut Opaque,
        opens: c_int,
        key: *const u8,
        nonce: *const u8,
        text: *mut u8,
        length: u64,
        tag: *mut u8,
    ) -> c_int;
}

impl Manager {
    fn new() -> Option<Self> {
        // SAFETY: no arguments; what comes back is null or a manager that is ours. Threads that do this at once write
        // the same words of what the CPU can.
        NonNull::new(unsafe { cladnet_multi_buffer_manager() }).map(Self)
    }

    /// Below and above a kilobyte, where the library goes different ways.
    fn agrees_with_ring(&self) -> bool {
        [SHORTEST, 1420].into_iter().all(|len| {
            let (key, counter, clear) = ([1; 32], 2, vec![3; len]);
            let mut packet = [&clear[..], &[0; TAG_LEN]].concat();
            RingAead::new(&key).seal(counter, &mut packet);
            let (sealed, tag) = packet.split_at(len);
            let mut text = sealed.to_vec();
            self.run(Direction::Open, &key, &nonce(counter), &mut text).is_some_and(|opened| opened == *tag)
                && text == clear
                && self.run(Direction::Seal, &key, &nonce(counter), &mut text).is_some_and(|resealed| resealed == *tag)
                && text == sealed
        })
    }

    /// The tag of the ciphertext. `None`: the library refused.
    fn run(&self, direction: Direction, key: &[u8; 32], nonce: &[u8; 12], text: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        let opens = matches!(direction, Direction::Open).into();
        let mut tag = [0; TAG_LEN];
        // SAFETY: the manager is alive and serves this thread alone; nobody asks for an empty text. The pointers are of
        // the lengths that the library takes, hold for the call, and after it the library has no use for them: the job
        // is done when it returns. What the library shares between threads is the word with its last error, which
        // nobody reads.
        let is_done = unsafe {
            cladnet_multi_buffer_run(
                self.0.as_ptr(),
                opens,
                key.as_ptr(),
                nonce.as_ptr(),
                text.as_mut_ptr(),
                text.len() as u64,
                tag.as_mut_ptr(),
            )
        };
        (is_done != 0).then_some(tag)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses it after this.
        unsafe { cladnet_multi_buffer_free(self.0.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_packets_are_the_librarys_where_the_cpu_has_what_it_takes() {
        let aead = MultiBufferAead::new(&[7; 32]);
        let lens = [SHORTEST - 1, SHORTEST, 1420];
        let is_its = lens.map(|len| aead.run(Direction::Seal, 0, &mut vec![0; len]).is_some());
        if cpu_has_what_it_takes() {
            assert_eq!((is_its, MultiBufferAead::library()), ([false, true, true], "intel-ipsec-mb"));
        } else {
            println!("this CPU lacks AVX-512 with IFMA: the library is not tested here");
            assert_eq!((is_its, MultiBufferAead::library()), ([false; 3], "ring"));
        }
    }

    #[test]
    fn what_does_not_open_is_wiped() {
        let aead = MultiBufferAead::new(&[7; 32]);
        let mut forged = [1; 1420 + TAG_LEN];
        assert_eq!(aead.open(0, &mut forged), Err(Discard::NotAuthentic));
        assert_eq!(forged[..1420], [0; 1420]);
    }
}
