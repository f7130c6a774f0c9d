{% from "chunks.wgsl" import getter, putter %}
{% from "turn.wgsl" import turn %}
{{ getter("x", x) }}
{{ getter("cos", cos) }}
{{ getter("sin", sin) }}
{{ putter("y", y) }}
{{ turn("x", "put_y", interleaved, step) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let first = (wid.x + wid.y * nwg.x) * params.per * {{ workgroup_size }}u + lane;
    for (var k = 0u; k < params.per; k++) {
        let i = first + k * {{ workgroup_size }}u;
        if i >= params.items { return; }
        let row = i / params.units;
        turn_x(row / params.heads, row % params.heads, i % params.units);
    }
}
