//! Which entries a disk tier writes again when it reclaims a segment: the [`Reinsertion`] trait and
//! the views of its calls.

use std::cell::RefCell;
use std::thread::LocalKey;
use std::time::Duration;

use crate::Params;

/// What decides which entries of a reclaimed segment are kept. Export it with
/// [`reinsertion!`](crate::reinsertion!), beside an eviction policy.
pub trait Reinsertion: Sized + 'static {
    /// Makes it from the parameters of the eviction policy, which has checked them: this asks for
    /// those that it needs.
    ///
    /// # Errors
    /// The text is shown to the operator, and the policy is not activated.
    fn configure(params: &Params) -> Result<Self, String>;

    /// Whether each of `entries` is worth being written again: as many answers, in their sequence.
    ///
    /// They are reclaimed together, though a large segment takes several calls. The host keeps no
    /// more than a share of a segment.
    fn keep(&self, entries: &[Stored]) -> Vec<bool>;
}

/// An entry of a segment that is reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Keyed hash of its key, the same as in [`Insert`](crate::eviction::Insert).
    pub hash: u64,
    /// Bytes it takes.
    pub size_bytes: u64,
    /// Hits since it was written.
    pub hits: u32,
    /// Time since it was written.
    pub age: Duration,
    /// How long it stays fresh; `None`: without end.
    pub lifetime: Option<Duration>,
}

impl Stored {
    /// Hits for each byte, by which a tier of mixed sizes serves the most requests.
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "sizes above 2^53 need not be told apart"
    )]
    pub fn density(&self) -> f64 {
        f64::from(self.hits) / self.size_bytes.max(1) as f64
    }

    fn unpacked([hash, size_bytes, uses, lifetime_s]: [u64; 4]) -> Self {
        Self {
            hash,
            size_bytes,
            hits: u32::try_from(uses & u64::from(u32::MAX)).unwrap_or(u32::MAX),
            age: Duration::from_secs(uses >> 32),
            lifetime: (lifetime_s != u64::MAX).then(|| Duration::from_secs(lifetime_s)),
        }
    }
}

/// A host keeps this part of a segment at most.
const KEPT_PART: u64 = 4;

/// What was hit since it was written: what a host keeps that has no policy to ask.
pub fn keep_used(entries: &[Stored]) -> Vec<bool> {
    entries.iter().map(|entry| entry.hits > 0).collect()
}

/// Of what was hit since it was written, those of the most `worth`, as long as they are no more
/// than a quarter of the bytes of all `entries`: what a host keeps at most.
pub fn keep_best(entries: &[Stored], worth: impl Fn(&Stored) -> f64) -> Vec<bool> {
    let sum = |sum: u64, entry: &Stored| sum.saturating_add(entry.size_bytes);
    let mut left_bytes = entries.iter().fold(0, sum) / KEPT_PART;
    let ranked = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| entry.hits > 0);
    let mut ranked: Vec<_> = ranked
        .map(|(at, entry)| (worth(entry), at, entry))
        .collect();
    ranked.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
    let mut keep = vec![false; entries.len()];
    for (_, at, entry) in ranked {
        if let Some(rest) = left_bytes.checked_sub(entry.size_bytes)
            && let Some(place) = keep.get_mut(at)
        {
            left_bytes = rest;
            *place = true;
        }
    }
    keep
}

/// The instance's one policy.
#[doc(hidden)]
pub type Cell<T> = LocalKey<RefCell<Option<T>>>;

/// Answers `configure` of the interface.
#[doc(hidden)]
pub fn configure<T: Reinsertion>(cell: &'static Cell<T>, params: &str) -> Result<(), String> {
    let params = Params::parse(params)?;
    let policy = T::configure(&params)?;
    cell.set(Some(policy));
    Ok(())
}

/// Answers `reinsert` of the interface.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn reinsert<T: Reinsertion>(cell: &'static Cell<T>, words: &[u64]) -> Vec<u64> {
    let (entries, _) = words.as_chunks::<4>();
    let entries: Vec<_> = entries.iter().copied().map(Stored::unpacked).collect();
    let keep = cell.with_borrow(|policy| {
        let policy = policy.as_ref().expect("configure comes before reinsert");
        policy.keep(&entries)
    });
    packed(&keep)
}

