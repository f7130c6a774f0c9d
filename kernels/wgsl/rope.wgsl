{% from "chunks.wgsl" import getter, putter %}
{{ getter("x", x) }}
{{ getter("cos", cos) }}
{{ getter("sin", sin) }}
{{ putter("y", y) }}
// A unit is up to {{ step }} pairs of a head, or as many columns behind those that are turned.
fn turn(t: u32, h: u32, unit: u32) {
    let p = u32(clamp(ld_index(at_index(t)), 0, params.last));
{% if interleaved %}
    let c = unit * {{ step }}u;
    let m = min(params.d - c, {{ step }}u);
    let v = get_x(t, h, c, m);
    if c >= params.half * 2u {
        put_y(t, h, c, m, v);
        return;
    }
    let n = {{ step // 2 }}u;
    let w = vec4<f32>(-1.0, 1.0, -1.0, 1.0) * params.sign;
    put_y(t, h, c, m, v * get_cos(p, c / 2u, n).xxyy + w * v.yxwz * get_sin(p, c / 2u, n).xxyy);
{% else %}
    if unit >= params.turned {
        let c = params.half * 2u + (unit - params.turned) * {{ step }}u;
        let m = min(params.d - c, {{ step }}u);
        put_y(t, h, c, m, get_x(t, h, c, m));
        return;
    }
    let i = unit * {{ step }}u;
    let a = get_x(t, h, i, {{ step }}u);
    let b = get_x(t, h, params.half + i, {{ step }}u);
    let c = get_cos(p, i, {{ step }}u);
    let s = get_sin(p, i, {{ step }}u) * params.sign;
    put_y(t, h, i, {{ step }}u, a * c - b * s);
    put_y(t, h, params.half + i, {{ step }}u, a * s + b * c);
{% endif %}
}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = (wid.x + wid.y * nwg.x) * params.per * {{ workgroup_size }}u + lane;
    for (var k = 0u; k < params.per; k++) {
        let i = first + k * {{ workgroup_size }}u;
        if i >= params.items { return; }
        let row = i / params.units;
        turn(row / params.heads, row % params.heads, i % params.units);
    }
}
