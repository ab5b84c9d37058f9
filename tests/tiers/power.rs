//! The power goes: what the device had by then is all there is. The device is an image in a file,
//! which is copied while the edge is stopped in the middle of everything: what it wrote and did not
//! sync is there in part, in any order, or not at all.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::inject::skipped;
use crate::support::edge::Setup;
use crate::truth::{Dice, knob};
use crate::world::World;

/// Bytes of the image.
const IMAGE: u64 = 96 << 20;

/// Whether `program` did what it was told to.
fn done(program: &str, words: &[&str]) -> bool {
    let ended = Command::new(program).args(words).output();
    ended.is_ok_and(|ended| ended.status.success())
}

/// A file system in a file, for as long as this is kept.
struct Device {
    image: PathBuf,
    at: PathBuf,
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name that is text")
}

impl Device {
    /// A new one in `dir`; none if there can be none here.
    fn new(dir: &Path) -> Option<Self> {
        let device = Self {
            image: dir.join("image"),
            at: dir.join("device"),
        };
        std::fs::create_dir(&device.at).expect("a directory");
        let file = std::fs::File::create(&device.image).expect("a file");
        file.set_len(IMAGE).expect("room");
        let made = done("mkfs.ext4", &["-q", "-F", text(&device.image)]) && device.mount();
        if !made {
            skipped("only root may mount an image, and not everywhere");
        }
        made.then_some(device)
    }

    fn mount(&self) -> bool {
        done("mount", &["-o", "loop", text(&self.image), text(&self.at)])
    }

    /// What the device has now.
    fn copy(&self) -> PathBuf {
        let copy = self.image.with_extension("copy");
        std::fs::copy(&self.image, &copy).expect("room");
        copy
    }

    /// Goes on with `copy`.
    fn replace(&self, copy: &Path) {
        assert!(done("umount", &[text(&self.at)]), "nobody has it any more");
        std::fs::rename(copy, &self.image).expect("a file");
        assert!(self.mount(), "the journal of the file system is replayed");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        done("umount", &["-l", text(&self.at)]);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "what was measured")]
fn after_a_power_cut_nothing_is_wrong_and_no_purge_is_undone() {
    let cuts = knob("LARDER_POWER_CUTS", 3);
    let place = tempfile::tempdir().expect("a directory");
    let Some(device) = Device::new(place.path()) else {
        return;
    };
    let world = World::of(120, 1 << 20);
    let mut edge = Setup::before(world.origin())
        .flag("--data-dir", text(&device.at.join("data")))
        .flag("--memory", "4MiB")
        .flag("--disk", "32MiB")
        .start();
    let mut dice = Dice::new(9);
    let mut hits = 0;
    for cut in 0..cuts {
        let until = Instant::now() + Duration::from_millis(300 + dice.below(900));
        let copy = world.load(&edge, cut, 4, |edge| {
            while Instant::now() < until {
                std::thread::park_timeout(Duration::from_millis(5));
            }
            // It does nothing any more; the system may still write down what it did.
            edge.signal(Signal::STOP);
            let copy = device.copy();
            edge.signal(Signal::KILL);
            copy
        });
        edge.wait();
        device.replace(&copy);
        world.lose();
        edge.restart();
        hits += world.sweep(&edge);
    }
    eprintln!(
        "{cuts} cuts: {}; {hits} hits right after them",
        world.told()
    );
    edge.stop();
}
