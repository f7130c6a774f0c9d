{# With `adds`, x is computed first, as a + b, and with `combines` b before it, from the rows of experts. What an
   invocation reads of them it has written itself. #}
{% from "chunks.wgsl" import getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("x", x) }}
{{ getter("w", w) }}
{{ putter("y", y) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
{% if adds %}
{{ getter("a", a) }}
{{ getter("b", b) }}
{{ putter("x", x) }}
{% if combines %}
{% from "combined.wgsl" import combined %}
{{ getter("from", from) }}
{{ putter("b", b) }}
{{ combined("from", weighted, "from_rows") }}
{% endif %}
{% endif %}
fn do_row(row: u32, lane: u32) {
    var sum = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
{% if combines %}
        put_b(row, c, m, combined(vec4<f32>(0.0), row, c, m));
{% endif %}
{% if adds %}
        put_x(row, c, m, get_a(row, c, m) + get_b(row, c, m));
{% endif %}
        let v = kept(get_x(row, c, m), m);
        sum = add(sum, v * v);
    }
    let mean = row_sum(lane, total(sum)) / params.divisor;
    let rstd = 1.0 / sqrt(mean + params.eps);
    if lane == 0u { st_rstd(at_rstd(row), rstd); }
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        put_y(row, c, m, get_x(row, c, m) * rstd * get_w(c, m));
    }
}
{{ main(group, 1, workgroup, workgroup_size) }}
