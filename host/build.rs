//! Builds the policies in `policies/` as components and embeds them, together with the sources
//! that `larder policy new` hands out: the guest SDK and the policy interfaces.
//!
//! The policies are built by a cargo of their own, in a target directory that every profile and
//! every tool shares, so that switching between them rebuilds nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by cargo"));
    let root = manifest_dir
        .parent()
        .expect("the host is a directory of the workspace");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by cargo"));
    for input in ["policies", "guest", "wit", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let names = policy_names(&root.join("policies"));
    // OUT_DIR is TARGET/PROFILE/build/PACKAGE-HASH/out.
    let target = out
        .ancestors()
        .nth(4)
        .expect("OUT_DIR is deep inside the target directory");
    let wasm_dir = build_policies(root, &target.join("guests"), &names);

    let policies: Vec<String> = names
        .iter()
        .map(|name| {
            let built = wasm_dir.join(format!("{}.wasm", library_name(name)));
            let copy = out.join(format!("{name}.wasm"));
            fs::copy(&built, &copy).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
            let path = copy.display().to_string();
            format!("    Shipped {{ name: {name:?}, wasm: include_bytes!({path:?}) }},\n")
        })
        .collect();
    let mut sources = Vec::new();
    files(&root.join("guest/src"), &mut sources);
    files(&root.join("wit/policy"), &mut sources);
    sources.sort();
    let sources: Vec<String> = sources
        .iter()
        .map(|source| {
            let name = source
                .strip_prefix(root)
                .expect("under the root")
                .display()
                .to_string();
            let path = source.display().to_string();
            format!("    ({name:?}, include_str!({path:?})),\n")
        })
        .collect();
    let code = format!(
        "/// The shipped policies.\npub const POLICIES: &[Shipped] = &[\n{}];\n\n\
         /// The sources that a new policy is built with.\n\
         pub const SDK: &[(&str, &str)] = &[\n{}];\n",
        policies.concat(),
        sources.concat()
    );
    fs::write(out.join("embedded.rs"), code).expect("OUT_DIR is writable");
}

/// The directories of `policies/`, one policy each.
fn policy_names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.join("Cargo.toml").is_file())
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Packages carry a prefix, because a policy may share its name with a library.
fn package_name(policy: &str) -> String {
    format!("larder-policy-{policy}")
}

fn library_name(policy: &str) -> String {
    package_name(policy).replace('-', "_")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

fn build_policies(root: &Path, target_dir: &Path, names: &[String]) -> PathBuf {
    let mut cargo = Command::new(env::var_os("CARGO").expect("set by cargo"));
    cargo
        .current_dir(root)
        .args([
            "build",
            "--locked",
            "--lib",
            "--profile",
            "wasm",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(
            names
                .iter()
                .flat_map(|name| ["-p".to_owned(), package_name(name)]),
        );
    // What the outer build was told about its own target must not reach this one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        let kept = [
            "CARGO_HOME",
            "CARGO_NET_",
            "CARGO_HTTP_",
            "CARGO_REGISTR",
            "CARGO_SOURCE_",
        ];
        let inherited = ["CARGO", "RUSTC", "RUSTFLAGS", "RUSTDOC", "CLIPPY_"];
        let own = [
            "TARGET",
            "HOST",
            "PROFILE",
            "OPT_LEVEL",
            "DEBUG",
            "NUM_JOBS",
            "OUT_DIR",
        ];
        let drop_it = inherited.iter().any(|prefix| name.starts_with(prefix))
            && !kept.iter().any(|prefix| name.starts_with(prefix));
        if drop_it || own.contains(&&*name) {
            cargo.env_remove(&*name);
        }
    }
    cargo
        .env(
            "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER",
            "wasm-component-ld",
        )
        .env("CARGO_TARGET_DIR", target_dir)
        // Beats flags from configuration files, too.
        .env("CARGO_ENCODED_RUSTFLAGS", "");
    let status = cargo.status().expect("cargo runs");
    assert!(
        status.success(),
        "the policies did not build; if the target is missing, run `rustup target add wasm32-unknown-unknown`"
    );
    target_dir.join("wasm32-unknown-unknown/wasm")
}
