//! Memory for maps and weights. On Linux it is in huge pages: a network reads megabytes from beginning to end, and with
//! pages of 4 KiB the address translation and the prefetchers start again on each. The placement of small pages also
//! varies between runs, and with it the number of conflicts in the second-level cache.
#![allow(unsafe_code)]

use std::{
    alloc::{Layout, handle_alloc_error},
    ops::{Deref, DerefMut},
    ptr::NonNull,
    sync::Arc,
};

use bytemuck::Pod;
use system::{BLOCK, Block};

/// Buffers are aligned to two cache lines, which many processors fetch together.
const ALIGNMENT: usize = 128;

/// The gap before a buffer. Maps often have multiples of [`PERIOD`] bytes: without gaps, the same values of a layer's
/// input and output would be in the same set of the first-level cache.
const GAP: usize = 9 * ALIGNMENT;

/// Addresses that differ by a multiple of it share a set of the first-level cache, on most processors.
const PERIOD: usize = 4096;

/// Hands out buffers, on Linux from large blocks.
#[derive(Default)]
pub struct Memory {
    block: Option<Arc<Block>>,
    /// Bytes of `block` in use.
    used: usize,
    /// The number of blocks so far. Each block's first buffer starts one gap further into its block than the previous
    /// block's, modulo [`PERIOD`], because blocks are page-aligned.
    blocks: usize,
}

impl Memory {
    /// Returns `len` zeros, or `None` without enough memory.
    pub fn zeros<T: Pod>(&mut self, len: usize) -> Option<Buffer<T>> {
        // SAFETY: written at once. Zeros are a valid `T`.
        unsafe {
            let buffer = self.uninitialised::<T>(len)?;
            buffer.first.write_bytes(0, len);
            Some(buffer)
        }
    }

    /// Copies `values`. Without enough memory the process ends, as for `Vec`.
    pub fn copy_of<T: Pod>(&mut self, values: &[T]) -> Buffer<T> {
        // SAFETY: written at once. The buffer is new memory, as long as `values`.
        unsafe {
            let Some(buffer) = self.uninitialised::<T>(values.len()) else {
                handle_alloc_error(Layout::for_value(values))
            };
            buffer.first.copy_from_nonoverlapping(NonNull::from(values).cast(), values.len());
            buffer
        }
    }

    /// Returns a buffer, or `None` without enough memory.
    ///
    /// # Safety
    /// Its values must be written before anything else is done with it.
    unsafe fn uninitialised<T: Pod>(&mut self, len: usize) -> Option<Buffer<T>> {
        const { assert!(align_of::<T>() <= ALIGNMENT) }
        let bytes = len.checked_mul(size_of::<T>())?;
        if bytes == 0 {
            return Some(Buffer::default());
        }
        let fits = self.block.as_ref().filter(|block| block.bytes - self.used >= bytes);
        let block = match fits {
            Some(block) => block.clone(),
            None => {
                self.used = self.blocks * GAP % PERIOD;
                self.blocks += 1;
                let block = Arc::new(Block::new(bytes.checked_add(self.used)?.max(BLOCK))?);
                self.block.insert(block).clone()
            }
        };
        // SAFETY: within the block. These bytes belong to no other buffer.
        let first = unsafe { block.first.add(self.used) }.cast();
        self.used = (self.used + bytes + GAP).next_multiple_of(ALIGNMENT).min(block.bytes);
        Some(Buffer { first, len, _block: Some(block) })
    }
}

/// Blocks of huge pages, mapped directly: memory that was in use before already has small pages.
#[cfg(target_os = "linux")]
mod system {
    use std::ptr::{NonNull, null_mut};

    const PAGE: usize = 2 << 20;

    /// The least size of a block. Pages that no buffer has reached take no memory.
    pub const BLOCK: usize = 16 << 20;

    pub struct Block {
        pub first: NonNull<u8>,
        pub bytes: usize,
        /// The whole mapping, and its bytes.
        mapping: (NonNull<u8>, usize),
    }

