//! The calls of a program against a real memory tier.

use super::*;
use crate::cache::Cache;
use crate::entry::SiteId;
use crate::rfc9111::vary;
use crate::tier::memory::{Domain, DomainSettings, Shards};

const ENDLESS: u64 = u64::MAX;
const SITE: SiteId = SiteId(3);

fn domain(capacity: u64) -> Arc<Domain> {
    Arc::new(Domain::new(DomainSettings {
        name: "test".to_owned(),
        capacity,
        max_entries: 1_000,
        shards: Shards::Auto,
    }))
}

fn chain(site: SiteId, domain: &Arc<Domain>, cache: &Arc<Cache>) -> Chain {
    Chain::new(Arc::clone(cache), site, Some(Arc::clone(domain))).unwrap()
}

fn access(domain: &Arc<Domain>, quota: u64) -> Access {
    Access::new(chain(SITE, domain, &Arc::default()), quota)
}

fn put(access: &mut Access, key: &str, body: &[u8], lifetime: u64) -> Result<(), Error> {
    let options = PutOptions {
        lifetime,
        tags: Vec::new(),
        tiers: Vec::new(),
    };
    access.put(key.to_owned(), body.to_vec(), options)
}

fn put_tagged(access: &mut Access, key: &str, tags: &[&str]) -> Result<(), Error> {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    let options = PutOptions {
        lifetime: ENDLESS,
        tags,
        tiers: Vec::new(),
    };
    access.put(key.to_owned(), Vec::new(), options)
}

fn lookup(access: &mut Access, key: &str) -> Option<Described> {
    access
        .lookup(key.to_owned())
        .expect("memory is always there")
}

fn read(access: &mut Access, key: &str, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
    access.read(key.to_owned(), offset, length)
}

#[test]
fn an_entry_comes_back_as_it_was_put() {
    let mut access = access(&domain(1 << 20), ENDLESS);
    assert!(lookup(&mut access, "a").is_none());
    assert_eq!(put(&mut access, "a", b"hello", 60_000), Ok(()));
    let found = lookup(&mut access, "a").expect("it was put");
    assert_eq!((found.length, found.lifetime), (5, 60_000));
    assert_eq!(found.tier, "memory");
    assert_eq!(found.tags, Vec::<String>::new());
    assert!(found.age < found.lifetime);
    assert_eq!(put(&mut access, "a", b"world!", ENDLESS), Ok(()));
    assert_eq!(read(&mut access, "a", 0, 100), Ok(b"world!".to_vec()));
    assert_eq!(access.remove("a".to_owned()), Ok(true));
    assert_eq!(access.remove("a".to_owned()), Ok(false));
    assert_eq!(read(&mut access, "a", 0, 100), Err(Error::NotFound));
}

#[test]
fn reads_are_bounded_by_the_body_and_by_a_mebibyte() {
    let mut access = access(&domain(64 << 20), ENDLESS);
    assert_eq!(put(&mut access, "a", b"0123456789", ENDLESS), Ok(()));
    for (offset, length, expected) in [
        (0, 10, "0123456789"),
        (0, 4, "0123"),
        (4, 3, "456"),
        (8, 3, "89"),
        (8, READ_MAX, "89"),
        (0, 0, ""),
        (10, 1, ""),
        (11, 1, ""),
        (u64::MAX, READ_MAX, ""),
    ] {
        let found = read(&mut access, "a", offset, length);
        assert_eq!(found, Ok(expected.into()), "{length} from {offset}");
    }
    for length in [READ_MAX + 1, u32::MAX] {
        assert_eq!(read(&mut access, "a", 0, length), Err(Error::TooLarge));
        assert_eq!(read(&mut access, "none", 0, length), Err(Error::TooLarge));
    }
    let large = vec![7; 3 << 20];
    assert_eq!(put(&mut access, "large", &large, ENDLESS), Ok(()));
    let found = read(&mut access, "large", 1, READ_MAX).map(|bytes| bytes.len());
    assert_eq!(found, Ok(1 << 20));
}

#[test]
fn what_is_past_its_lifetime_is_shown_and_not_read() {
    let domain = domain(1 << 20);
    let mut access = access(&domain, ENDLESS);
    assert_eq!(put(&mut access, "zero", b"x", 0), Ok(()));
    let found = lookup(&mut access, "zero").expect("it was put");
    assert!(found.age >= found.lifetime);
    assert_eq!(read(&mut access, "zero", 0, 1), Err(Error::NotFound));

    let options = PutOptions {
        lifetime: 5_000,
        tags: Vec::new(),
        tiers: Vec::new(),
    };
    let mut aged = access
        .entry("aged", b"x".to_vec(), options)
        .expect("it fits");
    for (age, expected) in [(4_000, Ok(b"x".to_vec())), (5_000, Err(Error::NotFound))] {
        let Content::Response(response) = &mut aged.content else {
            panic!("a program puts responses");
        };
        response.lifetime.initial_age = Duration::from_millis(age);
        assert_eq!(
            domain.put(&Arc::new(aged.clone()), None, &|| true),
            Put::Stored
        );
        assert_eq!(read(&mut access, "aged", 0, 1), expected);
        let found = lookup(&mut access, "aged").expect("it was put");
        assert!(found.age >= age);
        assert_eq!(found.lifetime, 5_000);
    }
}

