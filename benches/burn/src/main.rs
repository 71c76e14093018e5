//! MobileNets on burn's wgpu backend: how long one inference takes, from a tensor in memory to
//! logits in memory. Prints one line of JSON; `benches/compare.py` reads it.

use std::{convert::identity, mem, time::Instant};

use anyhow::{bail, ensure};
use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig, PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::activation::{hard_sigmoid, hard_swish, relu, relu6},
    tensor::{Device, Tensor, TensorData, module::adaptive_avg_pool2d},
};
use clap::Parser;
use serde_json::json;

#[derive(Parser)]
struct Args {
    /// mobilenet_v1, mobilenet_v2, mobilenet_v3_large or mobilenet_v3_small
    network: String,
    /// Timed runs
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Pictures in a run
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Warm-up runs after the first
    #[arg(long, default_value_t = 5)]
    warm: usize,
}

type Act = fn(Tensor<4>) -> Tensor<4>;

/// Equal blocks: their number, the expansion ratio, the depthwise kernel size, the output's channels,
/// the first block's stride, whether there is squeeze-excite, the activation.
type Stage = (usize, f64, usize, usize, usize, bool, Act);

const V1: &[Stage] = &[
    (1, 1.0, 3, 64, 1, false, relu6),
    (2, 1.0, 3, 128, 2, false, relu6),
    (2, 1.0, 3, 256, 2, false, relu6),
    (6, 1.0, 3, 512, 2, false, relu6),
    (2, 1.0, 3, 1024, 2, false, relu6),
];
const V2: &[Stage] = &[
    (1, 1.0, 3, 16, 1, false, relu6),
    (2, 6.0, 3, 24, 2, false, relu6),
    (3, 6.0, 3, 32, 2, false, relu6),
    (4, 6.0, 3, 64, 2, false, relu6),
    (3, 6.0, 3, 96, 1, false, relu6),
    (3, 6.0, 3, 160, 2, false, relu6),
    (1, 6.0, 3, 320, 1, false, relu6),
];
const V3_LARGE: &[Stage] = &[
    (1, 1.0, 3, 16, 1, false, relu),
    (1, 4.0, 3, 24, 2, false, relu),
    (1, 3.0, 3, 24, 1, false, relu),
    (3, 3.0, 5, 40, 2, true, relu),
    (1, 6.0, 3, 80, 2, false, hard_swish),
    (1, 2.5, 3, 80, 1, false, hard_swish),
    (2, 2.3, 3, 80, 1, false, hard_swish),
    (2, 6.0, 3, 112, 1, true, hard_swish),
    (3, 6.0, 5, 160, 2, true, hard_swish),
];
const V3_SMALL: &[Stage] = &[
    (1, 1.0, 3, 16, 2, true, relu),
    (1, 4.5, 3, 24, 2, false, relu),
    (1, 11.0 / 3.0, 3, 24, 1, false, relu),
    (1, 4.0, 5, 40, 2, true, hard_swish),
    (2, 6.0, 5, 40, 1, true, hard_swish),
    (2, 3.0, 5, 48, 1, true, hard_swish),
    (3, 6.0, 5, 96, 2, true, hard_swish),
];

/// A network at width 1.0. The activation of the stem and of the head is that of the last stage.
struct Table {
    stem: usize,
    stages: &'static [Stage],
    /// Whether blocks end without an activation, and add their input where shapes allow.
    linear: bool,
    /// Channels of the convolution before the pool.
    head: Option<usize>,
    /// Channels of the layer between the pool and the classifier.
    hidden: Option<usize>,
}

/// A convolution and its activation. Batch norm is folded into weights and bias, as in any optimised
/// implementation.
#[derive(Module, Debug)]
struct Layer {
    conv: Conv2d,
    #[module(skip)]
    act: Act,
}

impl Layer {
    fn new(
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        groups: usize,
        act: Act,
        device: &Device,
    ) -> Self {
        let side = kernel / 2;
        let conv = Conv2dConfig::new(channels, [kernel, kernel])
            .with_stride([stride, stride])
            .with_groups(groups)
            .with_padding(PaddingConfig2d::Explicit(side, side, side, side))
            .init(device);
        Self { conv, act }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        (self.act)(self.conv.forward(x))
    }
}

#[derive(Module, Debug)]
struct Block {
    expand: Option<Layer>,
    depthwise: Layer,
    squeeze: Option<[Layer; 2]>,
    project: Layer,
    residual: bool,
}

