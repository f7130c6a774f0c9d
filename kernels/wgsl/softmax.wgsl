{% from "chunks.wgsl" import args, index, getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn do_row({{ args(x.rank) }}lane: u32) {
    var largest = vec4<f32>(-3.4028234663852886e38);
    for (var c = 4u * lane; c < params.n; c += STEP) {
        largest = max(largest, get_x({{ index(x.rank) }}c, min(params.n - c, 4u)));
    }
    let shift = row_max(lane, highest(largest));
    var sum = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        sum = add(sum, kept(exp(get_x({{ index(x.rank) }}c, m) - shift), m));
    }
    let all = row_sum(lane, total(sum));
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        put_y({{ index(x.rank) }}c, m, exp(get_x({{ index(x.rank) }}c, m) - shift) / all);
    }
}
{{ main(group, lead, workgroup, workgroup_size) }}
