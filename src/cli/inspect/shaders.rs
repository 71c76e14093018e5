//! `goldcrest inspect --shaders`: every distinct pipeline of the plans as WGSL, SPIR-V, MSL and HLSL.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use goldcrest::{
    files::Unfinished,
    kernels::{
        Access,
        translate::{Translation, Vulkan},
    },
    plan::{Plan, Step},
};

/// The tables of pipelines and of steps.
const MANIFEST: &str = "manifest.tsv";
const STEPS: &str = "steps.tsv";

/// Writes pipelines into a folder, each distinct WGSL text once.
///
/// `manifest.tsv` has one row per pipeline: file, shader, element, tier, number of storage buffers read,
/// number written, one letter per texture (`r` read, `w` written), tile, constants. `steps.tsv` has one row
/// per step of a plan: network, element, fusion, number, layer, file, workgroups, multiply-adds, bytes, tile,
/// parameters.
///
/// All files are written to a temporary folder and moved at the end, so that a failed run changes nothing.
pub struct Shaders {
    folder: PathBuf,
    written: Unfinished,
    vulkan: Vulkan,
    /// The file of each WGSL text so far.
    files: BTreeMap<String, String>,
    manifest: String,
    steps: String,
}

impl Shaders {
    pub fn new(folder: &Path, vulkan: Vulkan) -> Result<Self> {
        let named = || folder.display().to_string();
        fs::create_dir_all(folder).with_context(named)?;
        Ok(Self {
            folder: folder.to_owned(),
            // Within `folder`, so that files can be renamed on one file system.
            written: Unfinished::folder_in(folder).with_context(named)?,
            vulkan,
            files: BTreeMap::new(),
            manifest: String::new(),
            steps: String::new(),
        })
    }

    /// Adds the steps of a plan for `network`, and their pipelines.
    pub fn plan(&mut self, network: &str, fuse: &str, plan: &Plan) -> Result<()> {
        for (i, step) in plan.steps.iter().enumerate() {
            let file = self.pipeline(plan, step)?;
            let launch = &step.launch;
            writeln!(
                self.steps,
                "{network}\t{}\t{fuse}\t{i}\t{}\t{file}\t{}\t{}\t{}\t{}\t{}",
                plan.element,
                step.name(),
                launch.workgroups.iter().product::<u32>(),
                step.work.macs,
                step.work.bytes,
                launch.tile,
                pairs(&launch.params)
            )?;
        }
        Ok(())
    }

    /// Adds the pipelines of a candidate's plan, without its steps.
    pub fn candidate(&mut self, plan: &Plan) -> Result<()> {
        plan.steps.iter().try_for_each(|step| self.pipeline(plan, step).map(drop))
    }

    /// Moves all files into the folder, and returns the number of pipelines.
    pub fn finish(self) -> Result<usize> {
        self.write(STEPS, self.steps.as_bytes())?;
        self.write(MANIFEST, self.manifest.as_bytes())?;
        remove_previous(&self.folder);
        for entry in fs::read_dir(self.written.path())? {
            let entry = entry?;
            let path = self.folder.join(entry.file_name());
            if entry.file_name() != Unfinished::LOCK {
                fs::rename(entry.path(), &path).with_context(|| path.display().to_string())?;
            }
        }
        Ok(self.files.len())
    }

    /// Returns the file of a step's pipeline, and writes it if its text is new.
    fn pipeline(&mut self, plan: &Plan, step: &Step) -> Result<String> {
        let (launch, element) = (&step.launch, plan.element);
        let text = launch.wgsl(element);
        if let Some(file) = self.files.get(&text) {
            return Ok(file.clone());
        }
        let file = format!("{}-{element}-p{:03}", launch.shader.name, self.files.len());
        let translation = Translation::of(launch, element)?;
        self.write(&format!("{file}.wgsl"), text.as_bytes())?;
        self.write(&format!("{file}.spv"), &translation.spirv(self.vulkan)?)?;
        self.write(&format!("{file}.msl"), translation.msl()?.as_bytes())?;
        if let Some(hlsl) = translation.hlsl()? {
            self.write(&format!("{file}.hlsl"), hlsl.as_bytes())?;
        }
        let letter = |access: &Access| if *access == Access::Read { 'r' } else { 'w' };
        let textures: String = launch.shader.textures.iter().map(|(_, access)| letter(access)).collect();
        writeln!(
            self.manifest,
            "{file}\t{}\t{element}\t{:?}\t{}\t{}\t{}\t{}\t{}",
            launch.shader.name,
            launch.shader.tier,
            launch.shader.reads.len(),
            launch.shader.buffers() - launch.shader.reads.len(),
            if textures.is_empty() { "-" } else { &textures },
            launch.tile,
            pairs(&launch.constants)
        )?;
        self.files.insert(text, file.clone());
        Ok(file)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let write = || {
            let mut file = fs::File::create(self.written.path().join(name))?;
            file.write_all(bytes)?;
            // Sync before the file is moved.
            file.sync_all()
        };
        // Errors name the final path.
        write().with_context(|| self.folder.join(name).display().to_string())
    }
}

/// Removes the pipelines of the previous run, but only those that its manifest lists.
fn remove_previous(folder: &Path) {
    let manifest = fs::read_to_string(folder.join(MANIFEST)).unwrap_or_default();
    for row in manifest.lines().map(|line| line.split('\t').collect::<Vec<_>>()) {
        let [file, shader, element, _, _, _, _, _, _] = row[..] else { continue };
        if !file.starts_with(&format!("{shader}-{element}-p")) || file.contains(['/', '\\']) {
            continue;
        }
        for language in ["wgsl", "spv", "msl", "hlsl"] {
            // Not every pipeline has every language.
            let _ = fs::remove_file(folder.join(format!("{file}.{language}")));
        }
    }
}

/// Formats names and values as `name=value`, in one column.
fn pairs(of: &[(&str, u32)]) -> String {
    of.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
