// The gradient of queries by tiles (Dao 2023, FlashAttention-2, algorithm 2). A workgroup has 32 of the rows that
// share a kv head (its heads of a token, then those of the next) and up to {{ 32 * columns }} columns of the gradient,
// and goes over the keys by 32; see attention_tiles.wgsl.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% from "attention_tiles.wgsl" import memory, stage, products, gather, spread %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ fours("grad", grad, "dv", false) }}
{{ putter("dq", dq) }}
{{ memory() }}
var<workgroup> keys_: array<vec2<u32>, 32>;
var<workgroup> next_: u32;

// The first key from j on that any row sees.
fn next_key(lane: u32, j: u32) -> u32 {
    if lane == 0u {
        var least = NONE;
        for (var i = 0u; i < 32u; i++) {
            let keys = keys_[i];
            if j < keys.y { least = min(least, max(j, keys.x)); }
        }
        next_ = least;
    }
    return workgroupUniformLoad(&next_);
}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let group = wid.x + wid.y * nwg.x;
    if group >= params.groups { return; }
    let first = group % params.parts * {{ 32 * columns }}u;
    let kv_head = group / params.parts % params.kv_heads;
    // Late rows may see more keys: they start first.
    let row = (params.tiles - 1u - group / params.parts / params.kv_heads) * 32u;
    let rows = params.tokens * params.share;
    let head = kv_head * params.share;
    let x = lane & 7u;
    let y = lane >> 3u;

    if lane < 32u {
        var keys = vec2<u32>(0u);
        if row + lane < rows { keys = keys_of((row + lane) / params.share); }
        keys_[lane] = keys;
    }
    workgroupBarrier();
    var low: vec4<u32>;
    var high: vec4<u32>;
    var lse: vec4<f32>;
    var delta: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
        let r = min(row + 4u * y + i, rows - 1u);
        low[i] = keys_[4u * y + i].x;
        high[i] = keys_[4u * y + i].y;
        lse[i] = ld_row(at_row(r / params.share, head + r % params.share, 0u));
        delta[i] = ld_row(at_row(r / params.share, head + r % params.share, 1u));
    }
{% for c in range(columns) %}{% for i in range(4) %}
    var sum{{ c }}{{ i }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    var j = next_key(lane, 0u);
    while j != NONE {
{% for t in range(4) %}
        var s{{ t }} = vec4<f32>(0.0);
        var dp{{ t }} = vec4<f32>(0.0);
{% endfor %}
        for (var base = 0u; base < params.d; base += 32u) {
            {{ stage("own_", "row", "rows", "base", "d", "four_q(r / params.share, head + r % params.share, c)") }}
            {{ stage("other_", "j", "params.kv", "base", "d", "four_k(r, kv_head, c)") }}
            workgroupBarrier();
            {{ products("s") }}
            workgroupBarrier();
        }
        for (var base = 0u; base < params.dv; base += 32u) {
            {{ stage("own_", "row", "rows", "base", "dv", "four_grad(r / params.share, head + r % params.share, c)") }}
            {{ stage("other_", "j", "params.kv", "base", "dv", "four_v(r, kv_head, c)") }}
            workgroupBarrier();
            {{ products("dp") }}
            workgroupBarrier();
        }
{% for t in range(4) %}
        let key{{ t }} = vec4<u32>(j + x + {{ 8 * t }}u);
        let seen{{ t }} = (key{{ t }} >= low) & (key{{ t }} < high);
        let f{{ t }} = exp(select(vec4<f32>(LOW), s{{ t }} * params.scale - lse, seen{{ t }}));
        p_[8u * (x + {{ 8 * t }}u) + y] = f{{ t }} * (dp{{ t }} - delta) * params.scale;
{% endfor %}
{% for c in range(columns) %}
        {{ stage("other_", "j", "params.kv", "first + " ~ 32 * c ~ "u", "d", "four_k(r, kv_head, c)") }}
        workgroupBarrier();
        {{ gather("sum" ~ c) }}
        workgroupBarrier();
{% endfor %}
        j = next_key(lane, j + 32u);
    }
{% for c in range(columns) %}
    {{ spread("sum" ~ c) }}
    for (var e = lane; e < 256u; e += LANES) {
        let r = row + (e >> 3u);
        let c = first + {{ 32 * c }}u + 4u * (e & 7u);
        if r < rows && c < params.d {
            put_dq(r / params.share, head + r % params.share, c, min(params.d - c, 4u), other_[e]);
        }
    }
    workgroupBarrier();
{% endfor %}
}
