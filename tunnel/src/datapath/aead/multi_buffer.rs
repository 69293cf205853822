//! ChaCha20-Poly1305 by Intel's Multi-Buffer Crypto library, which has it for AVX-512 where ring ends with AVX2.
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

/// Shorter texts are ring's: as fast there, and an empty one the library refuses.
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
                // Nobody is to read what a forger made of it.
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
        MANAGER.with(|manager| Some(manager.as_ref()?.run(direction, &self.key, &nonce(counter), text)))
    }
}

/// Whether the library serves this CPU, and makes of a packet here what ring does.
static SERVES: LazyLock<bool> = LazyLock::new(|| Manager::new().is_some_and(|manager| manager.agrees_with_ring()));

thread_local! {
    /// A manager serves one thread; what it keeps takes 200 KB.
    static MANAGER: Option<Manager> = SERVES.then(Manager::new).flatten();
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
    /// `None`: the library has nothing for this CPU that is faster than ring.
    fn new() -> Option<Self> {
        // The library asks the CPU alone; whether the kernel keeps the wide registers is asked here.
        if !is_x86_feature_detected!("avx512f") || !is_x86_feature_detected!("avx512ifma") {
            return None;
        }
        // SAFETY: no arguments; what comes back is null or a manager that is ours.
        NonNull::new(unsafe { cladnet_multi_buffer_manager() }).map(Self)
    }

    fn agrees_with_ring(&self) -> bool {
        let (key, counter, mut packet) = ([1; 32], 2, [3; 1420 + TAG_LEN]);
        RingAead::new(&key).seal(counter, &mut packet);
        let (text, tag) = packet.split_at_mut(1420);
        *tag == self.run(Direction::Open, &key, &nonce(counter), text)
            && *text == [3; 1420]
            && *tag == self.run(Direction::Seal, &key, &nonce(counter), text)
    }

    fn run(&self, direction: Direction, key: &[u8; 32], nonce: &[u8; 12], text: &mut [u8]) -> [u8; TAG_LEN] {
        let opens = matches!(direction, Direction::Open).into();
        let mut tag = [0; TAG_LEN];
        // SAFETY: the manager is alive and serves this thread alone. The pointers are of the lengths that the library
        // takes, hold for the call, and after it the library has no use for them: the job is done when it returns.
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
        assert!(is_done != 0, "the library takes every text that is not empty");
        tag
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and nobody uses it after this.
        unsafe { cladnet_multi_buffer_free(self.0.as_ptr()) }
    }
}
