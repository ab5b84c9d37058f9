//! What the mirrored modules know of the configuration.

/// As the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WritePolicy {
    /// Nobody's failure counts.
    Ignore,
    /// The first tier's.
    #[default]
    L0,
    /// Any tier's.
    All,
}
