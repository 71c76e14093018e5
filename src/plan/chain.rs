//! A plan that computes nothing: one launch after another, each over what the one before left.
//! Peaks are measured with it, and what a launch costs.

use super::{Operand, Output, Plan, SlotId, Step, Value, Work};
use crate::{
    Shape,
    kernels::Launch,
    tensor::{Element, Form},
};

/// `count` times `launch`, which reads a map of shape `x` and writes another.
pub fn chain(launch: &Launch, count: usize, x: Shape, element: Element) -> Plan {
    let bytes = x.device_bytes(element);
    let step = |at: usize| Step {
        layers: vec![format!("{}{at}", launch.shader.name)],
        launch: launch.clone(),
        reads: vec![Operand::Slot(SlotId(at % 2))],
        writes: vec![SlotId((at + 1) % 2)],
        shape: x,
        work: Work { bytes: 2 * bytes, macs: 0 },
        why: String::new(),
        block: None,
    };
    // A pixel in and one out: what travels to the device is not to be measured.
    let end = |slot| Value { slot: SlotId(slot), shape: Shape::new(1, 4, 1, 1), form: Form::Map(element) };
    let output = Output { name: "output".into(), value: end(count % 2), dims: vec![1, 4, 1, 1] };
    Plan {
        steps: (0..count).map(step).collect(),
        slots: vec![bytes, bytes],
        weights: Vec::new(),
        element,
        input: end(0),
        quantises: false,
        outputs: vec![output],
        taps: Vec::new(),
        choices: Vec::new(),
    }
}
