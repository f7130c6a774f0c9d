{# An invocation places one assignment: behind those of experts before its own, of earlier blocks, and of its
   block. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let a = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if a >= params.all { return; }
    let token = a / params.k;
    let e = ld_x(at_x(token, a % params.k));
    if e >= 0 && u32(e) < params.experts {
        let block = a / params.per;
        var place = ld_offsets(at_offsets(u32(e))) + ld_before(at_before(block, u32(e)));
        var t = block * params.per / params.k;
        var j = block * params.per % params.k;
        for (var b = block * params.per; b < a; b++) {
            if ld_x(at_x(t, j)) == e { place++; }
            j++;
            if j == params.k {
                j = 0u;
                t++;
            }
        }
        st_positions(at_positions(token, a % params.k), place);
        st_rows(at_rows(u32(place)), i32(token));
    } else {
        st_positions(at_positions(token, a % params.k), -1);
    }
    if i32(a) >= ld_offsets(at_offsets(params.experts)) { st_rows(at_rows(a), -1); }
}
