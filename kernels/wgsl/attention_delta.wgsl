// What the gradient needs of each query row and head: its lse, and the product of the output with its gradient.
{% from "fours.wgsl" import fours %}
{{ fours("grad", grad, "dv", false) }}
{{ fours("o", o, "dv", false) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let token = item / params.heads;
    let head = item % params.heads;
    var sum = vec4<f32>(0.0);
    for (var c = 0u; c < params.dv; c += 4u) { sum += four_grad(token, head, c) * four_o(token, head, c); }
    st_row(at_row(token, head, 0u), ld_lse(at_lse(token, head)));
    st_row(at_row(token, head, 1u), (sum.x + sum.y) + (sum.z + sum.w));
}
