// Attention with an online softmax (Milakov & Gimelshein 2018). An invocation has one query row of one head
// and up to {{ width }} columns of the result; four keys at a time.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ putter("o", o) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let first = item % params.parts * {{ width }}u;
    let token = item / params.parts / params.heads;
    let head = item / params.parts % params.heads;
    let kv_head = head / params.share;
    let columns = (min(params.dv, first + {{ width }}u) - first + 3u) / 4u;
    let keys = keys_of(token);

    var sum: array<vec4<f32>, {{ width // 4 }}>;
    for (var c = 0u; c < columns; c++) { sum[c] = vec4<f32>(0.0); }
    var top = -3.0e38;
    var total = 0.0;
    for (var j = keys.x; j < keys.y; j += 4u) {
        let last = keys.y - 1u;
        let j1 = min(j + 1u, last);
        let j2 = min(j + 2u, last);
        let j3 = min(j + 3u, last);
        var s = vec4<f32>(0.0);
        for (var c = 0u; c < params.d; c += 4u) {
            let x = four_q(token, head, c);
            s += vec4<f32>(
                dot(x, four_k(j, kv_head, c)), dot(x, four_k(j1, kv_head, c)),
                dot(x, four_k(j2, kv_head, c)), dot(x, four_k(j3, kv_head, c)));
        }
        s *= params.scale;
        let above = max(top, max(max(s.x, s.y), max(s.z, s.w)));
        let decay = exp(max(top - above, -120.0));
        top = above;
        let p = select(vec4<f32>(0.0), exp(s - above), vec4<u32>(j, j + 1u, j + 2u, j + 3u) <= vec4<u32>(last));
        total = total * decay + ((p.x + p.y) + (p.z + p.w));
        for (var c = 0u; c < columns; c++) {
            let e = first + 4u * c;
            let x = (p.x * four_v(j, kv_head, e) + p.y * four_v(j1, kv_head, e))
                + (p.z * four_v(j2, kv_head, e) + p.w * four_v(j3, kv_head, e));
            sum[c] = sum[c] * decay + x;
        }
    }
    let seen = keys.x < keys.y;
    let over = 1.0 / select(1.0, total, seen);
    for (var c = 0u; c < columns; c++) {
        let e = first + 4u * c;
        put_o(token, head, e, min(params.dv - e, 4u), sum[c] * over);
    }
    if first == 0u { st_lse(at_lse(token, head), select(0.0, top + log(total), seen)); }
}
