//! Slot assignment for feature maps.

/// The lifetime of a value in step numbers, both ends included.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// Its size in bytes.
    pub bytes: u64,
    /// The step that writes it.
    pub first: usize,
    /// The last step that reads it.
    pub last: usize,
}

impl Lifetime {
    fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Assigns a slot to every value so that lifetimes in a slot do not overlap. Returns the slot of each value
/// and the size of each slot. During a step its inputs and its outputs are all alive, so no step reads and
/// writes the same slot.
///
/// First fit by decreasing size: each value takes the first slot that is free for its whole lifetime,
/// so a slot is as large as its first value.
pub fn assign(lives: &[Lifetime]) -> (Vec<usize>, Vec<u64>) {
    let mut order: Vec<usize> = (0..lives.len()).collect();
    order.sort_by_key(|&v| (std::cmp::Reverse(lives[v].bytes), lives[v].first));
    let mut slots: Vec<Vec<usize>> = Vec::new();
    let mut slot_of = vec![0; lives.len()];
    for v in order {
        let free = slots.iter().position(|used| used.iter().all(|&u| !lives[u].overlaps(&lives[v])));
        slot_of[v] = free.unwrap_or(slots.len());
        match free {
            Some(slot) => slots[slot].push(v),
            None => slots.push(vec![v]),
        }
    }
    let sizes = slots.iter().map(|used| lives[used[0]].bytes).collect();
    (slot_of, sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_takes_two_slots_and_a_residual_a_third() {
        let life = |bytes, first, last| Lifetime { bytes, first, last };
        let chain = [life(8, 0, 1), life(4, 1, 2), life(8, 2, 3), life(2, 3, 4)];
        let (slots, sizes) = assign(&chain);
        assert_eq!(sizes, [8, 4]);
        assert_eq!(slots, [0, 1, 0, 1]);

        let residual = [life(8, 0, 3), life(8, 1, 2), life(8, 2, 3), life(8, 3, 4)];
        let (slots, sizes) = assign(&residual);
        assert_eq!(sizes.len(), 3);
        assert_eq!(slots[3], slots[1]);
    }
}
