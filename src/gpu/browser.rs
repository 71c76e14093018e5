//! The adapter's vendor and name, which browsers report but wgpu does not pass on.

use js_sys::Reflect;

/// Adds the name and the vendor's PCI id, if the browser reports them.
pub fn completed(mut info: wgpu::AdapterInfo, device: &wgpu::Device) -> wgpu::AdapterInfo {
    let told = device.as_webgpu().and_then(|device| Reflect::get(device, &"adapterInfo".into()).ok());
    let text = |field: &str| Reflect::get(told.as_ref()?, &field.into()).ok()?.as_string();
    let [vendor, architecture] = ["vendor", "architecture"].map(|field| text(field).unwrap_or_default());
    // https://dawn.googlesource.com/dawn/+/refs/heads/main/src/dawn/gpu_info.json
    info.vendor = match vendor.as_str() {
        "amd" => 0x1002,
        "apple" => 0x106b,
        "intel" => 0x8086,
        "nvidia" => 0x10de,
        "qualcomm" => 0x5143,
        _ => info.vendor,
    };
    if info.name.is_empty() {
        let name = format!("{vendor} {architecture}");
        info.name = if name.trim().is_empty() { "GPU".into() } else { name.trim().into() };
    }
    info
}
