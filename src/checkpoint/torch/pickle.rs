//! Scans the opcodes of a pickle without building its values: counts them, collects the callables that they
//! name, and finds the opcodes that the reader (`pytorch-reader`) does not support. Nothing is executed, here
//! or elsewhere.
//!
//! The reader spends about a hundred bytes per one-byte opcode, so a few megabytes could take gigabytes:
//! counting the opcodes first bounds that. The reader supports dictionaries, but not objects that are filled
//! like dictionaries, such as TorchScript's objects and Lightning's parameters: the opcode that makes such an
//! object is replaced by one that makes a dictionary.
//!
//! The reader does not support quantised tensors either. A call that makes one is replaced by a call that
//! makes a tensor of its integers, and the result by a dictionary `{"<quantised 3>": (tensor, arguments)}`.
//! [`super::qtensor`] gets the scales from the name and the arguments.

use std::{borrow::Cow, collections::HashMap, ops::Range};

/// The maximum number of opcodes in a pickle, more than any checkpoint of these networks has. A tensor takes
/// about thirty. A checkpoint with optimiser state, averaged weights and the names of twenty thousand classes
/// takes fewer than half a million.
pub(super) const MOST_OPCODES: usize = 2_000_000;

/// The length that strings are truncated to, enough for the names of modules and classes.
const NAME: usize = 200;

/// The result of a scan.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Scan {
    /// The length in bytes, up to and including the last opcode.
    pub len: usize,
    /// Byte ranges of opcodes with their operands, in order, and their replacements.
    pub edits: Vec<(Range<usize>, Cow<'static, [u8]>)>,
    /// The callables that the pickle names, as `module.name`, in order, without duplicates.
    pub globals: Vec<String>,
    /// The schemes of quantised tensors, indexed by the number in their names.
    pub schemes: Vec<Scheme>,
}

/// The quantisation scheme of a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scheme {
    PerTensor {
        scale: f64,
        zero: f64,
    },
    /// The scales and the zero points are tensors along this axis.
    PerChannel {
        axis: f64,
    },
    Unknown,
}

/// The prefix and the suffix of the number in a quantised tensor's name.
pub(super) const QUANTISED: [&str; 2] = ["<quantised ", ">"];

/// Torch's callables for quantised tensors, and replacements that make tensors of plain integers.
const PLAIN: [(&str, &str, &[u8]); 3] = [
    ("torch", "QInt8Storage", b"ctorch\nCharStorage\n"),
    ("torch", "QUInt8Storage", b"ctorch\nByteStorage\n"),
    // The same arguments, except that the scheme takes the position of `requires_grad`.
    ("torch._utils", "_rebuild_qtensor", b"ctorch._utils\n_rebuild_tensor_v2\n"),
];

impl Scan {
    /// The pickle at the start of `bytes`, with the edits applied.
    pub fn rewritten(&self, bytes: &[u8]) -> Vec<u8> {
        let mut rewritten = Vec::with_capacity(self.len);
        let mut from = 0;
        for (replaced, replacement) in &self.edits {
            rewritten.extend_from_slice(&bytes[from..replaced.start]);
            rewritten.extend_from_slice(replacement);
            from = replaced.end;
        }
        rewritten.extend_from_slice(&bytes[from..self.len]);
        rewritten
    }
}

/// A value on the stack, reduced to what the scan needs.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Number(f64),
    /// A tuple that starts with the string `module`: before PyTorch 1.6, the persistent id of a class and its
    /// source code.
    Source,
    /// An object: the opcode that made it, that opcode's position, and whether the class is TorchScript's.
    Object {
        opcode: u8,
        at: usize,
        script: bool,
    },
    Global(Global),
    /// A tuple that describes a quantisation scheme.
    Scheme(Scheme),
    /// A tuple whose fifth element is a scheme: a quantised tensor's arguments.
    Quantised(Scheme),
    Other,
}

