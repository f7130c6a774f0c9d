// The gradient of queries (Dao 2023, FlashAttention-2, algorithm 2). An invocation has one query row of one
// head and up to {{ width }} columns of the gradient; four keys at a time.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ fours("grad", grad, "dv", false) }}
{{ putter("dq", dq) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let first = item % params.parts * {{ width }}u;
    let token = item / params.parts / params.heads;
    let head = item / params.parts % params.heads;
    let kv_head = head / params.share;
    let columns = (min(params.d, first + {{ width }}u) - first + 3u) / 4u;
    let keys = keys_of(token);
    let lse = ld_row(at_row(token, head, 0u));
    let delta = ld_row(at_row(token, head, 1u));

    var sum: array<vec4<f32>, {{ width // 4 }}>;
    for (var c = 0u; c < columns; c++) { sum[c] = vec4<f32>(0.0); }
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
        var dp = vec4<f32>(0.0);
        for (var c = 0u; c < params.dv; c += 4u) {
            let x = four_grad(token, head, c);
            dp += vec4<f32>(
                dot(x, four_v(j, kv_head, c)), dot(x, four_v(j1, kv_head, c)),
                dot(x, four_v(j2, kv_head, c)), dot(x, four_v(j3, kv_head, c)));
        }
        let seen = vec4<u32>(j, j + 1u, j + 2u, j + 3u) <= vec4<u32>(last);
        let p = select(vec4<f32>(0.0), exp(s * params.scale - lse), seen);
        let ds = p * (dp - delta) * params.scale;
        for (var c = 0u; c < columns; c++) {
            let e = first + 4u * c;
            let x = (ds.x * four_k(j, kv_head, e) + ds.y * four_k(j1, kv_head, e))
                + (ds.z * four_k(j2, kv_head, e) + ds.w * four_k(j3, kv_head, e));
            sum[c] += x;
        }
    }
    for (var c = 0u; c < columns; c++) {
        let e = first + 4u * c;
        put_dq(token, head, e, min(params.d - e, 4u), sum[c]);
    }
}
