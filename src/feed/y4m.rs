//! YUV4MPEG2, the format of raw video in pipes between video tools. Implemented here because existing crates
//! mistake a truncated frame for the end of the stream.

use std::io::{self, BufRead, Read, Write};

use yuv::{
    YuvChromaSubsampling, YuvConversionMode, YuvGrayImage, YuvGrayImageMut, YuvPlanarImage,
    YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

use crate::{session::YuvMatrix, tasks::Picture};

pub const MAGIC: &[u8] = b"YUV4MPEG2 ";
const FRAME: &[u8] = b"FRAME";

/// The maximum number of bytes in a header.
const HEADER_LIMIT: u64 = 1024;

/// The chroma subsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chroma {
    /// No chroma.
    Grey,
    /// 4:2:0: 2 x 2 pixels share a sample.
    Quarter,
    /// 4:2:2: two pixels of a row share a sample.
    Half,
    /// 4:4:4: every pixel has a sample.
    Full,
}

/// The header of a y4m stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Columns of a frame.
    pub width: usize,
    /// Rows of a frame.
    pub height: usize,
    chroma: Chroma,
    /// Bits per sample; only the eight highest are used.
    depth: u32,
    full_range: bool,
    matrix: YuvMatrix,
    /// The other fields, which an output stream repeats: frame rate, interlacing, aspect ratio.
    fields: Vec<String>,
}

impl Header {
    /// Reads a header, up to the end of its line.
    ///
    /// # Errors
    /// The reason, if the header is not valid.
    pub fn read(reader: &mut impl BufRead, matrix: YuvMatrix) -> Result<Self, String> {
        let mut line = Vec::new();
        (&mut *reader).take(HEADER_LIMIT).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        let line = line.strip_suffix(b"\n").ok_or("the y4m header does not end")?;
        let fields = line.strip_prefix(MAGIC).ok_or("not a y4m stream")?;
        let fields = std::str::from_utf8(fields).map_err(|_| "the y4m header is not text")?;
        let (mut width, mut height) = (None, None);
        let (mut chroma, mut depth, mut full_range) = (Chroma::Quarter, 8, false);
        let mut others = Vec::new();
        for field in fields.split(' ').filter(|field| !field.is_empty()) {
            let (name, value) = field.split_at_checked(1).ok_or("the y4m header is not text")?;
            match name {
                "W" => width = value.parse().ok(),
                "H" => height = value.parse().ok(),
                "C" => {
                    (chroma, depth) =
                        colours(value).ok_or_else(|| format!("y4m colours {value:?} are not supported"))?
                }
                "X" if value.eq_ignore_ascii_case("COLORRANGE=FULL") => full_range = true,
                "X" => {}
                _ => others.push(field.to_owned()),
            }
        }
        let (Some(width @ 1..), Some(height @ 1..)) = (width, height) else {
            return Err("the y4m header has no width and height".into());
        };
        Ok(Self { width, height, chroma, depth, full_range, matrix, fields: others })
    }

