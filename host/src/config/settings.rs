//! The keys outside `[[site]]`, as a table: what the environment and flags may replace, and what
//! `check` shows.
//!
//! `settings_and_structs_agree` fails when a section gains a key that this table lacks.

use super::Config;
use super::text::{Rejected, Setting};

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its path in the file, such as `memory.capacity`.
    pub path: &'static str,
    read: fn(&Config) -> Option<String>,
    write: fn(&mut Config, &str) -> Result<(), Rejected>,
}

macro_rules! keys {
    ($( $path:literal = $($field:ident).+ ),+ $(,)?) => {
        const KEYS: &[Key] = &[$( Key {
            path: $path,
            read: |config| Setting::write(&config.$($field).+),
            write: |config, text| {
                config.$($field).+ = Setting::read(text)?;
                Ok(())
            },
        } ),+];
    };
}

keys! {
    "data_dir" = data_dir,
    "listen.http" = listen.http,
    "listen.tls.https" = listen.tls.https,
    "admin.listen" = admin.listen,
    "admin.token_file" = admin.token_file,
    "purge.allow" = purge.allow,
    "memory.capacity" = memory.capacity,
    "disk.dir" = disk.dir,
    "disk.capacity" = disk.capacity,
    "disk.timeout" = disk.timeout,
    "object_store.url" = object_store.url,
    "object_store.mode" = object_store.mode,
    "object_store.timeout" = object_store.timeout,
    "tiers" = tiers,
    "limits.request_head" = limits.request_head,
    "limits.target" = limits.target,
    "limits.request_fields" = limits.request_fields,
    "limits.request_body" = limits.request_body,
    "limits.connections" = limits.connections,
    "limits.waiters" = limits.waiters,
    "limits.fetches" = limits.fetches,
    "limits.connect" = limits.connect,
    "limits.first_byte" = limits.first_byte,
    "limits.origin_idle" = limits.origin_idle,
    "limits.head" = limits.head,
    "limits.client_idle" = limits.client_idle,
    "limits.drain" = limits.drain,
    "limits.policy_upload" = limits.policy_upload,
    "limits.policy_deadline" = limits.policy_deadline,
    "limits.policy_memory" = limits.policy_memory,
    "log.level" = log.level,
    "log.access" = log.access,
    "record.dir" = record.dir,
    "record.size" = record.size,
    "trusted" = trusted,
}

/// Names of the environment that are shorter than what their key would make them: those of the
/// flags.
const SHORT: &[(&str, &str)] = &[
    ("LARDER_LISTEN", "listen.http"),
    ("LARDER_ADMIN", "admin.listen"),
    ("LARDER_TOKEN_FILE", "admin.token_file"),
    ("LARDER_MEMORY", "memory.capacity"),
    ("LARDER_DISK", "disk.capacity"),
    ("LARDER_OBJECT_STORE", "object_store.url"),
];

/// Names of the environment that are read elsewhere.
const ELSEWHERE: &[&str] = &["LARDER_CONFIG", "LARDER_ORIGIN"];

impl Key {
    /// Every key outside `[[site]]`.
    pub fn all() -> &'static [Self] {
        KEYS
    }

    /// The key at `path`.
    pub fn at(path: &str) -> Option<Self> {
        KEYS.iter().find(|key| key.path == path).copied()
    }

    /// Names of the environment that replace it, the strongest first.
    pub fn variables(self) -> Vec<String> {
        let short = SHORT.iter().filter(|(_, path)| *path == self.path);
        let mut names: Vec<_> = short.map(|(name, _)| (*name).to_owned()).collect();
        names.push(format!(
            "LARDER_{}",
            self.path.replace('.', "_").to_ascii_uppercase()
        ));
        names
    }

    /// The value as it would be written, `None` if there is none.
    pub fn value(self, config: &Config) -> Option<String> {
        (self.read)(config)
    }

    /// Replaces the value.
    pub(super) fn set(self, config: &mut Config, text: &str) -> Result<(), Rejected> {
        (self.write)(config, text)
    }
}

/// Whether the environment's `name` means anything to Larder.
pub(super) fn is_variable(name: &str) -> bool {
    ELSEWHERE.contains(&name)
        || KEYS
            .iter()
            .any(|key| key.variables().iter().any(|variable| variable == name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_variable() {
        let names = |path: &str| Key::at(path).unwrap().variables();
        assert_eq!(
            names("memory.capacity"),
            ["LARDER_MEMORY", "LARDER_MEMORY_CAPACITY"]
        );
        assert_eq!(names("limits.first_byte"), ["LARDER_LIMITS_FIRST_BYTE"]);
        assert_eq!(names("data_dir"), ["LARDER_DATA_DIR"]);
        assert!(is_variable("LARDER_TRUSTED") && is_variable("LARDER_ORIGIN"));
        assert!(!is_variable("LARDER_MEMROY"));
    }

    /// The error for an unknown key lists the keys of its section, so each section is asked.
    #[test]
    fn settings_and_structs_agree() {
        for (section, prefix) in [
            ("", ""),
            ("[listen]", "listen."),
            ("[listen.tls]", "listen.tls."),
            ("[admin]", "admin."),
            ("[purge]", "purge."),
            ("[memory]", "memory."),
            ("[disk]", "disk."),
            ("[object_store]", "object_store."),
            ("[limits]", "limits."),
            ("[log]", "log."),
            ("[record]", "record."),
        ] {
            let error =
                toml::from_str::<Config>(&format!("{section}\nno_such_key = 1")).unwrap_err();
            let listed = error.message().split('`').skip(3).step_by(2);
            // Sections within sections, and lists of them, are no keys.
            let listed = listed.filter(|name| !["tls", "certificate"].contains(name));
            for name in listed.filter(|name| {
                !prefix.is_empty() || ["data_dir", "tiers", "trusted"].contains(name)
            }) {
                assert!(
                    Key::at(&format!("{prefix}{name}")).is_some(),
                    "{prefix}{name}"
                );
            }
        }
    }

    #[test]
    fn what_a_key_shows_it_reads() {
        let defaults = Config::default();
        for key in KEYS {
            let mut config = Config::default();
            if let Some(text) = key.value(&defaults) {
                key.set(&mut config, &text).unwrap();
            }
            assert_eq!(config, defaults, "{}", key.path);
        }
    }
}
