//! The driver's own cache of what it compiled, kept from one start to the next. Vulkan's
//! drivers have one; most also keep files of their own, those of phones mostly do not.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{cache, one_line};

/// A driver adds and never removes: beyond these many bytes it starts anew.
const LIMIT: usize = cache::LIMIT as usize;

/// A device's cache and its file.
pub(super) struct DriverCache {
    folder: PathBuf,
    name: String,
    cache: wgpu::PipelineCache,
    loaded: bool,
    /// The seal of what the file holds, as far as we know; empty if that is of no use.
    seal: Mutex<Vec<u8>>,
}

impl DriverCache {
    /// With what an earlier start kept under this name, if that is whole and the driver takes
    /// it; else empty.
    pub(super) fn open(device: &wgpu::Device, folder: PathBuf, name: String) -> Option<Self> {
        let file = cache::read(&folder, &name).unwrap_or_default();
        let path = folder.join(&name);
        let kept = match cache::unseal(&name, &file) {
            None if !file.is_empty() => {
                log::warn!("{}: damaged or not of this program; written anew", path.display());
                None
            }
            Some(kept) if kept.len() > LIMIT => None,
            kept => kept,
        };
        // wgpu compares the driver's version: after an update the cache is of no more use.
        let loaded = kept.and_then(|kept| {
            let refused = |e| log::info!("{}: of another driver: {}", path.display(), one_line(&e));
            create(device, Some(kept)).map_err(refused).ok()
        });
        let made = |e| log::debug!("no pipeline cache: {}", one_line(&e));
        let (cache, loaded) = match loaded {
            Some(cache) => (cache, true),
            None => (create(device, None).map_err(made).ok()?, false),
        };
        let seal = if loaded { file[..cache::SEAL].to_vec() } else { Vec::new() };
        Some(Self { folder, name, cache, loaded, seal: Mutex::new(seal) })
    }

    /// What pipelines are created with.
    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Whether it began with what an earlier start had kept.
    pub(super) fn loaded(&self) -> bool {
        self.loaded
    }

    /// Writes its file, if it would say anything new.
    pub(super) fn keep(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let sealed = cache::seal(&self.name, &data);
        // Held while writing: of two sessions the later one's file stays.
        let mut seal = self.seal.lock().unwrap_or_else(PoisonError::into_inner);
        if *seal != sealed[..cache::SEAL] && cache::write_whole(&self.folder, &self.name, &sealed) {
            *seal = sealed[..cache::SEAL].to_vec();
        }
    }
}

#[allow(unsafe_code)]
fn create(device: &wgpu::Device, kept: Option<&[u8]>) -> Result<wgpu::PipelineCache, wgpu::Error> {
    let scope = device.push_error_scope(wgpu::ErrorFilter::Validation);
    let descriptor = wgpu::PipelineCacheDescriptor { label: Some("goldcrest"), data: kept, fallback: false };
    // SAFETY: the seal was whole, so these are the bytes that `get_data` gave for an adapter of
    // the same key; wgpu's own header within names the driver, and wgpu refuses another's.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    match pollster::block_on(scope.pop()) {
        None => Ok(cache),
        Some(error) => Err(error),
    }
}
