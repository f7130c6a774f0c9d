{# Tiles through shared memory: a workgroup of {{ wx }} × {{ wy }} stages {{ tk }} columns of a and rows of b at a time, by
   vectors along m and n, and an invocation computes {{ tm }} rows and {{ tn }} columns of them. #}
{% set tile_rows = tm * wy %}
{% set tile_columns = tn * wx %}
{% set threads = wx * wy %}
{% include "product.wgsl" %}
{% from "product_side.wgsl" import side %}
{{ side("", b, b_by, c, bias if biased else none, mode, accumulate) }}

// a's part, [k][row / 4], then b's, [k][column / 4].
var<workgroup> arena: array<vec4<f32>, {{ tk * (tile_rows + tile_columns) // 4 }}>;

{# Stages `tile` rows (or columns) of x from `first` on, those at `limit` and beyond repeating the one before it, for
   the {{ tk }} k from k on; zero from p.k1 on. #}
{% macro stage(x, by, tile, base, lane, first, limit) %}
{% macro at(i, k) %}{{ x }}_at(p.z, {{ k if x == "b" else i }}, {{ i if x == "b" else k }}){% endmacro %}
{% if by == "mn" %}
        for (var t = {{ lane }}; t < {{ tk * tile // 4 }}u; t += {{ threads }}u) {
            let l = k + t / {{ tile // 4 }}u;
            let i = {{ first }} + t % {{ tile // 4 }}u * 4u;
            var v = vec4<f32>(0.0);
            if l < p.k1 {
{% if fours %}
                if i + 4u <= {{ limit }} {
                    v = ld4_{{ x }}({{ at("i", "l") }});
                } else {
{% endif %}
                let last = {{ limit }} - 1u;
                v = vec4<f32>(
                    ld_{{ x }}({{ at("min(i, last)", "l") }}), ld_{{ x }}({{ at("min(i + 1u, last)", "l") }}),
                    ld_{{ x }}({{ at("min(i + 2u, last)", "l") }}), ld_{{ x }}({{ at("min(i + 3u, last)", "l") }}));
{% if fours %}
                }
{% endif %}
            }
            arena[{{ base }}u + t] = v;
        }
{% else %}
        for (var t = {{ lane }}; t < {{ tk * tile // 16 }}u; t += {{ threads }}u) {
            // Four rows of four k, turned.
            let l = k + t % {{ tk // 4 }}u * 4u;
            let i = t / {{ tk // 4 }}u;
{% for r in range(4) %}
            let v{{ r }} = four_{{ x }}(p, min({{ first }} + i * 4u + {{ r }}u, {{ limit }} - 1u), l);
{% endfor %}
            let to = {{ base }}u + t % {{ tk // 4 }}u * {{ tile }}u + i;
{% for q in range(4) %}
            arena[to + {{ q * tile // 4 }}u] = vec4<f32>(v0[{{ q }}], v1[{{ q }}], v2[{{ q }}], v3[{{ q }}]);
{% endfor %}
        }
{% endif %}
{% endmacro %}
{% for x, by in [("a", a_by), ("b", b_by)] %}{% if by != "mn" %}

// Row or column i of {{ x }}, from k on; zero from p.k1 on.
fn four_{{ x }}(p: Part, i: u32, k: u32) -> vec4<f32> {
    let e = {{ x }}_at(p.z, {{ "k, i" if x == "b" else "i, k" }});
    let s = {{ x }}_step();
    if k + 4u <= p.k1 {
        return {% if fours %}ld4_{{ x }}(e){% else %}vec4<f32>(ld_{{ x }}(e), ld_{{ x }}(e + s), ld_{{ x }}(e + 2u * s), ld_{{ x }}(e + 3u * s)){% endif %};
    }
    var v = vec4<f32>(0.0);
    if k < p.k1 { v.x = ld_{{ x }}(e); }
    if k + 1u < p.k1 { v.y = ld_{{ x }}(e + s); }
    if k + 2u < p.k1 { v.z = ld_{{ x }}(e + 2u * s); }
    return v;
}
{% endif %}{% endfor %}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_id) lid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
    let p = part_of(group / params.tiles_n);
    // The same for the whole workgroup, as barriers want it.
    if p.row >= p.end { return; }
    let column = group % params.tiles_n * {{ tile_columns }}u;
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    var c{{ i }}_{{ x }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    for (var k = p.k0; k < p.k1; k += {{ tk }}u) {
{{ stage("a", a_by, tile_rows, 0, "lane", "p.row", "p.end") }}
        // The other half of the workgroup begins here, where there isn't work for all.
{{ stage("b", b_by, tile_columns, tk * tile_rows // 4, "(lane ^ " ~ (threads // 2) ~ "u)", "column", "params.n") }}
        workgroupBarrier();
        for (var l = 0u; l < {{ tk }}u; l++) {
{% for x in range(tm // 4) %}
            let u{{ x }} = arena[l * {{ tile_rows // 4 }}u + lid.y * {{ tm // 4 }}u + {{ x }}u];
{% endfor %}
{% for x in range(tn // 4) %}
            let v{{ x }} = arena[{{ tk * tile_rows // 4 }}u + l * {{ tile_columns // 4 }}u + lid.x * {{ tn // 4 }}u + {{ x }}u];
{% endfor %}
{% for i in range(tm) %}{% for x in range(tn // 4) %}
            c{{ i }}_{{ x }} += u{{ i // 4 }}[{{ i % 4 }}] * v{{ x }};
{% endfor %}{% endfor %}
        }
        workgroupBarrier();
    }
    let i0 = p.row + lid.y * {{ tm }}u;
    let j0 = column + lid.x * {{ tn }}u;
{% for i in range(tm) %}{% for x in range(tn // 4) %}
    if i0 + {{ i }}u < p.end && j0 + {{ 4 * x }}u < params.n { finish(p, i0 + {{ i }}u, j0 + {{ 4 * x }}u, c{{ i }}_{{ x }}); }
{% endfor %}{% endfor %}
}
