{# Marks the rows that positions name; first, all as not named. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let i = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
{% if clear %}
    if i < params.rows { st_marks(at_marks(i), 0); }
{% else %}
    if i >= params.all { return; }
    let p = ld_positions(at_positions(i / params.k, i % params.k));
    if p >= 0 && u32(p) < params.rows { st_marks(at_marks(u32(p)), 1); }
{% endif %}
}
