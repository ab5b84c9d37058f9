//! `policy build` and `policy test`: cargo, with what is not its business taken out of its
//! environment.
//!
//! Works for a crate that `policy new` wrote, and for a member of a workspace, whose own profile
//! cargo ignores: there the profile comes from the command line.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::scaffold::PACKAGE_PREFIX;
use crate::cli::Failure;

const TARGET: &str = "wasm32-unknown-unknown";

/// The first eight bytes of a component: the magic number, the version, and the layer that tells
/// it from a core module.
const COMPONENT: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

/// What a policy is built with where its own manifest has no say.
const PROFILE: [&str; 5] = [
    "profile.release.opt-level=3",
    "profile.release.lto=\"fat\"",
    "profile.release.codegen-units=1",
    "profile.release.panic=\"abort\"",
    "profile.release.strip=true",
];

/// Builds the policy in `dir` and copies the component there.
pub(super) fn build(dir: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let manifest = fs::canonicalize(dir.join("Cargo.toml"))
        .map_err(|error| not_a_policy(dir, &error.to_string()))?;
    let name = policy_name(dir, &manifest)?;
    ensure_target(dir)?;
    let mut cargo = cargo(dir);
    cargo
        .args(["build", "--release", "--lib", "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            "wasm-component-ld",
        )
        // Set and empty, it also beats flags that configuration files hold for another target.
        .env("CARGO_ENCODED_RUSTFLAGS", "")
        .stdout(Stdio::piped());
    if workspace_manifest(dir)? != manifest {
        cargo.args(PROFILE.iter().flat_map(|setting| ["--config", setting]));
    }
    let built = run(cargo.stderr(Stdio::inherit()))?;
    if !built.status.success() {
        return Err(Failure::local(
            "the policy did not build",
            "cargo's messages are above",
        ));
    }
    let artefact = artefact(&built.stdout, &manifest).ok_or_else(|| {
        let hint = "[lib] in Cargo.toml must say crate-type = [\"cdylib\", \"rlib\"]";
        Failure::local("cargo built no component", hint)
    })?;
    let local = |path: &Path, error: std::io::Error| {
        Failure::local(format!("{}: {error}", path.display()), "")
    };
    let bytes = fs::read(&artefact).map_err(|error| local(&artefact, error))?;
    if !bytes.starts_with(&COMPONENT) {
        let hint = "the linker must be wasm-component-ld, which rustup installs with Rust";
        return Err(Failure::local(
            "cargo built a core module and not a component",
            hint,
        ));
    }
    let file = dir.join(format!("{name}.wasm"));
    fs::write(&file, &bytes).map_err(|error| local(&file, error))?;
    writeln!(out, "{}  {} bytes", file.display(), bytes.len())?;
    Ok(())
}

/// Runs the tests of the policy in `dir` natively.
pub(super) fn test(dir: &Path) -> Result<(), Failure> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(not_a_policy(dir, "there is none"));
    }
    let tested = run(cargo(dir)
        .arg("test")
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit()))?;
    if tested.status.success() {
        Ok(())
    } else {
        Err(Failure::local(
            "the policy's tests did not pass",
            "cargo's messages are above",
        ))
    }
}

fn not_a_policy(dir: &Path, reason: &str) -> Failure {
    Failure::local(
        format!("{}/Cargo.toml: {reason}", dir.display()),
        "give the directory of a policy; `larder policy new NAME` writes one",
    )
}

/// Cargo for the crate in `dir`. What an outer cargo, a script or a shell set for another build
/// is taken out; where cargo finds its registry, its cache and its target directory stays.
fn cargo(dir: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(belongs_to_another_build) {
            cargo.env_remove(&name);
        }
    }
    cargo
}

fn belongs_to_another_build(name: &str) -> bool {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
        "CARGO_TARGET_DIR",
    ];
    const OTHERS: [&str; 5] = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY_"];
    const OUTER: [&str; 7] = [
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "OUT_DIR",
    ];
    OUTER.contains(&name)
        || OTHERS.iter().any(|prefix| name.starts_with(prefix))
            && !KEPT.iter().any(|prefix| name.starts_with(prefix))
}

fn run(command: &mut Command) -> Result<std::process::Output, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.output().map_err(|error| {
        let hint = "building a policy needs Rust; https://rustup.rs installs it";
        Failure::local(format!("{program} does not run: {error}"), hint)
    })
}

