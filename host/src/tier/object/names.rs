//! What objects are called. Names are made of hashes and random numbers alone: nothing that a
//! client sent is ever part of one.
//!
//! | name, under the prefix | holds |
//! |---|---|
//! | `v1/obj/{hh}/{hash}` | an entry: its head, and its content if that is small |
//! | `v1/body/{hh}/{hash}/{nonce}` | the content of one version of a large one |
//! | `v1/probe/{nonce}/{n}` | what the self-test of the store writes, for seconds |
//!
//! `hash` is the BLAKE3 of the cache key in hex, and `hh` its first two digits.

use blake3::Hash;
use object_store::path::Path;

/// A random number that no other object bears.
pub(super) type Nonce = [u8; 16];

/// A fresh one. Drawn from the seeds of the standard library's hash maps, which the system draws:
/// unique, and nobody gains by guessing it.
pub(super) fn nonce() -> Nonce {
    use std::hash::{BuildHasher, RandomState};
    let state = RandomState::new();
    let mut nonce = Nonce::default();
    for (half, place) in nonce.chunks_exact_mut(8).zip(0_u64..) {
        // Mixed with the time and the thread, because one thread's seeds differ by one.
        let mixed = (place, crate::clock::instant(), std::thread::current().id());
        half.copy_from_slice(&state.hash_one(mixed).to_le_bytes());
    }
    nonce
}

/// The name of an entry: the hash of its whole key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Hash);

impl Name {
    /// The name of the entry with `key`.
    pub(super) fn of(key: &[u8]) -> Self {
        Self(blake3::hash(key))
    }
}

/// Names under one prefix.
#[derive(Clone, Debug)]
pub(super) struct Names(Path);

impl Names {
    /// Names under `prefix`.
    pub(super) fn under(prefix: Path) -> Self {
        Self(prefix)
    }

    /// The object with the head of an entry.
    pub(super) fn head(&self, name: Name) -> Path {
        let hex = name.0.to_hex();
        self.below(&["v1", "obj", first_two(&hex), &hex])
    }

    /// The object with the content of a version of an entry.
    pub(super) fn body(&self, name: Name, nonce: Nonce) -> Path {
        let hex = name.0.to_hex();
        self.below(&["v1", "body", first_two(&hex), &hex, &hex_of(nonce)])
    }

    /// The directory of the contents of entries whose names begin with `byte`.
    pub(super) fn bodies(&self, byte: u8) -> Path {
        self.below(&["v1", "body", &format!("{byte:02x}")])
    }

    /// A place among them, drawn from `nonce`.
    pub(super) fn somewhere(&self, byte: u8, nonce: Nonce) -> Path {
        let hash = format!("{byte:02x}{}", hex_of(nonce));
        self.bodies(byte).join(hash)
    }

    /// The entry and the version that the object `body` is content of.
    pub(super) fn parse_body(&self, body: &Path) -> Option<(Name, Nonce)> {
        let mut parts = body.prefix_match(&self.0)?;
        let fixed = [parts.next()?, parts.next()?, parts.next()?];
        let (hash, nonce) = (parts.next()?, parts.next()?);
        let name = Name(Hash::from_hex(hash.as_ref()).ok()?);
        let nonce = u128::from_str_radix(nonce.as_ref(), 16).ok()?.to_be_bytes();
        let hex = name.0.to_hex();
        let known = fixed.each_ref().map(AsRef::as_ref) == ["v1", "body", first_two(&hex)];
        (known && self.body(name, nonce) == *body).then_some((name, nonce))
    }

    /// An object of a self-test.
    pub(super) fn probe(&self, test: Nonce, number: u8) -> Path {
        self.probes(test).join(number.to_string())
    }

    /// Where the objects of one self-test are.
    pub(super) fn probes(&self, test: Nonce) -> Path {
        self.below(&["v1", "probe", &hex_of(test)])
    }

    fn below(&self, parts: &[&str]) -> Path {
        parts
            .iter()
            .fold(self.0.clone(), |path, part| path.join(*part))
    }
}

fn first_two(hex: &str) -> &str {
    hex.get(..2).unwrap_or_default()
}

fn hex_of(nonce: Nonce) -> String {
    format!("{:032x}", u128::from_be_bytes(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_hold_nothing_of_the_key() {
        let names = Names::under(Path::from("edge/one"));
        let name = Name::of(b"../../etc/passwd#1%2f\0");
        let hex = blake3::hash(b"../../etc/passwd#1%2f\0").to_hex();
        let head = names.head(name);
        assert_eq!(
            head.as_ref(),
            format!("edge/one/v1/obj/{}/{hex}", &hex[..2])
        );
        let body = names.body(name, [0xab; 16]);
        let end = "ab".repeat(16);
        assert_eq!(
            body.as_ref(),
            format!("edge/one/v1/body/{}/{hex}/{end}", &hex[..2])
        );
        let first = u8::from_str_radix(&hex[..2], 16).unwrap();
        assert!(body.prefix_matches(&names.bodies(first)));
    }

    #[test]
    fn what_is_content_is_told_by_its_name() {
        let names = Names::under(Path::from("p"));
        let name = Name::of(b"k");
        for nonce in [[0; 16], [0xff; 16], nonce()] {
            let body = names.body(name, nonce);
            assert_eq!(names.parse_body(&body), Some((name, nonce)));
            assert_eq!(Names::under(Path::default()).parse_body(&body), None);
        }
        let hex = Name::of(b"k").0.to_hex();
        for other in [
            names.head(name),
            names.probe([1; 16], 0),
            Path::from(format!("p/v1/body/zz/{hex}/{}", "0".repeat(32))),
            Path::from(format!("p/v1/body/{}/{hex}/1", &hex[..2])),
            Path::from(format!(
                "p/v1/body/{}/{hex}/{}/x",
                &hex[..2],
                "0".repeat(32)
            )),
        ] {
            assert_eq!(names.parse_body(&other), None, "{other}");
        }
    }

    #[test]
    fn nonces_do_not_repeat() {
        let drawn: HashSet<Nonce> = (0..10_000).map(|_| nonce()).collect();
        assert_eq!(drawn.len(), 10_000);
    }
}
