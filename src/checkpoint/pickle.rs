//! The opcodes of a pickle, walked without building its values: how many there are, which callables they name, and
//! which of them the reader of values does not know. Nothing is executed here or elsewhere.
//!
//! That reader spends about a hundred bytes on an opcode of one byte, so that a few megabytes could ask
//! for gigabytes: counting first bounds that. And it knows dictionaries, but no classes that are filled like
//! one, as TorchScript's objects and Lightning's parameters are: their makers are replaced by a dictionary's.

use std::{collections::HashMap, ops::Range};

/// More than any checkpoint of these networks has: a tensor takes about thirty, and one with an
/// optimiser's state, an average and the names of twenty thousand classes stays below half a million.
pub(super) const MOST_OPCODES: usize = 2_000_000;

/// The longest text that means anything here: a module's or a class's name.
const NAME: usize = 200;

/// What a pickle's opcodes show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes up to and with the last opcode.
    pub len: usize,
    /// Where an opcode of one byte is to be replaced, in order, and by what.
    pub edits: Vec<(usize, &'static [u8])>,
    /// The callables that it names, `module.name`, each once, in order.
    pub globals: Vec<String>,
}

impl Scan {
    /// The pickle that `bytes` begin with, in the words that the reader knows.
    pub fn reworded(&self, bytes: &[u8]) -> Vec<u8> {
        let mut reworded = Vec::with_capacity(self.len + 3 * self.edits.len());
        let mut from = 0;
        for &(at, replacement) in &self.edits {
            reworded.extend_from_slice(&bytes[from..at]);
            reworded.extend_from_slice(replacement);
            from = at + 1;
        }
        reworded.extend_from_slice(&bytes[from..self.len]);
        reworded
    }
}

/// A value on the stack, as far as it means anything here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    /// A tuple whose first is the text `module`: the id of a class with its source text, which `torch.save`
    /// noted beside it before there were archives.
    Source,
    /// Of a class: the opcode that made it, where that stands, and whether TorchScript has the class.
    Object {
        opcode: u8,
        at: usize,
        script: bool,
    },
    /// A callable, and whether it is TorchScript's.
    Global {
        script: bool,
    },
    Other,
}

/// Walks the pickle that `bytes` begin with.
///
/// # Errors
/// Why it is none: it is cut short, has an opcode that there is not, or too many.
pub(super) fn scan(bytes: &[u8]) -> Result<Scan, String> {
    let mut found = Scan::default();
    let mut machine = Machine::default();
    let mut at = 0;
    for _ in 0..MOST_OPCODES {
        let opcode = *bytes.get(at).ok_or("its pickle is cut short")?;
        let rest = &bytes[at + 1..];
        let operand = operand(opcode, rest)?;
        let content = rest.get(operand.clone()).ok_or("its pickle is cut short")?;
        machine.walk(opcode, at, content, &mut found);
        at += 1 + operand.end;
        if opcode == b'.' {
            found.len = at;
            // One that is filled as both is neither: the reader says so.
            found.edits.sort_unstable();
            found.edits.dedup_by_key(|(at, _)| *at);
            return Ok(found);
        }
    }
    Err(format!("its pickle has more than {MOST_OPCODES} opcodes: that is no checkpoint"))
}

/// Python's machine, with values of these kinds.
#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

