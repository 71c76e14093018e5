//! The check of each adapter by `goldcrest adapters`.

mod common;

use goldcrest::{gpu::Check, kernels, tensor::Element};

#[test]
fn every_adapter_computes_every_kernel() {
    for gpu in common::gpus() {
        let trust = goldcrest::gpu::check(&gpu).unwrap();
        println!("{}: {trust:?}", gpu.adapter());
        assert!(trust.trusted, "{}: {:?}", gpu.adapter(), trust.checks);
        for element in Element::ALL {
            for shader in kernels::shaders().filter(|shader| gpu.has(shader.tier, element)) {
                let checked = |c: &Check| c.kernel == shader.name && c.element == element;
                assert!(
                    trust.checks.iter().any(checked),
                    "{}: {} with {element}",
                    gpu.adapter(),
                    shader.name
                );
            }
        }
    }
}
