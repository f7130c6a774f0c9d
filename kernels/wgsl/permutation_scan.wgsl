{# For each expert: sums of the counts of the blocks before each block, and of all blocks. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let e = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if e >= params.experts { return; }
    var sum = 0;
    for (var block = 0u; block < params.blocks; block++) {
        st_before(at_before(block, e), sum);
        sum += ld_counts(at_counts(block, e));
    }
    st_before(at_before(params.blocks, e), sum);
}
