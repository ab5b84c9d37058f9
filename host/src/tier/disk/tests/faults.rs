//! What the tier does when something fails.