    /// Writes the header of an output stream: 8-bit samples, the same subsampling.
    ///
    /// # Errors
    /// The errors of `out`.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let chroma = match self.chroma {
            Chroma::Grey => "mono",
            Chroma::Quarter => "420jpeg",
            Chroma::Half => "422",
            Chroma::Full => "444",
        };
        let range = if self.full_range { "FULL" } else { "LIMITED" };
        write!(out, "YUV4MPEG2 W{} H{}", self.width, self.height)?;
        for field in &self.fields {
            write!(out, " {field}")?;
        }
        writeln!(out, " C{chroma} XCOLORRANGE={range}")
    }

    /// Returns the bytes of a frame's samples; `None` if the number overflows.
    pub fn frame_bytes(&self) -> Option<usize> {
        let bytes = if self.depth > 8 { 2 } else { 1 };
        let [wide, tall] = self.chroma_size();
        let luma = self.width.checked_mul(self.height)?;
        luma.checked_add(wide.checked_mul(tall)?.checked_mul(2)?)?.checked_mul(bytes)
    }

    /// Returns the columns and rows of a chroma plane.
    fn chroma_size(&self) -> [usize; 2] {
        match self.chroma {
            Chroma::Grey => [0, 0],
            Chroma::Quarter => [self.width.div_ceil(2), self.height.div_ceil(2)],
            Chroma::Half => [self.width.div_ceil(2), self.height],
            Chroma::Full => [self.width, self.height],
        }
    }

    /// Reads the samples of the next frame; returns `None` at the end of the stream.
    ///
    /// # Errors
    /// The reason, if the frame is cut short or not valid.
    pub fn read_frame(&self, reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        (&mut *reader).take(HEADER_LIMIT).read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.starts_with(FRAME) || !line.ends_with(b"\n") {
            return Err("expected the header of a y4m frame".into());
        }
        let bytes = self.frame_bytes().ok_or("the frames are too large")?;
        let mut samples = Vec::new();
        (&mut *reader).take(bytes as u64).read_to_end(&mut samples).map_err(|e| e.to_string())?;
        match samples.len() == bytes {
            true => Ok(Some(samples)),
            false => Err(format!("the frame is cut short: {} bytes of {bytes}", samples.len())),
        }
    }

    /// Converts a frame's samples to a picture.
    ///
    /// # Errors
    /// The reason, if the samples are too few or cannot be converted.
    pub fn picture(&self, mut samples: Vec<u8>) -> Result<Picture, String> {
        if self.depth > 8 {
            let high =
                |pair: &[u8]| (u16::from_le_bytes([pair[0], pair[1]]) >> (self.depth - 8)).min(255) as u8;
            samples = samples.chunks_exact(2).map(high).collect();
        }
        let (width, height) = (self.width as u32, self.height as u32);
        let (luma, chroma) =
            samples.split_at_checked(self.width * self.height).ok_or("the frame is cut short")?;
        let [wide, _] = self.chroma_size();
        let (u, v) = chroma.split_at(chroma.len() / 2);
        let (range, matrix) = (self.range(), self.standard());
        let mut pixels = vec![0; 3 * luma.len()];
        let grey = YuvGrayImage { y_plane: luma, y_stride: width, width, height };
        let planes = YuvPlanarImage {
            y_plane: luma,
            y_stride: width,
            u_plane: u,
            u_stride: wide as u32,
            v_plane: v,
            v_stride: wide as u32,
            width,
            height,
        };
        let row = 3 * width;
        match self.chroma {
            Chroma::Grey => yuv::yuv400_to_rgb(&grey, &mut pixels, row, range, matrix),
            Chroma::Quarter => yuv::yuv420_to_rgb(&planes, &mut pixels, row, range, matrix),
            Chroma::Half => yuv::yuv422_to_rgb(&planes, &mut pixels, row, range, matrix),
            Chroma::Full => yuv::yuv444_to_rgb(&planes, &mut pixels, row, range, matrix),
        }
        .map_err(|e| e.to_string())?;
        Picture::new(self.width, self.height, pixels).map_err(|e| e.to_string())
    }

    /// Writes a picture of the stream's size as a frame.
    ///
    /// # Errors
    /// The errors of `out`; an error if the picture has another size.
    pub fn write_frame(&self, picture: &Picture, out: &mut impl Write) -> io::Result<()> {
        let (width, height) = (self.width as u32, self.height as u32);
        if [picture.width(), picture.height()] != [self.width, self.height] {
            return Err(io::Error::other("the frame's size differs from the stream's"));
        }
        let (range, matrix, mode) = (self.range(), self.standard(), YuvConversionMode::Balanced);
        let (pixels, row) = (picture.pixels(), 3 * width);
        out.write_all(b"FRAME\n")?;
        let subsampling = match self.chroma {
            Chroma::Grey => {
                let mut grey = YuvGrayImageMut::<u8>::alloc(width, height);
                yuv::rgb_to_yuv400(&mut grey, pixels, row, range, matrix).map_err(io::Error::other)?;
                return out.write_all(grey.y_plane.borrow());
            }
            Chroma::Quarter => YuvChromaSubsampling::Yuv420,
            Chroma::Half => YuvChromaSubsampling::Yuv422,
            Chroma::Full => YuvChromaSubsampling::Yuv444,
        };
        let mut planes = YuvPlanarImageMut::<u8>::alloc(width, height, subsampling);
        match self.chroma {
            Chroma::Half => yuv::rgb_to_yuv422(&mut planes, pixels, row, range, matrix, mode),
            Chroma::Full => yuv::rgb_to_yuv444(&mut planes, pixels, row, range, matrix, mode),
            _ => yuv::rgb_to_yuv420(&mut planes, pixels, row, range, matrix, mode),
        }
        .map_err(io::Error::other)?;
        [planes.y_plane.borrow(), planes.u_plane.borrow(), planes.v_plane.borrow()]
            .into_iter()
            .try_for_each(|plane| out.write_all(plane))
    }

    fn range(&self) -> YuvRange {
        if self.full_range { YuvRange::Full } else { YuvRange::Limited }
    }

    fn standard(&self) -> YuvStandardMatrix {
        match self.matrix {
            YuvMatrix::Bt601 => YuvStandardMatrix::Bt601,
            YuvMatrix::Bt709 => YuvStandardMatrix::Bt709,
            YuvMatrix::Bt2020 => YuvStandardMatrix::Bt2020,
        }
    }
}

