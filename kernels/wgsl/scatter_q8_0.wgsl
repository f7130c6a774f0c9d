// Rows by index, quantised to Q8_0 as they are written: a scale as f16, then 32 signed bytes (hal's `blocks`). Two
// blocks are 17 words, which one invocation writes; `params.odd` is 1 if rows begin with the second one of a pair.
{% from "chunks.wgsl" import getter %}
{% include "rounding.wgsl" %}
{{ getter("x", x) }}
struct Scale { step: f32, inverse: f32 }

fn scale_of(n: u32, first: u32) -> Scale {
    var most = vec4<f32>(0.0);
    for (var c = 0u; c < 32u; c += 4u) { most = max(most, abs(get_x(n, first + c, 4u))); }
    let step = max(max(most.x, most.y), max(most.z, most.w)) / 127.0;
    return Scale(step, select(0.0, 1.0 / step, step > 0.0));
}

// Four elements, rounded half away from zero.
fn four(n: u32, c: u32, inverse: f32) -> u32 {
    let v = get_x(n, c, 4u) * inverse;
    let q = bitcast<vec4<u32>>(vec4<i32>(trunc(v + select(vec4<f32>(-0.5), vec4<f32>(0.5), v >= vec4<f32>(0.0)))));
    let b = (q & vec4<u32>(255u)) << vec4<u32>(0u, 8u, 16u, 24u);
    return (b.x | b.y) | (b.z | b.w);
}

// Replaces half of a word.
fn put_half(e: u32, bits: u32, shift: u32) {
    st_words(e, (ld_words(e) & ~(0xffffu << shift)) | (bits << shift));
}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let n = item / params.pairs;
    let pair = item % params.pairs;
    let row = ld_index(at_index(n));
    if row < 0 || u32(row) >= params.rows { return; }
    let w = at_words(u32(row), 17u * pair);
    // Blocks of the row, −1 as a large number.
    let first = 2u * pair - params.odd;
    let second = first + 1u;
    let scale = scale_of(n, 32u * min(second, params.blocks - 1u));
    let upper = bits_f16(scale.step);
    if first < params.blocks {
        let own = scale_of(n, 32u * first);
        var rest = bits_f16(own.step);
        for (var k = 0u; k < 8u; k++) {
            let q = four(n, 32u * first + 4u * k, own.inverse);
            st_words(w + k, rest | (q << 16u));
            rest = q >> 16u;
        }
        if second < params.blocks { st_words(w + 8u, rest | (upper << 16u)); } else { put_half(w + 8u, rest, 0u); }
    } else {
        put_half(w + 8u, upper, 16u);
    }
    if second < params.blocks {
        for (var k = 0u; k < 8u; k++) { st_words(w + 9u + k, four(n, 32u * second + 4u * k, scale.inverse)); }
    }
}
