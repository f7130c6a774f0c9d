{% from "chunks.wgsl" import index, getter %}
{% from "rows.wgsl" import axes, split, columns, joins %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("x", x) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
const LOWEST = -3.4028234663852886e38;
{% if f == "argmax" %}
const NONE = 0xffffffffu;
struct Best { value: f32, index: u32 }

// The better one; the lower index among equals.
fn better(a: Best, b: Best) -> Best {
    if b.index == NONE { return a; }
    if a.index == NONE || b.value > a.value || (b.value == a.value && b.index < a.index) { return b; }
    return a;
}
{% if subgroup %}
fn row_best(lane: u32, x: Best) -> Best {
    let value = subgroupMax(x.value);
    return Best(value, subgroupMin(select(NONE, x.index, x.value == value)));
}
{% elif group %}
var<workgroup> indices_: array<u32, {{ workgroup_size }}>;

fn row_best(lane: u32, x: Best) -> Best {
    var best = x;
    reduce_[lane] = x.value;
    indices_[lane] = x.index;
    workgroupBarrier();
    for (var n = {{ workgroup_size }}u / 2u; n > 0u; n >>= 1u) {
        if lane < n {
            best = better(best, Best(reduce_[lane + n], indices_[lane + n]));
            reduce_[lane] = best.value;
            indices_[lane] = best.index;
        }
        workgroupBarrier();
    }
    return best;
}
{% else %}
fn row_best(lane: u32, x: Best) -> Best { return x; }
{% endif %}
{% endif %}

// A row, or a part of it. Parts count fastest in rows, so that neighbours read neighbouring rows.
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) local: u32) {
{% if group %}
    let unit = wid.x + wid.y * nwg.x;
    let lane = local;
{% else %}
    let unit = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + local;
    let lane = 0u;
{% endif %}
    if unit >= params.units { return; }
    let row = unit % params.rows;
    let part = unit / params.rows;
    {{ split(lead) }}
    let end = min((part + 1u) * params.per, params.n);
    let first = part * params.per + 4u * lane;
{% if f == "argmax" %}
    var best = Best(LOWEST, NONE);
    for (var c = first; c < end; c += STEP) {
        let m = min(end - c, 4u);
        let v = get_x({{ index(x.rank) }}c, m);
{% for j in range(4) %}
        if {{ j }}u < m && (best.index == NONE || v[{{ j }}] > best.value) {
{% if joined %}
            best = Best(v[{{ j }}], u32(ld_of(at_of({{ index(x.rank) }}c + {{ j }}u))));
{% else %}
            best = Best(v[{{ j }}], c + {{ j }}u);
{% endif %}
        }
{% endfor %}
    }
    best = row_best(lane, best);
    if lane > 0u { return; }
    if best.index == NONE { best.index = 0u; }
{% if partial %}
    st_y(at_y({{ index(y.rank) }}part), best.value);
    st_of(at_of({{ index(y.rank) }}part), i32(best.index));
{% else %}
    st_y(at_y({{ axes(lead) }}), i32(best.index));
{% endif %}
{% else %}
{% if f == "max" %}
    var largest = vec4<f32>(LOWEST);
    for (var c = first; c < end; c += STEP) { largest = max(largest, get_x({{ index(x.rank) }}c, min(end - c, 4u))); }
    let value = row_max(lane, highest(largest));
{% else %}
    var sum = NOTHING;
    for (var c = first; c < end; c += STEP) {
        let m = min(end - c, 4u);
        let v = kept(get_x({{ index(x.rank) }}c, m), m);
        sum = add(sum, v{% if f == "squares" %} * v{% endif %});
    }
    let value = row_sum(lane, total(sum));
{% endif %}
    if lane > 0u { return; }
{% if partial %}
    st_y(at_y({{ index(y.rank) }}part), value);
{% elif mean %}
    st_y(at_y({{ axes(lead) }}), {% if accumulate %}ld_old(at_old({{ axes(lead) }})) + {% endif %}value / params.divisor);
{% else %}
    st_y(at_y({{ axes(lead) }}), {% if accumulate %}ld_old(at_old({{ axes(lead) }})) + {% endif %}value);
{% endif %}
{% endif %}
}
