//! Networks trained on scenes, bundled with the library.

use crate::{
    Result,
    checkpoint::Overrides,
    zoo::{Checkpoint, Network, Supernet},
};

macro_rules! network {
    ($folder:literal) => {
        read(
            concat!("assets/demo/", $folder),
            include_bytes!(concat!("../../assets/demo/", $folder, "/model.safetensors")),
            include_str!(concat!("../../assets/demo/", $folder, "/config.json")),
        )
    };
}

/// Loads a MobileNetV3-Small that classifies a scene's subject. Its classes are those of
/// [`Shape::ALL`](super::Shape::ALL).
///
/// # Errors
/// Those of [`Network::from_checkpoint`], in principle: tests check that the networks of this module load.
pub fn classifier() -> Result<Network> {
    network!("classify")
}

/// Loads an LR-ASPP. It predicts the [class](super::Shape::class) of each pixel. Its backbone is a
/// MobileNetV3-Small too, with its own weights.
///
/// # Errors
/// As [`classifier`].
pub fn segmenter() -> Result<Network> {
    network!("segment")
}

/// Loads an SSDLite. It predicts a box and a [class](super::Shape::class) for each shape. Its backbone is a
/// MobileNetV3-Small too, with its own weights.
///
/// # Errors
/// As [`classifier`].
pub fn detector() -> Result<Network> {
    network!("detect")
}

/// Loads the supernet of networks for scenes, with the classes of [`classifier`].
///
/// # Errors
/// As [`classifier`].
pub fn supernet() -> Result<Supernet> {
    let weights = include_bytes!("../../assets/supernet/model.safetensors").to_vec();
    let config = include_str!("../../assets/supernet/config.json");
    let checkpoint = Checkpoint::from_bytes("assets/supernet", weights, Some(config), None)?;
    Supernet::from_checkpoint(&checkpoint, &Overrides::default())
}

/// Reads a checkpoint with torchvision's names from memory.
fn read(folder: &str, weights: &[u8], config: &str) -> Result<Network> {
    Network::from_checkpoint(&Checkpoint::from_bytes(folder, weights.to_vec(), Some(config), None)?, None)
}
