{# Reads and writes four neighbours along the last axis at a time. #}
{% macro args(rank) %}{% for i in range(rank - 1) %}i{{ i }}: u32, {% endfor %}{% endmacro %}
{% macro index(rank) %}{% for i in range(rank - 1) %}i{{ i }}, {% endfor %}{% endmacro %}

{# get_x(i0, …, c, m): columns c, c + 1, … of a row, m of them (1 to 4); what is beyond repeats the last. #}
{% macro getter(name, x) %}
{% set type = "i32" if x.dtype in ("i32", "i8", "u8") else "u32" if x.dtype == "u32" else "f32" %}
fn get_{{ name }}({{ args(x.rank) }}c: u32, m: u32) -> vec4<{{ type }}> {
{% if x.contiguous and type == "f32" %}
    if m == 4u { return ld4_{{ name }}(at_{{ name }}({{ index(x.rank) }}c)); }
{% endif %}
    let last = c + m - 1u;
    return vec4<{{ type }}>(
        ld_{{ name }}(at_{{ name }}({{ index(x.rank) }}c)),
        ld_{{ name }}(at_{{ name }}({{ index(x.rank) }}min(c + 1u, last))),
        ld_{{ name }}(at_{{ name }}({{ index(x.rank) }}min(c + 2u, last))),
        ld_{{ name }}(at_{{ name }}({{ index(x.rank) }}min(c + 3u, last))));
}
{% endmacro %}

{# put_y(i0, …, c, m, v): writes the first m of v to columns c, c + 1, …; c is a multiple of 4. #}
{% macro putter(name, y) %}
{% set type = "i32" if y.dtype in ("i32", "i8", "u8") else "u32" if y.dtype == "u32" else "f32" %}
fn put_{{ name }}({{ args(y.rank) }}c: u32, m: u32, v: vec4<{{ type }}>) {
{% if y.contiguous and type == "f32" %}
    let e = at_{{ name }}({{ index(y.rank) }}c);
    if m == 4u { st4_{{ name }}(e, v); return; }
    if m == 1u { st_{{ name }}(e, v.x); return; }
    st2_{{ name }}(e, v.x, v.y);
    if m == 3u { st_{{ name }}(e + 2u, v.z); }
{% else %}
    st_{{ name }}(at_{{ name }}({{ index(y.rank) }}c), v.x);
    if m > 1u { st_{{ name }}(at_{{ name }}({{ index(y.rank) }}c + 1u), v.y); }
    if m > 2u { st_{{ name }}(at_{{ name }}({{ index(y.rank) }}c + 2u), v.z); }
    if m > 3u { st_{{ name }}(at_{{ name }}({{ index(y.rank) }}c + 3u), v.w); }
{% endif %}
}
{% endmacro %}

{# The entry point: calls item(i0, …, c, m) for every four columns of every row of an operand of this rank.
   Takes the parameters `per` (items of an invocation), `items`, `n` (columns), `chunks` (items of a row), and
   `n1`, `n2`, … (extents of the axes between the first and the last). #}
{% macro main(rank, workgroup, workgroup_size) %}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = (wid.x + wid.y * nwg.x) * params.per * {{ workgroup_size }}u + lane;
    for (var k = 0u; k < params.per; k++) {
        let i = first + k * {{ workgroup_size }}u;
        if i >= params.items { return; }
        let c = (i % params.chunks) * 4u;
        var row = i / params.chunks;
{% for axis in range(rank - 2, 0, -1) %}
        let i{{ axis }} = row % params.n{{ axis }};
        row = row / params.n{{ axis }};
{% endfor %}
{% if rank > 1 %}
        let i0 = row;
{% endif %}
        item({{ index(rank) }}c, min(params.n - c, 4u));
    }
}
{% endmacro %}
