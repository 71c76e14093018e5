//! The output of `bench`: text, JSON or comma-separated values.

use std::fmt::Write;

use anyhow::{Context, Result};
use goldcrest::measure::Peaks;
use serde_json::{Value, json};

use super::{
    super::common::{self, json},
    Bench, Bencher,
    record::{LayerRecord, NetworkRecord},
    row::Row,
};

impl Bench {
    pub(super) fn in_json(&self, benchers: &[Bencher], rows: &[Row]) -> Result<String> {
        let devices = benchers.iter().map(|bencher| {
            let peaks: serde_json::Map<String, Value> = bencher
                .peaks
                .iter()
                .map(|(element, peaks)| (element.to_string(), peaks_json(peaks)))
                .collect();
            let mut device = common::device(&bencher.device);
            device["peaks"] = Value::Object(peaks);
            device
        });
        let first = common::device(&benchers.first().context("no device")?.device);
        json(&json!({
            "adapter": first["name"],
            "software": first["software"],
            "devices": devices.collect::<Vec<_>>(),
            "results": rows.iter().map(|row| row.json(self.layers)).collect::<Vec<_>>(),
        }))
    }

    pub(super) fn in_csv(&self, rows: &[Row]) -> Result<String> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in rows {
            match &row.timing {
                _ if !self.layers => writer.serialize((row.record(), NetworkRecord::new(row)))?,
                // The table of steps has no row for a network that was not measured.
                Err(reason) => log::warn!("{} is not measured: {reason}", row.name()),
                Ok(timing) => {
                    for step in &timing.steps {
                        writer.serialize((row.record(), LayerRecord::new(row, step)))?;
                    }
                }
            }
        }
        Ok(String::from_utf8(writer.into_inner()?)?)
    }

    pub(super) fn in_words(&self, benchers: &[Bencher], rows: &[Row]) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        for bencher in benchers {
            writeln!(text, "{}", bencher.device)?;
            for (element, peaks) in &bencher.peaks {
                match peaks {
                    Ok(Peaks { macs, bytes, launch }) => writeln!(
                        text,
                        "  {element} peak: {:.1} G multiply-adds/s, {:.1} GB/s, {:.1} us per launch",
                        macs / 1e9,
                        bytes / 1e9,
                        1e6 * launch
                    )?,
                    Err(reason) => writeln!(text, "  {element} peak: not measured: {reason}")?,
                }
            }
        }
        let wide = rows.iter().map(|row| row.name().len()).max().unwrap_or(0).max(24);
        writeln!(
            text,
            "\n{:<wide$} {:>5} {:>9} {:>5} {:<7} {:<5} {:>5}  {:>24}  {:>24} {:>9} {:>10} {:>7}",
            "network",
            "batch",
            "size",
            "type",
            "device",
            "fuse",
            "steps",
            "GPU ms (min to max)",
            "wall ms (min to max)",
            "first ms",
            "pictures/s",
            "of peak"
        )?;
        for row in rows {
            row.words(wide, &mut text)?;
        }
        if self.layers {
            for row in rows {
                row.layers(&mut text)?;
            }
        }
        Ok(text)
    }
}

/// Peaks as JSON, or why they could not be measured.
fn peaks_json(peaks: &Result<Peaks, String>) -> Value {
    match peaks {
        Ok(peaks) => json!({
            "macs_per_s": peaks.macs,
            "bytes_per_s": peaks.bytes,
            "launch_us": 1e6 * peaks.launch,
        }),
        Err(reason) => json!({ "missing": reason }),
    }
}