/// One bit an answer, the lowest of the first word first.
fn packed(keep: &[bool]) -> Vec<u64> {
    let word = |keep: &[bool]| {
        let bits = keep.iter().rev();
        bits.fold(0, |word, keep| word << 1 | u64::from(*keep))
    };
    keep.chunks(64).map(word).collect()
}

/// Exports a type that implements [`Reinsertion`](crate::Reinsertion) beside this component's
/// eviction policy.
///
/// Outside Wasm it only checks the type, so that the policy is an ordinary library natively.
#[macro_export]
macro_rules! reinsertion {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Params) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::Reinsertion>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::bindings::reinsertion as generated;

            thread_local! {
                static POLICY: ::std::cell::RefCell<::std::option::Option<$policy>> =
                    const { ::std::cell::RefCell::new(::std::option::Option::None) };
            }

            struct Component;

            impl generated::exports::larder::policy::reinsertion::Guest for Component {
                fn configure(
                    params: ::std::string::String,
                ) -> ::std::result::Result<(), ::std::string::String> {
                    $crate::reinsertion::configure(&POLICY, &params)
                }

                fn reinsert(entries: ::std::vec::Vec<u64>) -> ::std::vec::Vec<u64> {
                    $crate::reinsertion::reinsert(&POLICY, &entries)
                }
            }

    generated::export_reinsertion!(Component with_types_in $crate::bindings::reinsertion);
        };
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Odd;

    impl Reinsertion for Odd {
        fn configure(_: &Params) -> Result<Self, String> {
            Ok(Self)
        }

        fn keep(&self, entries: &[Stored]) -> Vec<bool> {
            entries.iter().map(|entry| entry.hash % 2 == 1).collect()
        }
    }

    thread_local! {
        static ODD: RefCell<Option<Odd>> = const { RefCell::new(None) };
    }

    #[test]
    fn there_is_a_bit_for_each_entry() {
        configure(&ODD, "{}").unwrap();
        let words = |count: u64| -> Vec<u64> {
            let entry = |hash| [hash, 10, 3 << 32 | 2, u64::MAX];
            (0..count).flat_map(entry).collect()
        };
        assert_eq!(reinsert(&ODD, &words(0)), [0_u64; 0]);
        assert_eq!(reinsert(&ODD, &words(3)), [0b010]);
        assert_eq!(reinsert(&ODD, &words(64)), [0xaaaa_aaaa_aaaa_aaaa]);
        assert_eq!(reinsert(&ODD, &words(66)), [0xaaaa_aaaa_aaaa_aaaa, 0b10]);
    }

    #[test]
    fn words_are_read_as_the_interface_defines_them() {
        let entry = Stored::unpacked([7, 100, 3 << 32 | 2, 60]);
        let expected = Stored {
            hash: 7,
            size_bytes: 100,
            hits: 2,
            age: Duration::from_secs(3),
            lifetime: Some(Duration::from_mins(1)),
        };
        assert_eq!(entry, expected);
        assert_eq!(Stored::unpacked([0, 0, 0, u64::MAX]).lifetime, None);
    }

    #[test]
    fn the_best_quarter_is_kept() {
        let stored = |size_bytes, hits| Stored {
            hash: 0,
            size_bytes,
            hits,
            age: Duration::ZERO,
            lifetime: None,
        };
        let entries = [
            stored(100, 1),
            stored(150, 9),
            stored(100, 8),
            stored(50, 7),
            stored(600, 0),
        ];
        assert_eq!(keep_used(&entries), [true, true, true, true, false]);
        let hits = |entry: &Stored| f64::from(entry.hits);
        assert_eq!(keep_best(&entries, hits), [false, true, true, false, false]);
        let density = keep_best(&entries, Stored::density);
        assert_eq!(density, [true, false, true, true, false]);
        assert_eq!(keep_best(&[], hits), [false; 0]);
    }
}