/// A named callable or constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    /// A TorchScript class.
    Script,
    RebuildQuantised,
    PerTensor,
    PerChannel,
    /// An unsupported quantisation scheme.
    OtherScheme,
    Other,
}

impl Global {
    fn of(module: &str, name: &str) -> Self {
        match (module, name) {
            _ if module.starts_with("__torch__") => Self::Script,
            ("torch._utils", "_rebuild_qtensor") => Self::RebuildQuantised,
            ("torch", "per_tensor_affine") => Self::PerTensor,
            ("torch", "per_channel_affine") => Self::PerChannel,
            ("torch", name) if name.starts_with("per_") => Self::OtherScheme,
            _ => Self::Other,
        }
    }
}

impl Value {
    fn tuple(values: &[Self]) -> Self {
        match values {
            [Self::Text(module), ..] if module == "module" => Self::Source,
            [Self::Global(Global::PerTensor), Self::Number(scale), Self::Number(zero)] => {
                Self::Scheme(Scheme::PerTensor { scale: *scale, zero: *zero })
            }
            [Self::Global(Global::PerChannel), _, _, Self::Number(axis)] => {
                Self::Scheme(Scheme::PerChannel { axis: *axis })
            }
            [Self::Global(Global::PerTensor | Global::PerChannel | Global::OtherScheme), ..] => {
                Self::Scheme(Scheme::Unknown)
            }
            [_, _, _, _, Self::Scheme(scheme), ..] => Self::Quantised(*scheme),
            _ => Self::Other,
        }
    }
}

/// Scans the pickle at the start of `bytes`.
///
/// # Errors
/// A message if it is cut short, has an unknown opcode or too many opcodes.
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
            // Quantised tensors add entries to the memo, so MEMOIZE needs explicit indices.
            if !found.schemes.is_empty() {
                found.edits.append(&mut machine.memoized);
            }
            found.edits.sort_by_key(|(replaced, _)| replaced.start);
            // An object filled as both a list and a dictionary keeps only one edit, so the reader rejects it.
            found.edits.dedup_by_key(|(replaced, _)| replaced.start);
            return Ok(found);
        }
    }
    Err(format!("its pickle has more than {MOST_OPCODES} opcodes: this is not a checkpoint"))
}

