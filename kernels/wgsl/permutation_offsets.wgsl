{# The first row of each expert: the sum of the totals of all before it. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let e = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if e > params.experts { return; }
    var sum = 0;
    for (var i = 0u; i < e; i++) { sum += ld_before(at_before(params.blocks, i)); }
    st_offsets(at_offsets(e), sum);
}
