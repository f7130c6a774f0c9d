{# For each entry of an index the next one with the same value, 0 where there is none; −1 − that if one comes
   before it. #}
@compute {{ workgroup }}
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) nwg: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
    let n = (wid.x + wid.y * nwg.x) * {{ workgroup_size }}u + lane;
    if n >= params.n { return; }
    let i = ld_index(at_index(n));
    var before = 0u;
    while before < n && ld_index(at_index(before)) != i { before++; }
    var next = n + 1u;
    while next < params.n && ld_index(at_index(next)) != i { next++; }
    let link = select(0, i32(next), next < params.n);
    st_links(at_links(n), select(link, -1 - link, before < n));
}
