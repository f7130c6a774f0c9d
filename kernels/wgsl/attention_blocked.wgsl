// Attention by tiles (Dao 2023, FlashAttention-2, algorithm 1). A workgroup has {{ rows }} of the rows that share a
// kv head (its heads of a token, then those of the next) and up to {{ 32 * columns }} columns of the result, and goes
// over the keys by 32. An invocation (x, y) has the scores of rows 4y to 4y + 3 with keys x, x + 8, x + 16 and
// x + 24, and four columns at 4x of every 32 columns of the result of its rows. Vectors hold four columns, or
// the same thing of four rows.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% set gy = rows // 4 %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ putter("o", o) }}
{% include "attention_ends.wgsl" %}
const LANES = {{ workgroup_size }}u;
const ROWS = {{ rows }}u;
const GY = {{ gy }}u;
// Vectors from one row to the next: of q, and of the staged part of k or v. Odd, against bank conflicts.
const Q = {{ 8 * chunks + 1 }}u;
const T = 9u;
const NONE = 0xffffffffu;

var<workgroup> q_: array<vec4<f32>, {{ rows * (8 * chunks + 1) }}>;
var<workgroup> tile_: array<vec4<f32>, {{ 32 * 9 }}>;
// Scores, then probabilities: of key i and rows 4y to 4y + 3 at i · GY + y.
var<workgroup> p_: array<vec4<f32>, {{ 32 * gy }}>;
var<workgroup> keys_: array<vec2<u32>, {{ rows }}>;
var<workgroup> near_: array<u32, {{ gy }}>;
var<workgroup> next_: u32;

