//! A segment that is reclaimed while it is read.

use std::fs::File;

use super::segment::{Segment, Segments};
use crate::check::every;
use crate::scene::{join, spawn};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicU64, Ordering};

/// What stands in the segment, in its first life and in the next.
const FIRST: u64 = 1;
const NEXT: u64 = 2;

struct Scene {
    segment: Arc<Segment>,
    segments: Segments,
    /// The bytes. The model is not of how a device orders what it does.
    bytes: AtomicU64,
}

impl Scene {
    fn new(file: &Arc<File>) -> Arc<Self> {
        let segment = Arc::new(Segment::new(0, (1, 1), Arc::clone(file), 1));
        let segments = Segments::default();
        segments.set(0, Some(Arc::clone(&segment)));
        Arc::new(Self {
            segment,
            segments,
            bytes: AtomicU64::new(FIRST),
        })
    }

    fn read(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    /// Reclaims it, and begins the next life as soon as nobody reads it.
    fn reclaim(&self) {
        self.segment.retire();
        self.segments.set(0, None);
        // It is looked after at the next reclaim, and at the one after that.
        if self.segment.let_go() || self.segment.let_go() {
            self.bytes.store(NEXT, Ordering::SeqCst);
        }
    }
}

fn beside_a_reclaim(read: impl Fn(&Scene, &Segment) + Copy + Send + Sync + 'static) {
    let file = Arc::new(File::open("/dev/null").expect("it is there"));
    every(move || {
        let scene = Scene::new(&file);
        let reading = {
            let scene = Arc::clone(&scene);
            spawn(move || {
                if let Some(segment) = scene.segments.get(0) {
                    read(&scene, &segment);
                }
            })
        };
        let reclaiming = {
            let scene = Arc::clone(&scene);
            spawn(move || scene.reclaim())
        };
        join([reading, reclaiming]);
    });
}

/// What was live after it was pinned keeps its bytes until it is not pinned any more.
pub fn what_is_pinned_and_live_keeps_its_bytes() {
    beside_a_reclaim(|scene, segment| {
        segment.pin();
        if segment.is_live() {
            assert_eq!([scene.read(), scene.read()], [FIRST; 2]);
        }
        segment.unpin();
    });
}

/// What was read of a segment that is not gone afterwards is of its life.
pub fn what_is_read_is_of_this_life_if_it_is_not_gone() {
    beside_a_reclaim(|scene, segment| {
        let read = scene.read();
        if !segment.is_gone() {
            assert_eq!(read, FIRST);
        }
    });
}
