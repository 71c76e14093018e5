// An offset into a buffer, with a bound that no buffer reaches. The bound tells compilers that adding a
// constant to the offset cannot wrap around, so that they fold the addition into the load. The host appends
// this file to any kernel that calls `bounded_offset`.

fn bounded_offset(offset: u32) -> u32 {
    return min(offset, 0x7ffffffu);
}
