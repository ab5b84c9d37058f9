//! Atomics of the checker that take no more room than those of the standard library: a scene has
//! tens of thousands of them. Before each access others may go on; every ordering is `SeqCst`.

pub(crate) use std::sync::atomic::Ordering;

/// Lets others go on, or not: what the checker does before it reads an atomic of its own.
pub(crate) fn turn() {
    shuttle::sync::atomic::AtomicBool::new(false).load(Ordering::SeqCst);
}

macro_rules! atomics {
    ($($name:ident of $value:ty;)*) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name(std::sync::atomic::$name);

        impl $name {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, _: Ordering) -> $value {
                turn();
                self.0.load(Ordering::SeqCst)
            }

            pub(crate) fn store(&self, value: $value, _: Ordering) {
                turn();
                self.0.store(value, Ordering::SeqCst);
            }

            pub(crate) fn swap(&self, value: $value, _: Ordering) -> $value {
                turn();
                self.0.swap(value, Ordering::SeqCst)
            }
        }
    )*};
}

macro_rules! numbers {
    ($($name:ident of $value:ty;)*) => {
        atomics! { $($name of $value;)* }
        $(
            impl $name {
                pub(crate) fn fetch_add(&self, value: $value, _: Ordering) -> $value {
                    turn();
                    self.0.fetch_add(value, Ordering::SeqCst)
                }

                pub(crate) fn fetch_sub(&self, value: $value, _: Ordering) -> $value {
                    turn();
                    self.0.fetch_sub(value, Ordering::SeqCst)
                }

                pub(crate) fn fetch_max(&self, value: $value, _: Ordering) -> $value {
                    turn();
                    self.0.fetch_max(value, Ordering::SeqCst)
                }

                /// Of one piece: others that come in between only have it tried again.
                pub(crate) fn fetch_update(
                    &self,
                    _: Ordering,
                    _: Ordering,
                    update: impl FnMut($value) -> Option<$value>,
                ) -> Result<$value, $value> {
                    turn();
                    let seq_cst = Ordering::SeqCst;
                    self.0.fetch_update(seq_cst, seq_cst, update)
                }
            }
        )*
    };
}

atomics! { AtomicBool of bool; }
numbers! { AtomicU8 of u8; AtomicU32 of u32; AtomicU64 of u64; }
