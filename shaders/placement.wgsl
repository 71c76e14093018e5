// The offset at which a kernel stores a pixel of its output map: in that map or, if PLACED, in a larger map
// that concatenates several along channels or pixels. The host appends this file to any kernel that calls
// `place`. Such a kernel has the constant PLACED, and its parameters end with the four that are read here.

fn place(pixel: u32) -> u32 {
    if (PLACED == 0u) {
        return pixel * params.outputs;
    }
    let picture = pixel / params.part_pixels;
    return params.part_first + picture * params.whole_picture + (pixel - picture * params.part_pixels) * params.whole_pixel;
}
