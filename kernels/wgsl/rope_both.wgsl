{# Rotates queries and keys, and, with `caches`, puts the keys and the values in their rows of a cache. Invocations
   take the units of queries first, then those of keys, then four columns each of values. #}
{% from "chunks.wgsl" import getter, putter %}
{% from "turn.wgsl" import turn %}
{{ getter("q", q) }}
{{ getter("k", k) }}
{{ getter("cos", cos) }}
{{ getter("sin", sin) }}
{{ putter("q_out", q_out) }}
{{ putter("k_out", k_out) }}
{% if caches %}
{{ getter("v", v) }}
{{ putter("k_cache", k_cache) }}
{{ putter("v_cache", v_cache) }}

// The row of the cache that token t belongs in; none from params.capacity on.
fn row_of(t: u32) -> u32 {
    let row = ld_rows(at_rows(t));
    return select(u32(row), params.capacity, row < 0);
}
{% endif %}
fn put_key(t: u32, h: u32, c: u32, m: u32, v: vec4<f32>) {
    put_k_out(t, h, c, m, v);
{% if caches %}
    let row = row_of(t);
    if row < params.capacity { put_k_cache(row, h * params.d + c, m, v); }
{% endif %}
}
{{ turn("q", "put_q_out", interleaved, 4) }}
{{ turn("k", "put_key", interleaved, 4) }}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = (wid.x + wid.y * nwg.x) * params.per * {{ workgroup_size }}u + lane;
    for (var n = 0u; n < params.per; n++) {
        let i = first + n * {{ workgroup_size }}u;
        if i >= params.items { return; }
        if i < params.keys {
            let row = i / params.units;
            turn_q(row / params.heads, row % params.heads, i % params.units);
            continue;
        }
{% if caches %}
        if i >= params.values {
            let c = (i - params.values) % params.chunks * 4u;
            let t = (i - params.values) / params.chunks;
            let row = row_of(t);
            let m = min(params.width - c, 4u);
            if row < params.capacity { put_v_cache(row, c, m, get_v(t, c, m)); }
            continue;
        }
{% endif %}
        let own = i - params.keys;
        let row = own / params.units;
        turn_k(row / params.kv_heads, row % params.kv_heads, own % params.units);
    }
}
