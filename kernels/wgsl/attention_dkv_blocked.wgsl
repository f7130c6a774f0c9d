// The gradients of keys and values by tiles (Dao 2023, FlashAttention-2, algorithm 2). A workgroup has 32 key rows
// of one kv head and up to {{ 32 * columns }} columns of either gradient. It goes over the sequences that have any of
// the rows, and in each over the query rows of its heads (those of a token, then those of the next) by 32, in
// order; see attention_tiles.wgsl.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% from "attention_tiles.wgsl" import memory, stage, products, gather, spread %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ fours("grad", grad, "dv", false) }}
{{ putter("dk", dk) }}
{{ putter("dv", dv) }}
{{ memory() }}
var<workgroup> queries_: vec2<u32>;

// The rows of queries of a sequence that may see any of 32 keys.
fn queries_of(seq: vec4<i32>, j: u32) -> vec2<u32> {
    let low = max(i32(j) - seq.z, 0);
    let last = min(i32(j) + 31 - seq.z, seq.w - 1);
    if low > last { return vec2<u32>(0u); }
    let queries = vec2<u32>(seen_by(seq, low).x, seen_by(seq, last).y) + u32(seq.x);
    return queries * params.share;
}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
    let first = group % params.parts * {{ 32 * columns }}u;
    let kv_head = group / params.parts % params.kv_heads;
    let j = group / params.parts / params.kv_heads * 32u;
    let head = kv_head * params.share;
    let x = lane & 7u;
    let y = lane >> 3u;
    let own = vec4<u32>(j + 4u * y) + vec4<u32>(0u, 1u, 2u, 3u);

{% for c in range(columns) %}{% for i in range(4) %}
    var k{{ c }}{{ i }} = vec4<f32>(0.0);
    var v{{ c }}{{ i }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    for (var n = 0u; n < params.seqs; n++) {
        let seq = sequence(n);
        if lane == 0u { queries_ = queries_of(seq, j); }
        let queries = workgroupUniformLoad(&queries_);
        for (var row = queries.x; row < queries.y; row += 32u) {
{% for t in range(4) %}
            var s{{ t }} = vec4<f32>(0.0);
            var dp{{ t }} = vec4<f32>(0.0);
{% endfor %}
            for (var base = 0u; base < params.d; base += 32u) {
                {{ stage("own_", "j", "params.kv", "base", "d", "four_k(r, kv_head, c)") }}
                {{ stage("other_", "row", "queries.y", "base", "d", "four_q(r / params.share, head + r % params.share, c)") }}
                workgroupBarrier();
                {{ products("s") }}
                workgroupBarrier();
            }
            for (var base = 0u; base < params.dv; base += 32u) {
                {{ stage("own_", "j", "params.kv", "base", "dv", "four_v(r, kv_head, c)") }}
                {{ stage("other_", "row", "queries.y", "base", "dv", "four_grad(r / params.share, head + r % params.share, c)") }}
                workgroupBarrier();
                {{ products("dp") }}
                workgroupBarrier();
            }
{% for t in range(4) %}
            let r{{ t }} = min(row + x + {{ 8 * t }}u, queries.y - 1u);
            let token{{ t }} = r{{ t }} / params.share;
            let h{{ t }} = head + r{{ t }} % params.share;
            let keys{{ t }} = visible(seq, i32(token{{ t }}) - seq.x);
            let there{{ t }} = vec4<bool>(row + x + {{ 8 * t }}u < queries.y);
            let seen{{ t }} = there{{ t }} & (own >= vec4<u32>(keys{{ t }}.x)) & (own < vec4<u32>(keys{{ t }}.y));
            let lse{{ t }} = ld_row(at_row(token{{ t }}, h{{ t }}, 0u));
            let f{{ t }} = exp(select(vec4<f32>(LOW), s{{ t }} * params.scale - lse{{ t }}, seen{{ t }}));
            let delta{{ t }} = ld_row(at_row(token{{ t }}, h{{ t }}, 1u));
            p_[8u * (x + {{ 8 * t }}u) + y] = f{{ t }};
{% endfor %}
{% for c in range(columns) %}
            {{ stage("other_", "row", "queries.y", "first + " ~ 32 * c ~ "u", "dv", "four_grad(r / params.share, head + r % params.share, c)") }}
            workgroupBarrier();
            {{ gather("v" ~ c) }}
            workgroupBarrier();
{% endfor %}
{% for t in range(4) %}
            p_[8u * (x + {{ 8 * t }}u) + y] = f{{ t }} * (dp{{ t }} - delta{{ t }}) * params.scale;
{% endfor %}
{% for c in range(columns) %}
            {{ stage("other_", "row", "queries.y", "first + " ~ 32 * c ~ "u", "d", "four_q(r / params.share, head + r % params.share, c)") }}
            workgroupBarrier();
            {{ gather("k" ~ c) }}
            workgroupBarrier();
{% endfor %}
        }
    }
{% for c in range(columns) %}
{% for name, width in [("k", "d"), ("v", "dv")] %}
    {{ spread(name ~ c) }}
    for (var e = lane; e < 256u; e += LANES) {
        let r = j + (e >> 3u);
        let c = first + {{ 32 * c }}u + 4u * (e & 7u);
        if r < params.kv && c < params.{{ width }} {
            put_d{{ name }}(r, kv_head, c, min(params.{{ width }} - c, 4u), other_[e]);
        }
    }
    workgroupBarrier();
{% endfor %}
{% endfor %}
}
