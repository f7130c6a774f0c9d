{# A team takes an assignment; or, beyond `all` of them, a row that no assignment names. #}
{% from "chunks.wgsl" import getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("dy", dy) }}
{{ getter("x", x) }}
{{ putter("dx", dx) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn do_row(unit: u32, lane: u32) {
    if unit >= params.all {
        let r = unit - params.all;
        if ld_marks(at_marks(r)) != 0 { return; }
        for (var c = 4u * lane; c < params.n; c += STEP) {
            put_dx(r, c, min(params.n - c, 4u), vec4<f32>(0.0));
        }
        return;
    }
    let t = unit / params.k;
    let j = unit % params.k;
    let p = ld_positions(at_positions(t, j));
    let n = select(0u, params.n, p >= 0 && u32(p) < params.x_rows);
    let weight = ld_weights(at_weights(t, j));
    var sum = NOTHING;
    for (var c = 4u * lane; c < n; c += STEP) {
        let m = min(n - c, 4u);
        let d = get_dy(t, c, m);
        sum = add(sum, kept(d * get_x(u32(p), c, m), m));
        put_dx(u32(p), c, m, weight * d);
    }
    let dot = row_sum(lane, total(sum));
    if lane == 0u { st_dweights(at_dweights(t, j), dot); }
}
{{ main(group, 1, workgroup, workgroup_size) }}