#[test]
fn lifetimes_beyond_2_to_the_53_are_without_end() {
    let mut access = access(&domain(1 << 20), ENDLESS);
    for (given, shown) in [
        (LIFETIME_MAX, LIFETIME_MAX),
        (LIFETIME_MAX + 1, u64::MAX),
        (u64::MAX, u64::MAX),
    ] {
        assert_eq!(put(&mut access, "a", b"x", given), Ok(()));
        let found = lookup(&mut access, "a").expect("it was put");
        assert_eq!(found.lifetime, shown);
        assert_eq!(read(&mut access, "a", 0, 1), Ok(b"x".to_vec()));
    }
}

#[test]
fn tags_are_checked_kept_by_name_and_purged_by() {
    let mut access = access(&domain(1 << 20), ENDLESS);
    let long = "t".repeat(TAG_MAX + 1);
    for bad in ["", "a b", "a,b", "a\n", "\u{e9}", "\u{7f}", &long] {
        let options = put_tagged(&mut access, "a", &["good", bad]);
        assert_eq!(options, Err(Error::Refused), "{bad:?}");
        assert_eq!(access.purge_tag(bad.to_owned()), Err(Error::Refused));
    }
    let many: Vec<String> = (0..=TAGS_MAX).map(|tag| format!("t{tag}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(put_tagged(&mut access, "a", &many), Err(Error::Refused));
    assert!(lookup(&mut access, "a").is_none(), "nothing was stored");

    assert_eq!(
        put_tagged(&mut access, "many", many.get(1..).unwrap()),
        Ok(())
    );
    let found = lookup(&mut access, "many").expect("it was put");
    assert_eq!(found.tags, many.get(1..).unwrap());
    let longest = "t".repeat(TAG_MAX);
    assert_eq!(put_tagged(&mut access, "a", &["x", &longest, "x"]), Ok(()));
    assert_eq!(put_tagged(&mut access, "b", &["x", "y"]), Ok(()));
    let found = lookup(&mut access, "a").expect("it was put");
    assert_eq!(found.tags, ["x", longest.as_str()], "each once");
    assert_eq!(access.purge_tag("y".to_owned()), Ok(1));
    assert_eq!(access.purge_tag("x".to_owned()), Ok(1));
    assert_eq!(access.purge_tag("x".to_owned()), Ok(0));
    assert!(lookup(&mut access, "many").is_some());
}

#[test]
fn keys_of_programs_are_nobody_elses() {
    let (domain, cache) = (domain(1 << 20), Arc::<Cache>::default());
    let chain_of = |site| chain(site, &domain, &cache);
    let mut access = Access::new(chain_of(SITE), ENDLESS);
    // The front's form of a primary key: the site's number, then text that a client may choose.
    let text = "\0\0\0\0\0\0\0\0http://example.com/\n";
    let primary = [SITE.0.to_be_bytes().as_slice(), text.as_bytes()].concat();
    let mut secondary = Vec::new();
    vary::secondary(&primary, &[], &HeaderMap::new(), &mut secondary);
    assert_ne!(PROGRAM, vary::SECONDARY);
    for bytes in [primary, secondary] {
        let key = cache.hasher.key(&bytes).to_key();
        let content = access
            .entry("x", b"response".to_vec(), no_tags())
            .expect("it fits")
            .content;
        let entry = Arc::new(Entry::new(key.clone(), SITE, Vec::new(), content));
        assert_eq!(domain.put(&entry, None, &|| true), Put::Stored);
        let unmarked = bytes.get(4..).unwrap_or_default();
        for name in [
            String::from_utf8_lossy(&bytes),
            String::from_utf8_lossy(unmarked),
        ] {
            assert!(lookup(&mut access, &name).is_none(), "{name:?}");
            assert_eq!(put(&mut access, &name, b"other", ENDLESS), Ok(()));
            assert_eq!(access.remove(name.into_owned()), Ok(true));
        }
        let found = domain.peek(key.view()).expect("no program reached it");
        assert!(Arc::ptr_eq(&found, &entry));
    }
    let mut neighbour = Access::new(chain_of(SiteId(4)), ENDLESS);
    assert_eq!(put_tagged(&mut access, "a", &["t"]), Ok(()));
    assert!(lookup(&mut neighbour, "a").is_none());
    assert_eq!(neighbour.remove("a".to_owned()), Ok(false));
    assert_eq!(neighbour.purge_tag("t".to_owned()), Ok(0));
    assert!(lookup(&mut access, "a").is_some());
}

fn no_tags() -> PutOptions {
    PutOptions {
        lifetime: ENDLESS,
        tags: Vec::new(),
        tiers: Vec::new(),
    }
}

#[test]
fn keys_have_at_most_a_kibibyte() {
    let mut access = access(&domain(1 << 20), ENDLESS);
    let longest = "k".repeat(KEY_MAX);
    for key in ["", &longest] {
        assert_eq!(put(&mut access, key, b"x", ENDLESS), Ok(()));
        assert_eq!(read(&mut access, key, 0, 1), Ok(b"x".to_vec()));
    }
    let key = "k".repeat(KEY_MAX + 1);
    assert_eq!(put(&mut access, &key, b"x", ENDLESS), Err(Error::Refused));
    assert_eq!(read(&mut access, &key, 0, 1), Err(Error::Refused));
    assert_eq!(access.lookup(key.clone()).err(), Some(Error::Refused));
    assert_eq!(access.remove(key), Err(Error::Refused));
}

#[test]
fn a_put_beyond_the_quota_changes_nothing() {
    let domain = domain(1 << 20);
    let mut measuring = access(&domain, ENDLESS);
    assert_eq!(put(&mut measuring, "a", b"older", ENDLESS), Ok(()));
    let charge = domain.usage().bytes;
    for (quota, puts) in [(0, 0), (charge - 1, 0), (charge, 1), (charge * 3, 3)] {
        let mut access = access(&domain, quota);
        let stored = (0..5).filter(|_| put(&mut access, "a", b"newer", ENDLESS).is_ok());
        assert_eq!(stored.count(), puts, "with {quota} bytes");
        let error = put(&mut access, "a", b"never", ENDLESS);
        assert_eq!(error, Err(Error::Refused));
    }
    let mut access = access(&domain, charge);
    assert_eq!(put(&mut access, "a", b"older", ENDLESS), Ok(()));
    assert_eq!(
        put(&mut access, "a", b"newer", ENDLESS),
        Err(Error::Refused)
    );
    assert_eq!(read(&mut access, "a", 0, 5), Ok(b"older".to_vec()));
}

#[test]
fn what_a_tier_cannot_take_is_said_and_costs_no_quota() {
    let small = domain(64 << 10);
    let mut access = access(&small, 64 << 10);
    assert_eq!(put(&mut access, "a", b"older", ENDLESS), Ok(()));
    let left = access.quota;
    let body = vec![0; 20 << 10];
    assert_eq!(put(&mut access, "a", &body, ENDLESS), Err(Error::TooLarge));
    assert_eq!(access.quota, left);
    assert!(
        lookup(&mut access, "a").is_none(),
        "the older one is out of date"
    );

    let mut nothing = Access::new(chain(SITE, &domain(0), &Arc::default()), ENDLESS);
    assert_eq!(put(&mut nothing, "a", b"x", ENDLESS), Err(Error::Refused));

    let reserved = [(); 4].map(|()| small.reserve(16 << 10).expect("it is empty"));
    assert_eq!(
        put(&mut access, "a", b"x", ENDLESS),
        Err(Error::Unavailable)
    );
    drop(reserved);
    assert_eq!(put(&mut access, "a", b"x", ENDLESS), Ok(()));
}

#[test]
fn a_body_read_in_pieces_is_used_once() {
    let domain = domain(1 << 20);
    let mut access = access(&domain, ENDLESS);
    assert_eq!(put(&mut access, "a", b"0123456789", ENDLESS), Ok(()));
    for offset in 0..10 {
        assert_eq!(
            read(&mut access, "a", offset, 1).map(|read| read.len()),
            Ok(1)
        );
    }
    assert_eq!(domain.stats().hits, 1);
}

#[test]
fn usage_is_that_of_the_tier() {
    let domain = domain(1 << 20);
    let mut access = access(&domain, ENDLESS);
    assert_eq!(put(&mut access, "a", b"x", ENDLESS), Ok(()));
    let usage = access.usage();
    let [memory] = usage.as_slice() else {
        panic!("one tier, not {}", usage.len());
    };
    assert_eq!(memory.name, "memory");
    assert_eq!((memory.entries, memory.capacity), (1, 1 << 20));
    assert_eq!(memory.bytes, domain.usage().bytes);
}