impl Machine {
    fn walk(&mut self, opcode: u8, at: usize, content: &[u8], found: &mut Scan) {
        let index = || content.iter().rev().fold(0u32, |index, byte| index << 8 | u32::from(*byte));
        let text = || Value::Text(String::from_utf8_lossy(&content[..content.len().min(NAME)]).into_owned());
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => self.drop(1),
            b'1' => drop(self.pop_to_mark()),
            b'2' => self.stack.push(self.stack.last().cloned().unwrap_or(Value::Other)),
            // What takes one or two values and leaves the one under them.
            b'a' => self.fill(1, b"00]", found),
            b's' => self.fill(2, b"00}", found),
            b'b' => self.build(found),
            b'e' | 0x90 => {
                self.pop_to_mark();
                self.fill(0, b"00]", found);
            }
            b'u' => {
                self.pop_to_mark();
                self.fill(0, b"00}", found);
            }
            b't' => {
                let source = self.pop_to_mark().first() == Some(&Value::Text("module".into()));
                self.stack.push(if source { Value::Source } else { Value::Other });
            }
            b'd' | b'l' | 0x91 => {
                self.pop_to_mark();
                self.stack.push(Value::Other);
            }
            0x85..=0x87 => {
                self.drop(usize::from(opcode - 0x84));
                self.stack.push(Value::Other);
            }
            b'Q' => {
                if self.stack.pop() == Some(Value::Source) {
                    found.edits.push((at, b"0N"));
                }
                self.stack.push(Value::Other);
            }
            b'R' | 0x81 | 0x92 => {
                self.drop(if opcode == 0x92 { 2 } else { 1 });
                let script = self.stack.pop() == Some(Value::Global { script: true });
                self.stack.push(Value::Object { opcode, at, script });
            }
            b'c' | b'i' => {
                let names = String::from_utf8_lossy(content);
                let (module, name) = names.trim_end().split_once('\n').unwrap_or((&names, ""));
                self.global(module, name, found);
                if opcode == b'i' {
                    self.pop_to_mark();
                }
            }
            0x93 => {
                let (name, module) = (self.stack.pop(), self.stack.pop());
                match (module, name) {
                    (Some(Value::Text(module)), Some(Value::Text(name))) => {
                        self.global(&module, &name, found)
                    }
                    _ => self.stack.push(Value::Other),
                }
            }
            b'q' | b'r' => self.keep(index()),
            b'p' => self.keep(number(content)),
            0x94 => self.keep(self.memo.len() as u32),
            b'h' | b'j' => self.recall(index()),
            b'g' => self.recall(number(content)),
            b'X' | b'U' | 0x8c | 0x8d | b'V' => self.stack.push(text()),
            b'.' | 0x80 | 0x95 | 0x98 => {}
            // All others push a value that means nothing here.
            _ => self.stack.push(Value::Other),
        }
    }

    fn drop(&mut self, count: usize) {
        self.stack.truncate(self.stack.len().saturating_sub(count));
    }

    fn pop_to_mark(&mut self) -> Vec<Value> {
        let mark = self.marks.pop().unwrap_or_default();
        self.stack.split_off(mark.min(self.stack.len()))
    }

    fn keep(&mut self, index: u32) {
        if let Some(value) = self.stack.last() {
            self.memo.insert(index, value.clone());
        }
    }

    fn recall(&mut self, index: u32) {
        self.stack.push(self.memo.get(&index).cloned().unwrap_or(Value::Other));
    }

    /// An object that is filled as a list or a dictionary is made as one.
    fn fill(&mut self, values: usize, maker: &'static [u8], found: &mut Scan) {
        self.drop(values);
        if let Some(Value::Object { opcode, at, .. }) = self.stack.last() {
            let more = if maker == b"00]" { &b"000]"[..] } else { b"000}" };
            // An ordered dictionary is known, and made of nothing.
            found.edits.push((*at, if *opcode == 0x92 { more } else { maker }));
        }
    }

    /// An object of TorchScript's is a dictionary of what it is built of.
    fn build(&mut self, found: &mut Scan) {
        self.drop(1);
        if let Some(Value::Object { at, script: true, .. }) = self.stack.last() {
            found.edits.push((*at, b"00}"));
        }
    }

    fn global(&mut self, module: &str, name: &str, found: &mut Scan) {
        let global = format!("{module}.{name}");
        self.stack.push(Value::Global { script: module.starts_with("__torch__") });
        if found.globals.len() < 100 && !found.globals.contains(&global) {
            found.globals.push(global);
        }
    }
}

