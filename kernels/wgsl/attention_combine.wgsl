// Joins the parts that the keys of a row were split in, in their order: four columns of a row and head an
// invocation.
{% from "chunks.wgsl" import getter, putter %}
{{ getter("part", part) }}
{{ putter("o", o) }}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let item = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if item >= params.items { return; }
    let c = item % params.chunks * 4u;
    let head = item / params.chunks % params.heads;
    let token = item / params.chunks / params.heads;
    let m = min(params.dv - c, 4u);
    var top = -3.0e38;
    for (var s = 0u; s < params.splits; s++) { top = max(top, ld_stats(at_stats(token, head, s, 0u))); }
    var total = 0.0;
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < params.splits; s++) {
        let there = ld_stats(at_stats(token, head, s, 1u));
        if there > 0.0 {
            let w = exp(max(ld_stats(at_stats(token, head, s, 0u)) - top, -120.0));
            total += w * there;
            sum += w * get_part(token, head, s, c, m);
        }
    }
    let seen = total > 0.0;
    put_o(token, head, c, m, sum * (1.0 / select(1.0, total, seen)));
    if c == 0u { st_lse(at_lse(token, head), select(0.0, top + log(total), seen)); }
}
