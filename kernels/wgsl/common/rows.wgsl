{# Kernels over rows: the last axis of operands whose other axes, `lead` of them, count the rows. A row belongs
   to a workgroup (`group`) or to one invocation. #}

{# The indices of a row. #}
{% macro axes(lead) %}{% for i in range(lead) %}i{{ i }}{% if i + 1 < lead %}, {% endif %}{% endfor %}{% endmacro %}

{# Computes them from its number, with the parameters d1, d2, … (extents of the axes after the first). #}
{% macro split(lead) %}
    var rest_ = row;
{% for axis in range(lead - 1, 0, -1) %}
    let i{{ axis }} = rest_ % params.d{{ axis }};
    rest_ = rest_ / params.d{{ axis }};
{% endfor %}
    let i0 = rest_;
{% endmacro %}

{# Columns: an invocation takes four neighbours at 4 · lane, and again every STEP columns. Few invocations have many. #}
{% macro columns(group, workgroup_size) %}
const STEP = {{ 4 * workgroup_size if group else 4 }}u;

// What is beyond the first m columns counts nothing.
fn kept(v: vec4<f32>, m: u32) -> vec4<f32> {
    return select(vec4<f32>(0.0), v, vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(m));
}

// A running sum. An invocation that has a row to itself, or shares it with few, adds up parts of it first: one
// running f32 sum over many terms loses too much.
struct Sum { part: vec4<f32>, total: f32, terms: u32 }

const NOTHING = Sum(vec4<f32>(0.0), 0.0, 0u);

fn add(s: Sum, v: vec4<f32>) -> Sum {
{% if group and workgroup_size > 32 %}
    return Sum(s.part + v, 0.0, 0u);
{% else %}
    let part = s.part + v;
    if s.terms == 63u { return Sum(vec4<f32>(0.0), s.total + ((part.x + part.y) + (part.z + part.w)), 0u); }
    return Sum(part, s.total, s.terms + 1u);
{% endif %}
}

fn across(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn highest(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

fn total(s: Sum) -> f32 { return s.total + across(s.part); }
{% endmacro %}

{# Sum and maximum over the invocations of a row. #}
{% macro joins(group) %}
{% if group %}
fn row_sum(lane: u32, x: f32) -> f32 { return workgroup_sum(lane, x); }
fn row_max(lane: u32, x: f32) -> f32 { return workgroup_max(lane, x); }
{% else %}
fn row_sum(lane: u32, x: f32) -> f32 { return x; }
fn row_max(lane: u32, x: f32) -> f32 { return x; }
{% endif %}
{% endmacro %}

{# The entry point: calls do_row(i0, …, lane) for each of the `rows` rows; lane counts the invocations of one. #}
{% macro main(group, lead, workgroup, workgroup_size) %}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
{% if group %}
    let row = wid.x + wid.y * nwg.x;
    let lane = index;
{% else %}
    let row = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + index;
    let lane = 0u;
{% endif %}
    if row >= params.rows { return; }
    {{ split(lead) }}
    do_row({{ axes(lead) }}, lane);
}
{% endmacro %}