// The first key from j on that any row sees.
fn next_key(lane: u32, y: u32, low: vec4<u32>, high: vec4<u32>, j: u32) -> u32 {
    let near = select(vec4<u32>(NONE), max(vec4<u32>(j), low), vec4<u32>(j) < high);
    if (lane & 7u) == 0u { near_[y] = min(min(near.x, near.y), min(near.z, near.w)); }
    workgroupBarrier();
    if lane == 0u {
        var least = NONE;
        for (var i = 0u; i < GY; i++) { least = min(least, near_[i]); }
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
    let row = (params.tiles - 1u - group / params.parts / params.kv_heads) * ROWS;
    let rows = params.tokens * params.share;
    let x = lane & 7u;
    let y = lane >> 3u;

    for (var e = lane; e < ROWS * {{ 8 * chunks }}u; e += LANES) {
        let r = e / {{ 8 * chunks }}u;
        let c = e % {{ 8 * chunks }}u;
        var value = vec4<f32>(0.0);
        if row + r < rows && 4u * c < params.d {
            value = four_q((row + r) / params.share, kv_head * params.share + (row + r) % params.share, 4u * c);
        }
        q_[r * Q + c] = value;
    }
    if lane < ROWS {
        var keys = vec2<u32>(0u);
        if row + lane < rows { keys = keys_of((row + lane) / params.share); }
        keys_[lane] = keys;
    }
    workgroupBarrier();
    let low = vec4<u32>(keys_[4u * y].x, keys_[4u * y + 1u].x, keys_[4u * y + 2u].x, keys_[4u * y + 3u].x);
    let high = vec4<u32>(keys_[4u * y].y, keys_[4u * y + 1u].y, keys_[4u * y + 2u].y, keys_[4u * y + 3u].y);

    var top = vec4<f32>(LOW);
    var total = vec4<f32>(0.0);
{% for c in range(columns) %}{% for i in range(4) %}
    var sum{{ c }}{{ i }} = vec4<f32>(0.0);
{% endfor %}{% endfor %}
    var j = next_key(lane, y, low, high, 0u);
    while j != NONE {
{% for t in range(4) %}
        var s{{ t }} = vec4<f32>(0.0);
{% endfor %}
        for (var c = 0u; c < {{ chunks }}u; c++) {
            for (var e = lane; e < 256u; e += LANES) {
                let key = j + (e >> 3u);
                let column = 4u * (8u * c + (e & 7u));
                var value = vec4<f32>(0.0);
                if key < params.kv && column < params.d { value = four_k(key, kv_head, column); }
                tile_[(e >> 3u) * T + (e & 7u)] = value;
            }
            workgroupBarrier();
            for (var z = 0u; z < 8u; z++) {
                let at = 4u * y * Q + 8u * c + z;
                let q0 = q_[at];
                let q1 = q_[at + Q];
                let q2 = q_[at + 2u * Q];
                let q3 = q_[at + 3u * Q];
{% for t in range(4) %}
                let k{{ t }} = tile_[(x + {{ 8 * t }}u) * T + z];
                s{{ t }} += vec4<f32>(dot(q0, k{{ t }}), dot(q1, k{{ t }}), dot(q2, k{{ t }}), dot(q3, k{{ t }}));
{% endfor %}
            }
            workgroupBarrier();
        }
{% for t in range(4) %}
        let key{{ t }} = vec4<u32>(j + x + {{ 8 * t }}u);
        let seen{{ t }} = (key{{ t }} >= low) & (key{{ t }} < high);
        s{{ t }} = select(vec4<f32>(LOW), s{{ t }} * params.scale, seen{{ t }});
        p_[(x + {{ 8 * t }}u) * GY + y] = s{{ t }};
{% endfor %}
        workgroupBarrier();
        var above = top;
        for (var i = 0u; i < 32u; i++) { above = max(above, p_[i * GY + y]); }
        workgroupBarrier();
{% for t in range(4) %}
        p_[(x + {{ 8 * t }}u) * GY + y] = select(vec4<f32>(0.0), exp(s{{ t }} - above), seen{{ t }});
{% endfor %}
        let decay = exp(max(top - above, vec4<f32>(-120.0)));
        top = above;
        total *= decay;
{% for c in range(columns) %}
        for (var e = lane; e < 256u; e += LANES) {
            let key = j + (e >> 3u);
            let column = first + {{ 32 * c }}u + 4u * (e & 7u);
            var value = vec4<f32>(0.0);
            if key < params.kv && column < params.dv { value = four_v(key, kv_head, column); }
            tile_[(e >> 3u) * T + (e & 7u)] = value;
        }
        workgroupBarrier();
{% for i in range(4) %}
        sum{{ c }}{{ i }} *= decay[{{ i }}];
{% endfor %}
        for (var i = 0u; i < 32u; i++) {
            let p = p_[i * GY + y];
            let v = tile_[i * T + x];
{% if c == 0 %}
            total += p;
{% endif %}
{% for i in range(4) %}
            sum{{ c }}{{ i }} += p[{{ i }}] * v;
{% endfor %}
        }
        workgroupBarrier();
{% endfor %}
        j = next_key(lane, y, low, high, j + 32u);
    }
    let over = 1.0 / select(vec4<f32>(1.0), total, total > vec4<f32>(0.0));
{% for c in range(columns) %}
{% for i in range(4) %}
    tile_[8u * (4u * y + {{ i }}u) + x] = sum{{ c }}{{ i }} * over[{{ i }}];
{% endfor %}
    workgroupBarrier();
    for (var e = lane; e < 8u * ROWS; e += LANES) {
        let r = row + (e >> 3u);
        let column = first + {{ 32 * c }}u + 4u * (e & 7u);
        if r < rows && column < params.dv {
            write_four(r / params.share, kv_head * params.share + r % params.share, 0u, column, tile_[e]);
        }
    }
    workgroupBarrier();
{% endfor %}
    if first == 0u && x == 0u {
        for (var i = 0u; i < 4u; i++) {
            let r = row + 4u * y + i;
            if r < rows { write_end(r / params.share, kv_head * params.share + r % params.share, 0u, top[i], total[i]); }
        }
    }
}
