//! Prints results on standard output, one after another: as text, JSON or a table.

use std::{
    io::{self, BufWriter, StdoutLock, Write},
    ops::ControlFlow,
};

use anyhow::{Result, anyhow};
use clap::Args;
use goldcrest::{
    feed::{Name, Prediction, Subject},
    text::{visible, visible_json, visible_lines},
};
use serde_json::{Map, Value, json};

use super::{
    Description,
    save::{Coding, Frame},
    unless_closed,
};

/// Options for the output format, which is text by default.
#[derive(Args)]
pub struct Format {
    /// Print one JSON document
    #[arg(long, group = "format")]
    json: bool,

    /// Print one line of JSON per picture
    #[arg(long, group = "format")]
    jsonl: bool,

    /// Print comma-separated values
    #[arg(long, group = "format")]
    csv: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Json,
    Lines,
    Table,
}

impl Format {
    pub fn kind(&self) -> Kind {
        match self {
            Self { json: true, .. } => Kind::Json,
            Self { jsonl: true, .. } => Kind::Lines,
            Self { csv: true, .. } => Kind::Table,
            _ => Kind::Text,
        }
    }

    pub fn is_text(&self) -> bool {
        self.kind() == Kind::Text
    }
}

/// The output for one picture.
pub struct Line {
    pub name: Name,
    pub size: Option<[usize; 2]>,
    /// Why the result, or a part of it, is missing.
    pub error: Option<String>,
    /// The result, if it is evaluated.
    pub prediction: Option<Prediction>,
    fields: Map<String, Value>,
    text: String,
    rows: Vec<Vec<String>>,
    frame: Option<Frame>,
}

impl Line {
    pub fn of(subject: &Subject) -> Self {
        let name = subject.name.clone();
        let mut fields = Map::new();
        fields.insert("file".into(), name.file.display().to_string().into());
        if let Some(frame) = name.frame {
            fields.insert("frame".into(), frame.into());
        }
        if let Some([height, width]) = subject.size {
            fields.insert("width".into(), width.into());
            fields.insert("height".into(), height.into());
        }
        let (text, rows) = (String::new(), Vec::new());
        Self { name, size: subject.size, error: None, prediction: None, fields, text, rows, frame: None }
    }

    pub fn fail(&mut self, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        // Most errors name the file already, but not the frame.
        let file = format!("{}: ", self.name.file.display());
        let reason = format!("{}: {}", self.name, reason.strip_prefix(&file).unwrap_or(&reason));
        self.fields.insert("error".into(), reason.clone().into());
        self.error = Some(reason);
    }

    pub fn describe(&mut self, description: Description) {
        self.fields.extend(description.fields);
        (self.text, self.rows) = (description.text, description.rows);
    }

    pub fn save(&mut self, saved: Map<String, Value>, frame: Option<Frame>) {
        self.fields.extend(saved);
        self.frame = frame;
    }
}

/// Prints the output.
pub struct Printer<'a> {
    out: BufWriter<StdoutLock<'static>>,
    kind: Kind,
    columns: &'a [&'a str],
    /// True if frames are printed instead of results.
    streams: bool,
    /// True once a result has been printed.
    begun: bool,
    /// The coding of the frames so far, if there were any.
    coding: Option<Coding>,
}

