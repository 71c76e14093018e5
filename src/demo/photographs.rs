//! Photographs and scenes for evaluation, because errors depend on the pictures.

use super::Scene;
use crate::{Result, tasks::Picture};

/// Bundled photographs.
const PHOTOGRAPHS: [(&str, &[u8]); 4] = [
    ("cat.jpg", include_bytes!("../../assets/cat.jpg")),
    ("astronaut.jpg", include_bytes!("../../assets/photographs/astronaut.jpg")),
    ("coffee.jpg", include_bytes!("../../assets/photographs/coffee.jpg")),
    ("rocket.jpg", include_bytes!("../../assets/photographs/rocket.jpg")),
];

/// Seeds of scenes that the demo's networks were not trained on.
const SCENES: [u64; 2] = [1_000_000_034, 1_000_000_011];

/// Returns four photographs and two scenes.
///
/// ```
/// assert_eq!(goldcrest::demo::pictures()?.len(), 6);
/// # Ok::<(), goldcrest::Error>(())
/// ```
///
/// # Errors
/// Only on a bug in this crate.
pub fn pictures() -> Result<Vec<Picture>> {
    let photographs = PHOTOGRAPHS.into_iter().map(|(name, bytes)| Picture::decode(bytes, name));
    let scenes = SCENES.into_iter().map(|seed| Ok(Scene::new(seed).draw(320, 240)?.picture));
    photographs.chain(scenes).collect()
}
