//! Finds the orientation in a picture's EXIF data, as Pillow's `exif_transpose` does.
//!
//! This module has a separate parser because the `image` crate accepts only SHORT values, and because damaged
//! data must be ignored without losing an intact orientation entry that precedes it.

/// The orientation tag.
const ORIENTATION: usize = 0x0112;
/// The bytes of a directory entry: tag, type, count, and the value or its offset.
const ENTRY: usize = 12;
/// The prefix of the TIFF header in a JPEG segment, and in PNGs that copied such a segment.
const PREFIX: &[u8] = b"Exif\0\0";

/// The orientation, 1 to 8, in EXIF data, stored as any integer type; `None` if it is missing, damaged or out
/// of range.
pub(super) fn orientation(exif: &[u8]) -> Option<u8> {
    let mut tiff = exif;
    while let Some(rest) = tiff.strip_prefix(PREFIX) {
        tiff = rest;
    }
    let little = match tiff.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    // Some writers store 42 in the other byte order, which Pillow accepts.
    if !matches!(tiff.get(2..4)?, [42, 0] | [0, 42]) {
        return None;
    }
    let number = |bytes: &[u8]| {
        let digit = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        if little { bytes.iter().rev().fold(0, digit) } else { bytes.iter().fold(0, digit) }
    };
    let field = |at: usize, bytes: usize| tiff.get(at..at.checked_add(bytes)?);
    let directory = number(field(4, 4)?);
    let entries = number(field(directory, 2)?);
    for entry in
        field(directory.checked_add(2)?, tiff.len() - directory - 2)?.chunks_exact(ENTRY).take(entries)
    {
        if number(&entry[..2]) != ORIENTATION {
            continue;
        }
        // Signedness does not matter: no negative number has the bytes of 1 to 8.
        let bytes = match number(&entry[2..4]) {
            1 | 6 => 1,
            3 | 8 => 2,
            4 | 9 | 13 => 4,
            _ => continue,
        };
        // Only the first value counts; values of more than four bytes are at an offset.
        let value = match number(&entry[4..8]).checked_mul(bytes)? {
            0 => continue,
            1..=4 => &entry[8..8 + bytes],
            _ => field(number(&entry[8..]), bytes)?,
        };
        return u8::try_from(number(value)).ok().filter(|value| (1..=8).contains(value));
    }
    None
}

/// The EXIF data of a PNG. This scans the file because the data may come after the pixels, and the
/// orientation is needed before these are decoded.
pub(super) fn of_png(file: &[u8]) -> Option<&[u8]> {
    const SIGNATURE: usize = 8;
    let mut rest = file.get(SIGNATURE..)?;
    // A chunk has the length of its data, its name, the data and a checksum.
    while let Some((length, named)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (name, data) = named.split_first_chunk::<4>()?;
        if name == b"eXIf" {
            return data.get(..length);
        }
        rest = data.get(length.checked_add(4)?..)?;
    }
    None
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header and a directory of one entry, followed by the value if it does not fit the entry.
    pub fn exif(little: bool, kind: u16, count: u32, value: &[u8]) -> Vec<u8> {
        let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut bytes = if little { b"II".to_vec() } else { b"MM".to_vec() };
        bytes.extend(short(42));
        bytes.extend(long(8));
        bytes.extend(short(1));
        bytes.extend(short(ORIENTATION as u16));
        bytes.extend(short(kind));
        bytes.extend(long(count));
        let end = bytes.len() as u32 + 8;
        let mut field = if value.len() <= 4 { value.to_vec() } else { long(end).to_vec() };
        field.resize(4, 0);
        bytes.extend(field);
        bytes.extend([0; 4]);
        if value.len() > 4 {
            bytes.extend(value);
        }
        bytes
    }

    /// The bytes of `value` in each integer type: BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG, IFD.
    pub fn integers(little: bool, value: i32) -> Vec<(u16, Vec<u8>)> {
        let bytes = if little { value.to_le_bytes() } else { value.to_be_bytes() };
        [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4), (13, 4)]
            .map(|(kind, size)| (kind, if little { &bytes[..size] } else { &bytes[4 - size..] }.to_vec()))
            .to_vec()
    }

    #[test]
    fn any_integer_type_in_either_byte_order() {
        for little in [true, false] {
            for value in -3..12 {
                for (kind, bytes) in integers(little, value) {
                    let expected = (1..=8).contains(&value).then_some(value as u8);
                    let found = orientation(&exif(little, kind, 1, &bytes));
                    assert_eq!(found, expected, "{value} as type {kind}, little: {little}");
                    // With more copies of the value, in the entry or at an offset.
                    let found = orientation(&exif(little, kind, 3, &bytes.repeat(3)));
                    assert_eq!(found, expected, "{value} three times as type {kind}, little: {little}");
                }
            }
            // Only the lowest byte is 6.
            let large = if little { [6, 0, 1, 0] } else { [0, 1, 0, 6] };
            assert_eq!(orientation(&exif(little, 4, 1, &large)), None);
        }
    }

    #[test]
    fn prefixed_odd_and_truncated_headers() {
        let whole = exif(true, 4, 1, &[6, 0, 0, 0]);
        assert_eq!(orientation(&[PREFIX, &whole].concat()), Some(6));
        assert_eq!(orientation(&[b"II\0*", &whole[4..]].concat()), Some(6));
        // The offset of a next directory may be missing, but not a part of the entry.
        assert_eq!(orientation(&whole[..whole.len() - 4]), Some(6));
        for len in 0..whole.len() - 4 {
            assert_eq!(orientation(&whole[..len]), None, "{len}");
        }
        assert_eq!(orientation(&exif(true, 3, 0, &[6, 0])), None);
        assert_eq!(orientation(&exif(true, 2, 1, &[6])), None);
        assert_eq!(orientation(b"Exif\0\0XX*\0\x08\0\0\0"), None);
    }

    proptest! {
        /// After a correct header, so that more than the header is read.
        #[test]
        fn random_bytes_do_not_panic(little: bool, bytes: Vec<u8>, directory in 0u32..40, count: u32, kind in 0u16..14) {
            let order = if little { *b"II*\0" } else { *b"MM\0*" };
            let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
            let random = [&order[..], &long(directory), &bytes].concat();
            let entry = exif(little, kind, count, &bytes);
            for exif in [&bytes, &random, &entry] {
                prop_assert!(orientation(exif).is_none_or(|value| (1..=8).contains(&value)));
            }
            let _ = of_png(&bytes);
            let _ = of_png(&[b"\x89PNG\r\n\x1a\n", &bytes[..]].concat());
        }

        /// A correct entry with one byte changed.
        #[test]
        fn a_changed_byte_does_not_panic(little: bool, at in 0usize..26, with: u8) {
            let mut bytes = exif(little, 4, 2, &[0, 0, 0, 6, 6, 0, 0, 0]);
            bytes[at] = with;
            let _ = orientation(&bytes);
        }
    }
}
