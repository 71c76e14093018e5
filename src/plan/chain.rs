//! A synthetic plan that repeats one launch, each reading the output of the previous one. It measures
//! a device's peak rates and the time of a launch.

use super::{Operand, Output, Plan, SlotId, Step, Value, Work};
use crate::{
    Shape,
    kernels::Launch,
    tensor::{Element, Form},
};

/// Plans `count` repetitions of `launch`, which reads a map of shape `x` and writes another.
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
    // One pixel in and one out, so that transfers take no time.
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
