//! The memory in use, for runs of many frames.

use goldcrest::wgpu;

/// The device's allocations and this process's resident memory, as text.
pub fn in_use(device: &wgpu::Device) -> String {
    let mut system = sysinfo::System::new();
    let resident = sysinfo::get_current_pid().ok().and_then(|own| {
        system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[own]), true);
        system.process(own).map(sysinfo::Process::memory)
    });
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let allocated = device.generate_allocator_report().map_or_else(
        || "allocations on the device are unknown".into(),
        |report| {
            let bytes = megabytes(report.total_allocated_bytes);
            format!("{} allocations of {bytes:.2} MB on the device", report.allocations.len())
        },
    );
    format!("{allocated}, {:.1} MB resident", megabytes(resident.unwrap_or(0)))
}
