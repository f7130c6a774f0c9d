{# How a kernel reads an operand `x` of a block type, in the binding `b` of u32 words: ld4_x(e) and ld_x(e), e counting
   elements from the view's start (for ld4_x, a multiple of 4). A block is `elems` elements in `size` units of `unit`
   bytes, the largest of 1, 2 and 4 that divides it; params.x_o counts units too. What the bytes mean is said by
   halite_hal::blocks. A NaN of f8_e4m3 is read as some number. #}
{% if unit == 4 %}
// The word at byte `at` of the block at h.
fn word_{{ x }}(h: u32, at: u32) -> u32 { return {{ b }}[h + (at >> 2u)]; }
{% elif unit == 2 %}
fn half_{{ x }}(h: u32) -> u32 { return ({{ b }}[h >> 1u] >> (16u * (h & 1u))) & 0xffffu; }
// The word at byte `at` of the block at h.
fn word_{{ x }}(h: u32, at: u32) -> u32 {
    let i = h + (at >> 1u);
    return half_{{ x }}(i) | (half_{{ x }}(i + 1u) << 16u);
}
{% else %}
// The word at byte `at` of the block at h.
fn word_{{ x }}(h: u32, at: u32) -> u32 {
    let i = h + at;
    let s = 8u * (i & 3u);
    // Both are the same where the word lies in one.
    let low = {{ b }}[i >> 2u] >> s;
    let high = {{ b }}[(i + 3u) >> 2u];
    return select(low | (high << ((32u - s) & 31u)), low, s == 0u);
}
{% endif %}
{% set bytes = "(vec4<u32>(w) >> vec4<u32>(0u, 8u, 16u, 24u))" %}
{% if dtype in ("q4_k", "q5_k") %}
// Scale and minimum of a group of 32.
fn scale_min_{{ x }}(h: u32, group: u32) -> vec2<f32> {
    let s = 8u * (group & 3u);
    let a = word_{{ x }}(h, 4u) >> s;
    let b = word_{{ x }}(h, 8u) >> s;
    var both = vec2<u32>(a, b) & vec2<u32>(63u);
    if group >= 4u {
        let c = word_{{ x }}(h, 12u) >> s;
        both = (vec2<u32>(c, c >> 4u) & vec2<u32>(15u)) | ((vec2<u32>(a, b) >> vec2<u32>(2u)) & vec2<u32>(48u));
    }
    return unpack2x16float(word_{{ x }}(h, 0u)) * vec2<f32>(both);
}
{% endif %}
fn ld4_{{ x }}(e: u32) -> vec4<f32> {
    let h = params.{{ x }}_o + e / {{ elems }}u * {{ size }}u;
    let r = e % {{ elems }}u;
{% if dtype == "q8_0" %}
    let w = bitcast<i32>(word_{{ x }}(h, 2u + r));
    let v = vec4<i32>(extractBits(w, 0u, 8u), extractBits(w, 8u, 8u), extractBits(w, 16u, 8u), w >> 24u);
    return unpack2x16float(half_{{ x }}(h)).x * vec4<f32>(v);
{% elif dtype == "q4_0" %}
    let w = word_{{ x }}(h, 2u + (r & 15u)) >> ((r & 16u) >> 2u);
    return unpack2x16float(half_{{ x }}(h)).x * (vec4<f32>({{ bytes }} & vec4<u32>(15u)) - 8.0);
{% elif dtype == "q4_1" %}
    let w = word_{{ x }}(h, 4u + (r & 15u)) >> ((r & 16u) >> 2u);
    let d = unpack2x16float(word_{{ x }}(h, 0u));
    return d.x * vec4<f32>({{ bytes }} & vec4<u32>(15u)) + d.y;
{% elif dtype in ("q5_0", "q5_1") %}
{% set fifth = 2 if dtype == "q5_0" else 4 %}
    let w = word_{{ x }}(h, {{ fifth + 4 }}u + (r & 15u)) >> ((r & 16u) >> 2u);
    let f = word_{{ x }}(h, {{ fifth }}u) >> r;
    let above = ((vec4<u32>(f) >> vec4<u32>(0u, 1u, 2u, 3u)) & vec4<u32>(1u)) << vec4<u32>(4u);
    let v = vec4<f32>(({{ bytes }} & vec4<u32>(15u)) | above);
{% if dtype == "q5_0" %}
    return unpack2x16float(half_{{ x }}(h)).x * (v - 16.0);
{% else %}
    let d = unpack2x16float(word_{{ x }}(h, 0u));
    return d.x * v + d.y;
{% endif %}
{% elif dtype in ("q4_k", "q5_k") %}
    let group = r >> 5u;
    let d = scale_min_{{ x }}(h, group);
    let w = word_{{ x }}(h, {{ 16 if dtype == "q4_k" else 48 }}u + (group >> 1u) * 32u + (r & 31u)) >> ((group & 1u) * 4u);
    var v = {{ bytes }} & vec4<u32>(15u);
{% if dtype == "q5_k" %}
    let f = word_{{ x }}(h, 16u + (r & 31u)) >> group;
    v |= ((vec4<u32>(f) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(1u)) << vec4<u32>(4u);
{% endif %}
    return d.x * vec4<f32>(v) - d.y;
{% elif dtype == "q6_k" %}
    let side = r >> 7u;
    let quarter = (r >> 5u) & 3u;
    let w = word_{{ x }}(h, side * 64u + (quarter & 1u) * 32u + (r & 31u)) >> ((quarter >> 1u) * 4u);
    let f = word_{{ x }}(h, 128u + side * 32u + (r & 31u)) >> (quarter * 2u);
    let above = ((vec4<u32>(f) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(3u)) << vec4<u32>(4u);
    let v = vec4<f32>(({{ bytes }} & vec4<u32>(15u)) | above) - 32.0;
    let scale = extractBits(bitcast<i32>(half_{{ x }}(h + 96u + (r >> 5u))), 8u * ((r >> 4u) & 1u), 8u);
    return unpack2x16float(half_{{ x }}(h + 104u)).x * f32(scale) * v;
{% elif dtype == "mxfp4" %}
    let w = word_{{ x }}(h, 1u + (r & 15u)) >> ((r & 16u) >> 2u);
    let q = {{ bytes }} & vec4<u32>(15u);
    // Twice the magnitudes, four bits each.
    let m = vec4<f32>((vec4<u32>(0xc8643210u) >> ((q & vec4<u32>(7u)) * 4u)) & vec4<u32>(15u));
    let p = word_{{ x }}(h, 0u) & 0xffu;
    let d = bitcast<f32>(select((p - 1u) << 23u, 0x200000u << (p & 1u), p < 2u));
    return d * select(m, -m, q >= vec4<u32>(8u));
{% else %}
    let w = word_{{ x }}(h, 4u + r);
    let q = {{ bytes }} & vec4<u32>(255u);
    let a = q & vec4<u32>(127u);
    // The exponent's bias is less than that of f32 by 120; subnormals are multiples of 2⁻⁹.
    let normal = bitcast<vec4<f32>>((a << vec4<u32>(20u)) + vec4<u32>({{ 120 * 8388608 }}u));
    let m = select(normal, vec4<f32>(a) * 0.001953125, a < vec4<u32>(8u));
    return bitcast<f32>(word_{{ x }}(h, 0u)) * select(m, -m, q >= vec4<u32>(128u));
{% endif %}
}
fn ld_{{ x }}(e: u32) -> f32 { return ld4_{{ x }}(e & 0xfffffffcu)[e & 3u]; }