/// Makes sure that this toolchain can build for Wasm, with rustup's help if need be.
fn ensure_target(dir: &Path) -> Result<(), Failure> {
    let mut rustc = Command::new("rustc");
    rustc
        .current_dir(dir)
        .args(["--print", "target-libdir", "--target", TARGET]);
    let printed = run(&mut rustc)?;
    let library = String::from_utf8_lossy(&printed.stdout);
    if printed.status.success() && Path::new(library.trim()).is_dir() {
        return Ok(());
    }
    let mut rustup = Command::new("rustup");
    rustup
        .current_dir(dir)
        .args(["target", "add", TARGET])
        .stdout(Stdio::null());
    match rustup.stderr(Stdio::inherit()).status() {
        Ok(status) if status.success() => Ok(()),
        _ => Err(Failure::local(
            format!("this Rust cannot build for {TARGET}"),
            format!(
                "run `rustup target add {TARGET}`, or install the target as Rust was installed"
            ),
        )),
    }
}

/// The name of the policy: that of its package, without the prefix of policies.
fn policy_name(dir: &Path, manifest: &Path) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Manifest {
        package: Package,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
    }
    let text = fs::read_to_string(manifest).map_err(|e| not_a_policy(dir, &e.to_string()))?;
    let Manifest {
        package: Package { name },
    } = toml::from_str(&text).map_err(|error| not_a_policy(dir, error.message()))?;
    Ok(name
        .strip_prefix(PACKAGE_PREFIX)
        .unwrap_or(&name)
        .to_owned())
}

/// The manifest of the workspace that the crate in `dir` belongs to; its own if it has none.
fn workspace_manifest(dir: &Path) -> Result<PathBuf, Failure> {
    let mut locate = cargo(dir);
    locate.args(["locate-project", "--workspace", "--message-format", "plain"]);
    let located = run(locate.stderr(Stdio::inherit()))?;
    let path = PathBuf::from(String::from_utf8_lossy(&located.stdout).trim());
    fs::canonicalize(&path).map_err(|error| not_a_policy(dir, &error.to_string()))
}

/// The Wasm file among what cargo says it built of the crate with this manifest.
fn artefact(messages: &[u8], manifest: &Path) -> Option<PathBuf> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        manifest_path: Option<PathBuf>,
        #[serde(default)]
        filenames: Vec<PathBuf>,
    }
    messages
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| {
            let own = message.manifest_path.as_ref();
            own.is_some_and(|own| fs::canonicalize(own).is_ok_and(|own| own == manifest))
        })
        .flat_map(|message| message.filenames)
        .find(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_build_stays_outside() {
        for name in [
            "RUSTFLAGS",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_MANIFEST_DIR",
            "RUSTC_WRAPPER",
            "CARGO_PROFILE_RELEASE_LTO",
            "TARGET",
            "OUT_DIR",
            "CARGO",
        ] {
            assert!(belongs_to_another_build(name), "{name}");
        }
        for name in [
            "PATH",
            "CARGO_HOME",
            "CARGO_NET_OFFLINE",
            "CARGO_TARGET_DIR",
            "RUSTUP_HOME",
        ] {
            assert!(!belongs_to_another_build(name), "{name}");
        }
    }

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = dir.path().join("Cargo.toml");
        fs::write(&manifest, "").unwrap();
        let manifest = fs::canonicalize(manifest).unwrap();
        let message = |manifest: &Path, files: &str| {
            let manifest = manifest.display();
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"{manifest}\",\
                 \"filenames\":[{files}]}}\n"
            )
        };
        let other = message(Path::new("/nowhere/Cargo.toml"), "\"/x/other.wasm\"");
        let own = message(&manifest, "\"/x/own.rlib\",\"/x/own.wasm\"");
        let finished = "{\"reason\":\"build-finished\",\"success\":true}\n";
        let found = |text: &str| artefact(text.as_bytes(), &manifest);
        let messages = format!("{other}plain words\n{own}{finished}");
        assert_eq!(found(&messages), Some("/x/own.wasm".into()));
        assert_eq!(found(&format!("{other}{finished}")), None);
        assert_eq!(found(&message(&manifest, "\"/x/own.rlib\"")), None);
    }

    #[test]
    fn a_directory_without_a_crate_is_told() {
        let dir = tempfile::tempdir().unwrap();
        for failure in [build(dir.path(), &mut Vec::new()), test(dir.path())] {
            assert!(failure.unwrap_err().hint().contains("larder policy new"));
        }
    }
}
