//! Networks, from the bytes of their files.

use std::rc::Rc;

use goldcrest::{checkpoint::Checkpoint, zoo};
use wasm_bindgen::prelude::*;

use crate::{Result, thrown};

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r#"
/** What a network does, by the name of the method of a session. */
export type Task = "classify" | "segment" | "detect" | "embed";
"#;

/// A network with its weights. Sessions share it.
#[wasm_bindgen]
pub struct Network(pub(crate) Rc<zoo::Network>);

#[wasm_bindgen]
impl Network {
    /// Opens a checkpoint: the bytes of a safetensors file, its name for error messages, the texts
    /// of the `config.json` and `preprocessor_config.json` next to it, if there are any, and the name of the
    /// network in its library, if the file does not show it.
    ///
    /// # Errors
    /// If the bytes are not a checkpoint, or not of a network that Goldcrest runs.
    #[wasm_bindgen(constructor)]
    pub fn new(
        name: &str,
        bytes: Vec<u8>,
        config: Option<String>,
        preprocessor: Option<String>,
        arch: Option<String>,
    ) -> Result<Network> {
        let checkpoint = Checkpoint::from_bytes(name, bytes, config.as_deref(), preprocessor.as_deref());
        let network = checkpoint
            .and_then(|checkpoint| zoo::Network::from_checkpoint(&checkpoint, arch.as_deref()))
            .map_err(thrown)?;
        Ok(Self(Rc::new(network)))
    }

    /// Its name in its library, such as `torchvision/mobilenet_v2`.
    #[wasm_bindgen(getter)]
    pub fn arch(&self) -> String {
        self.0.arch.to_string()
    }

    /// `classify`, `segment`, `detect` or `embed`.
    #[wasm_bindgen(getter, unchecked_return_type = "Task")]
    pub fn task(&self) -> String {
        self.0.task.method().into()
    }

    /// The names of its classes. Classes without a name have an empty one.
    #[wasm_bindgen(getter)]
    pub fn labels(&self) -> Vec<String> {
        let labels = goldcrest::tasks::Labels::of(&self.0);
        (0..labels.len()).map(|class| labels.get(class).unwrap_or_default().into()).collect()
    }
}
