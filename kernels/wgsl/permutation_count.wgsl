{# How many assignments of each block go to each expert: one invocation for a block and an expert. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let unit = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    let block = unit / params.experts;
    let e = unit % params.experts;
    if block >= params.blocks { return; }
    let end = min((block + 1u) * params.per, params.all);
    var t = block * params.per / params.k;
    var j = block * params.per % params.k;
    var count = 0;
    for (var a = block * params.per; a < end; a++) {
        if ld_x(at_x(t, j)) == i32(e) { count++; }
        j++;
        if j == params.k {
            j = 0u;
            t++;
        }
    }
    st_counts(at_counts(block, e), count);
}
