//! Eviction domains: which sites share one memory budget, and how large each budget is.

use super::number::ByteSize;

/// One eviction domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Positions of its sites, ascending.
    pub sites: Vec<usize>,
    /// Bytes of the memory tier that are its own.
    pub capacity: ByteSize,
}

/// Divides `capacity` among the domains of `sites`.
///
/// Sites whose eviction choice (the first of each pair) is equal form a domain. A domain gets the
/// sum of what its sites ask for (the second); domains whose sites ask for nothing share the rest
/// equally, and a domain that is the only one and asks for nothing gets everything. Where more is
/// asked for than there is, the earlier domains get theirs first. The shares never exceed
/// `capacity`.
pub fn shares<C: PartialEq>(capacity: ByteSize, sites: &[(C, Option<ByteSize>)]) -> Vec<Share> {
    let mut domains: Vec<(&C, Vec<usize>, Option<u64>)> = Vec::new();
    for (position, (choice, asked)) in sites.iter().enumerate() {
        let asked = asked.map(ByteSize::bytes);
        if let Some((_, members, sum)) = domains.iter_mut().find(|(own, ..)| *own == choice) {
            members.push(position);
            *sum = match (*sum, asked) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
        } else {
            domains.push((choice, vec![position], asked));
        }
    }
    let mut left = capacity.bytes();
    for asked in domains
        .iter_mut()
        .filter_map(|(_, _, asked)| asked.as_mut())
    {
        *asked = left.min(*asked);
        left -= *asked;
    }
    let silent = domains
        .iter()
        .filter(|(_, _, asked)| asked.is_none())
        .count();
    let equal = u64::try_from(silent)
        .ok()
        .and_then(|count| left.checked_div(count))
        .unwrap_or(0);
    domains
        .into_iter()
        .map(|(_, sites, asked)| Share {
            sites,
            capacity: ByteSize::new(asked.unwrap_or(equal)),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(capacity: u64, sites: &[(&str, Option<u64>)], expected: &[(&[usize], u64)]) {
        let sites: Vec<_> = sites
            .iter()
            .map(|(c, m)| (*c, m.map(ByteSize::new)))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(sites, bytes)| Share {
                sites: sites.to_vec(),
                capacity: ByteSize::new(*bytes),
            })
            .collect();
        assert_eq!(shares(ByteSize::new(capacity), &sites), expected);
    }

    #[test]
    fn equal_choices_share_a_domain() {
        check(100, &[("a", None)], &[(&[0], 100)]);
        check(100, &[("a", None), ("a", None)], &[(&[0, 1], 100)]);
        check(
            100,
            &[("a", None), ("b", None), ("a", None)],
            &[(&[0, 2], 50), (&[1], 50)],
        );
        check(
            100,
            &[("a", Some(30)), ("b", None), ("c", None)],
            &[(&[0], 30), (&[1], 35), (&[2], 35)],
        );
        check(
            100,
            &[("a", Some(30)), ("a", Some(20)), ("b", None)],
            &[(&[0, 1], 50), (&[2], 50)],
        );
        check(
            100,
            &[("a", None), ("a", Some(20)), ("b", None)],
            &[(&[0, 1], 20), (&[2], 80)],
        );
        check(
            100,
            &[("a", Some(80)), ("b", Some(80))],
            &[(&[0], 80), (&[1], 20)],
        );
        check(100, &[], &[]);
    }

    proptest! {
        #[test]
        fn no_byte_is_given_twice(capacity: u64, sites: Vec<(u8, Option<u64>)>) {
            let sites: Vec<_> =
                sites.into_iter().map(|(c, m)| (c % 4, m.map(ByteSize::new))).collect();
            let shares = shares(ByteSize::new(capacity), &sites);
            let sum: u128 = shares.iter().map(|share| u128::from(share.capacity.bytes())).sum();
            prop_assert!(sum <= u128::from(capacity));
            let mut members: Vec<_> = shares.into_iter().flat_map(|share| share.sites).collect();
            members.sort_unstable();
            prop_assert_eq!(members, (0..sites.len()).collect::<Vec<_>>());
        }
    }
}