/// Parses a header's colours: subsampling and bits per sample.
fn colours(name: &str) -> Option<(Chroma, u32)> {
    let depth = |bits: &str, mark: &str| match bits.strip_prefix(mark).map(str::parse::<u32>) {
        Some(Ok(depth @ 9..=16)) => Some(depth),
        _ => None,
    };
    Some(match name {
        "mono" => (Chroma::Grey, 8),
        "420" | "420jpeg" | "420mpeg2" | "420paldv" => (Chroma::Quarter, 8),
        "422" => (Chroma::Half, 8),
        "444" => (Chroma::Full, 8),
        _ if name.starts_with("mono") => (Chroma::Grey, depth(name, "mono")?),
        _ => match name.split_at_checked(3)? {
            ("420", bits) => (Chroma::Quarter, depth(bits, "p")?),
            ("422", bits) => (Chroma::Half, depth(bits, "p")?),
            ("444", bits) => (Chroma::Full, depth(bits, "p")?),
            _ => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(text: &str) -> Result<Header, String> {
        Header::read(&mut text.as_bytes(), YuvMatrix::Bt601)
    }

    #[test]
    fn headers_are_read_and_repeated() {
        let read =
            header("YUV4MPEG2 W5 H3 F30000:1001 Ip A1:1 C422p10 XYSCSS=422P10 XCOLORRANGE=FULL\n").unwrap();
        assert_eq!((read.width, read.height, read.frame_bytes()), (5, 3, Some(2 * (15 + 2 * 9))));
        let mut written = Vec::new();
        read.write(&mut written).unwrap();
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "YUV4MPEG2 W5 H3 F30000:1001 Ip A1:1 C422 XCOLORRANGE=FULL\n"
        );
        for wrong in [
            "",
            "YUV4MPEG2 W5 H3",
            "YUV4MPEG2 W5\n",
            "YUV4MPEG2 W0 H3\n",
            "YUV4MPEG2 W5 H3 C410\n",
            "RIFF W5 H3\n",
        ] {
            assert!(header(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(header(&format!("YUV4MPEG2 W{0} H{0}\n", u64::MAX)).unwrap().frame_bytes(), None);
    }

    #[test]
    fn pictures_survive_every_subsampling() {
        // Chroma changes slowly, so that subsampling loses very little.
        let pixels = (0..37 * 23).flat_map(|i| [(i % 37 * 6) as u8, (i / 37 * 9) as u8, 90]).collect();
        let picture = Picture::new(37, 23, pixels).unwrap();
        for (colours, bound) in [("420jpeg", 9), ("422", 9), ("444", 4)] {
            for range in ["FULL", "LIMITED"] {
                let header = header(&format!("YUV4MPEG2 W37 H23 C{colours} XCOLORRANGE={range}\n")).unwrap();
                let mut stream = Vec::new();
                header.write_frame(&picture, &mut stream).unwrap();
                let mut reader = &stream[..];
                let samples = header.read_frame(&mut reader).unwrap().unwrap();
                assert_eq!(header.read_frame(&mut reader).unwrap(), None);
                let back = header.picture(samples).unwrap();
                let off = picture.pixels().iter().zip(back.pixels()).map(|(a, b)| a.abs_diff(*b)).max();
                assert!(off <= Some(bound), "{colours} {range}: {off:?}");
                let cut = header.read_frame(&mut &stream[..stream.len() - 1]).unwrap_err();
                assert!(cut.contains("cut short"), "{cut}");
            }
        }
    }

    #[test]
    fn samples_become_the_colours_that_the_standard_says() {
        // White, black and BT.601's red, green and blue in limited range.
        for (yuv, rgb) in [
            ([235, 128, 128], [255, 255, 255]),
            ([16, 128, 128], [0, 0, 0]),
            ([81, 90, 240], [254, 0, 0]),
            ([145, 54, 34], [0, 255, 1]),
            ([41, 240, 110], [0, 0, 255]),
        ] {
            for (colours, scale) in [("444", 1u16), ("444p10", 4)] {
                let header = header(&format!("YUV4MPEG2 W1 H1 C{colours}\n")).unwrap();
                let samples: Vec<u8> = match scale {
                    1 => yuv.map(|v| v as u8).to_vec(),
                    scale => yuv.iter().flat_map(|v: &u16| (v * scale).to_le_bytes()).collect(),
                };
                let picture = header.picture(samples).unwrap();
                let off = picture.pixels().iter().zip(rgb).map(|(a, b): (&u8, u8)| a.abs_diff(b)).max();
                assert!(off <= Some(2), "{colours}: {picture:?} {:?} {rgb:?}", picture.pixels());
            }
        }
    }
}