    impl Block {
        /// Maps a block of at least `bytes` bytes.
        pub fn new(bytes: usize) -> Option<Self> {
            let bytes = bytes.checked_next_multiple_of(PAGE)?;
            // Room to align the first page.
            let all = bytes.checked_add(PAGE).filter(|all| isize::try_from(*all).is_ok())?;
            let (access, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping, at an address of the system's choice.
            let mapped = unsafe { libc::mmap(null_mut(), all, access, flags, -1, 0) };
            if mapped == libc::MAP_FAILED {
                return None;
            }
            let offset = mapped.cast::<u8>().align_offset(PAGE);
            // SAFETY: `offset` is less than a page, so that these bytes are mapped. `madvise` is only a hint:
            // there may be no huge pages.
            let first = unsafe {
                let first = mapped.cast::<u8>().add(offset);
                libc::madvise(first.cast(), bytes, libc::MADV_HUGEPAGE);
                NonNull::new(first)?
            };
            Some(Self { first, bytes, mapping: (NonNull::new(mapped.cast())?, all) })
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            let (first, bytes) = self.mapping;
            // SAFETY: mapped by `new`, and no buffer is left.
            unsafe { libc::munmap(first.as_ptr().cast(), bytes) };
        }
    }
}

/// Blocks of one buffer each.
#[cfg(not(target_os = "linux"))]
mod system {
    use std::{
        alloc::{Layout, alloc, dealloc},
        ptr::NonNull,
    };

    pub const BLOCK: usize = 1;

    pub struct Block {
        pub first: NonNull<u8>,
        pub bytes: usize,
        layout: Layout,
    }

    impl Block {
        /// Allocates a block of `bytes` bytes, at least one.
        pub fn new(bytes: usize) -> Option<Self> {
            let layout = Layout::from_size_align(bytes, super::ALIGNMENT).ok()?;
            // SAFETY: the size is not 0.
            let first = NonNull::new(unsafe { alloc(layout) })?;
            Some(Self { first, bytes, layout })
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.first.as_ptr(), self.layout) }
        }
    }
}

// SAFETY: it is accessed through its buffers alone, which do not overlap.
unsafe impl Send for Block {}
// SAFETY: as above.
unsafe impl Sync for Block {}

/// A slice of its own within a block.
pub struct Buffer<T> {
    first: NonNull<T>,
    len: usize,
    _block: Option<Arc<Block>>,
}

// SAFETY: a buffer owns its values, as a `Vec` does.
unsafe impl<T: Send> Send for Buffer<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Buffer<T> {}

impl<T> Default for Buffer<T> {
    fn default() -> Self {
        Self { first: NonNull::dangling(), len: 0, _block: None }
    }
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `Memory` has written the values, and the block lives as long as its buffers.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and no other buffer has these values.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap() {
        let mut memory = Memory::default();
        let sizes = [1, 0, 31, 4096, BLOCK / 4 + 1, 33, BLOCK / 4, 5];
        let mut buffers: Vec<Buffer<u32>> = sizes.iter().map(|len| memory.zeros(*len).unwrap()).collect();
        for (value, buffer) in (1..).zip(&mut buffers) {
            assert!(buffer.iter().all(|other| *other == 0));
            assert_eq!(buffer.as_ptr() as usize % if buffer.is_empty() { 4 } else { ALIGNMENT }, 0);
            buffer.fill(value);
        }
        let copy = memory.copy_of(&buffers[3]);
        // Buffers outlive their `Memory`.
        drop(memory);
        assert_eq!(*copy, *buffers[3]);
        for ((value, buffer), len) in (1..).zip(&buffers).zip(sizes) {
            assert!(buffer.len() == len && buffer.iter().all(|other| *other == value));
        }
    }

    #[test]
    fn too_much_is_refused() {
        assert!(Memory::default().zeros::<u64>(usize::MAX / 16).is_none());
        assert!(Memory::default().zeros::<u64>(usize::MAX / 4).is_none());
    }
}
