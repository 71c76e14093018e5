//! The study in a browser: the paper's experiments on the visitor's GPU and CPU.
//!
//! The CPU computes in the calling thread, so the page runs this module in a worker.

use std::sync::atomic::{AtomicBool, Ordering};

use goldcrest::{
    Device,
    cpu::Cpu,
    gpu::Gpu,
    measure::report::{Report, page},
    study::{self, Mode, Progress, Settings, Waiting, study_async},
};
use js_sys::{Error, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** Is told of the progress of a study. */
export interface Watch {
  /** A measurement begins once the promise is settled. */
  measuring(done: number, of: number, what: string): Promise<void>;
  /**
   * An experiment has finished: the report so far, as the data that `goldcrest study --compare` reads and as a page.
   * The next experiment begins once the promise is settled.
   */
  finished(data: string, page: string): Promise<void>;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// The object that is told of the progress.
    #[wasm_bindgen(typescript_type = "Watch")]
    pub type Watch;
    #[wasm_bindgen(method)]
    fn measuring(this: &Watch, done: usize, of: usize, what: &str) -> Promise;
    #[wasm_bindgen(method)]
    fn finished(this: &Watch, data: &str, page: &str) -> Promise;
}

/// Sends log messages and panics to the console.
#[wasm_bindgen(start)]
pub fn start() {
    goldcrest_web_common::log_to_console();
}

type Result<T> = std::result::Result<T, Error>;

fn thrown(error: impl ToString) -> Error {
    Error::new(&error.to_string())
}

/// A study, which can be stopped.
#[wasm_bindgen]
#[derive(Default)]
pub struct Study {
    stop: AtomicBool,
}

#[wasm_bindgen]
impl Study {
    /// A study that has not begun.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the study after the current measurement.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Measures the experiments with these names on the devices `gpu` and `cpu`, with all cases and many runs if
    /// it is `full`. A GPU that the browser does not have is left out, unless it is the only device.
    ///
    /// # Errors
    /// If an experiment is unknown, or a device fails.
    pub async fn run(
        &self,
        experiments: Vec<String>,
        devices: Vec<String>,
        full: bool,
        watch: Watch,
    ) -> Result<()> {
        let mut settings = Settings::new(if full { Mode::Full } else { Mode::Quick });
        settings.experiments =
            experiments.iter().map(|id| id.parse()).collect::<goldcrest::Result<_>>().map_err(thrown)?;
        let wanted = |name: &str| devices.iter().any(|device| device == name);
        let mut opened = Vec::new();
        if wanted("gpu") {
            match Gpu::open_async(None).await {
                Ok(gpu) => opened.push(Device::Gpu(gpu)),
                Err(error) if !wanted("cpu") => return Err(thrown(error)),
                Err(error) => log::warn!("{error}: only the CPU is measured"),
            }
        }
        if wanted("cpu") {
            opened.push(Device::Cpu(Cpu::new(None).map_err(thrown)?));
        }
        let watching = |event: Progress<'_>| -> Waiting<'_> {
            match event {
                Progress::Measuring { done, of, what } => {
                    let begun = JsFuture::from(watch.measuring(done, of, what));
                    // A page that rejects the promise does not stop the study.
                    Box::pin(async move { drop(begun.await) })
                }
                Progress::Finished { report } => {
                    let told = tell(&watch, report);
                    Box::pin(async move {
                        match told {
                            Ok(shown) => drop(JsFuture::from(shown).await),
                            Err(error) => log::error!("{error:?}"),
                        }
                    })
                }
            }
        };
        let report = study_async(&opened, &settings, watching, &self.stop).await.map_err(thrown)?;
        drop(JsFuture::from(tell(&watch, &report)?).await);
        Ok(())
    }
}

/// Sends a report to the page, with the browser's name.
fn tell(watch: &Watch, report: &Report) -> Result<Promise> {
    let mut report = report.clone();
    if let Some(agent) = user_agent() {
        report.facts.push(("Browser".into(), agent));
    }
    let data = study::json(&report).map_err(thrown)?;
    Ok(watch.finished(&data, &page::render(&report).map_err(thrown)?))
}

/// The browser's name and version, in a window or a worker.
fn user_agent() -> Option<String> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).ok()?;
    Reflect::get(&navigator, &"userAgent".into()).ok()?.as_string()
}
