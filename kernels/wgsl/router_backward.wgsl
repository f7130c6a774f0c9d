{# See hal's `reference/moe.rs` for the formula. #}
{% from "chunks.wgsl" import getter, putter %}
{% from "rows.wgsl" import columns, joins, main %}
{% include "math.wgsl" %}
{% if group %}{% include "reduce.wgsl" %}{% endif %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{{ columns(group, workgroup_size) }}
{{ joins(group) }}
fn scores(x: vec4<f32>, shift: f32, sum: f32) -> vec4<f32> {
{% if scores_by == "softmax" %}
    return exp(x - shift) / sum;
{% else %}
    return sigmoid4(x);
{% endif %}
}

// The score of the k-th chosen expert; 0 if it is none.
fn score(t: u32, k: u32, shift: f32, sum: f32) -> f32 {
    let e = ld_chosen(at_chosen(t, k));
    if e < 0 || u32(e) >= params.n { return 0.0; }
    return scores(vec4<f32>(ld_x(at_x(t, u32(e)))), shift, sum).x;
}

fn do_row(t: u32, lane: u32) {
{% if scores_by == "softmax" %}
    var largest = vec4<f32>(-3.4028234663852886e38);
    for (var c = 4u * lane; c < params.n; c += STEP) {
        largest = max(largest, get_x(t, c, min(params.n - c, 4u)));
    }
    let shift = row_max(lane, highest(largest));
    var terms = NOTHING;
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        terms = add(terms, kept(exp(get_x(t, c, m) - shift), m));
    }
    let sum = row_sum(lane, total(terms));
{% else %}
    let shift = 0.0;
    let sum = 1.0;
{% endif %}
{% if normalize %}
    var chosen = 1e-20;
    for (var k = 0u; k < params.top_k; k++) { chosen += score(t, k, shift, sum); }
    var mean = 0.0;
    for (var k = 0u; k < params.top_k; k++) {
        mean += ld_dweights(at_dweights(t, k)) * (score(t, k, shift, sum) / chosen);
    }
{% else %}
    let chosen = 1.0;
    let mean = 0.0;
{% endif %}
    var dot = 0.0;
{% if scores_by == "softmax" %}
    for (var k = 0u; k < params.top_k; k++) {
        let ds = params.scale * ((ld_dweights(at_dweights(t, k)) - mean) / chosen);
        dot += score(t, k, shift, sum) * ds;
    }
{% endif %}
    for (var c = 4u * lane; c < params.n; c += STEP) {
        let m = min(params.n - c, 4u);
        let s = scores(get_x(t, c, m), shift, sum);
        var ds = vec4<f32>(0.0);
        for (var k = 0u; k < params.top_k; k++) {
            let e = ld_chosen(at_chosen(t, k));
            let hot = vec4<u32>(c, c + 1u, c + 2u, c + 3u) == vec4<u32>(u32(e));
            ds = select(ds, vec4<f32>(params.scale * ((ld_dweights(at_dweights(t, k)) - mean) / chosen)), hot);
        }
{% if scores_by == "softmax" %}
        put_y(t, c, m, s * (ds - dot));
{% else %}
        put_y(t, c, m, ds * s * (1.0 - s));
{% endif %}
    }
}
{{ main(group, 1, workgroup, workgroup_size) }}
