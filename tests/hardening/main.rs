//! Attacks: requests that two parsers read in two ways, requests that try to change what others
//! get, and requests that try to have stored what is private.

#[path = "../support.rs"]
mod support;

mod deception;
mod poisoning;
mod real_origin;
mod smuggling;
mod smuggling_http2;
