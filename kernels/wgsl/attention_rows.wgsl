// Attention with an online softmax (Milakov & Gimelshein 2018), without shared memory. An invocation has
// {{ rows }} of the rows that share a kv head (its heads of a token, then those of the next), and up to
// {{ width }} columns of the result; four keys at a time.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ putter("o", o) }}
{% include "attention_ends.wgsl" %}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let first = item % params.parts * {{ width }}u;
    let tile = item / params.parts % params.tiles;
{% if split %}
    let part = item / params.parts / params.tiles % params.splits;
    let kv_head = item / params.parts / params.tiles / params.splits;
{% else %}
    let part = 0u;
    let kv_head = item / params.parts / params.tiles;
{% endif %}
    let columns = (min(params.dv, first + {{ width }}u) - first + 3u) / 4u;
    let rows = params.tokens * params.share;

    var begin = 0xffffffffu;
    var end = 0u;
{% for r in range(rows) %}
    let row{{ r }} = min(tile * {{ rows }}u + {{ r }}u, rows - 1u);
    let token{{ r }} = row{{ r }} / params.share;
    let head{{ r }} = kv_head * params.share + row{{ r }} % params.share;
    let keys{{ r }} = keys_of_part(token{{ r }}, part);
    if keys{{ r }}.x < keys{{ r }}.y {
        begin = min(begin, keys{{ r }}.x);
        end = max(end, keys{{ r }}.y);
    }
    var top{{ r }} = LOW;
    var total{{ r }} = 0.0;
{% endfor %}
    var sum: array<vec4<f32>, {{ rows * width // 4 }}>;
    for (var c = 0u; c < {{ rows }}u * columns; c++) { sum[c] = vec4<f32>(0.0); }
    for (var j = begin; j < end; j += 4u) {
{% if rows > 1 %}
        // Keys that no row sees may lie between those of different sequences.
        var near = end;
{% for r in range(rows) %}
        if j < keys{{ r }}.y { near = min(near, max(j, keys{{ r }}.x)); }
{% endfor %}
        j = near;
{% endif %}
        let four = vec4<u32>(j, j + 1u, j + 2u, j + 3u);
        let at = min(four, vec4<u32>(end - 1u));
{% for r in range(rows) %}
        var s{{ r }} = vec4<f32>(0.0);
{% endfor %}
        for (var c = 0u; c < params.d; c += 4u) {
            let k0 = four_k(at.x, kv_head, c);
            let k1 = four_k(at.y, kv_head, c);
            let k2 = four_k(at.z, kv_head, c);
            let k3 = four_k(at.w, kv_head, c);
{% for r in range(rows) %}
            let x{{ r }} = four_q(token{{ r }}, head{{ r }}, c);
            s{{ r }} += vec4<f32>(dot(x{{ r }}, k0), dot(x{{ r }}, k1), dot(x{{ r }}, k2), dot(x{{ r }}, k3));
{% endfor %}
        }
{% for r in range(rows) %}
        let seen{{ r }} = (four >= vec4<u32>(keys{{ r }}.x)) & (four < vec4<u32>(keys{{ r }}.y));
        s{{ r }} = select(vec4<f32>(LOW), s{{ r }} * params.scale, seen{{ r }});
        let above{{ r }} = max(top{{ r }}, max(max(s{{ r }}.x, s{{ r }}.y), max(s{{ r }}.z, s{{ r }}.w)));
        let decay{{ r }} = exp(max(top{{ r }} - above{{ r }}, -120.0));
        top{{ r }} = above{{ r }};
        let p{{ r }} = select(vec4<f32>(0.0), exp(s{{ r }} - above{{ r }}), seen{{ r }});
        total{{ r }} = total{{ r }} * decay{{ r }} + ((p{{ r }}.x + p{{ r }}.y) + (p{{ r }}.z + p{{ r }}.w));
{% endfor %}
        for (var c = 0u; c < columns; c++) {
            let e = first + 4u * c;
            let v0 = four_v(at.x, kv_head, e);
            let v1 = four_v(at.y, kv_head, e);
            let v2 = four_v(at.z, kv_head, e);
            let v3 = four_v(at.w, kv_head, e);
{% for r in range(rows) %}
            let y{{ r }} = (p{{ r }}.x * v0 + p{{ r }}.y * v1) + (p{{ r }}.z * v2 + p{{ r }}.w * v3);
            sum[{{ rows }}u * c + {{ r }}u] = sum[{{ rows }}u * c + {{ r }}u] * decay{{ r }} + y{{ r }};
{% endfor %}
        }
    }
{% for r in range(rows) %}
    if tile * {{ rows }}u + {{ r }}u < rows {
        let over = share_of(total{{ r }});
        for (var c = 0u; c < columns; c++) {
            write_four(token{{ r }}, head{{ r }}, part, first + 4u * c, sum[{{ rows }}u * c + {{ r }}u] * over);
        }
        if first == 0u { write_end(token{{ r }}, head{{ r }}, part, top{{ r }}, total{{ r }}); }
    }
{% endfor %}
}