/// A number written as a line of text.
fn number(line: &[u8]) -> u32 {
    std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// Where the operand's content lies behind an opcode, given what follows it; the next opcode follows
/// its end. See Python's `pickletools`.
fn operand(opcode: u8, rest: &[u8]) -> Result<Range<usize>, String> {
    let length = |bytes: usize| -> Result<Range<usize>, String> {
        let prefix = rest.get(..bytes).ok_or("its pickle is cut short")?;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(prefix);
        let end = usize::try_from(u64::from_le_bytes(number)).ok().and_then(|n| n.checked_add(bytes));
        Ok(bytes..end.filter(|end| *end <= rest.len()).ok_or("its pickle is cut short")?)
    };
    let lines = |count: usize| -> Result<Range<usize>, String> {
        let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Ok(0..ends.nth(count - 1).ok_or("its pickle is cut short")?)
    };
    match opcode {
        // Marks, tuples, lists, dictionaries, constants, and what works on the stack alone.
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'R'
        | b'b'
        | b'd'
        | b'l'
        | b't'
        | b's'
        | b'a'
        | b')'
        | b']'
        | b'}'
        | b'e'
        | b'u'
        | b'Q'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Ok(0..0),
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Ok(0..1),
        b'M' | 0x83 => Ok(0..2),
        b'J' | b'j' | b'r' | 0x84 => Ok(0..4),
        b'G' | 0x95 => Ok(0..8),
        b'U' | b'C' | 0x8a | 0x8c => length(1),
        b'T' | b'X' | b'B' | 0x8b => length(4),
        0x8d | 0x8e | 0x96 => length(8),
        b'I' | b'L' | b'F' | b'V' | b'S' | b'g' | b'p' | b'P' => lines(1),
        b'c' | b'i' => lines(2),
        other => Err(format!("its pickle has an opcode 0x{other:02x}, which there is not")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_is_walked_to_its_end() {
        // pickletools' example of each kind of operand, protocol by protocol.
        let text = b"(lp0\nI3\naL4L\naF1.5\naVnaive\naS'x'\nag0\naccollections\nOrderedDict\n.";
        assert_eq!(scan(text).unwrap().len, text.len());
        let mut binary =
            b"\x80\x04\x95\x01\0\0\0\0\0\0\0(K\x01M\x01\x02J\x01\x02\x03\x04G\0\0\0\0\0\0\0\0".to_vec();
        binary.extend(b"U\x01xT\x01\0\0\0yX\x02\0\0\0abC\x01zB\x01\0\0\0z\x8a\x01\x05\x8b\x01\0\0\0\x05");
        binary
            .extend(b"\x8c\x05torch\x8c\x06Tensor\x93\x94h\0q\x01j\0\0\0\0r\0\0\0\0\x8d\x01\0\0\0\0\0\0\0w");
        binary.extend(b"\x8e\x01\0\0\0\0\0\0\0w\x96\x01\0\0\0\0\0\0\0w)\x81}bt.");
        let found = scan(&[&binary[..], b"behind it"].concat()).unwrap();
        assert_eq!((found.len, &found.globals[..]), (binary.len(), &["torch.Tensor".to_owned()][..]));
    }

    #[track_caller]
    fn becomes(pickle: &[u8], reworded: &[u8]) {
        let found = scan(pickle).unwrap();
        assert_eq!(found.reworded(pickle).escape_ascii().to_string(), reworded.escape_ascii().to_string());
    }

    #[test]
    fn objects_that_are_filled_become_what_they_are_filled_as() {
        // C() with items set at once, one by one, and appended; C(1) as protocol 0 makes it.
        becomes(b"cm\nC\n)\x81(K\x01K\x02u.", b"cm\nC\n)00}(K\x01K\x02u.");
        becomes(b"cm\nC\n)\x81}b.", b"cm\nC\n)\x81}b.");
        becomes(b"cm\nC\n)\x81q\x00K\x01K\x02s.", b"cm\nC\n)00}q\x00K\x01K\x02s.");
        becomes(b"cm\nC\n)\x81(K\x01e.", b"cm\nC\n)00](K\x01e.");
        becomes(b"cm\nC\n(K\x01tR(K\x01K\x02u.", b"cm\nC\n(K\x01t00}(K\x01K\x02u.");
        becomes(b"cm\nC\n)}\x92(K\x01K\x02u.", b"cm\nC\n)}000}(K\x01K\x02u.");
        becomes(b"cm\nC\n)\x81(K\x01e(K\x01K\x02u.", b"cm\nC\n)00](K\x01e(K\x01K\x02u.");
        // TorchScript's, by a class that was kept.
        becomes(
            b"c__torch__.a\nC\nq\x000h\x00)\x81}(X\x01\0\0\0aNub.",
            b"c__torch__.a\nC\nq\x000h\x00)00}}(X\x01\0\0\0aNub.",
        );
    }

    #[test]
    fn classes_with_their_source_need_none() {
        // ('module', C, 'file', 'text') looked up, and an object made of it; then by the text kept as 0.
        let first = b"\x80\x02(X\x06\0\0\0moduleq\0cm\nC\nX\x01\0\0\0fX\x01\0\0\0st";
        let again = b"(h\0cm\nD\nX\x01\0\0\0fX\x01\0\0\0stq\x01";
        let pickle = [&first[..], b"Q)\x81", again, b"Q)\x81."].concat();
        becomes(&pickle, &[&first[..], b"0N)\x81", again, b"0N)\x81."].concat());
        let storage = b"\x80\x02(X\x07\0\0\0storageq\0ctorch\nFloatStorage\ntQ.";
        becomes(storage, storage);
    }

    #[test]
    fn what_is_cut_or_endless_is_refused() {
        let cut: [&[u8]; 8] = [
            b"",
            b"\x80",
            b"\x80\x02",
            b"X\xff\xff\xff\xff",
            b"X\x04\0\0\0ab",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx",
            b"cmodule\n",
            b"I1",
        ];
        for cut in cut {
            assert!(scan(cut).unwrap_err().contains("cut short"), "{cut:?}");
        }
        assert!(scan(b"\xff").unwrap_err().contains("0xff"));
        let many = vec![b'N'; MOST_OPCODES + 1];
        assert!(scan(&many).unwrap_err().contains("opcodes"));
    }
}
