//! `policy new`: writes a crate that builds on its own.
//!
//! The library for policies and the interfaces are written into the crate, in the same relative
//! places as in Larder's own repository, so that their sources stay as they are. Their manifest
//! is made here, because the one in the repository inherits from its workspace. The lock file is
//! the one that this binary was built with: a new policy builds with versions that were tested.

use std::fs;
use std::io::Write;
use std::path::Path;

use super::Hook;
use crate::cli::Failure;
use crate::embedded;

/// Where the library goes within the crate.
const LIBRARY: &str = "larder";

/// What stands before the policy's name in the name of its package, so that no policy is called
/// like a crate it uses, or like a keyword.
pub(super) const PACKAGE_PREFIX: &str = "larder-policy-";

const WORKSPACE: &str = include_str!("../../../../Cargo.toml");
const LOCK: &str = include_str!("../../../../Cargo.lock");

const IGNORE: &str = "/target\n/*.wasm\n";
const CARGO_CONFIG: &str = "\
# `larder policy build` needs none of this; plain cargo does:
#   cargo build --release --target wasm32-unknown-unknown
[target.wasm32-unknown-unknown]
linker = \"wasm-component-ld\"
";

/// Reads the name of a new policy.
pub(super) fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let sound = text.len() <= 64 - PACKAGE_PREFIX.len()
        && text.bytes().next().is_some_and(plain)
        && text
            .bytes()
            .all(|byte| plain(byte) || byte == b'-' || byte == b'_');
    if !sound {
        return Err(format!(
            "\"{text}\" does not name a new policy; write 1 to {} of the characters a-z, 0-9, \
             \"-\" and \"_\", a letter or digit first",
            64 - PACKAGE_PREFIX.len()
        ));
    }
    if text.starts_with("native") || embedded::POLICIES.iter().any(|own| own.name == text) {
        return Err(format!(
            "\"{text}\" is the name of a policy that Larder has; write another"
        ));
    }
    Ok(text.to_owned())
}

/// Writes the crate of policy `name` into `dir`, which is empty or is made.
pub(super) fn write(name: &str, hook: Hook, dir: &Path) -> Result<(), Failure> {
    if dir.exists() && (!dir.is_dir() || fs::read_dir(dir).is_ok_and(|mut d| d.next().is_some())) {
        let message = format!(
            "{} is there already and not an empty directory",
            dir.display()
        );
        return Err(Failure::local(
            message,
            "give another directory behind the name",
        ));
    }
    for (path, text) in files(name, hook)? {
        let path = dir.join(path);
        let written = path.parent().map_or(Ok(()), fs::create_dir_all);
        written
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| Failure::local(format!("{}: {error}", path.display()), ""))?;
    }
    Ok(())
}

/// Says what was written and what comes next.
pub(super) fn tell(
    name: &str,
    hook: Hook,
    dir: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let dir = dir.display();
    writeln!(
        out,
        "wrote {dir}; its src/lib.rs answers the hook {hook}. Next:"
    )?;
    writeln!(out, "  larder policy test {dir}")?;
    writeln!(out, "  larder policy build {dir}")?;
    writeln!(out, "  larder policy push {dir}/{name}.wasm --name {name}")?;
    writeln!(out, "  larder policy use {name} --site default")?;
    Ok(())
}

/// Every file of the crate, by its path.
fn files(name: &str, hook: Hook) -> Result<Vec<(String, String)>, Failure> {
    let template = match hook {
        Hook::Keying => include_str!("template/keying.rs"),
        Hook::Freshness => include_str!("template/freshness.rs"),
        Hook::Eviction => include_str!("template/eviction.rs"),
    };
    let library = library_manifest().map_err(|error| Failure::Run(error.into()))?;
    let own = [
        ("Cargo.toml", manifest(name, hook)),
        ("Cargo.lock", LOCK.to_owned()),
        (".gitignore", IGNORE.to_owned()),
        (".cargo/config.toml", CARGO_CONFIG.to_owned()),
        ("src/lib.rs", template.to_owned()),
        ("larder/guest/Cargo.toml", library),
    ];
    let mut files: Vec<_> = own
        .into_iter()
        .map(|(path, text)| (path.to_owned(), text))
        .collect();
    let vendored = embedded::SDK.iter();
    files.extend(vendored.map(|(path, text)| (format!("{LIBRARY}/{path}"), (*text).to_owned())));
    Ok(files)
}

