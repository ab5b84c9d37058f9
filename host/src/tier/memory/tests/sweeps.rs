//! Purges of many entries that wait: each is in force at once, and counts only what those before it
//! have left.

use super::{audit, domain, get, put, spread, tagged};
use crate::clock::Moment;
use crate::entry::{SiteId, Tag};
use crate::tier::Selection;
use crate::tier::memory::put::Put;
use crate::tier::memory::stats::UnderWay;
use crate::tier::memory::stripe::sweep::{Manner, Part, SWEEPS_MAX};

#[test]
fn a_large_purge_does_not_wait_for_those_before_it_and_counts_what_they_left() {
    const EACH: u64 = 3_000;
    let domain = domain(1 << 26, 1 << 20, (2, 2));
    for key in 0..2 * EACH {
        // Every third has a tag of its own, across both sites.
        let tags = if key % 3 == 0 { vec![1, 2] } else { vec![1] };
        assert_eq!(put(&domain, &tagged(key, 0, key % 2, &tags)), Put::Stored);
    }
    let tag = |tag| Part::Tag(Tag(spread(tag)));
    let now = Moment::from_millis(1);
    let in_force = |part, manner| domain.inner.put_in_force(part, manner).entries;
    assert_eq!(in_force(tag(2), Manner::Soften(now)), 2 * EACH / 3);
    assert_eq!(in_force(Part::Site(SiteId(1)), Manner::Remove), EACH);
    assert_eq!(in_force(tag(2), Manner::Remove), EACH / 3);
    assert_eq!(in_force(tag(2), Manner::Remove), 0);
    let left = EACH - EACH / 3;
    let all = Selection::everything();
    assert_eq!(domain.count(&all).entries, left);
    assert_eq!(in_force(Part::All, Manner::Soften(now)), left);
    // Nobody has carried any of them out yet.
    assert_eq!(domain.usage().entries, 2 * EACH);
    let under_way = domain.purges_under_way();
    assert_eq!((under_way.purges, under_way.places), (4, 2 * EACH));
    for key in 0..2 * EACH {
        let stays = key % 2 == 0 && key % 3 != 0;
        let found = get(&domain, key);
        assert_eq!(found.is_some(), stays, "key {key}");
        assert!(
            found.is_none_or(|found| !found.is_fresh_at(now)),
            "key {key}"
        );
    }
    assert_eq!(in_force(Part::All, Manner::Remove), left);
    domain.finish_purges();
    assert_eq!((domain.usage().entries, domain.usage().bytes), (0, 0));
    assert_eq!(domain.purges_under_way(), UnderWay::default());
    audit(&domain);
}

#[test]
fn purges_that_wait_are_bounded() {
    let domain = domain(1 << 26, 1 << 20, (1, 1));
    for key in 0..100 {
        assert_eq!(put(&domain, &tagged(key, 0, 0, &[key % 2])), Put::Stored);
    }
    let part = Part::Tag(Tag(spread(1)));
    for since in 1..=3 * u64::try_from(SWEEPS_MAX).unwrap() {
        let manner = Manner::Soften(Moment::from_millis(since));
        assert_eq!(domain.inner.put_in_force(part, manner).entries, 50);
        assert!(domain.inner.lock(0).sweeps() <= SWEEPS_MAX);
    }
    // The first of them has made them stale.
    for key in 0..100 {
        let found = get(&domain, key).expect("it stays");
        assert_eq!(found.is_fresh_at(Moment::from_millis(1)), key % 2 == 0);
    }
    domain.finish_purges();
    assert_eq!(domain.inner.lock(0).sweeps(), 0);
}
