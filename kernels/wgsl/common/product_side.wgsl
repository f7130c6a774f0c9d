{# A matrix b with its product c, of perhaps several that one kernel computes: the names of their operands,
   functions and parameters end in `s`. `bias` is none without one. See product.wgsl. #}
{% from "chunks.wgsl" import getter, putter %}
{% macro side(s, b, b_by, c, bias, mode, accumulate) %}
{% set b_ = "b" ~ s %}
fn b_at{{ s }}(z: u32, k: u32, j: u32) -> u32 {
    return at_{{ b_ }}({{ "0u" if mode == "weight" else "z" }}, {{ "k, j" if b_by == "mn" else "j, k" }});
}
fn b_step{{ s }}() -> u32 { return {{ "1u" if b_by == "k" else "params." ~ b_ ~ ("_s1" if b_by == "mn" else "_s2") }}; }
{% if b.dtype == "q8_0" %}

fn ld4_{{ b_ }}(e: u32) -> vec4<f32> {
    let h = params.{{ b_ }}_o + (e >> 5u) * 17u;
    let q = h + 1u + ((e & 31u) >> 1u);
    let w = bitcast<i32>(half_{{ b_ }}(q) | (half_{{ b_ }}(q + 1u) << 16u));
    let v = vec4<i32>(extractBits(w, 0u, 8u), extractBits(w, 8u, 8u), extractBits(w, 16u, 8u), w >> 24u);
    return unpack2x16float(half_{{ b_ }}(h)).x * vec4<f32>(v);
}
{% elif b.dtype == "q4_0" %}

fn ld4_{{ b_ }}(e: u32) -> vec4<f32> {
    let h = params.{{ b_ }}_o + (e >> 5u) * 9u;
    let q = h + 1u + ((e & 15u) >> 1u);
    let w = (half_{{ b_ }}(q) | (half_{{ b_ }}(q + 1u) << 16u)) >> ((e & 16u) >> 2u);
    let v = vec4<u32>(w & 15u, (w >> 8u) & 15u, (w >> 16u) & 15u, (w >> 24u) & 15u);
    return unpack2x16float(half_{{ b_ }}(h)).x * (vec4<f32>(v) - 8.0);
}
{% endif %}
{{ getter("c" ~ s, c) }}
{{ putter("c" ~ s, c) }}
{% if bias %}
{{ getter("bias" ~ s, bias) }}
{% endif %}

// Writes v to the columns j .. j + 4 of row i, as far as there are any.
fn finish{{ s }}(p: Part, i: u32, j: u32, v: vec4<f32>) {
    let z = {{ "0u" if mode == "grouped" else "p.z" }};
    let m = min(params.n{{ s }} - j, 4u);
    var sum = v;
{% if bias %}
    if p.live { sum += get_bias{{ s }}({{ "p.z" if mode == "grouped" else "0u" }}, j, m); }
{% endif %}
{% if accumulate %}
    sum += get_c{{ s }}(z, i, j, m);
{% endif %}
    put_c{{ s }}(z, i, j, m, sum);
}
{% endmacro %}
