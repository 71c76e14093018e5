//! A reader with lookahead.

use std::io::{self, BufRead, Read};

/// Bytes per read.
const CHUNK: usize = 1 << 16;

/// A reader that can peek at any number of bytes before they are consumed.
pub struct Lookahead<R> {
    reader: R,
    bytes: Vec<u8>,
    ended: bool,
}

impl<R: Read> Lookahead<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, bytes: Vec::new(), ended: false }
    }

    /// Returns the buffered bytes: at least `count`, unless the stream ends earlier.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        while self.bytes.len() < count && !self.ended {
            let from = self.bytes.len();
            self.bytes.resize(from + CHUNK.max((count - from).min(16 * CHUNK)), 0);
            let read = match self.reader.read(&mut self.bytes[from..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {
                    self.bytes.truncate(from);
                    continue;
                }
                read => read,
            };
            self.bytes.truncate(from + *read.as_ref().unwrap_or(&0));
            self.ended = read? == 0;
        }
        Ok(&self.bytes)
    }

    /// Removes and returns the next `count` buffered bytes.
    pub fn split_off(&mut self, count: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(count.min(self.bytes.len()));
        std::mem::replace(&mut self.bytes, rest)
    }
}

impl<R: Read> BufRead for Lookahead<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.peek(1)
    }

    fn consume(&mut self, count: usize) {
        self.bytes.drain(..count);
    }
}

impl<R: Read> Read for Lookahead<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            return if self.ended { Ok(0) } else { self.reader.read(into) };
        }
        let count = into.len().min(self.bytes.len());
        into[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.drain(..count);
        Ok(count)
    }
}