/// Python's pickle machine, reduced to [`Value`]s.
#[derive(Default)]
struct Machine {
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// MEMOIZE opcodes, and replacements with explicit indices. MEMOIZE takes the next free index, which
    /// differs in a rewritten pickle with more memo entries.
    memoized: Vec<(Range<usize>, Cow<'static, [u8]>)>,
}

/// Memo indices for temporary values of quantised tensors: no pickle has this many entries.
const SLOTS: [u32; 2] = [u32::MAX - 2, u32::MAX - 1];

/// Encodes an opcode that stores the top of the stack in the memo, or pushes a memo entry, with its index.
fn memo(opcode: u8, index: u32) -> Vec<u8> {
    [&[opcode][..], &index.to_le_bytes()].concat()
}

/// The replacement for a call: makes a dictionary of the call's result and arguments.
fn named_call(number: usize) -> Vec<u8> {
    let [prefix, suffix] = QUANTISED;
    let name = format!("{prefix}{number}{suffix}");
    let [put, get] = [b'r', b'j'].map(|opcode| SLOTS.map(|slot| memo(opcode, slot)));
    let length = (name.len() as u32).to_le_bytes();
    let parts: [&[u8]; 10] =
        [&put[0], b"R", &put[1], b"0}X", &length, name.as_bytes(), &get[1], &get[0], b"\x86", b"s"];
    parts.concat()
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
            // Opcodes that pop one or two values and keep the one below.
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
                let tuple = Value::tuple(&self.pop_to_mark());
                self.stack.push(tuple);
            }
            b'd' | b'l' | 0x91 => {
                self.pop_to_mark();
                self.stack.push(Value::Other);
            }
            0x85..=0x87 => {
                let first = self.stack.len().saturating_sub(usize::from(opcode - 0x84));
                let tuple = Value::tuple(&self.stack.split_off(first));
                self.stack.push(tuple);
            }
            b'Q' => {
                if self.stack.pop() == Some(Value::Source) {
                    found.edits.push((at..at + 1, b"0N".into()));
                }
                self.stack.push(Value::Other);
            }
            b'R' | 0x81 | 0x92 => {
                if opcode == 0x92 {
                    self.drop(1);
                }
                let (arguments, callable) = (self.stack.pop(), self.stack.pop());
                self.stack.push(match (opcode, callable, arguments) {
                    (b'R', Some(Value::Global(Global::RebuildQuantised)), Some(Value::Quantised(scheme))) => {
                        found.edits.push((at..at + 1, named_call(found.schemes.len()).into()));
                        found.schemes.push(scheme);
                        Value::Other
                    }
                    (_, callable, _) => {
                        let script = callable == Some(Value::Global(Global::Script));
                        Value::Object { opcode, at, script }
                    }
                });
            }
            b'c' | b'i' => {
                let names = String::from_utf8_lossy(content);
                let (module, name) = names.trim_end().split_once('\n').unwrap_or((&names, ""));
                self.global(module, name, at..at + 1 + content.len(), found);
                if opcode == b'i' {
                    self.pop_to_mark();
                }
            }
            0x93 => {
                let (name, module) = (self.stack.pop(), self.stack.pop());
                match (module, name) {
                    (Some(Value::Text(module)), Some(Value::Text(name))) => {
                        self.global(&module, &name, at..at + 1, found)
                    }
                    _ => self.stack.push(Value::Other),
                }
            }
            b'q' | b'r' => self.keep(index()),
            b'p' => self.keep(number(content)),
            0x94 => {
                let index = self.memo.len() as u32;
                self.memoized.push((at..at + 1, memo(b'r', index).into()));
                self.keep(index);
            }
            b'h' | b'j' => self.recall(index()),
            b'g' => self.recall(number(content)),
            b'X' | b'U' | 0x8c | 0x8d | b'V' => self.stack.push(text()),
            b'K' | b'M' | b'J' | 0x8a | b'G' | b'I' | b'L' | b'F' => {
                self.stack.push(Value::Number(value(opcode, content)));
            }
            b'.' | 0x80 | 0x95 | 0x98 => {}
            // All others push a value that the scan does not need.
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

    /// Replaces an object that is filled like a list or a dictionary with a list or a dictionary.
    fn fill(&mut self, values: usize, maker: &'static [u8], found: &mut Scan) {
        self.drop(values);
        if let Some(Value::Object { opcode, at, .. }) = self.stack.last() {
            let more = if maker == b"00]" { &b"000]"[..] } else { b"000}" };
            // NEWOBJ_EX pops three values: the class, its arguments and its keyword arguments.
            let maker = if *opcode == 0x92 { more } else { maker };
            found.edits.push((*at..at + 1, maker.into()));
        }
    }

    /// Replaces a TorchScript object with a dictionary of its state.
    fn build(&mut self, found: &mut Scan) {
        self.drop(1);
        if let Some(Value::Object { at, script: true, .. }) = self.stack.last() {
            found.edits.push((*at..at + 1, b"00}".into()));
        }
    }

    /// Pushes a callable, whose opcode and operand are at `range`.
    fn global(&mut self, module: &str, name: &str, range: Range<usize>, found: &mut Scan) {
        let global = format!("{module}.{name}");
        self.stack.push(Value::Global(Global::of(module, name)));
        if let Some((.., plain)) = PLAIN.iter().find(|known| (known.0, known.1) == (module, name)) {
            // STACK_GLOBAL, one byte long, pops its names from the stack.
            let names: &[u8] = if range.len() == 1 { b"00" } else { b"" };
            found.edits.push((range, [names, plain].concat().into()));
        }
        if found.globals.len() < 100 && !found.globals.contains(&global) {
            found.globals.push(global);
        }
    }
}

