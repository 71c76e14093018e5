// Where a kernel leaves a pixel of the map that it makes: in that map, or, if PLACED, at its place
// in a larger one of which it is a part, beside or behind others. The host puts this file behind
// any kernel with a PLACED, whose parameters end with the four that are read here.

fn place(pixel: u32) -> u32 {
    if (PLACED == 0u) {
        return pixel * params.outputs;
    }
    let picture = pixel / params.part_pixels;
    return params.part_first + picture * params.whole_picture + (pixel - picture * params.part_pixels) * params.whole_pixel;
}
