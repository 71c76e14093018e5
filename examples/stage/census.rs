//! What a program has in use, for runs of many frames.

use goldcrest::wgpu;

/// What a device has allocated, and how much memory this process has.
pub fn census(device: &wgpu::Device) -> String {
    let mut system = sysinfo::System::new();
    let resident = sysinfo::get_current_pid().ok().and_then(|own| {
        system.refresh_processes(sysinfo::ProcessesToUpdate::Some(&[own]), true);
        system.process(own).map(sysinfo::Process::memory)
    });
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let allocated = device.generate_allocator_report().map_or_else(
        || "what the device has allocated is not known".into(),
        |report| {
            let bytes = megabytes(report.total_allocated_bytes);
            format!("{} allocations of {bytes:.2} MB on the device", report.allocations.len())
        },
    );
    format!("{allocated}, {:.1} MB resident", megabytes(resident.unwrap_or(0)))
}
