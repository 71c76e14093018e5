//! Opens a network from three lines (`config.json`, `preprocessor_config.json`, overrides) and the bytes of a
//! weights file. If it opens, computes its shapes and costs.

#![no_main]

use goldcrest::{
    checkpoint::{Checkpoint, Overrides},
    zoo::Network,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().map(|line| String::from_utf8_lossy(line).into_owned());
    let (Some(config), Some(preprocessor), Some(overrides)) = (line(), line(), line()) else { return };
    let weights = lines.next().unwrap_or_default().to_vec();
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let (config, preprocessor) = (text(&config), text(&preprocessor));
    let opened = Checkpoint::from_bytes("fuzzed", weights, config.as_deref(), preprocessor.as_deref());
    let Ok(checkpoint) = opened else { return };
    let mut parsed = Overrides::default();
    for part in overrides.split(' ') {
        match part.split_once('=') {
            Some((name, value)) => parsed = parsed.clone().set(name, value).unwrap_or(parsed),
            None if !part.is_empty() => parsed = parsed.arch(part),
            None => {}
        }
    }
    let Ok(network) = Network::from_checkpoint_with(&checkpoint, &parsed) else { return };
    assert_eq!(network.tensors.len(), checkpoint.keys().count());
    if let Ok(shapes) = network.graph.shapes(network.input_shape(1)) {
        assert_eq!(network.graph.costs(&shapes).len(), shapes.len());
    }
});
