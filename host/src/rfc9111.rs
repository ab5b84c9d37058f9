//! RFC 9111 (HTTP caching) as pure rules for a shared cache: fields and times in, decisions out.
//!
//! Nothing here reads a clock, allocates a response or knows a tier; what a rule needs to know of
//! the world is an argument. A rule that the text words as "MUST NOT" may never be loosened by
//! what calls it, so the answers name the reason and not only the verdict.
//!
//! | section | file |
//! |---|---|
//! | RFC 9110 5.6 (lists, quoted strings) | [`list`] |
//! | RFC 9110 5.6.7 (dates) | [`date`] |
//! | RFC 9110 8.8.3 (entity tags) | [`entity_tag`] |
//! | RFC 9110 14.4, 15.3.7 (parts), 3.4 (combining them) | [`content_range`] |
//! | what the rules read of an exchange | [`facts`] |
//! | 3 (storing) | [`storable`] |
//! | 3.2, 4.3 (validation, freshening) | [`validation`] |
//! | 4.1 (`Vary`) | [`vary`] |
//! | 4.2 (freshness, age), RFC 5861 | [`freshness`] |
//! | 3, 5.2.3 (storing by an operator's word) | [`by_status`] |
//! | 4.4 (invalidation) | [`invalidation`] |
//! | RFC 9875 (cache groups) | [`cache_groups`] |
//! | 5.2 (directives), 5.4 (`Pragma`) | [`cache_control`] |
//! | RFC 9213 (directives for this cache) | [`targeted`] |
//! | RFC 9651 (their syntax) | [`structured`] |
//! | 4, 5.2.1 (reuse for one request) | [`reuse`] |

pub mod by_status;
pub mod cache_control;
pub mod cache_groups;
pub mod content_range;
pub mod date;
pub mod entity_tag;
pub mod facts;
pub mod freshness;
pub mod invalidation;
pub mod list;
pub mod reuse;
pub mod storable;
pub mod structured;
pub mod targeted;
pub mod validation;
pub mod vary;
