{% from "chunks.wgsl" import getter %}
{% from "rows.wgsl" import columns, joins, main %}
{% include "math.wgsl" %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("x", x) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn do_row(row: u32, lane: u32) {
    var largest = vec4<f32>(-3.4028234663852886e38);
    for (var c = 4u * lane; c < params.n; c += STEP) {
        largest = max(largest, get_x(row, c, min(params.n - c, 4u)));
    }
    let shift = row_max(lane, highest(largest));
    var sum = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        sum = add(sum, kept(exp(get_x(row, c, m) - shift), m));
    }
    let lse = shift + ln(row_sum(lane, total(sum)));
    if lane > 0u { return; }
    let target_ = ld_target(at_target(row));
    var loss = 0.0;
    if target_ >= 0 && u32(target_) < params.n { loss = lse - ld_x(at_x(row, u32(target_))); }
    st_loss(at_loss(row), loss);
    st_lse(at_lse(row), lse);
}
{{ main(group, 1, workgroup, workgroup_size) }}
