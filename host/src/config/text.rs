//! Values that are written as text: in the file, in the environment and on the command line.
//!
//! Such a value implements `FromStr` with an error that is a whole clause (what was found, what
//! is wrong, what would be accepted) and `Display` that writes it back. This file adds the rest,
//! so that one rule reads the value wherever it was written.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{self, Visitor};

/// Why a text is not a value: what was found and what is accepted instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejected(String);

impl Rejected {
    /// `found` is not `what`; `accepted` says what to write instead.
    pub fn new(found: &str, what: &str, accepted: &str) -> Self {
        Self(format!("\"{found}\" is not {what}; {accepted}"))
    }

    /// A clause of the caller's own.
    pub fn because(clause: impl Into<String>) -> Self {
        Self(clause.into())
    }
}

/// Reads a text value from any TOML scalar, so that `4.5` is refused by the same words as `"4.5"`.
pub(super) struct TextVisitor<T> {
    expecting: &'static str,
    value: PhantomData<T>,
}

impl<T> TextVisitor<T> {
    pub(super) const fn new(expecting: &'static str) -> Self {
        Self {
            expecting,
            value: PhantomData,
        }
    }
}

impl<T: FromStr<Err = Rejected>> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<T, E> {
        self.visit_str(&value.to_string())
    }
}

/// Implements `Deserialize` and [`Setting`] for text values; the text is what an array or a table is told it
/// should have been.
macro_rules! text_value {
    ($type:ty, $expecting:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any($crate::config::text::TextVisitor::<$type>::new($expecting))
            }
        }

        impl $crate::config::text::Setting for $type {
            fn read(text: &str) -> Result<Self, $crate::config::text::Rejected> {
                text.parse()
            }

            fn write(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    };
}

/// Declares an enum whose variants are words of the configuration.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident ($what:literal) {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
        }

        impl $name {
            /// The word that stands for it in the configuration.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::config::text::Rejected;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $( $word => Ok(Self::$variant), )+
                    _ => Err($crate::config::text::Rejected::new(
                        text,
                        $what,
                        &format!("write one of {}", [$( $word ),+].join(", ")),
                    )),
                }
            }
        }

        $crate::config::text::text_value!($name, $what);
    };
}

pub(super) use {text_value, words};

/// A value of the configuration that one environment variable or flag can replace.
pub(super) trait Setting: Sized {
    fn read(text: &str) -> Result<Self, Rejected>;
    /// `None`: not set, and nothing stands in for it.
    fn write(&self) -> Option<String>;
}

impl<T: Setting> Setting for Option<T> {
    fn read(text: &str) -> Result<Self, Rejected> {
        T::read(text).map(Some)
    }

    fn write(&self) -> Option<String> {
        self.as_ref().and_then(T::write)
    }
}

impl Setting for String {
    fn read(text: &str) -> Result<Self, Rejected> {
        Ok(text.to_owned())
    }

    fn write(&self) -> Option<String> {
        Some(self.clone())
    }
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, Rejected> {
        Ok(Self::from(text))
    }

    fn write(&self) -> Option<String> {
        Some(self.display().to_string())
    }
}

/// Written with commas.
impl<T: Setting> Setting for Vec<T> {
    fn read(text: &str) -> Result<Self, Rejected> {
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(T::read)
            .collect()
    }

    fn write(&self) -> Option<String> {
        let items: Vec<_> = self.iter().filter_map(T::write).collect();
        (!items.is_empty()).then(|| items.join(", "))
    }
}
