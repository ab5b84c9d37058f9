//! The lines of a script: a command and its words.
//!
//! | line | call |
//! |---|---|
//! | `put KEY SEED SIZE LIFETIME TAG...` | `put` of a body of the pattern |
//! | `put-in TIER,... KEY SEED SIZE LIFETIME` | the same into these tiers |
//! | `tag KEY COUNT` | `put` of an empty body with that many different tags |
//! | `lookup KEY`, `remove KEY`, `purge TAG`, `usage` | the call of that name |
//! | `read KEY OFFSET LENGTH` | one `read` |
//! | `scan KEY LENGTH` | reads of `LENGTH` bytes until one brings none |
//! | `fill COUNT SIZE` | that many puts under keys of their own, with `usage` after each |
//! | `fail TEXT`, `answer SIZE`, `trap`, `spin`, `grow` | ends the run |
//!
//! `''` stands for an empty word and `*N` for a word of N letters.

use crate::bindings::larder::cache::tiers::{self, Error, PutOptions};

/// Does what `line` says. An error ends the script.
pub(crate) fn execute(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace().map(word);
    let command = words.next().unwrap_or_default();
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    Ok(match (command.as_str(), words.as_slice()) {
        ("put", [key, seed, size, lifetime, tags @ ..]) => {
            let body = pattern(number(seed)?, number(size)?);
            put(key, &body, number(lifetime)?, tags, &[])
        }
        ("put-in", [tiers, key, seed, size, lifetime]) => {
            let body = pattern(number(seed)?, number(size)?);
            let tiers: Vec<&str> = tiers.split(',').collect();
            put(key, &body, number(lifetime)?, &[], &tiers)
        }
        ("tag", [key, count]) => {
            let tags: Vec<String> = (0..number(count)?).map(|tag| format!("t{tag}")).collect();
            let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
            put(key, &[], u64::MAX, &tags, &[])
        }
        ("lookup", [key]) => lookup(key),
        ("read", [key, offset, length]) => {
            let length = u32::try_from(number(length)?).map_err(|error| error.to_string())?;
            match tiers::read(key, number(offset)?, length) {
                Ok(bytes) => format!("{} bytes, hash {:016x}", bytes.len(), hash(HASH, &bytes)),
                Err(error) => name(error).to_owned(),
            }
        }
        ("scan", [key, length]) => scan(key, number(length)?)?,
        ("remove", [key]) => match tiers::remove(key) {
            Ok(held) => held.to_string(),
            Err(error) => name(error).to_owned(),
        },
        ("purge", [tag]) => match tiers::purge_tag(tag) {
            Ok(gone) => gone.to_string(),
            Err(error) => name(error).to_owned(),
        },
        ("usage", []) => usage(),
        ("fill", [count, size]) => fill(number(count)?, number(size)?),
        ("fail", [text]) => return Err((*text).to_owned()),
        ("answer", [size]) => "a".repeat(length(number(size)?)?),
        ("trap", []) => std::process::abort(),
        ("spin", []) => loop {
            std::hint::spin_loop();
        },
        ("grow", []) => grow(),
        _ => return Err(format!("there is no command {line:?}")),
    })
}

fn word(text: &str) -> String {
    let count = text.strip_prefix('*').and_then(|count| count.parse().ok());
    match (text, count) {
        ("''", _) => String::new(),
        (_, Some(count)) => "k".repeat(count),
        (text, None) => text.to_owned(),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not a whole number"))
}

fn length(number: u64) -> Result<usize, String> {
    usize::try_from(number).map_err(|error| error.to_string())
}

const fn name(error: Error) -> &'static str {
    match error {
        Error::NotFound => "not-found",
        Error::Unavailable => "unavailable",
        Error::Refused => "refused",
        Error::TooLarge => "too-large",
    }
}

fn put(key: &str, body: &[u8], lifetime: u64, tags: &[&str], tiers: &[&str]) -> String {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let options = PutOptions {
        lifetime,
        tags: owned(tags),
        tiers: owned(tiers),
    };
    tiers::put(key, body, &options)
        .map_or_else(name, |()| "ok")
        .to_owned()
}

fn lookup(key: &str) -> String {
    match tiers::lookup(key) {
        Ok(None) => "none".to_owned(),
        Ok(Some(entry)) => {
            let fresh = if entry.lifetime > entry.age {
                "fresh"
            } else {
                "stale"
            };
            let (tier, tags) = (entry.tier, entry.tags.join(" "));
            let (length, lifetime) = (entry.length, entry.lifetime);
            format!("{length} bytes in {tier}, {fresh}, lifetime {lifetime}, tags [{tags}]")
        }
        Err(error) => name(error).to_owned(),
    }
}

fn usage() -> String {
    let tiers = tiers::usage().into_iter().map(|tier| {
        let (name, entries, bytes, capacity) = (tier.name, tier.entries, tier.bytes, tier.capacity);
        format!("{name}: {entries} entries, {bytes} of {capacity} bytes")
    });
    tiers.collect::<Vec<_>>().join("; ")
}

/// Reads a whole body in pieces.
fn scan(key: &str, piece: u64) -> Result<String, String> {
    let piece = u32::try_from(piece).map_err(|error| error.to_string())?;
    let (mut offset, mut reads, mut seen) = (0_u64, 0_u64, HASH);
    loop {
        match tiers::read(key, offset, piece) {
            Ok(bytes) if bytes.is_empty() => {
                return Ok(format!("{offset} bytes in {reads} reads, hash {seen:016x}"));
            }
            Ok(bytes) => {
                offset += u64::try_from(bytes.len()).map_err(|error| error.to_string())?;
                reads += 1;
                seen = hash(seen, &bytes);
            }
            Err(error) => return Ok(name(error).to_owned()),
        }
    }
}

/// Puts more and more, and watches that no tier ever holds more than it may.
fn fill(count: u64, size: u64) -> String {
    let body = pattern(0, size);
    let (mut stored, mut most, mut over) = (0_u64, 0_u64, 0_u64);
    for at in 0..count {
        let tags = vec!["fill".to_owned()];
        let options = PutOptions {
            lifetime: u64::MAX,
            tags,
            tiers: Vec::new(),
        };
        match tiers::put(&format!("fill-{at}"), &body, &options) {
            Ok(()) => stored += 1,
            Err(error) => return format!("{stored} stored, then {}", name(error)),
        }
        for tier in tiers::usage() {
            most = most.max(tier.bytes);
            over += u64::from(tier.bytes > tier.capacity);
        }
    }
    format!("{stored} stored, at most {most} bytes, {over} times over capacity")
}

/// Takes memory until none is left.
fn grow() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(vec![1; 1 << 20]);
        std::hint::black_box(&held);
    }
}

/// `size` bytes that depend on their position and on `seed`.
fn pattern(seed: u64, size: u64) -> Vec<u8> {
    let byte = |at: u64| {
        let [low, ..] = (at ^ at >> 8 ^ at >> 16).wrapping_add(seed).to_le_bytes();
        low
    };
    (0..size).map(byte).collect()
}

/// The hash of no bytes.
const HASH: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, continued from `seen`.
fn hash(seen: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seen, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
