{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("x", x) }}
{{ putter("y", y) }}
fn item(row: u32, c: u32, m: u32) {
    let target_ = ld_target(at_target(row));
    if target_ < 0 || u32(target_) >= params.n {
        put_y(row, c, m, vec4<f32>(0.0));
        return;
    }
    let hot = vec4<u32>(c, c + 1u, c + 2u, c + 3u) == vec4<u32>(u32(target_));
    let p = exp(get_x(row, c, m) - ld_lse(at_lse(row)));
    put_y(row, c, m, ld_dloss(at_dloss(row)) * select(p, p - 1.0, hot));
}
{{ main(2, workgroup, workgroup_size) }}
