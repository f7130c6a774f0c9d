{% from "chunks.wgsl" import args, index, putter, main %}
{% include "math.wgsl" %}
{{ putter("y", y) }}
// Both halves of a product of two words: (low, high).
fn wide(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu; let a1 = a >> 16u; let b0 = b & 0xffffu; let b1 = b >> 16u;
    let mid = a1 * b0 + ((a0 * b0) >> 16u);
    let high = a1 * b1 + (mid >> 16u) + ((a0 * b1 + (mid & 0xffffu)) >> 16u);
    return vec2<u32>(a * b, high);
}

// Philox4x32-10 at the 64-bit position of the stream plus `block`.
fn draw(block: u32) -> vec4<u32> {
    var k0 = ld_state(at_state(0u));
    var k1 = ld_state(at_state(1u));
    let low = ld_state(at_state(2u)) + block;
    let carry = select(0u, 1u, low < block);
    var c = vec4<u32>(low, ld_state(at_state(3u)) + carry, 0u, 0u);
    for (var round = 0u; round < 10u; round++) {
        let p0 = wide(0xD2511F53u, c.x);
        let p1 = wide(0xCD9E8D57u, c.z);
        c = vec4<u32>(p1.y ^ c.y ^ k0, p1.x, p0.y ^ c.w ^ k1, p0.x);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}
{% if f == "normal" %}
// Box & Muller 1958. u = (a + 1/2) / 2³²; near 1 its logarithm is that of what is missing to 1.
fn normals(a: u32, b: u32) -> vec2<f32> {
    let unit = 2.3283064365386963e-10;
    var minus_log: f32;
    if a < 0xf0000000u {
        minus_log = -ln((f32(a) + 0.5) * unit);
    } else {
        let d = (f32(0xffffffffu - a) + 0.5) * unit;
        minus_log = d * (1.0 + d * (0.5 + d * (0.33333333 + d * (0.25 + d * (0.2 + d * (0.16666667 + d * 0.14285714))))));
    }
    return sqrt(2.0 * minus_log) * cos_sin(b);
}
{% endif %}
fn value(i: u32) -> {{ "u32" if f == "bits" else "f32" }} {
    let w = draw(i / 4u);
{% if f == "bits" %}
    return w[i & 3u];
{% elif f == "uniform" %}
    return f32(w[i & 3u] >> 8u) * 5.9604644775390625e-8;
{% else %}
    let n = select(w.xy, w.zw, (i & 2u) == 2u);
    return normals(n.x, n.y)[i & 1u];
{% endif %}
}
fn item({{ args(y.rank) }}c: u32, m: u32) {
    var row = 0u;
{% for axis in range(y.rank - 1) %}
    row = row{% if axis > 0 %} * params.n{{ axis }}{% endif %} + i{{ axis }};
{% endfor %}
    let i = row * params.n + c;
    if (i & 3u) == 0u {
        let w = draw(i / 4u);
{% if f == "bits" %}
        put_y({{ index(y.rank) }}c, m, w);
{% elif f == "uniform" %}
        put_y({{ index(y.rank) }}c, m, vec4<f32>(w >> vec4<u32>(8u)) * 5.9604644775390625e-8);
{% else %}
        put_y({{ index(y.rank) }}c, m, vec4<f32>(normals(w.x, w.y), normals(w.z, w.w)));
{% endif %}
        return;
    }
    put_y({{ index(y.rank) }}c, m, vec4(value(i), value(i + 1u), value(i + 2u), value(i + 3u)));
}
{{ main(y.rank, workgroup, workgroup_size) }}
