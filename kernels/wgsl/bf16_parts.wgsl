// Cuts f32 into three numbers of bf16 that add up to it exactly: 24 bits of its significand, 8 in each. What isn't
// finite is in the first.
{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("x", x) }}
{{ putter("high", high) }}
{{ putter("middle", middle) }}
{{ putter("low", low) }}
// The first 8 bits of the significands.
fn first(v: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) & vec4<u32>(0xffff0000u));
}

fn item(i0: u32, i1: u32, c: u32, m: u32) {
    let v = get_x(i0, i1, c, m);
    let finite = (bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u)) != vec4<u32>(0x7f800000u);
    let a = select(v, first(v), finite);
    let b = select(vec4<f32>(0.0), v - a, finite);
    let c0 = first(b);
    put_high(i0, i1, c, m, a);
    put_middle(i0, i1, c, m, c0);
    put_low(i0, i1, c, m, b - c0);
}
{{ main(3, workgroup, workgroup_size) }}