impl<'a> Printer<'a> {
    pub fn new(kind: Kind, columns: &'a [&'a str], streams: bool) -> Self {
        Self { out: BufWriter::new(io::stdout().lock()), kind, columns, streams, begun: false, coding: None }
    }

    /// Prints what precedes the results.
    pub fn begin(&mut self, head: &Value) -> Result<ControlFlow<()>> {
        let written = match self.kind {
            Kind::Json => {
                let head = indented(head, "");
                let open = head.trim_end_matches(['\n', '}']);
                write!(self.out, "{open},\n  \"pictures\": [").and_then(|()| self.out.flush())
            }
            Kind::Table => {
                let columns = ["file", "frame"].iter().chain(self.columns).chain(&["error"]);
                self.record(columns.copied()).and_then(|()| self.out.flush())
            }
            Kind::Text | Kind::Lines => Ok(()),
        };
        unless_closed(written)
    }

    /// Drops a frame that cannot follow the preceding ones.
    pub fn admit(&self, line: &mut Line) {
        let Some(coding) = &self.coding else { return };
        if line.frame.take_if(|frame| !frame.follows(coding)).is_some() {
            line.fail(&anyhow!(
                "--out -: the frame's format (PPM or y4m), size or y4m header differs from that of the preceding \
                 frames"
            ));
        }
    }

    /// Prints a result and flushes.
    pub fn print(&mut self, line: Line) -> Result<ControlFlow<()>> {
        unless_closed(self.write(line).and_then(|()| self.out.flush()))
    }

    fn write(&mut self, line: Line) -> io::Result<()> {
        if self.streams {
            return line.frame.as_ref().map_or(Ok(()), |frame| frame.write(&mut self.coding, &mut self.out));
        }
        match self.kind {
            Kind::Json => {
                let comma = if std::mem::replace(&mut self.begun, true) { "," } else { "" };
                self.out.write_all(comma.as_bytes())?;
                let entry = indented(&Value::Object(line.fields), "    ");
                write!(self.out, "\n    {entry}")
            }
            Kind::Table => {
                let frame = line.name.frame.map(|frame| frame.to_string()).unwrap_or_default();
                let own = [line.name.file.display().to_string(), frame];
                let error = line.error.clone().unwrap_or_default();
                let empty = [vec![String::new(); self.columns.len()]];
                let rows =
                    if line.rows.is_empty() && !error.is_empty() { &empty[..] } else { &line.rows[..] };
                rows.iter().try_for_each(|row| self.record(own.iter().chain(row).chain([&error])))
            }
            Kind::Lines => {
                let entry = Value::Object(line.fields).to_string();
                writeln!(self.out, "{}", visible_json(&entry))
            }
            Kind::Text if line.text.is_empty() => Ok(()),
            Kind::Text => {
                self.begun = true;
                let name = line.name.to_string();
                write!(self.out, "{}\n{}", visible(&name), visible_lines(&line.text))
            }
        }
    }

    /// Prints what follows the results.
    pub fn end(&mut self, tail: &Value, words: &str) -> Result<ControlFlow<()>> {
        let written = match self.kind {
            _ if self.streams => {
                super::super::say(words);
                Ok(())
            }
            Kind::Json => {
                let tail = indented(tail, "");
                let close = tail.trim_start_matches(['{', '\n']);
                let end = if self.begun { "\n  ]" } else { "]" };
                writeln!(self.out, "{end},\n{close}")
            }
            Kind::Text if self.begun => self.out.write_all(visible_lines(words).as_bytes()),
            Kind::Text => Ok(()),
            // These formats have no place for a summary, so an evaluation goes to stderr.
            Kind::Lines | Kind::Table => {
                if ["truth", "vectors"].iter().any(|key| tail.get(key).is_some()) {
                    super::super::say(words);
                }
                Ok(())
            }
        };
        unless_closed(written.and_then(|()| self.out.flush()))
    }

    fn record(&mut self, fields: impl IntoIterator<Item = impl AsRef<str>>) -> io::Result<()> {
        let mut writer = csv::Writer::from_writer(&mut self.out);
        let fields = fields.into_iter().map(|field| visible(field.as_ref()).into_owned());
        writer.write_record(fields).map_err(io::Error::from)?;
        writer.flush()
    }
}

/// Pretty-printed JSON; every line except the first begins with `indent`.
fn indented(value: &Value, indent: &str) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| json!({}).to_string());
    // Line feeds within strings are escaped.
    visible_json(&text).replace('\n', &format!("\n{indent}"))
}
