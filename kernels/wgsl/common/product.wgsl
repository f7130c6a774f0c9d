{# What the kernels of matrix products share: c[z, i, j] (+)= Σ_k a[z, i, k]·b[z, k, j] + bias[z, j]. What b and
   c need is in product_side.wgsl.

   The literals `a_by` and `b_by` say how an operand lies: "k": k is its last axis and contiguous; "mn": the
   other axis is last and contiguous; "any": k is last, nothing is contiguous. `mode` is "dense", "grouped" (the
   rows of a and c are spread over the matrices of b) or "weight" (k is spread over the matrices of c). #}
fn a_at(z: u32, i: u32, k: u32) -> u32 {
    return at_a({{ "z" if mode == "dense" else "0u" }}, {{ "k, i" if a_by == "mn" else "i, k" }});
}
// From one k to the next.
fn a_step() -> u32 { return {{ "1u" if a_by == "k" else "params.a_s1" if a_by == "mn" else "params.a_s2" }}; }

// What a tile of rows is part of.
struct Part {
    // Which matrix, or expert.
    z: u32,
    // Its first row, and the end of those that it may have.
    row: u32,
    end: u32,
    // What is summed over.
    k0: u32,
    k1: u32,
    // Whether these rows are multiplied; otherwise they are of no expert.
    live: bool,
}
{% if mode != "dense" %}

// Where the rows of expert e begin, which is where those of the one before it end.
fn offset_of(e: u32) -> u32 {
    return min(u32(max(ld_offsets(at_offsets(e)), 0)), params.rows);
}
{% endif %}
{% if mode == "grouped" %}

// The rows fall into segments: 0 before the first expert, then the experts', and one behind the last.
// Segment s starts with tile start / {{ tile_rows }} + s, so that each has tiles enough.
fn segment_start(s: u32) -> u32 {
    if s == 0u { return 0u; }
    if s == params.experts + 2u { return params.rows; }
    return offset_of(s - 1u);
}

fn part_of(tile: u32) -> Part {
    var low = 0u;
    var high = params.experts + 1u;
    while low < high {
        let middle = (low + high + 1u) >> 1u;
        if segment_start(middle) / {{ tile_rows }}u + middle <= tile { low = middle; } else { high = middle - 1u; }
    }
    let start = segment_start(low);
    let row = start + (tile - start / {{ tile_rows }}u - low) * {{ tile_rows }}u;
    let live = low > 0u && low <= params.experts;
    // Sums that are added to leave rows of no expert alone.
    let end = {% if accumulate %}select(0u, segment_start(low + 1u), live){% else %}segment_start(low + 1u){% endif %};
    return Part(select(0u, low - 1u, live), row, end, 0u, select(0u, params.k, live), live);
}
{% else %}

fn part_of(tile: u32) -> Part {
    let z = tile / params.tiles_m;
    let row = tile % params.tiles_m * {{ tile_rows }}u;
{% if mode == "weight" %}
    let k0 = offset_of(z);
    return Part(z, row, params.m, k0, max(offset_of(z + 1u), k0), true);
{% else %}
    return Part(z, row, params.m, 0u, params.k, true);
{% endif %}
}
{% endif %}
