// The gradients of keys and values (Dao 2023, FlashAttention-2, algorithm 2). An invocation has one key row
// of one kv head and up to {{ width }} columns of either gradient; four queries at a time, over the sequences
// that have the row, and the query heads that share the kv head, in order.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ fours("grad", grad, "dv", false) }}
{{ putter("dk", dk) }}
{{ putter("dv", dv) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let first = item % params.parts * {{ width }}u;
    let j = item / params.parts / params.kv_heads;
    let kv_head = item / params.parts % params.kv_heads;
    let columns_k = (max(min(params.d, first + {{ width }}u), first) - first + 3u) / 4u;
    let columns_v = (max(min(params.dv, first + {{ width }}u), first) - first + 3u) / 4u;

    var sum_k: array<vec4<f32>, {{ width // 4 }}>;
    var sum_v: array<vec4<f32>, {{ width // 4 }}>;
    for (var c = 0u; c < {{ width // 4 }}u; c++) {
        sum_k[c] = vec4<f32>(0.0);
        sum_v[c] = vec4<f32>(0.0);
    }
    for (var n = 0u; n < params.seqs; n++) {
        let seq = sequence(n);
        let place = i32(j) - seq.z;
        if place < 0 || place >= seq.w { continue; }
        let queries = seen_by(seq, place) + u32(seq.x);
        for (var h = kv_head * params.share; h < (kv_head + 1u) * params.share; h++) {
            for (var i = queries.x; i < queries.y; i += 4u) {
                let last = queries.y - 1u;
                let i1 = min(i + 1u, last);
                let i2 = min(i + 2u, last);
                let i3 = min(i + 3u, last);
                var s = vec4<f32>(0.0);
                for (var c = 0u; c < params.d; c += 4u) {
                    let x = four_k(j, kv_head, c);
                    s += vec4<f32>(
                        dot(x, four_q(i, h, c)), dot(x, four_q(i1, h, c)),
                        dot(x, four_q(i2, h, c)), dot(x, four_q(i3, h, c)));
                }
                var dp = vec4<f32>(0.0);
                for (var c = 0u; c < params.dv; c += 4u) {
                    let x = four_v(j, kv_head, c);
                    dp += vec4<f32>(
                        dot(x, four_grad(i, h, c)), dot(x, four_grad(i1, h, c)),
                        dot(x, four_grad(i2, h, c)), dot(x, four_grad(i3, h, c)));
                }
                let lse = vec4<f32>(
                    ld_row(at_row(i, h, 0u)), ld_row(at_row(i1, h, 0u)),
                    ld_row(at_row(i2, h, 0u)), ld_row(at_row(i3, h, 0u)));
                let delta = vec4<f32>(
                    ld_row(at_row(i, h, 1u)), ld_row(at_row(i1, h, 1u)),
                    ld_row(at_row(i2, h, 1u)), ld_row(at_row(i3, h, 1u)));
                let seen = vec4<u32>(i, i + 1u, i + 2u, i + 3u) <= vec4<u32>(last);
                let p = select(vec4<f32>(0.0), exp(s * params.scale - lse), seen);
                let ds = p * (dp - delta) * params.scale;
                for (var c = 0u; c < columns_k; c++) {
                    let e = first + 4u * c;
                    let x = (ds.x * four_q(i, h, e) + ds.y * four_q(i1, h, e))
                        + (ds.z * four_q(i2, h, e) + ds.w * four_q(i3, h, e));
                    sum_k[c] += x;
                }
                for (var c = 0u; c < columns_v; c++) {
                    let e = first + 4u * c;
                    let x = (p.x * four_grad(i, h, e) + p.y * four_grad(i1, h, e))
                        + (p.z * four_grad(i2, h, e) + p.w * four_grad(i3, h, e));
                    sum_v[c] += x;
                }
            }
        }
    }
    for (var c = 0u; c < columns_k; c++) {
        let e = first + 4u * c;
        put_dk(j, kv_head, e, min(params.d - e, 4u), sum_k[c]);
    }
    for (var c = 0u; c < columns_v; c++) {
        let e = first + 4u * c;
        put_dv(j, kv_head, e, min(params.dv - e, 4u), sum_v[c]);
    }
}
