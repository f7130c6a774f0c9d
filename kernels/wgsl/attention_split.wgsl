// Attention of few query rows (Flash-Decoding, Dao et al. 2023). A workgroup has up to four heads, of one kv
// head, of one token, and one part of its keys; it goes over them by {{ workgroup_size }}. An invocation has the
// scores of one key of those, and four columns of the result for every {{ workgroup_size // lanes }}th key. Vectors
// hold four columns, or the same thing of four heads.
{% from "fours.wgsl" import fours %}
{% from "chunks.wgsl" import putter %}
{% include "sequences.wgsl" %}
{{ fours("q", q, "d", false) }}
{{ fours("k", k, "d", false) }}
{{ fours("v", v, "dv", false) }}
{{ putter("o", o) }}
{% include "attention_ends.wgsl" %}
const LANES = {{ workgroup_size }}u;
// Invocations of a row of v.
const ACROSS = {{ lanes }}u;

var<workgroup> q_: array<vec4<f32>, {{ 4 * fours_d }}>;
var<workgroup> p_: array<vec4<f32>, {{ workgroup_size }}>;
var<workgroup> sum_: array<vec4<f32>, {{ 5 * workgroup_size }}>;
var<workgroup> begin_: u32;
var<workgroup> end_: u32;

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let place = wid.x + wid.y * nwg.x;
    // A group too many does the last one's work, and keeps it to itself. PoCL 3.1 compiles a kernel that writes nothing
    // where this returns instead.
    let group = min(place, params.groups - 1u);
    let first = group % params.parts * {{ 4 * lanes }}u;
    let quad = group / params.parts % params.quads;
    let kv_head = group / params.parts / params.quads % params.kv_heads;
    var rest = group / params.parts / params.quads / params.kv_heads;
{% if split %}
    let part = rest % params.splits;
    rest = rest / params.splits;
{% else %}
    let part = 0u;
{% endif %}
    let token = rest;
    let head = kv_head * params.share + 4u * quad;
    let heads = min(params.share - 4u * quad, 4u);

    for (var e = lane; e < {{ 4 * fours_d }}u; e += LANES) {
        q_[e] = four_q(token, head + min(e & 3u, heads - 1u), e & 0xfffffffcu);
    }
    if lane == 0u {
        let keys = keys_of_part(token, part);
        begin_ = keys.x;
        end_ = keys.y;
    }
    let begin = workgroupUniformLoad(&begin_);
    let end = workgroupUniformLoad(&end_);

    let turn = lane / ACROSS;
    let column = first + 4u * (lane % ACROSS);
    var top = vec4<f32>(LOW);
    var total = vec4<f32>(0.0);
{% for i in range(4) %}
    var sum{{ i }} = vec4<f32>(0.0);
{% endfor %}
    for (var j = begin; j < end; j += LANES) {
        let seen = j + lane < end;
        var s = vec4<f32>(LOW);
        if seen {
            s = vec4<f32>(0.0);
            for (var c = 0u; c < {{ fours_d }}u; c++) {
                let x = four_k(j + lane, kv_head, 4u * c);
                s += vec4<f32>(dot(x, q_[4u * c]), dot(x, q_[4u * c + 1u]), dot(x, q_[4u * c + 2u]), dot(x, q_[4u * c + 3u]));
            }
            s *= params.scale;
        }
        p_[lane] = s;
        workgroupBarrier();
        var above = top;
        for (var i = 0u; i < LANES; i++) { above = max(above, p_[i]); }
        workgroupBarrier();
        p_[lane] = select(vec4<f32>(0.0), exp(s - above), vec4<bool>(seen));
        workgroupBarrier();
        let decay = exp(max(top - above, vec4<f32>(-120.0)));
        top = above;
        total *= decay;
{% for i in range(4) %}
        sum{{ i }} *= decay[{{ i }}];
{% endfor %}
        if column < params.dv {
            for (var i = turn; i < min(LANES, end - j); i += LANES / ACROSS) {
                let p = p_[i];
                let v = four_v(j + i, kv_head, column);
                total += p;
{% for i in range(4) %}
                sum{{ i }} += p[{{ i }}] * v;
{% endfor %}
            }
        }
        workgroupBarrier();
    }
{% for i in range(4) %}
    sum_[5u * lane + {{ i }}u] = sum{{ i }};
{% endfor %}
    sum_[5u * lane + 4u] = total;
    workgroupBarrier();
    if place < params.groups && turn == 0u && column < params.dv {
        for (var i = lane + ACROSS; i < LANES; i += ACROSS) { total += sum_[5u * i + 4u]; }
        for (var h = 0u; h < heads; h++) {
            var sum = sum_[5u * lane + h];
            for (var i = lane + ACROSS; i < LANES; i += ACROSS) { sum += sum_[5u * i + h]; }
            write_four(token, head + h, part, column, sum * share_of(total[h]));
            if column == 0u { write_end(token, head + h, part, top[h], total[h]); }
        }
    }
}
