{% from "chunks.wgsl" import getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("dy", dy) }}
{{ getter("x", x) }}
{{ getter("w", w) }}
{{ putter("dx", dx) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn do_row(row: u32, lane: u32) {
    var sum = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        sum = add(sum, kept(get_dy(row, c, m) * get_w(c, m) * get_x(row, c, m), m));
    }
    let mean = row_sum(lane, total(sum)) / params.divisor;
    let rstd = ld_rstd(at_rstd(row));
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        let g = get_dy(row, c, m) * get_w(c, m);
        put_dx(row, c, m, rstd * (g - get_x(row, c, m) * rstd * rstd * mean));
    }
}
{{ main(group, 1, workgroup, workgroup_size) }}
