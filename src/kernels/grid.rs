//! How many workgroups there are, and how invocations lie in them.

/// Threads in a workgroup: two warps of NVIDIA's, one wave of AMD's, a quarter of what every
/// adapter allows.
pub const LANES: u32 = 64;

/// Most workgroups that every adapter takes in one dimension.
const WORKGROUPS_PER_DIMENSION: u32 = 65_535;

/// `count` workgroups, or a few more, within the limit of each dimension; shaders count
/// them row by row and do nothing beyond their last.
pub(super) fn spread(count: usize) -> [u32; 3] {
    let count = count as u32;
    let rows = count.div_ceil(WORKGROUPS_PER_DIMENSION).max(1);
    [count.div_ceil(rows), rows, 1]
}

/// Threads with a tile each, `across` of them along the outputs and `down` along the pixels, laid
/// into workgroups such that the fewest have nothing to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grid {
    /// Threads of a workgroup along the outputs, which share each load of x.
    pub lanes_o: u32,
    /// And along the pixels, which share weights.
    pub lanes_p: u32,
    pub workgroups: usize,
}

impl Grid {
    /// `sharing` threads work on each tile together.
    pub fn new(across: usize, down: usize, sharing: u32) -> Self {
        let grids = [8, 4, 2, 1].map(|lanes_o| {
            let lanes_p = LANES / sharing / lanes_o;
            let workgroups = across.div_ceil(lanes_o as usize) * down.div_ceil(lanes_p as usize);
            Self { lanes_o, lanes_p, workgroups }
        });
        // The first of equals shares the most loads.
        grids.into_iter().min_by_key(|grid| grid.workgroups).unwrap_or(grids[0])
    }

    /// Threads started.
    pub fn threads(self) -> usize {
        self.workgroups * LANES as usize
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
