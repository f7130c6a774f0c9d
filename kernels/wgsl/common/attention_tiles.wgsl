{# Products of tiles of 32 × 32 for attention's gradient, in workgroups of 64. Invocation (x, y) has the products of
   rows 4y to 4y + 3 of one side with rows x, x + 8, x + 16 and x + 24 of the other, as vectors of four rows, and
   four columns at 4x of every 32 of the results of its four rows. Both sides are staged by 32 columns. #}
{% macro memory() %}
const LANES = 64u;
// Vectors from one staged row to the next; odd, against bank conflicts.
const T = 9u;
const NONE = 0xffffffffu;
// The exponent of what isn't seen.
const LOW = -3.0e38;
var<workgroup> own_: array<vec4<f32>, 288>;
var<workgroup> other_: array<vec4<f32>, 288>;
// Factors of row i of the other side, and rows 4y to 4y + 3 of this one, at 8i + y.
var<workgroup> p_: array<vec4<f32>, 256>;
{% endmacro %}

{# Stages 32 columns, from `column` on, of the rows from `row` on that are before `end`; `value` reads four
   columns at `c` of row `r`. #}
{% macro stage(into, row, end, column, width, value) %}
for (var e = lane; e < 256u; e += LANES) {
    let r = {{ row }} + (e >> 3u);
    let c = {{ column }} + 4u * (e & 7u);
    var value = vec4<f32>(0.0);
    if r < {{ end }} && c < params.{{ width }} { value = {{ value }}; }
    {{ into }}[(e >> 3u) * T + (e & 7u)] = value;
}
{% endmacro %}

{# Adds the products of what is staged to s0 to s3. #}
{% macro products(s) %}
for (var z = 0u; z < 8u; z++) {
    let a0 = own_[4u * y * T + z];
    let a1 = own_[(4u * y + 1u) * T + z];
    let a2 = own_[(4u * y + 2u) * T + z];
    let a3 = own_[(4u * y + 3u) * T + z];
{% for t in range(4) %}
    let b{{ t }} = other_[(x + {{ 8 * t }}u) * T + z];
    {{ s }}{{ t }} += vec4<f32>(dot(a0, b{{ t }}), dot(a1, b{{ t }}), dot(a2, b{{ t }}), dot(a3, b{{ t }}));
{% endfor %}
}
{% endmacro %}

{# Adds the staged rows of the other side, times their factors, to four sums. #}
{% macro gather(sum) %}
for (var i = 0u; i < 32u; i++) {
    let f = p_[8u * i + y];
    let v = other_[i * T + x];
{% for i in range(4) %}
    {{ sum }}{{ i }} += f[{{ i }}] * v;
{% endfor %}
}
{% endmacro %}

{# Brings four sums to where `other_` is written out, eight vectors a row. #}
{% macro spread(sum) %}
{% for i in range(4) %}
other_[8u * (4u * y + {{ i }}u) + x] = {{ sum }}{{ i }};
{% endfor %}
workgroupBarrier();
{% endmacro %}
