//! The check that `goldcrest adapters` makes of each adapter.

mod common;

#[test]
fn every_adapter_computes_every_kernel() {
    for gpu in common::gpus() {
        let trust = goldcrest::gpu::check(&gpu).unwrap();
        println!("{}: {trust:?}", gpu.adapter());
        assert!(trust.trusted, "{}: {:?}", gpu.adapter(), trust.errors);
        assert_eq!(trust.errors.len(), goldcrest::kernels::SHADERS.len());
    }
}
