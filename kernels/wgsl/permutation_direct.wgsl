{# Every invocation goes through all assignments: for few of them. It places one, and finds one offset. #}
{% from "place.wgsl" import place %}
{{ place("x", "k") }}

@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    place((wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane);
}
