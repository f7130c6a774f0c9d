{# A token belongs to one invocation. #}
{% include "math.wgsl" %}
{% from "route.wgsl" import route %}
{{ route(scores_by, biased, grouped_by > 1, group_score, normalize) }}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let t = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if t < params.tokens { route(t); }
}
