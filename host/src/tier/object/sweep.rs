//! Finds what nobody will ever read: content that no head names, which a replaced entry or a crash
//! has left, and the staging files of a local directory.
//!
//! Each time a 256th of the store is looked at, drawn at random, so that many nodes share the work
//! without knowing of each other and its price has a bound: a list or two, and a look at the head
//! of each content that is old enough to be an orphan.

use std::path::Path as FilePath;
use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::Inner;
use super::form;
use super::names::{self, Name, Names, Nonce};
use super::remote::{Fault, Remote};
use crate::clock;

/// Objects that are looked at each time, at most: one page of a list.
const PAGE: usize = 1000;
/// How old a staging file must be.
const STAGED: Duration = Duration::from_hours(1);

/// Sweeps, for as long as the tier runs.
pub(super) async fn run(inner: &Inner, every: Duration, orphaned: Duration) {
    loop {
        sleep(Remote::spread(every)).await;
        let [drawn, ..] = names::nonce();
        // What failed is found another time.
        sweep(inner, drawn, orphaned).await.unwrap_or_default();
    }
}

/// Deletes the content below `byte` that no head names and that is older than `orphaned`.
async fn sweep(inner: &Inner, byte: u8, orphaned: Duration) -> Result<(), Fault> {
    let (remote, bodies) = (&inner.remote, inner.names.bodies(byte));
    // From anywhere on and around, so that each has its turn however many there are.
    let offset = inner.names.somewhere(byte, names::nonce());
    let mut objects = remote.list_after(&bodies, &offset, PAGE).await?;
    if objects.len() < PAGE {
        let around = remote.list(&bodies, PAGE - objects.len()).await?;
        objects.extend(around.into_iter().filter(|it| it.location <= offset));
    }
    for object in objects {
        let modified = SystemTime::from(object.last_modified);
        let age = clock::wall().duration_since(modified).unwrap_or_default();
        let Some((name, nonce)) = inner.names.parse_body(&object.location) else {
            continue;
        };
        if age < orphaned {
            continue;
        }
        if !is_named(remote, &inner.names, name, nonce).await? {
            remote.delete(&object.location).await?;
            remote.stats.swept.increment();
        }
    }
    Ok(())
}

/// Whether the head of `name` names the content `nonce`, as far as this version can tell.
pub(super) async fn is_named(
    remote: &Remote,
    names: &Names,
    name: Name,
    nonce: Nonce,
) -> Result<bool, Fault> {
    match remote.prelude(&names.head(name)).await {
        Ok(prelude) => match form::content_of(&prelude) {
            Ok(content) => Ok(content == Some(nonce)),
            // A later version may know what it is good for.
            Err(_) => Ok(true),
        },
        Err(Fault::Missing) => Ok(false),
        Err(fault) => Err(fault),
    }
}

/// Removes files below `directory` that an upload which was cut short has left: the library writes
/// next to the object, under its name and `#` and a number, and renames. How many.
pub(super) fn staged(directory: &FilePath) -> u64 {
    let mut removed = 0;
    let mut open = vec![directory.join("v1")];
    while let Some(directory) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                open.push(entry.path());
                continue;
            }
            let name = entry.file_name();
            let staged = name.to_str().and_then(|name| name.rsplit_once('#'));
            let staged = staged.is_some_and(|(_, number)| is_number(number));
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            let age = modified
                .ok()
                .and_then(|at| clock::wall().duration_since(at).ok());
            let old = age.is_some_and(|age| age >= STAGED);
            if kind.is_file() && staged && old && std::fs::remove_file(entry.path()).is_ok() {
                removed += 1;
            }
        }
    }
    removed
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn only_old_staging_files_go() {
        let place = tempfile::tempdir().unwrap();
        let objects = place.path().join("v1/obj/ab");
        std::fs::create_dir_all(&objects).unwrap();
        let make = |name: &str, age: Duration| {
            let file = File::create(objects.join(name)).unwrap();
            file.set_modified(clock::wall() - age).unwrap();
        };
        let old = Duration::from_hours(2);
        make("abcd#1", old);
        make("abcd#23", old);
        make("abcd#4", Duration::from_mins(50));
        make("abcd", old);
        make("abcd#", old);
        make("abcd#x", old);
        std::fs::write(place.path().join("other#1"), b"").unwrap();
        assert_eq!(staged(place.path()), 2);
        let mut left: Vec<String> = std::fs::read_dir(&objects)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["abcd", "abcd#", "abcd#4", "abcd#x"]);
        assert!(place.path().join("other#1").exists());
        assert_eq!(staged(&place.path().join("missing")), 0);
    }
}
