{% from "chunks.wgsl" import args, index, getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("y", y) }}
{{ getter("dy", dy) }}
{{ putter("dx", dx) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn do_row({{ args(y.rank) }}lane: u32) {
    var sum = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        sum = add(sum, kept(get_y({{ index(y.rank) }}c, m) * get_dy({{ index(y.rank) }}c, m), m));
    }
    let dot = row_sum(lane, total(sum));
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        put_dx({{ index(y.rank) }}c, m, get_y({{ index(y.rank) }}c, m) * (get_dy({{ index(y.rank) }}c, m) - dot));
    }
}
{{ main(group, lead, workgroup, workgroup_size) }}
