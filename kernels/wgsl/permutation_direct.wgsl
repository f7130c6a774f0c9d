{# Every invocation goes through all assignments: for few of them. It places one, and finds one offset. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let a = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    let all = params.tokens * params.k;
    let n = i32(params.experts);
    var own = -1;
    if a < all { own = ld_x(at_x(a / params.k, a % params.k)); }
    var before = 0;
    var below = 0;
    var valid = 0;
    for (var t = 0u; t < params.tokens; t++) {
        for (var j = 0u; j < params.k; j++) {
            let e = ld_x(at_x(t, j));
            if e < 0 || e >= n { continue; }
            valid++;
            if e < i32(a) { below++; }
            if e < own || (e == own && t * params.k + j < a) { before++; }
        }
    }
    if a <= params.experts { st_offsets(at_offsets(a), below); }
    if a >= all { return; }
    if own >= 0 && own < n {
        st_positions(at_positions(a / params.k, a % params.k), before);
        st_rows(at_rows(u32(before)), i32(a / params.k));
    } else {
        st_positions(at_positions(a / params.k, a % params.k), -1);
    }
    if i32(a) >= valid { st_rows(at_rows(a), -1); }
}
