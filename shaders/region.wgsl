// The tiles of the block kernels, and the pixels that a tile's windows read: its region. The host appends this file to
// any kernel that calls `tile_of`. Such a kernel has all constants and fields of `params` that are read here.

const REGION_H: u32 = (TILE_H - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const REGION_W: u32 = (TILE_W - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;
const REGION: u32 = REGION_H * REGION_W;
const TILE: u32 = TILE_H * TILE_W;
const WORKGROUP_SIZE: u32 = WORKGROUP_O * WORKGROUP_P;
const SPAN: u32 = (RUN - 1u) * STRIDE + (KERNEL - 1u) * DILATION + 1u;

struct Tile {
    picture: u32, // params.pictures or more, if the workgroup has no tile
    tiles: u32,   // of a picture
    index: u32,
    split: u32,
    first_y: u32,
    first_x: u32,
}

fn tile_of(group: vec3<u32>, groups: vec3<u32>) -> Tile {
    let across = (params.out_width + TILE_W - 1u) / TILE_W;
    let tiles = across * ((params.out_height + TILE_H - 1u) / TILE_H);
    let nth = group.y * groups.x + group.x;
    let index = nth / params.splits % tiles;
    let picture = nth / (params.splits * tiles);
    return Tile(picture, tiles, index, nth % params.splits, index / across * TILE_H, index % across * TILE_W);
}

// The pixel of x at an index of the region, clamped to the map.
fn clamped(picture: u32, first_y: u32, first_x: u32, at: u32) -> u32 {
    // Negative positions wrap around to huge values: one comparison covers both edges.
    let iy = min(first_y * STRIDE + at / REGION_W - params.top, params.height - 1u);
    let ix = min(first_x * STRIDE + at % REGION_W - params.left, params.width - 1u);
    return (picture * params.height + iy) * params.width + ix;
}
