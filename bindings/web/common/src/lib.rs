//! What Goldcrest's WebAssembly modules share.

/// Sends log messages and panics to the console.
pub fn log_to_console() {
    console_error_panic_hook::set_once();
    // Fails only if there is a logger already.
    let _ = console_log::init_with_level(log::Level::Warn);
}
