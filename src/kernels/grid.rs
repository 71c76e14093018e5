//! The number of workgroups, and the layout of invocations in them.

/// The workgroup size of most kernels: two NVIDIA warps, one AMD wave64, a quarter of the size that every
/// adapter allows.
pub const WORKGROUP_SIZE: u32 = 64;

/// The most workgroups in one dimension that every adapter allows.
const WORKGROUPS_PER_DIMENSION: u32 = 65_535;

/// Spreads `count` workgroups, or a few more, over dimensions within the limit of each. Shaders count
/// workgroups row by row; those past the last needed one do nothing.
pub(super) fn spread(count: usize) -> [u32; 3] {
    let count = count as u32;
    let rows = count.div_ceil(WORKGROUPS_PER_DIMENSION).max(1);
    [count.div_ceil(rows), rows, 1]
}

/// A grid of tiles, laid out over workgroups such that the fewest invocations idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileGrid {
    /// Tiles of a workgroup along the outputs, which share each load of x.
    pub workgroup_o: u32,
    /// Tiles of a workgroup along the pixels, which share weights.
    pub workgroup_p: u32,
    /// The number of workgroups.
    pub workgroups: usize,
}

impl TileGrid {
    /// Lays out `across` tiles along the outputs by `down` along the pixels. `sharing` invocations make each
    /// tile together.
    pub fn new(across: usize, down: usize, sharing: u32) -> Self {
        let grids = [8, 4, 2, 1].map(|workgroup_o| {
            let workgroup_p = WORKGROUP_SIZE / sharing / workgroup_o;
            let workgroups = across.div_ceil(workgroup_o as usize) * down.div_ceil(workgroup_p as usize);
            Self { workgroup_o, workgroup_p, workgroups }
        });
        // Ties go to the first grid, which shares the most loads.
        grids.into_iter().min_by_key(|grid| grid.workgroups).unwrap_or(grids[0])
    }

    /// Returns the number of invocations.
    pub fn invocations(self) -> usize {
        self.workgroups * WORKGROUP_SIZE as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workgroups_spread_over_two_dimensions_cover_the_count() {
        for count in [1, 65_535, 65_536, 100_352, 10_000_000] {
            let [x, y, z] = spread(count);
            assert!(x <= WORKGROUPS_PER_DIMENSION && y <= WORKGROUPS_PER_DIMENSION && z == 1);
            assert!((x * y) as usize >= count && ((x * y) as usize) < count + y as usize);
        }
    }
}