/// Parses a number written as a line of text.
fn number(line: &[u8]) -> u32 {
    std::str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok()).unwrap_or(u32::MAX)
}

/// The number that an opcode pushes; NaN if it is malformed.
fn value(opcode: u8, content: &[u8]) -> f64 {
    let integer = |signed: bool| {
        let negative = signed && content.last().is_some_and(|byte| *byte >= 0x80);
        let mut bytes = [if negative { 0xff } else { 0 }; 8];
        bytes.get_mut(..content.len())?.copy_from_slice(content);
        Some(i64::from_le_bytes(bytes) as f64)
    };
    match opcode {
        b'K' | b'M' => integer(false),
        b'J' | 0x8a => integer(true),
        b'G' => content.first_chunk().map(|bytes| f64::from_be_bytes(*bytes)),
        _ => {
            std::str::from_utf8(content).ok().and_then(|line| line.trim().trim_end_matches('L').parse().ok())
        }
    }
    .unwrap_or(f64::NAN)
}

/// The range of an opcode's operand, without its length prefix, in the bytes after the opcode. The next
/// opcode starts at its end. See Python's `pickletools`.
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
        // No operand: marks, tuples, lists, dictionaries, constants and stack operations.
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
        other => Err(format!("its pickle has an unknown opcode 0x{other:02x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_is_scanned_to_its_end() {
        // pickletools' example of each kind of operand, protocol by protocol.
        let text = b"(lp0\nI3\naL4L\naF1.5\naVnaive\naS'x'\nag0\naccollections\nOrderedDict\n.";
        assert_eq!(scan(text).unwrap().len, text.len());
        let mut binary =
            b"\x80\x04\x95\x01\0\0\0\0\0\0\0(K\x01M\x01\x02J\x01\x02\x03\x04G\0\0\0\0\0\0\0\0".to_vec();
        binary.extend(b"U\x01xT\x01\0\0\0yX\x02\0\0\0abC\x01zB\x01\0\0\0z\x8a\x01\x05\x8b\x01\0\0\0\x05");
        binary
            .extend(b"\x8c\x05torch\x8c\x06Tensor\x93\x94h\0q\x01j\0\0\0\0r\0\0\0\0\x8d\x01\0\0\0\0\0\0\0w");
        binary.extend(b"\x8e\x01\0\0\0\0\0\0\0w\x96\x01\0\0\0\0\0\0\0w)\x81}bt.");
        let found = scan(&[&binary[..], b"after it"].concat()).unwrap();
        assert_eq!((found.len, &found.globals[..]), (binary.len(), &["torch.Tensor".to_owned()][..]));
    }

    #[track_caller]
    fn becomes(pickle: &[u8], rewritten: &[u8]) {
        let found = scan(pickle).unwrap();
        assert_eq!(found.rewritten(pickle).escape_ascii().to_string(), rewritten.escape_ascii().to_string());
    }

    #[test]
    fn filled_objects_become_lists_and_dictionaries() {
        // C() with items set together, one by one, and appended; C(1) as protocol 0 makes it.
        becomes(b"cm\nC\n)\x81(K\x01K\x02u.", b"cm\nC\n)00}(K\x01K\x02u.");
        becomes(b"cm\nC\n)\x81}b.", b"cm\nC\n)\x81}b.");
        becomes(b"cm\nC\n)\x81q\x00K\x01K\x02s.", b"cm\nC\n)00}q\x00K\x01K\x02s.");
        becomes(b"cm\nC\n)\x81(K\x01e.", b"cm\nC\n)00](K\x01e.");
        becomes(b"cm\nC\n(K\x01tR(K\x01K\x02u.", b"cm\nC\n(K\x01t00}(K\x01K\x02u.");
        becomes(b"cm\nC\n)}\x92(K\x01K\x02u.", b"cm\nC\n)}000}(K\x01K\x02u.");
        becomes(b"cm\nC\n)\x81(K\x01e(K\x01K\x02u.", b"cm\nC\n)00](K\x01e(K\x01K\x02u.");
        // A TorchScript object whose class comes from the memo.
        becomes(
            b"c__torch__.a\nC\nq\x000h\x00)\x81}(X\x01\0\0\0aNub.",
            b"c__torch__.a\nC\nq\x000h\x00)00}}(X\x01\0\0\0aNub.",
        );
    }

    #[test]
    fn classes_stored_with_their_source_become_none() {
        // An object of the class with the id ('module', C, 'file', 'text'); then of D, with 'module' from
        // memo entry 0.
        let first = b"\x80\x02(X\x06\0\0\0moduleq\0cm\nC\nX\x01\0\0\0fX\x01\0\0\0st";
        let again = b"(h\0cm\nD\nX\x01\0\0\0fX\x01\0\0\0stq\x01";
        let pickle = [&first[..], b"Q)\x81", again, b"Q)\x81."].concat();
        becomes(&pickle, &[&first[..], b"0N)\x81", again, b"0N)\x81."].concat());
        let storage = b"\x80\x02(X\x07\0\0\0storageq\0ctorch\nFloatStorage\ntQ.";
        becomes(storage, storage);
    }

    #[test]
    fn quantised_tensors_become_their_integers_and_arguments() {
        // f(storage, 0, size, stride, (scheme, 0.5, 0), False), with the storage's class by name and from the
        // stack.
        let tuple = |scheme: &[u8]| [&b"(NK\x00))("[..], scheme, b"t\x89t"].concat();
        let scheme = tuple(b"ctorch\nper_tensor_affine\nG\x3f\xe0\0\0\0\0\0\0K\x00");
        let made = |call: &[u8]| {
            [b"\x80\x04ctorch\nQInt8Storage\n0ctorch._utils\n_rebuild_qtensor\n", call].concat()
        };
        let found = scan(&made(&[&scheme[..], b"R."].concat())).unwrap();
        assert_eq!(found.schemes, [Scheme::PerTensor { scale: 0.5, zero: 0.0 }]);
        becomes(
            &made(&[&scheme[..], b"R\x94."].concat()),
            &[
                &b"\x80\x04ctorch\nCharStorage\n0ctorch._utils\n_rebuild_tensor_v2\n"[..],
                &scheme,
                b"r\xfd\xff\xff\xffRr\xfe\xff\xff\xff0}X\x0d\0\0\0<quantised 0>j\xfe\xff\xff\xffj\xfd\xff\xff\xff\x86s",
                b"r\0\0\0\0.",
            ]
            .concat(),
        );
        becomes(
            b"\x8c\x05torch\x8c\x0dQUInt8Storage\x93.",
            b"\x8c\x05torch\x8c\x0dQUInt8Storage00ctorch\nByteStorage\n.",
        );
        for (scheme, wanted) in [
            (&b"ctorch\nper_channel_affine\nNNK\x01"[..], Scheme::PerChannel { axis: 1.0 }),
            (b"ctorch\nper_channel_affine\nNNN", Scheme::Unknown),
            (b"ctorch\nper_channel_affine_float_qparams\nNNK\x00", Scheme::Unknown),
            (
                b"ctorch\nper_tensor_affine\nF2.5\nJ\xff\xff\xff\xff",
                Scheme::PerTensor { scale: 2.5, zero: -1.0 },
            ),
        ] {
            let found = scan(&made(&[&tuple(scheme)[..], b"R."].concat())).unwrap();
            assert_eq!(found.schemes, [wanted]);
        }
        // Invalid arguments: the call is not replaced, so the reader rejects it.
        assert_eq!(scan(&made(b"(NK\x00t.")).unwrap().schemes, []);
        assert_eq!(scan(&made(b"R.")).unwrap().schemes, []);
    }

    #[test]
    fn truncated_and_endless_pickles_are_refused() {
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
