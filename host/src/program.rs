//! Components of world `program`, run off the request path.
