//! Seeded noise: messages that were mutated are read or refused, and nothing else happens.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

/// Another seed is `WAMP_SEED=N cargo test -p pipes-wamp noise`.
fn seed() -> u64 {
    std::env::var("WAMP_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(7)
}

/// Octets that mean something in MessagePack more often than chance has it.
fn octet(random: &mut StdRng) -> u8 {
    const HEADS: &[u8] = &[
        0x00, 0x7f, 0x80, 0x81, 0x8f, 0x90, 0x91, 0x9f, 0xa0, 0xa1, 0xbf, 0xc0, 0xc1, 0xc2, 0xc4, 0xc6, 0xc7,
        0xc9, 0xca, 0xcb, 0xcc, 0xcf, 0xd0, 0xd3, 0xd4, 0xd8, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff,
    ];
    if random.random() {
        HEADS[random.random_range(0..HEADS.len())]
    } else {
        random.random()
    }
}

fn mutate(random: &mut StdRng, octets: &mut Vec<u8>, other: &[u8]) {
    let at = random.random_range(0..octets.len());
    match random.random_range(0..6) {
        0 => octets[at] = octet(random),
        1 => octets[at] ^= 1 << random.random_range(0..8),
        2 => octets.insert(at, octet(random)),
        3 if octets.len() > 1 => drop(octets.remove(at)),
        4 => octets.truncate(at.max(1)),
        _ => {
            let from = random.random_range(0..other.len());
            octets.truncate(at);
            octets.extend_from_slice(&other[from..]);
            octets.push(octet(random));
        }
    }
}

/// What must hold of whatever was read.
fn check(octets: &[u8]) -> bool {
    let Ok(message) = Message::parse(octets) else {
        return false;
    };
    let payload = message.payload();
    assert!(
        octets.ends_with(payload.bytes),
        "a payload is what stands last, as it stands"
    );
    let mut again = Vec::new();
    message.encode(&mut again);
    // Roles that are not known here are not kept: a HELLO with no others has none when it is written again.
    match message {
        Message::Hello { .. } => drop(Message::parse(&again).unwrap()),
        _ => assert_eq!(Message::parse(&again).unwrap(), message),
    }
    // Decoding may refuse, as for keys that are no texts.
    let _ = (
        payload.args(),
        payload.kwargs(),
        crate::payload::bytes_arg(payload),
        crate::payload::tagged_bytes(payload),
    );
    let _ = (payload.raw_arg(0), payload.raw_arg(3));
    let _ = payload.kwargs_as::<std::collections::BTreeMap<String, rmpv::Value>>();
    true
}

#[test]
fn noise_is_read_or_refused_and_never_panics() {
    let seed = seed();
    println!("WAMP_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let originals: Vec<Vec<u8>> = all()
        .iter()
        .map(|message| {
            let mut octets = Vec::new();
            message.encode(&mut octets);
            octets
        })
        .collect();
    let (mut read, turns) = (0, 200_000);
    for _ in 0..turns {
        let mut octets = originals[random.random_range(0..originals.len())].clone();
        for _ in 0..random.random_range(1..5) {
            let other = random.random_range(0..originals.len());
            mutate(&mut random, &mut octets, &originals[other]);
        }
        read += usize::from(check(&octets));
    }
    // The noise is mild enough to get past the head, and loud enough to be refused.
    assert!(read > turns / 50 && read < turns / 2, "{read} of {turns} read");
}

#[test]
fn plain_noise_is_refused() {
    let mut random = StdRng::seed_from_u64(seed());
    for _ in 0..50_000 {
        let octets: Vec<u8> = (0..random.random_range(0..40))
            .map(|_| octet(&mut random))
            .collect();
        check(&octets);
    }
}

#[test]
fn lists_within_lists_cost_no_stack_and_lengths_no_memory() {
    // A CALL whose argument is a million lists within each other: as deep as a message may be, and passed on.
    let mut octets = vec![0x95, 48, 1, 0x80, 0xa1, b'a', 0x91];
    octets.extend(std::iter::repeat_n(0x91, 1_000_000));
    octets.push(0x90);
    assert!(check(&octets));
    // Each of these announces 4 Gi of something and has none of it.
    for head in [0xdd, 0xdf, 0xdb, 0xc6, 0xc9] {
        let mut octets = vec![0x95, 48, 1, 0x80, 0xa1, b'a', 0x91, head];
        octets.extend_from_slice(&[0xff; 4]);
        assert!(!check(&octets), "{head:x}");
    }
}