fn manifest(name: &str, hook: Hook) -> String {
    format!(
        r#"[package]
name = "{PACKAGE_PREFIX}{name}"
description = "A {hook} policy for Larder"
version = "0.1.0"
edition = "2024"
publish = false

# cdylib: the component. rlib: what `cargo test` runs natively.
[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
larder-guest = {{ path = "{LIBRARY}/guest" }}

# Speed before size: a policy runs for every request. A panic becomes a trap, and Larder answers
# by its own rule.
[profile.release]
opt-level = 3
lto = "fat"
codegen-units = 1
panic = "abort"
strip = true

# A workspace of its own, wherever the directory lies.
[workspace]
"#
    )
}

/// The part of the repository's workspace that the library's manifest inherits.
#[derive(serde::Deserialize)]
struct Root {
    workspace: Inherited,
}

#[derive(serde::Deserialize)]
struct Inherited {
    dependencies: toml::Table,
    lints: toml::Table,
}

/// The library's manifest with everything inherited written out.
fn library_manifest() -> Result<String, toml::de::Error> {
    let Inherited {
        mut dependencies,
        lints,
    } = toml::from_str::<Root>(WORKSPACE)?.workspace;
    dependencies.retain(|name, _| name == "wit-bindgen");
    let mut manifest = toml::toml! {
        [package]
        name = "larder-guest"
        description = "Write Larder policies in Rust"
        edition = "2024"
        publish = false
    };
    if let Some(toml::Value::Table(package)) = manifest.get_mut("package") {
        package.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    }
    manifest.insert("dependencies".to_owned(), dependencies.into());
    manifest.insert("lints".to_owned(), lints.into());
    Ok(manifest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for text in ["a", "hello", "a-b_c1", "1st", "fn", "std"] {
            assert_eq!(name(text).as_deref(), Ok(text));
        }
        let long = "x".repeat(51);
        for text in ["", "-a", "_a", "A", "a.b", "a/b", "..", "ü", &long] {
            assert!(
                name(text).unwrap_err().contains("a letter or digit first"),
                "{text}"
            );
        }
        for text in ["native", "native-x", "lru"] {
            assert!(
                name(text).unwrap_err().ends_with("; write another"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_new_crate_is_whole() {
        for hook in Hook::ALL {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join("deep/hello");
            write("hello", hook, &dir).unwrap();
            let text = |path: &str| fs::read_to_string(dir.join(path)).unwrap();
            let manifest: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
            assert_eq!(
                manifest["package"]["name"].as_str(),
                Some("larder-policy-hello")
            );
            assert_eq!(
                manifest["profile"]["release"]["panic"].as_str(),
                Some("abort")
            );
            assert!(manifest.contains_key("workspace"));
            let library: toml::Table = toml::from_str(&text("larder/guest/Cargo.toml")).unwrap();
            assert!(library["dependencies"]["wit-bindgen"]["version"].is_str());
            assert_eq!(library["dependencies"].as_table().unwrap().len(), 1);
            assert!(!text("larder/guest/Cargo.toml").contains("workspace"));
            assert!(dir.join("larder/guest/src/lib.rs").is_file());
            assert!(dir.join(format!("larder/wit/policy/{hook}.wit")).is_file());
            assert!(text("src/lib.rs").contains(&format!("larder_guest::{hook}!(")));
        }
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        write("hello", Hook::Keying, dir.path()).unwrap();
        fs::write(dir.path().join("src/lib.rs"), "mine").unwrap();
        let failure = write("hello", Hook::Keying, dir.path()).unwrap_err();
        assert!(
            failure
                .to_string()
                .ends_with("is there already and not an empty directory")
        );
        assert_eq!(failure.code(), 1);
        assert_eq!(
            fs::read_to_string(dir.path().join("src/lib.rs")).unwrap(),
            "mine"
        );
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(write("hello", Hook::Keying, &file).is_err());
    }

    #[test]
    fn the_next_commands_are_told() {
        let mut out = Vec::new();
        tell("hello", Hook::Keying, Path::new("dir"), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("\n  larder policy push dir/hello.wasm --name hello\n"),
            "{text}"
        );
    }
}
