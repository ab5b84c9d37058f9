//! `policy`: the life of a policy, from its first line to its use at a site.

mod build;
mod scaffold;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::remote::Admin;
use super::{Failure, output};
use crate::client::{Payload, escaped};
use crate::config::{PolicyChoice, check_name};
use crate::policy::hook::Hook;

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Writes a new policy: a crate with one working hook, a test, and all it is built with.
    ///
    /// The crate needs cargo and the crates.io registry and nothing else; the library for policies
    /// is written into it.
    New(New),
    /// Builds the policy in a directory and leaves it there as NAME.wasm.
    ///
    /// Runs cargo for wasm32-unknown-unknown, and `rustup target add` first if that is missing.
    Build(Directory),
    /// Runs the tests of the policy in a directory, without Wasm.
    Test(Directory),
    /// Checks a built policy as an upload would, without a running Larder.
    Check {
        /// The component
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Uploads a built policy; nothing uses it until `policy use`.
    Push(Push),
    /// Lists policies and their versions.
    List(List),
    /// Lets a policy answer a hook of a site from now on, and after a restart.
    Use(Use),
    /// Returns a site to what answered before.
    Rollback(Rollback),
}

#[derive(Debug, Args)]
pub(super) struct New {
    /// Name of the policy: a-z, 0-9, "-" and "_", a letter or digit first
    #[arg(value_parser = scaffold::name)]
    name: String,
    /// Where to write it [default: a new directory called NAME]
    dir: Option<PathBuf>,
    /// What it decides: keying, freshness or eviction
    #[arg(long, value_name = "HOOK", default_value_t = Hook::Keying)]
    hook: Hook,
}

#[derive(Debug, Args)]
pub(super) struct Directory {
    /// The policy's crate
    #[arg(default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Push {
    /// The component, as `policy build` leaves it
    file: PathBuf,
    /// Name to keep it under
    #[arg(long, value_name = "NAME", value_parser = uploaded_name)]
    name: String,
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Print the answer as it came
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Args)]
pub(super) struct Use {
    /// NAME@VERSION, or NAME for the newest version; native:default, native:rfc9111 and native:lru
    /// are the host's own rules
    #[arg(value_name = "NAME@VERSION", value_parser = PolicyChoice::parse)]
    policy: PolicyChoice,
    /// The site
    #[arg(long, value_name = "NAME")]
    site: String,
    /// The hook; needed only if the policy has several
    #[arg(long, value_name = "HOOK")]
    hook: Option<Hook>,
    /// Parameters, as a JSON object such as {"sticky":true}
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = object)]
    params: Parameters,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Debug, Args)]
pub(super) struct Rollback {
    /// The site
    #[arg(long, value_name = "NAME")]
    site: String,
    /// The hook; left out: the one that changed last
    #[arg(long, value_name = "HOOK")]
    hook: Option<Hook>,
    #[command(flatten)]
    admin: Admin,
}

/// The parameters of one activation.
type Parameters = Map<String, Value>;

fn object(text: &str) -> Result<Parameters, String> {
    match serde_json::from_str(text) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err("not a JSON object; write {\"name\": value}".to_owned()),
        Err(error) => Err(format!("not a JSON object: {error}")),
    }
}

fn uploaded_name(text: &str) -> Result<String, String> {
    if text.starts_with("native") {
        return Err("names that start with native are the host's own".to_owned());
    }
    check_name(text)
        .map(|()| text.to_owned())
        .map_err(|rejected| rejected.to_string())
}

/// Runs one of the commands.
pub(super) fn run(command: Command, out: &mut impl Write) -> Result<(), Failure> {
    match command {
        Command::New(new) => {
            let dir = new.dir.unwrap_or_else(|| PathBuf::from(&new.name));
            scaffold::write(&new.name, new.hook, &dir)?;
            scaffold::tell(&new.name, new.hook, &dir, out)
        }
        Command::Build(Directory { dir }) => build::build(&dir, out),
        Command::Test(Directory { dir }) => build::test(&dir),
        Command::Check { file } => {
            let report = crate::policy::examine::check_file(&read(&file)?)?;
            let value =
                serde_json::to_value(&report).map_err(|error| Failure::Run(error.into()))?;
            Ok(output::report(out, &value)?)
        }
        Command::Push(push) => upload(&push, out),
        Command::List(list) => {
            let answer = list.admin.client()?.get("/v1/policies")?;
            let write = if list.json {
                output::json
            } else {
                output::list
            };
            Ok(write(out, &answer)?)
        }
        Command::Use(activation) => activate(&activation, out),
        Command::Rollback(rollback) => {
            let path = format!("/v1/sites/{}/rollback", escaped(&rollback.site));
            let mut body = json!({});
            name_hook(&mut body, rollback.hook);
            Ok(output::report(
                out,
                &rollback.admin.client()?.post(&path, body)?,
            )?)
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|error| Failure::local(format!("{}: {error}", file.display()), ""))
}

/// A hook that is not named is left out, and the server decides.
fn name_hook(body: &mut Value, hook: Option<Hook>) {
    if let (Some(hook), Value::Object(members)) = (hook, body) {
        members.insert("hook".to_owned(), hook.as_str().into());
    }
}

fn upload(push: &Push, out: &mut impl Write) -> Result<(), Failure> {
    let body = Payload::Bytes(read(&push.file)?.into());
    let path = format!("/v1/policies/{}", escaped(&push.name));
    let answer = push.admin.client()?.call(http::Method::PUT, &path, body)?;
    if push.json {
        return Ok(output::json(out, &answer)?);
    }
    output::report(out, &answer)?;
    if let Some(version) = answer.get("version").and_then(Value::as_str) {
        writeln!(
            out,
            "\nlarder policy use {}@{version} --site SITE",
            push.name
        )?;
    }
    Ok(())
}

fn activate(activation: &Use, out: &mut impl Write) -> Result<(), Failure> {
    let path = format!("/v1/sites/{}/policy", escaped(&activation.site));
    let mut body = json!({
        "policy": activation.policy.to_string(),
        "params": activation.params,
    });
    name_hook(&mut body, activation.hook);
    Ok(output::report(
        out,
        &activation.admin.client()?.post(&path, body)?,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_an_object() {
        assert_eq!(
            object("{\"a\":[1]}").map(Value::Object),
            Ok(json!({ "a": [1] }))
        );
        for text in ["", "[]", "1", "{a:1}"] {
            assert!(
                object(text).unwrap_err().starts_with("not a JSON object"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_hook_is_sent_only_if_it_is_named() {
        let mut body = json!({ "a": 1 });
        name_hook(&mut body, None);
        assert_eq!(body, json!({ "a": 1 }));
        name_hook(&mut body, Some(Hook::Eviction));
        assert_eq!(body, json!({ "a": 1, "hook": "eviction" }));
    }

    #[test]
    fn reserved_names_are_refused() {
        assert_eq!(uploaded_name("a.b-c_1").as_deref(), Ok("a.b-c_1"));
        for name in ["native:lru", "native", "native-x", "", "A", "../a"] {
            assert!(uploaded_name(name).is_err(), "{name}");
        }
    }
}
