//! The networks that were trained on scenes, as part of the program.

use crate::{
    Result,
    checkpoint::Said,
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

/// A MobileNetV3-Small that names a scene's subject: the classes are those of [`Shape::ALL`](super::Shape::ALL).
///
/// # Errors
/// Those of [`Network::from_checkpoint`], which the tests hold it not to have; so for the others.
pub fn classifier() -> Result<Network> {
    network!("classify")
}

/// An LR-ASPP on the same features that gives each pixel the [class](super::Shape::class) of what it shows.
///
/// # Errors
/// As [`classifier`].
pub fn segmenter() -> Result<Network> {
    network!("segment")
}

/// An SSDLite on the same features that puts a box round each shape, with its [class](super::Shape::class).
///
/// # Errors
/// As [`classifier`].
pub fn detector() -> Result<Network> {
    network!("detect")
}

/// The supernet that networks for scenes are taken from: their classes are those of [`classifier`].
///
/// # Errors
/// As [`classifier`].
pub fn supernet() -> Result<Supernet> {
    let weights = include_bytes!("../../assets/supernet/model.safetensors").to_vec();
    let config = include_str!("../../assets/supernet/config.json");
    let checkpoint = Checkpoint::from_bytes("assets/supernet", weights, Some(config), None)?;
    Supernet::from_checkpoint(&checkpoint, &Said::default())
}

/// An ordinary checkpoint of torchvision's names, out of memory instead of a folder.
fn read(folder: &str, weights: &[u8], config: &str) -> Result<Network> {
    Network::from_checkpoint(&Checkpoint::from_bytes(folder, weights.to_vec(), Some(config), None)?, None)
}
