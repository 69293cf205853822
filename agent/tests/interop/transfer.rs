//! A gibibyte each way, byte for byte.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use ring::digest::{Context, Digest, SHA256};

use crate::hosts::Pair;
use crate::lab::{Lab, Side};

const GIB: u64 = 1 << 30;
const CHUNK: usize = 1 << 16;
/// Nothing arrived for this long: the tunnel is dead.
const STALLED: Duration = Duration::from_secs(20);
const PORT: u16 = 5001;

#[test]
fn a_gibibyte_passes_unharmed_between_ours_and_wireguard_go() {
    let Some(lab) = Lab::new() else { return };
    let pair = Pair::new();
    let _b = pair.start_reference(&lab, Side::B, &pair.peer(Side::A));
    let _a = pair.start_ours(&lab, Side::A, &pair.peer(Side::B));
    for sender in [Side::A, Side::B] {
        let start = Instant::now();
        let receiver = SocketAddr::new(sender.other().overlay(), PORT);
        let listener = lab.inside(sender.other(), move || TcpListener::bind(receiver)).join().unwrap();
        let received = lab.inside(sender.other(), move || receive(&listener));
        let sent = lab.inside(sender, move || send(receiver)).join().unwrap();
        assert_eq!(received.join().unwrap().as_ref(), sent.as_ref());
        println!("{sender:?} sent 1 GiB in {:?}", start.elapsed());
    }
}

/// Sends bytes that never repeat within a chunk's distance, and returns their digest.
fn send(to: SocketAddr) -> io::Result<Digest> {
    let mut stream = TcpStream::connect_timeout(&to, STALLED)?;
    stream.set_write_timeout(Some(STALLED))?;
    let mut digest = Context::new(&SHA256);
    let mut chunk: Vec<u8> = (0..CHUNK).map(|position| ((position * 31) >> 3) as u8).collect();
    for number in 0..GIB / CHUNK as u64 {
        chunk[..8].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&chunk)?;
        digest.update(&chunk);
    }
    Ok(digest.finish())
}

fn receive(listener: &TcpListener) -> io::Result<Digest> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(STALLED))?;
    let mut digest = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(digest.finish()),
            len => digest.update(&chunk[..len]),
        }
    }
}
