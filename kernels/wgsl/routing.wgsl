{# One workgroup chooses the experts of few tokens, sorts the assignments, and, with `gathers`, takes each row of
   `table` to its experts' rows `y`. #}
{% include "math.wgsl" %}
{% from "route.wgsl" import route %}
{% from "place.wgsl" import place %}
{{ route(scores_by, biased, grouped_by > 1, group_score, normalize) }}
{{ place("chosen", "top_k") }}
{% if gathers %}
{% from "chunks.wgsl" import getter, putter %}
{{ getter("table", table) }}
{{ putter("y", y) }}
fn gather(i: u32) {
    let r = i / params.chunks;
    let c = i % params.chunks * 4u;
    let m = min(params.n - c, 4u);
    let t = ld_rows(at_rows(r));
    if t < 0 || u32(t) >= params.tokens {
        put_y(r, c, m, vec4<f32>(0.0));
    } else {
        put_y(r, c, m, get_table(u32(t), c, m));
    }
}
{% endif %}

@compute {{ workgroup }}
fn main(@builtin(local_invocation_index) lane: u32) {
    for (var t = lane; t < params.tokens; t += {{ workgroup_size }}u) { route(t); }
{% if workgroup_size > 1 %}
    storageBarrier();
{% endif %}
    for (var a = lane; a < params.units; a += {{ workgroup_size }}u) { place(a); }
{% if gathers %}
{% if workgroup_size > 1 %}
    storageBarrier();
{% endif %}
    for (var i = lane; i < params.items; i += {{ workgroup_size }}u) { gather(i); }
{% endif %}
}
