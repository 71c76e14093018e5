//! The processor's name and the free memory, from the operating system. On iOS both are unknown: `sysinfo` does
//! not compile for it.

/// The processor's name.
pub fn processor() -> String {
    brand().filter(|name| !name.is_empty()).unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// Bytes of memory available for new allocations, without swapping.
pub fn available_bytes() -> u64 {
    match available() {
        None | Some(0) => u64::MAX, // unknown on this system
        Some(bytes) => bytes,
    }
}

#[cfg(not(target_os = "ios"))]
fn brand() -> Option<String> {
    let mut system = sysinfo::System::new();
    system.refresh_cpu_list(sysinfo::CpuRefreshKind::nothing());
    system.cpus().first().map(|cpu| cpu.brand().trim().to_string())
}

#[cfg(not(target_os = "ios"))]
fn available() -> Option<u64> {
    let mut system = sysinfo::System::new();
    system.refresh_memory_specifics(sysinfo::MemoryRefreshKind::nothing().with_ram());
    Some(system.available_memory())
}

#[cfg(target_os = "ios")]
fn brand() -> Option<String> {
    None
}

#[cfg(target_os = "ios")]
fn available() -> Option<u64> {
    None
}
