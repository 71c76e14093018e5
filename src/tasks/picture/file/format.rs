//! Detects a file's format from its bytes, never from its name.

/// A supported format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Bmp,
    Gif,
    Jpeg,
    Png,
    Pnm,
    Qoi,
    Tiff,
    WebP,
}

/// The bytes at the start of a file that are enough to detect its format.
pub(crate) const MAGIC_BYTES: usize = 512;

const FFMPEG: &str = "make a PNG of it: ffmpeg -i FILE picture.png";
const FRAMES: &str = "make pictures of its frames: ffmpeg -i FILE frame%05d.png";
const RAW: &str = "make a picture of it with darktable-cli or dcraw";
const DRAWN: &str = "draw it as a PNG: rsvg-convert FILE -o picture.png";

/// Signatures of unsupported formats: offset, bytes, format and advice.
const REFUSED: &[(usize, &[u8], &str, &str)] = &[
    (0, b"\xff\x0a", "a JPEG XL picture", FFMPEG),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL picture", FFMPEG),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 picture", FFMPEG),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture", FFMPEG),
    (0, b"\xff\xd8\xff\xf7", "a JPEG-LS picture", FFMPEG),
    (0, b"8BPS", "a Photoshop document", "export a PNG of it"),
    (0, b"\0\0\x01\0", "an icon", "take the PNG in it: icotool -x FILE"),
    (0, b"\0\0\x02\0", "a cursor", "take the PNG in it: icotool -x FILE"),
    (0, b"icns", "an icon", FFMPEG),
    (0, b"DDS ", "a DDS texture", FFMPEG),
    (0, b"\xabKTX ", "a KTX texture", "unpack it with ktx extract"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture", FFMPEG),
    (0, b"#?RADIANCE", "a Radiance HDR picture", FFMPEG),
    (0, b"#?RGBE", "a Radiance HDR picture", FFMPEG),
    (0, b"farbfeld", "a farbfeld picture", "make a PNG of it: ff2png < FILE > picture.png"),
    (0, b"PF\n", "a PFM picture", FFMPEG),
    (0, b"Pf\n", "a PFM picture", FFMPEG),
    (0, b"\xc5\xd0\xd3\xc6", "PostScript", "draw it: gs -sDEVICE=png16m -o picture.png FILE"),
    (0, b"%!PS", "PostScript", "draw it: gs -sDEVICE=png16m -o picture.png FILE"),
    (0, b"%PDF", "a PDF document", "draw its pages: pdftoppm -png FILE page"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw file", RAW),
    (0, b"IIU\0", "a camera's raw file", RAW),
    (0, b"IIRO", "a camera's raw file", RAW),
    (0, b"IIRS", "a camera's raw file", RAW),
    (0, b"MMOR", "a camera's raw file", RAW),
    (0, b"FOVb", "a camera's raw file", RAW),
    (8, b"CR\x02\0", "a camera's raw file", RAW),
    (0, b"RIFF", "a video or a sound", FRAMES),
    (0, b"\x1a\x45\xdf\xa3", "a video", FRAMES),
    (0, b"FLV\x01", "a video", FRAMES),
    (0, b"OggS", "a video or a sound", FRAMES),
    (0, b"\0\0\x01\xba", "a video", FRAMES),
    (0, b"\0\0\x01\xb3", "a video", FRAMES),
    (0, b"YUV4MPEG2", "a video", FRAMES),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a video", FRAMES),
    (4, b"moov", "a video", FRAMES),
    (4, b"mdat", "a video", FRAMES),
    (4, b"wide", "a video", FRAMES),
];

/// Formats of ISO media files by brand, and advice; other brands are videos.
const BRANDS: &[(&[&[u8; 4]], &str, &str)] = &[
    (&[b"avif", b"avis"], "an AVIF picture", FFMPEG),
    (
        &[b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"],
        "a HEIC picture",
        "make a PNG of it: heif-convert FILE picture.png, or ffmpeg -i FILE picture.png",
    ),
    (&[b"crx "], "a camera's raw file", RAW),
];

impl Format {
    /// Detects the format of a file that begins with `start`.
    ///
    /// # Errors
    /// A message with the format and advice if it is not supported.
    pub fn of(start: &[u8]) -> Result<Self, String> {
        let at = |from: usize, magic: &[u8]| start.get(from..).is_some_and(|rest| rest.starts_with(magic));
        if start.is_empty() {
            return Err("the file is empty".into());
        }
        if let Some((_, _, what, help)) = REFUSED
            .iter()
            .find(|(from, magic, ..)| at(*from, magic) && !(*magic == b"RIFF" && at(8, b"WEBP")))
        {
            return Err(format!("{what}, which is not supported: {help}"));
        }
        if at(4, b"ftyp") {
            let brand = start.get(8..12).unwrap_or_default();
            let (what, help) = BRANDS
                .iter()
                .find(|(brands, ..)| brands.iter().any(|known| known[..] == *brand))
                .map_or(("a video", FRAMES), |(_, what, help)| (what, help));
            return Err(format!("{what}, which is not supported: {help}"));
        }
        match start {
            [0xff, 0xd8, 0xff, ..] => Ok(Self::Jpeg),
            [b'P', b'1'..=b'7', b' ' | b'\t' | b'\r' | b'\n' | b'#', ..] => Ok(Self::Pnm),
            _ if at(0, b"\x89PNG\r\n\x1a\n") => Ok(Self::Png),
            _ if at(0, b"GIF87a") || at(0, b"GIF89a") => Ok(Self::Gif),
            _ if at(0, b"RIFF") => Ok(Self::WebP),
            _ if [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|magic| at(0, *magic)) => Ok(Self::Tiff),
            // Two letters are a weak signature, so the reserved zeros after the file's length are checked
            // too.
            _ if at(0, b"BM") && at(6, &[0; 4]) => Ok(Self::Bmp),
            _ if at(0, b"qoif") => Ok(Self::Qoi),
            _ if is_svg(start) => Err(format!("an SVG drawing, which is not supported: {DRAWN}")),
            _ => Err("not a picture: JPEG, PNG, WebP, GIF, BMP, TIFF, PNM and QOI are supported".into()),
        }
    }
}

/// Returns whether the start of a file is markup with an `<svg` element.
fn is_svg(start: &[u8]) -> bool {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    text.starts_with(b"<") && text.windows(4).any(|word| word == b"<svg")
}
