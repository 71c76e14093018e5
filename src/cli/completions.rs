//! `goldcrest completions`

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print a shell's completion script
///
/// For bash, with the package bash-completion:
///   goldcrest completions bash > ~/.local/share/bash-completion/completions/goldcrest
///
/// For zsh, into a folder of $fpath:
///   goldcrest completions zsh > ~/.zfunc/_goldcrest
///
/// For fish:
///   goldcrest completions fish > ~/.config/fish/completions/goldcrest.fish
///
/// For PowerShell, as a line of $PROFILE:
///   goldcrest completions powershell | Out-String | Invoke-Expression
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct Completions {
    /// Shell that reads the script
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub fn run(&self) -> Result<String> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "goldcrest", &mut script);
        Ok(String::from_utf8(script)?)
    }
}
