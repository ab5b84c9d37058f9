//! Which requests share a stored response: the [`Keying`] trait and the view of a request.
//!
//! `key` runs for every request, on the worker thread that serves it, so the view borrows from the
//! one packed text the host hands over and allocates nothing. The packed form is the host's word;
//! the view answers with empty text rather than trapping should the offsets not fit the text.

use std::cell::OnceCell;
use std::thread::LocalKey;

use crate::Params;
use crate::bindings::keying::exports::larder::policy::keying as wit;

/// A keying policy. Export it with [`keying!`](crate::keying!).
pub trait Keying: Sized + 'static {
    /// Makes the policy from the operator's parameters.
    ///
    /// Parameters that this did not ask for are refused after it returns.
    ///
    /// # Errors
    /// The text is shown to the operator, and the policy is not activated.
    fn configure(params: &Params) -> Result<Self, String>;

    /// Names of the request fields that [`key`](Self::key) reads: at most 32, in any case.
    /// Asked once, after [`configure`](Self::configure).
    fn fields(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Decides what `request` may share a stored response with.
    fn key(&self, request: Request<'_>) -> Verdict;
}

/// What a keying policy answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request is neither looked up nor stored; it goes to the origin as it came.
    Pass,
    /// Requests with equal keys share a stored response.
    Key {
        /// What the key holds and the origin is asked for; `None`: the target as it came.
        target: Option<String>,
        /// A short text that splits the key further; empty: one variant.
        variant: String,
    },
}

impl Verdict {
    /// The target as it came, one variant: what the host does without a policy.
    pub const AS_IT_CAME: Self = Self::Key {
        target: None,
        variant: String::new(),
    };

    /// This target in the place of the one that came, or the one that came, and one variant.
    pub fn target(target: Option<String>) -> Self {
        Self::Key {
            target,
            variant: String::new(),
        }
    }

    /// The target as it came, and this variant.
    pub fn variant(variant: impl Into<String>) -> Self {
        Self::Key {
            target: None,
            variant: variant.into(),
        }
    }
}

/// One request, as far as keying sees it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    text: &'a str,
    ends: [usize; 3],
    present: u32,
    names: &'a [String],
}

impl<'a> Request<'a> {
    /// The method, as it came: methods are case-sensitive (RFC 9110 9.1).
    pub fn method(&self) -> &'a str {
        let [method, ..] = self.ends;
        self.text.get(..method).unwrap_or_default()
    }

    /// The authority: host, and port where it is not the scheme's own; lower-case.
    pub fn authority(&self) -> &'a str {
        let [method, authority, _] = self.ends;
        self.text.get(method..authority).unwrap_or_default()
    }

    /// The request target: path and query.
    pub fn target(&self) -> &'a str {
        let [_, authority, target] = self.ends;
        self.text.get(authority..target).unwrap_or_default()
    }

    /// The target up to its first question mark.
    pub fn path(&self) -> &'a str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The target after its first question mark, if it has one.
    pub fn query(&self) -> Option<&'a str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The value of the `index`-th of the declared fields, if the request has it.
    ///
    /// A field that came on several lines is joined with `, ` (`cookie` with `; `).
    pub fn field(&self, index: usize) -> Option<&'a str> {
        let bit = 1_u32.checked_shl(u32::try_from(index).ok()?)?;
        if self.present & bit == 0 {
            return None;
        }
        let [.., target] = self.ends;
        let mut rest = self.text.get(target..)?;
        for _ in 0..(self.present & (bit - 1)).count_ones() {
            (_, rest) = rest.split_once('\n')?;
        }
        rest.split_once('\n').map(|(value, _)| value)
    }

    /// The value of the declared field `name` (lower-case), if the request has it.
    ///
    /// `None` also for a field that [`Keying::fields`] does not name.
    pub fn field_named(&self, name: &str) -> Option<&'a str> {
        self.field(self.names.iter().position(|declared| declared == name)?)
    }

    /// A view of `packed`, for a policy that declared `names`.
    fn new(packed: &'a wit::Request, names: &'a [String]) -> Self {
        let offset = |end: u32| usize::try_from(end).unwrap_or(usize::MAX);
        Self {
            text: &packed.text,
            ends: [
                offset(packed.method_end),
                offset(packed.authority_end),
                offset(packed.target_end),
            ],
            present: packed.present,
            names,
        }
    }
}

/// A configured policy with the fields it declared, which the views need for look-up by name.
#[derive(Debug)]
pub struct Configured<T> {
    policy: T,
    pub(crate) fields: Vec<String>,
}

impl<T: Keying> Configured<T> {
    /// Parses the parameters, configures the policy and asks for its fields.
    pub(crate) fn new(params: &str) -> Result<Self, String> {
        let params = Params::parse(params)?;
        let policy = T::configure(&params)?;
        params.finish()?;
        let fields: Vec<String> = (policy.fields().into_iter())
            .map(str::to_ascii_lowercase)
            .collect();
        Ok(Self { policy, fields })
    }

    /// Asks the policy.
    pub(crate) fn key(&self, request: &wit::Request) -> Verdict {
        self.policy.key(Request::new(request, &self.fields))
    }
}

/// The instance's one policy; the cell is written by `configure` and read by every call after it.
#[doc(hidden)]
pub type Cell<T> = LocalKey<OnceCell<Configured<T>>>;

/// Answers `configure` of the interface.
#[doc(hidden)]
pub fn configure<T: Keying>(cell: &'static Cell<T>, params: &str) -> Result<Vec<String>, String> {
    let configured = Configured::new(params)?;
    let fields = configured.fields.clone();
    cell.with(|cell| cell.set(configured))
        .map_err(|_| "configure was called twice".to_owned())?;
    Ok(fields)
}

/// Answers `key` of the interface.
///
/// # Panics
/// `configure` has not been called: the host's fault, and a trap tells it so.
#[doc(hidden)]
pub fn key<T: Keying>(cell: &'static Cell<T>, request: &wit::Request) -> wit::Verdict {
    cell.with(|cell| {
        let configured = cell.get().expect("configure comes before key");
        match configured.key(request) {
            Verdict::Pass => wit::Verdict::Pass,
            Verdict::Key { target, variant } => {
                wit::Verdict::Key(wit::CacheKey { target, variant })
            }
        }
    })
}

/// Exports a type that implements [`Keying`](crate::Keying) as this component's keying policy.
///
/// Outside Wasm it only checks the type, so that the policy is an ordinary library natively.
#[macro_export]
macro_rules! keying {
    ($policy:ty) => {
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Params) -> ::std::result::Result<$policy, ::std::string::String> =
            <$policy as $crate::Keying>::configure;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use generated::exports::larder::policy::keying as wit;
            use $crate::bindings::keying as generated;

            thread_local! {
                static POLICY: ::std::cell::OnceCell<$crate::keying::Configured<$policy>> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Component;

            impl wit::Guest for Component {
                fn configure(
                    params: ::std::string::String,
                ) -> ::std::result::Result<
                    ::std::vec::Vec<::std::string::String>,
                    ::std::string::String,
                > {
                    $crate::keying::configure(&POLICY, &params)
                }

                fn key(request: wit::Request) -> wit::Verdict {
                    $crate::keying::key(&POLICY, &request)
                }
            }

    generated::export_keying!(Component with_types_in $crate::bindings::keying);
        };
    };
}

#[cfg(test)]
mod tests;
