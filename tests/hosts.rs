//! Host programs whose devices have few or many features, are shared, or get lost.

mod common;

use std::time::{Duration, Instant};

use common::textures::{readable, run_texture, texture};
use goldcrest::{
    Error, Options, Session, Tensor,
    demo::{self, Scene},
    gpu::Gpu,
    session::SourceOptions,
    wgpu::{self, TextureFormat, TextureUsages},
};

/// A device as a host program creates it.
fn host(adapter: &wgpu::Adapter, features: wgpu::Features, limits: wgpu::Limits) -> Gpu {
    let descriptor =
        wgpu::DeviceDescriptor { required_features: features, required_limits: limits, ..Default::default() };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
    Gpu::from_device(adapter, device, queue).cache_in(None)
}

#[test]
fn lost_device_is_an_error_and_a_new_one_works() {
    let scene = Scene::new(3).draw(64, 64).unwrap().picture;
    let network = demo::classifier().unwrap();
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let new = || host(&adapter, Gpu::wanted_features(&adapter), Gpu::wanted_limits(&adapter));
        let gpu = new();
        let mut session = Session::for_pictures(&gpu, &network, [64, 64], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene), SourceOptions::default()).unwrap();
        let mut ring = session.ring(2).unwrap();
        let expected = run_texture(&gpu, &session, &readable(&gpu, &scene), SourceOptions::default());
        let mut encoder = gpu.device().create_command_encoder(&Default::default());
        session.encode(&mut encoder, &source).unwrap();
        session.read_back(&mut encoder, &mut ring, 0).unwrap();
        let other = gpu.clone().cache_in(None);
        let mut half_built = Session::building(&other, &network, [64, 64], Options::default()).unwrap();
        // Until some pipelines are compiled.
        while half_built.progress()[0] < 3 {
            assert!(half_built.advance(Duration::ZERO).unwrap().is_none());
        }
        gpu.device().destroy();
        gpu.queue().submit([encoder.finish()]);
        // The inference in flight is never read back.
        let lost = (0..100).find_map(|_| match ring.poll() {
            Ok(None) => None,
            Ok(Some(_)) => panic!("a readback from a lost device"),
            Err(error) => Some(error),
        });
        let error = lost.expect("the loss is an error");
        assert!(matches!(error, Error::Lost(_)), "{error}");
        // Nothing runs on the lost device.
        let input = Tensor::from_fn(<[usize; 4]>::from(session.input_shape()), |_| 0.5);
        for _ in 0..2 {
            let error = session.run(&input).expect_err("it is lost");
            assert!(matches!(error, Error::Lost(_)), "{error}");
        }
        // No session is built on it, whether it is half-built or new.
        let error = loop {
            match half_built.advance(Duration::ZERO) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("a session on a lost device"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::Lost(_)), "{error}");
        let error = Session::for_pictures(&gpu, &network, [64, 64], Options::default()).err().unwrap();
        assert!(matches!(error, Error::Lost(_)), "{error}");
        let error = session.source(&readable(&gpu, &scene), SourceOptions::default()).err().unwrap();
        assert!(matches!(error, Error::Lost(_)), "{error}");

        let gpu = new();
        let session = Session::for_pictures(&gpu, &network, [64, 64], Options::default()).unwrap();
        let again = run_texture(&gpu, &session, &readable(&gpu, &scene), SourceOptions::default());
        assert_eq!(again[0].data(), expected[0].data());
    }
}

#[test]
fn minimal_and_full_devices_give_correct_results() {
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let minimal =
            (wgpu::Features::empty(), wgpu::Limits::default().or_worse_values_from(&adapter.limits()));
        let all = adapter.features() & !wgpu::Features::all_experimental_mask();
        for (features, limits) in
            [minimal, (all, adapter.limits()), (Gpu::wanted_features(&adapter), Gpu::wanted_limits(&adapter))]
        {
            let gpu = host(&adapter, features, limits);
            let session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
            let outputs =
                run_texture(&gpu, &session, &readable(&gpu, &scene.picture), SourceOptions::default());
            let class = &session.classes_of(&outputs, 1).unwrap()[0];
            assert_eq!(class.label.as_deref(), Some(scene.subject.name()), "{}", gpu.adapter());
        }
    }
}

#[test]
fn rendering_on_another_thread_continues() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
    let scene = Scene::new(1_000_000_034).draw(96, 96).unwrap();
    let network = demo::classifier().unwrap();
    for gpu in common::gpus() {
        let session = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).unwrap();
        let source = session.source(&readable(&gpu, &scene.picture), SourceOptions::default()).unwrap();
        let usage = TextureUsages::RENDER_ATTACHMENT;
        let target = texture(&gpu, &scene.picture, TextureFormat::Rgba8Unorm, usage);
        let (done, rendered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let view = target.create_view(&Default::default());
                while !done.load(Relaxed) {
                    let mut encoder = gpu.device().create_command_encoder(&Default::default());
                    let attachment = wgpu::RenderPassColorAttachment {
                        view: &view,
                        depth_slice: None,
                        resolve_target: None,
                        ops: Default::default(),
                    };
                    drop(encoder.begin_render_pass(&wgpu::RenderPassDescriptor {
                        color_attachments: &[Some(attachment)],
                        ..Default::default()
                    }));
                    gpu.queue().submit([encoder.finish()]);
                    rendered.fetch_add(1, Relaxed);
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let mut ring = session.ring(3).unwrap();
            let (begun, mut frame, mut received) = (Instant::now(), 0, 0);
            let enough = |received| received >= 5 && rendered.load(Relaxed) >= 10;
            while !enough(received) && begun.elapsed() < Duration::from_secs(60) {
                if ring.has_room() {
                    let mut encoder = gpu.device().create_command_encoder(&Default::default());
                    session.encode(&mut encoder, &source).unwrap();
                    assert!(session.read_back(&mut encoder, &mut ring, frame).unwrap());
                    gpu.queue().submit([encoder.finish()]);
                    frame += 1;
                }
                std::thread::sleep(Duration::from_millis(3));
                if let Some(readback) = ring.poll().unwrap() {
                    let class = &session.classes_of(&readback.outputs, 1).unwrap()[0];
                    assert_eq!(class.label.as_deref(), Some(scene.subject.name()), "{}", gpu.adapter());
                    received += 1;
                }
            }
            done.store(true, Relaxed);
            assert!(enough(received), "{received} readbacks, {rendered:?} frames");
        });
    }
}

#[test]
fn error_for_a_limited_device_names_the_limit_to_request() {
    let network = demo::classifier().unwrap();
    for adapter in pollster::block_on(goldcrest::gpu::adapters()) {
        let limits = wgpu::Limits { max_storage_buffers_per_shader_stage: 3, ..wgpu::Limits::default() };
        let gpu = host(&adapter, wgpu::Features::empty(), limits.or_worse_values_from(&adapter.limits()));
        let error = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).err().unwrap();
        assert!(matches!(error, Error::DeviceLimit { limit: 3, .. }), "{error}");
        assert!(error.to_string().contains("max_storage_buffers_per_shader_stage"), "{error}");
        assert!(error.to_string().contains("Gpu::wanted_limits"), "{error}");
        let limits = wgpu::Limits { max_buffer_size: 1 << 20, ..wgpu::Limits::default() };
        let gpu = host(&adapter, wgpu::Features::empty(), limits.or_worse_values_from(&adapter.limits()));
        let error = Session::for_pictures(&gpu, &network, [96, 96], Options::default()).err().unwrap();
        assert!(matches!(error, Error::Limit { limit: 1_048_576, .. }), "{error}");
    }
}
