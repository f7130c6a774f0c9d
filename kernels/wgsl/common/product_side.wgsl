{# A matrix b with its product c, of perhaps several that one kernel computes: the names of their operands,
   functions and parameters end in `s`. `bias` is none without one. See product.wgsl. #}
{% from "chunks.wgsl" import getter, putter %}
{% macro side(s, b, b_by, c, bias, mode, accumulate) %}
{% set b_ = "b" ~ s %}
fn b_at{{ s }}(z: u32, k: u32, j: u32) -> u32 {
    return at_{{ b_ }}({{ "0u" if mode == "weight" else "z" }}, {{ "k, j" if b_by == "mn" else "j, k" }});
}
fn b_step{{ s }}() -> u32 { return {{ "1u" if b_by == "k" else "params." ~ b_ ~ ("_s1" if b_by == "mn" else "_s2") }}; }
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
