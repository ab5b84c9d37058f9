//! User policies: how they are kept, loaded, called, and taken out of service.
//!
//! A call either answers within its limits or counts as a fault, and the native rule of its hook
//! answers instead; no error of a policy reaches a request.
//!
//! | file | subject |
//! |---|---|
//! | `hook`, `refusal` | the three hooks and their names; why a policy is refused |
//! | `inspect` | what an uploaded file is, before any of it is compiled |
//! | `compile`, `artefacts` | compiling within limits; compiled code kept and authenticated |
//! | `registry`, `state`, `durable` | uploaded policies and what is active, across restarts |
//! | `library` | all of the above as one: policies by name, ready to be activated |
//! | `engine`, `component`, `sandbox` | the wasmtime engine, a loaded policy, one instance's limits |
//! | `activation`, `breaker`, `ledger` | what runs at a hook, when it is taken out, its counts |
//! | `local`, `keying`, `freshness` | the hooks that requests call, one instance a worker |
//! | `examine` | a file, or a choice of policies, looked at without a running edge |
//! | `evictor`, `reinserter` | the hook that orders a memory shard; what it keeps on disk |

pub mod activation;
pub mod artefacts;
pub mod bindings;
pub mod breaker;
pub mod compile;
pub mod component;
pub mod durable;
pub mod engine;
pub mod evictor;
pub mod examine;
pub mod freshness;
pub mod hook;
pub mod inspect;
pub mod keying;
pub mod ledger;
pub mod library;
pub mod local;
pub mod refusal;
pub mod registry;
pub mod reinserter;
pub mod sandbox;
pub mod state;

use http::{HeaderMap, HeaderName};

use sandbox::Fault;

/// Bytes of a guest's own error text that are shown.
const MESSAGE_MAX: usize = 1 << 10;

/// The guest refused its parameters.
fn refused(message: &str) -> Fault {
    let end = message.floor_char_boundary(MESSAGE_MAX);
    let detail = message.get(..end).unwrap_or_default().to_owned();
    Fault {
        kind: sandbox::FaultKind::Parameters,
        detail,
    }
}

/// The field names a guest declared.
fn field_names(names: &[String], max: usize) -> Result<Vec<HeaderName>, Fault> {
    if names.len() > max {
        return Err(Fault::answer(format!(
            "{} declared fields; {max} are allowed",
            names.len()
        )));
    }
    let parse = |name: &String| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Fault::answer(format!("{name:?} is not a field name")))
    };
    names.iter().map(parse).collect()
}

/// Appends the value of field `name`: several lines joined as RFC 9110 5.3 says, bytes beyond
/// ASCII read as Latin-1. Whether there was one.
fn push_field(headers: &HeaderMap, name: &HeaderName, text: &mut String) -> bool {
    let separator = if *name == http::header::COOKIE {
        "; "
    } else {
        ", "
    };
    let mut present = false;
    for value in headers.get_all(name) {
        if present {
            text.push_str(separator);
        }
        match keying::visible(value) {
            Some(value) => text.push_str(value),
            None => text.extend(value.as_bytes().iter().copied().map(char::from)),
        }
        present = true;
    }
    present
}
