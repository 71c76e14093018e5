//! The opcodes of a pickle, walked without building anything: how many there are, and where objects
//! of TorchScript classes begin. Nothing is executed here or elsewhere.
//!
//! The reader that builds values spends about a hundred bytes on an opcode of one byte, so that a few
//! megabytes could ask for gigabytes. Counting first bounds that.

/// More than any checkpoint of these networks has: a tensor takes about thirty, and one with an
/// optimiser's state, an average and the names of twenty thousand classes stays below half a million.
pub(super) const MOST_OPCODES: usize = 2_000_000;

/// What a pickle's opcodes show.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Bytes up to and with the last opcode.
    pub len: usize,
    /// Where an empty tuple and the opcode that makes an object of it stand.
    pub objects: Vec<usize>,
    /// The callables that it names, `module.name`, each once, in order.
    pub globals: Vec<String>,
}

/// Walks the pickle that `bytes` begin with.
pub(super) fn scan(bytes: &[u8]) -> Result<Scan, String> {
    let mut found = Scan::default();
    let (mut at, mut count, mut empty_tuple) = (0, 0, None);
    // Texts on the stack just before `STACK_GLOBAL`, which takes the last two.
    let mut texts: [String; 2] = Default::default();
    loop {
        let opcode = *bytes.get(at).ok_or("the pickle is cut short")?;
        count += 1;
        if count > MOST_OPCODES {
            return Err(format!("its pickle has more than {MOST_OPCODES} opcodes"));
        }
        let rest = &bytes[at + 1..];
        let operand = operand(opcode, rest)?;
        let content = rest.get(operand.clone()).ok_or("the pickle is cut short")?;
        match opcode {
            0x81 if empty_tuple.is_some_and(|tuple| tuple + 1 == at) => found.objects.push(at - 1),
            b'c' => {
                let text = String::from_utf8_lossy(content);
                let mut lines = text.lines();
                let (module, name) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
                note(&mut found.globals, module, name);
            }
            0x8c | 0x8d | b'X' => {
                texts.swap(0, 1);
                // The names of modules are short.
                texts[1] = String::from_utf8_lossy(&content[..content.len().min(200)]).into_owned();
            }
            0x93 => note(&mut found.globals, &texts[0], &texts[1]),
            _ => {}
        }
        if opcode == b')' {
            empty_tuple = Some(at);
        }
        at += 1 + operand.end;
        if opcode == b'.' {
            found.len = at;
            return Ok(found);
        }
    }
}

fn note(globals: &mut Vec<String>, module: &str, name: &str) {
    let global = format!("{module}.{name}");
    if globals.len() < 100 && !globals.contains(&global) {
        globals.push(global);
    }
}

/// Where the operand's content lies behind an opcode, given what follows it; the next opcode follows
/// its end. See Python's `pickletools`.
fn operand(opcode: u8, rest: &[u8]) -> Result<std::ops::Range<usize>, String> {
    let length = |bytes: usize| -> Result<std::ops::Range<usize>, String> {
        let prefix = rest.get(..bytes).ok_or("the pickle is cut short")?;
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(prefix);
        let end = usize::try_from(u64::from_le_bytes(number)).ok().and_then(|n| n.checked_add(bytes));
        Ok(bytes..end.filter(|end| *end <= rest.len()).ok_or("the pickle is cut short")?)
    };
    let lines = |count: usize| -> Result<std::ops::Range<usize>, String> {
        let mut ends = rest.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        Ok(0..ends.nth(count - 1).ok_or("the pickle is cut short")?)
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
        other => Err(format!("0x{other:02x} is no pickle opcode")),
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
        assert_eq!(found.len, binary.len());
        assert_eq!(found.globals, ["torch.Tensor"]);
        assert_eq!(found.objects, [binary.len() - 6]);
    }

    #[test]
    fn what_is_cut_or_endless_is_refused() {
        for cut in [
            &b""[..],
            b"\x80",
            b"\x80\x02",
            b"X\xff\xff\xff\xff",
            b"X\x04\0\0\0ab",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffx",
            b"cmodule\n",
            b"I1",
        ] {
            assert!(scan(cut).unwrap_err().contains("cut short"), "{cut:?}");
        }
        assert!(scan(b"\xff").unwrap_err().contains("0xff"));
        let many = vec![b'N'; MOST_OPCODES + 1];
        assert!(scan(&many).unwrap_err().contains("opcodes"));
    }
}
