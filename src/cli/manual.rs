//! `goldcrest man`

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Command, CommandFactory};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use goldcrest::files;

use super::{Cli, common};

/// Write the manual pages: one for the program, one for each command
#[derive(Args)]
pub struct Manual {
    /// Folder for the pages, such as ~/.local/share/man/man1; created if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl Manual {
    pub fn run(&self) -> Result<String> {
        let pages = pages()?;
        fs::create_dir_all(&self.out).with_context(|| self.out.display().to_string())?;
        for (name, page) in &pages {
            files::write_whole(&self.out.join(name), page)?;
        }
        Ok(format!("{} pages in {}\n", pages.len(), common::file(&self.out)))
    }
}

/// The pages' file names and contents.
fn pages() -> Result<Vec<(String, Vec<u8>)>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut end = Roff::new();
    entries(&mut end, "EXIT STATUS", &EXIT_STATUS);
    entries(&mut end, "ENVIRONMENT", &ENVIRONMENT);
    let mut pages = vec![page(program.clone(), &end)?];
    let mut end = Roff::new();
    end.control("SH", ["SEE ALSO"]).text([bold("goldcrest"), roman("(1)")]);
    for command in program.get_subcommands() {
        pages.push(page(command.clone(), &end)?);
    }
    Ok(pages)
}

/// A command's page, which closes with `end`.
fn page(command: Command, end: &Roff) -> Result<(String, Vec<u8>)> {
    // An empty date would be left out, and the version read in its place.
    let page = Man::new(command).date(" ").source(concat!("goldcrest ", env!("CARGO_PKG_VERSION")));
    let page = page.manual("Goldcrest");
    let mut text = Vec::new();
    page.render(&mut text)?;
    end.to_writer(&mut text)?;
    Ok((page.get_filename(), text))
}

/// A section of terms and their explanations.
fn entries(page: &mut Roff, heading: &str, entries: &[(&str, &str)]) {
    page.control("SH", [heading]);
    for (term, explanation) in entries {
        page.control("TP", []).text([bold(*term)]).text([roman(*explanation)]);
    }
}

const EXIT_STATUS: [(&str, &str); 3] = [
    ("0", "Success."),
    ("1", "Failure, of the command or of some pictures only. The other pictures are processed nevertheless."),
    ("2", "Bad usage."),
];

const ENVIRONMENT: [(&str, &str); 6] = [
    (
        "GOLDCREST_CACHE_DIR",
        "Folder for tuning results and compiled pipelines, instead of the user's cache folder. If empty, nothing is \
         cached.",
    ),
    ("HF_HOME, HF_HUB_CACHE", "Folders of the Hugging Face hub's cache, for --model."),
    ("HF_ENDPOINT, HF_HUB_OFFLINE", "The hub's address; whether to use only cached models."),
    ("HF_TOKEN, HF_TOKEN_PATH", "The hub's access token, or the file that contains it."),
    ("RUST_LOG", "Levels of the log on standard error, such as info or goldcrest=debug."),
    ("WGPU_BACKEND", "Graphics interfaces to use, such as vulkan or gl."),
];