impl Block {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let wide = self.expand.iter().fold(x.clone(), |x, expand| expand.forward(x));
        let mut wide = self.depthwise.forward(wide);
        if let Some([reduce, gate]) = &self.squeeze {
            let mean = adaptive_avg_pool2d(wide.clone(), [1, 1]);
            wide = wide * gate.forward(reduce.forward(mean));
        }
        let y = self.project.forward(wide);
        if self.residual { x + y } else { y }
    }
}

#[derive(Module, Debug)]
struct Network {
    stem: Layer,
    blocks: Vec<Block>,
    head: Option<Layer>,
    hidden: Option<Linear>,
    classifier: Linear,
}

impl Network {
    fn new(table: &Table, device: &Device) -> Self {
        let pointwise = |from, to, act: Act| Layer::new([from, to], 1, 1, 1, act, device);
        let gate: Act = |x| hard_sigmoid(x, 1.0 / 6.0, 0.5);
        let &(.., outer) = table.stages.last().expect("a network has stages");
        let mut channels = table.stem;
        let stem = Layer::new([3, channels], 3, 2, 1, outer, device);
        let mut blocks = Vec::new();
        for &(repeats, widen, kernel, outputs, first_stride, squeeze, act) in table.stages {
            for i in 0..repeats {
                let stride = if i == 0 { first_stride } else { 1 };
                let wide = (channels as f64 * widen).round() as usize;
                let narrow = (wide / 4).next_multiple_of(8);
                blocks.push(Block {
                    expand: (widen != 1.0).then(|| pointwise(channels, wide, act)),
                    depthwise: Layer::new([wide, wide], kernel, stride, wide, act, device),
                    squeeze: squeeze.then(|| [pointwise(wide, narrow, relu), pointwise(narrow, wide, gate)]),
                    project: pointwise(wide, outputs, if table.linear { identity } else { act }),
                    residual: table.linear && stride == 1 && channels == outputs,
                });
                channels = outputs;
            }
        }
        let mut inputs_of = |outputs| mem::replace(&mut channels, outputs);
        let head = table.head.map(|n| pointwise(inputs_of(n), n, outer));
        let hidden = table.hidden.map(|n| LinearConfig::new(inputs_of(n), n).init(device));
        let classifier = LinearConfig::new(channels, 1000).init(device);
        Self { stem, blocks, head, hidden, classifier }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.blocks.iter().fold(self.stem.forward(x), |x, block| block.forward(x));
        let x = self.head.iter().fold(x, |x, head| head.forward(x));
        let x = adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3);
        let x = self.hidden.iter().fold(x, |x, hidden| hard_swish(hidden.forward(x)));
        self.classifier.forward(x)
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.runs > 0, "there must be a run to time");
    let table = match args.network.as_str() {
        "mobilenet_v1" => Table { stem: 32, stages: V1, linear: false, head: None, hidden: None },
        "mobilenet_v2" => Table { stem: 32, stages: V2, linear: true, head: Some(1280), hidden: None },
        "mobilenet_v3_large" => {
            Table { stem: 16, stages: V3_LARGE, linear: true, head: Some(960), hidden: Some(1280) }
        }
        "mobilenet_v3_small" => {
            Table { stem: 16, stages: V3_SMALL, linear: true, head: Some(576), hidden: Some(1024) }
        }
        other => bail!("there is no network {other:?} here"),
    };
    let device = Device::wgpu(Default::default());
    device.seed(0);
    let network = Network::new(&table, &device);

    let shape = [args.batch, 3, 224, 224];
    let values = (0..shape.iter().product()).map(|i: usize| (i as f32 * 0.37).sin()).collect();
    let input = TensorData::new(values, shape);
    let run = || -> anyhow::Result<f64> {
        // burn keeps what it is given: the copy is made before the clock starts.
        let input = input.clone();
        let start = Instant::now();
        let logits = network.forward(Tensor::from_data(input, &device)).try_into_data()?;
        let ms = 1e3 * start.elapsed().as_secs_f64();
        ensure!(logits.iter::<f32>().filter(|x| x.is_finite()).count() == 1000 * args.batch, "bad logits");
        Ok(ms)
    };
    let first = run()?;
    (0..args.warm).try_for_each(|_| run().map(drop))?;
    let mut walls = (0..args.runs).map(|_| run()).collect::<anyhow::Result<Vec<_>>>()?;
    walls.sort_by(f64::total_cmp);
    let answer = json!({
        "network": args.network,
        "batch": args.batch,
        "parameters": network.num_params(),
        "first_ms": first,
        "wall_ms": { "median": walls[args.runs / 2], "min": walls[0], "max": walls[args.runs - 1] },
    });
    println!("{answer}");
    Ok(())
}
