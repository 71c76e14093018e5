//! The driver's pipeline cache, kept between starts. Vulkan drivers have one. Most desktop drivers
//! also keep their own files; phone drivers mostly do not.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use super::{cache, one_line};

/// The maximum size in bytes. Drivers only add entries, so a larger cache is discarded.
const LIMIT: usize = cache::LIMIT as usize;

/// A device's pipeline cache and its file.
pub(super) struct DriverCache {
    folder: PathBuf,
    name: String,
    cache: wgpu::PipelineCache,
    loaded: bool,
    /// The header of the file as last read or written; empty if the file is unusable.
    seal: Mutex<Vec<u8>>,
}

impl DriverCache {
    /// Opens the cache with the data that an earlier start saved under this name, if that is intact
    /// and the driver accepts it; otherwise empty.
    pub(super) fn open(device: &wgpu::Device, folder: PathBuf, name: String) -> Option<Self> {
        let file = cache::read(&folder, &name).unwrap_or_default();
        let path = folder.join(&name);
        let kept = match cache::unseal(&name, &file) {
            None if !file.is_empty() => {
                log::warn!("{}: damaged or not a cache of Goldcrest; it will be replaced", path.display());
                None
            }
            Some(kept) if kept.len() > LIMIT => None,
            kept => kept,
        };
        // wgpu compares the driver's version: an update makes the cache unusable.
        let loaded = kept.and_then(|kept| {
            let refused = |e| log::info!("{}: from another driver: {}", path.display(), one_line(&e));
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

    /// The cache to create pipelines with.
    pub(super) fn cache(&self) -> &wgpu::PipelineCache {
        &self.cache
    }

    /// Returns whether it was loaded from an earlier start's file.
    pub(super) fn loaded(&self) -> bool {
        self.loaded
    }

    /// Writes its file, if the contents have changed.
    pub(super) fn keep(&self) {
        let Some(data) = self.cache.get_data() else { return };
        let sealed = cache::seal(&self.name, &data);
        // Held while writing, so that the file of the later of two sessions remains.
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
    // SAFETY: the seal was intact, so these are the bytes that `get_data` returned for an adapter of
    // the same key; wgpu's header in them names the driver, and wgpu rejects those of another.
    let cache = unsafe { device.create_pipeline_cache(&descriptor) };
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(error) = pollster::block_on(scope.pop()) {
        return Err(error);
    }
    // Browsers have no such caches.
    #[cfg(target_arch = "wasm32")]
    drop(scope);
    Ok(cache)
}
