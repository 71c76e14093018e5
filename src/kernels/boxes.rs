//! Boxes from anchors and a network's offsets to them: `shaders/boxes.wgsl`.

use super::{Effort, Launch, Layer, LayerKernel, Machine, Maps, Shader, Tier, Tile, WORKGROUP_SIZE, spread};
use crate::{
    Shape, Tensor,
    graph::{Anchor, CENTRE_WEIGHT, MOST_GROWTH, Op, SIZE_WEIGHT},
    tensor::Element,
};

/// The kernel's shader.
pub const SHADER: Shader = Shader {
    name: "boxes",
    source: include_str!("../../shaders/boxes.wgsl"),
    reads: &["x", "anchor"],
    writes: &["y"],
    textures: &[],
    always_32_bit: &["anchor", "y"],
    tier: Tier::Baseline,
};

/// The kernel as a [`LayerKernel`].
pub struct Boxes;

impl LayerKernel for Boxes {
    fn shader(&self) -> &'static Shader {
        &SHADER
    }

    fn tiles(&self, layer: &Layer, _: &Machine) -> Vec<Tile> {
        if matches!(layer.op, Op::Boxes(_)) { vec![Tile::ONE] } else { Vec::new() }
    }

    fn effort(&self, _: &Layer, _: &Machine, _: Tile) -> Effort {
        Effort::of(2.0, 3.0)
    }

    fn launch(&self, layer: &Layer, _: &Machine, _: Tile) -> Launch {
        launch(layer.x(), layer.y, layer.picture)
    }

    fn reference(&self, layer: &Layer, maps: Maps) -> Tensor {
        reference(maps.x, &anchors(layer), layer.picture)
    }

    fn purpose(&self, _: &Layer) -> Option<String> {
        Some("offsets to corners".into())
    }
}

/// Returns the anchors of the layer's offsets.
pub fn anchors(layer: &Layer) -> Vec<Anchor> {
    let levels: Vec<[usize; 2]> = layer.inputs[1..].iter().map(|level| [level.h, level.w]).collect();
    layer.op.anchors().map_or_else(Vec::new, |anchors| anchors.over(&levels, layer.picture))
}

/// Returns the launch that computes `y`, `[n, 4, 1, anchors]`, from `x`, four channels per anchor, for
/// pictures of a height and width.
pub fn launch(x: Shape, y: Shape, [height, width]: [usize; 2]) -> Launch {
    let invocations = x.pixels() * x.quads();
    Launch {
        shader: &SHADER,
        constants: vec![
            ("WORKGROUP_SIZE", WORKGROUP_SIZE),
            ("CENTRE_WEIGHT", CENTRE_WEIGHT),
            ("SIZE_WEIGHT", SIZE_WEIGHT),
            ("MOST_GROWTH_BITS", MOST_GROWTH.to_bits()),
        ],
        params: vec![
            ("anchors", y.w as u32),
            ("height", height as u32),
            ("width", width as u32),
            ("invocations", invocations as u32),
        ],
        workgroups: spread(invocations.div_ceil(WORKGROUP_SIZE as usize)),
        arithmetic: Element::F32,
        tile: "1 box per invocation".into(),
    }
}

/// Computes the reference in plain loops over NCHW: `[n, 4, 1, anchors]`.
pub fn reference(x: &Tensor, anchors: &[Anchor], [height, width]: [usize; 2]) -> Tensor {
    let &[n, c, h, w] = x.dims() else { unreachable!("a feature map has four dimensions") };
    let (pixels, each) = (h * w, c / 4);
    Tensor::from_fn([n, 4, 1, anchors.len()], |at| {
        let (number, side, picture) = (at % anchors.len(), at / anchors.len() % 4, at / (4 * anchors.len()));
        let axis = side % 2;
        let of = |which: usize| x.data()[(picture * c + number % each * 4 + which) * pixels + number / each];
        if !(0..4).all(|which| of(which).is_finite()) {
            return of(side);
        }
        let offset = |which: usize| f64::from(of(which));
        let [centre, size] = [axis, axis + 2].map(|which| f64::from(anchors[number][which]));
        let moved = centre + offset(axis) / f64::from(CENTRE_WEIGHT) * size;
        let growth = (offset(axis + 2) / f64::from(SIZE_WEIGHT)).min(f64::from(MOST_GROWTH));
        let half = 0.5 * growth.exp() * size;
        let edge = if side < 2 { moved - half } else { moved + half };
        edge.clamp(0.0, [width, height][axis] as f64) as f32
    })
}
