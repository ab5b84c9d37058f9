//! The allocator of policies: what is given back is handed out again, by its size.
//!
//! A call hands a policy a list or two, takes an answer, and both are given back before the next.
//! The allocator that the standard library has for Wasm (`dlmalloc`) joins each piece with its
//! neighbours and takes it apart again: some hundred instructions each time, which is more than many
//! a policy needs for its decision. Here each power of two from 16 to 4,096 bytes has a list of the
//! pieces that were given back, and a piece is one step away. What is larger goes to the standard
//! library's allocator.
//!
//! Small memory is used again for its own size only, so a policy holds for each size the most that it
//! ever had at once, rounded up to powers of two.

#![expect(unsafe_code, reason = "an allocator deals in bare memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::{self, NonNull};

/// The smallest piece: it has room for the address of the next one that is free.
const SMALLEST: usize = 16;
/// The largest.
const LARGEST: usize = 4_096;
/// Sizes from the smallest to the largest.
const SIZES: usize = 9;

const _: () = assert!(SMALLEST << (SIZES - 1) == LARGEST);

/// See the module's documentation.
pub(crate) struct Allocator {
    /// For each size the first piece that is free, whose first word is the address of the next.
    free: [Cell<*mut u8>; SIZES],
}

/// The list that pieces for `layout` are on, and the layout of all of them.
fn piece(layout: Layout) -> Option<(usize, Layout)> {
    if layout.size() > LARGEST || layout.align() > SMALLEST {
        return None;
    }
    let size = layout.size().max(SMALLEST).next_power_of_two();
    let list = usize::try_from((size / SMALLEST).ilog2()).ok()?;
    Some((list, Layout::from_size_align(size, SMALLEST).ok()?))
}

impl Allocator {
    /// Nothing is free yet.
    pub(crate) const fn new() -> Self {
        Self {
            free: [const { Cell::new(ptr::null_mut()) }; SIZES],
        }
    }
}

// SAFETY: Wasm without threads has one, and elsewhere none is shared: only tests make one there.
unsafe impl Sync for Allocator {}

// SAFETY: a piece is on one list or with one owner. It comes from the system's allocator with the
// layout of its list, which has room for what is asked for and its alignment, and which the layout
// that it is given back with leads to again.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((list, piece)) = piece(layout) else {
            // SAFETY: as the caller promises.
            return unsafe { System.alloc(layout) };
        };
        let Some(free) = self.free.get(list) else {
            return ptr::null_mut();
        };
        let Some(first) = NonNull::new(free.get()) else {
            // SAFETY: no piece is of size zero.
            return unsafe { System.alloc(piece) };
        };
        // SAFETY: a piece on a list is nobody's, aligned for an address, and begins with that of the
        // next, which `dealloc` wrote.
        free.set(unsafe { first.cast::<*mut u8>().read() });
        first.as_ptr()
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if piece(layout).is_none() {
            // SAFETY: as the caller promises. Fresh memory is zero already, which is known there.
            return unsafe { System.alloc_zeroed(layout) };
        }
        // SAFETY: as the caller promises.
        let memory = unsafe { self.alloc(layout) };
        if !memory.is_null() {
            // SAFETY: so much was asked for.
            unsafe { memory.write_bytes(0, layout.size()) };
        }
        memory
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        let Some((list, _)) = piece(layout) else {
            // SAFETY: as the caller promises; what has no list came from there.
            return unsafe { System.dealloc(memory, layout) };
        };
        if let (Some(free), Some(memory)) = (self.free.get(list), NonNull::new(memory)) {
            // SAFETY: the caller gives up a piece of at least the smallest size, aligned for it.
            unsafe { memory.cast::<*mut u8>().write(free.get()) };
            free.set(memory.as_ptr());
        }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises a size that is valid for the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (piece(layout), piece(wanted)) {
            (None, None) => {
                // SAFETY: as the caller promises; what has no list came from there.
                unsafe { System.realloc(memory, layout, size) }
            }
            (Some((old, _)), Some((new, _))) if old == new => memory,
            _ => {
                // SAFETY: the caller asks for no size of zero.
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    // SAFETY: both are valid for the smaller of the two sizes, and are two pieces.
                    unsafe { ptr::copy_nonoverlapping(memory, moved, layout.size().min(size)) };
                    // SAFETY: the caller gives up what it had.
                    unsafe { self.dealloc(memory, layout) };
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Memory that is held, and what all of it was written with.
    struct Held {
        memory: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Held {
        fn fill(self) -> Self {
            // SAFETY: it is held.
            unsafe { self.memory.write_bytes(self.mark, self.layout.size()) };
            self
        }

        /// Whether the first `length` bytes are as they were written.
        fn is_whole(&self, length: usize) -> bool {
            // SAFETY: it is held, and all of it was written.
            let bytes = unsafe { std::slice::from_raw_parts(self.memory, length) };
            bytes.iter().all(|byte| *byte == self.mark)
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    proptest! {
        #[test]
        fn nobody_is_handed_what_another_holds(
            steps in prop::collection::vec(
                (0..4, 1_usize..10_000, 0..6, any::<prop::sample::Index>(), any::<bool>()), 1..300,
            ),
        ) {
            let allocator = Allocator::new();
            let mut held: Vec<Held> = Vec::new();
            for (mark, (step, size, align, whose, is_small)) in (0..).zip(steps) {
                let size = if is_small { size % 300 + 1 } else { size };
                let mark = u8::try_from(mark % 251).unwrap();
                if step < 2 || held.is_empty() {
                    let layout = layout(size, 1_usize << align);
                    // SAFETY: the size is not zero.
                    let memory = unsafe { allocator.alloc(layout) };
                    prop_assert!(!memory.is_null());
                    prop_assert!(memory.addr().is_multiple_of(layout.align()));
                    held.push(Held { memory, layout, mark }.fill());
                    continue;
                }
                let mut it = held.swap_remove(whose.index(held.len()));
                let before = it.layout;
                prop_assert!(it.is_whole(before.size()));
                if step == 2 {
                    // SAFETY: it is held with this layout, and the size is not zero.
                    it.memory = unsafe { allocator.realloc(it.memory, before, size) };
                    prop_assert!(it.is_whole(before.size().min(size)), "it did not move along");
                    it.layout = layout(size, before.align());
                    held.push(Held { mark, ..it }.fill());
                } else {
                    // SAFETY: it is held with this layout.
                    unsafe { allocator.dealloc(it.memory, before) };
                }
            }
            for it in held {
                prop_assert!(it.is_whole(it.layout.size()));
                // SAFETY: it is held with this layout.
                unsafe { allocator.dealloc(it.memory, it.layout) };
            }
        }
    }

    #[test]
    fn what_was_given_back_is_handed_out_again() {
        let allocator = Allocator::new();
        // SAFETY: no size is zero, and what is given back was handed out.
        unsafe {
            let first = allocator.alloc(layout(100, 8));
            allocator.dealloc(first, layout(100, 8));
            assert_eq!(allocator.alloc(layout(65, 8)), first, "of the same size");
            assert_eq!(allocator.realloc(first, layout(65, 8), 128), first);
            assert_ne!(allocator.alloc(layout(128, 8)), first);
        }
    }
}
