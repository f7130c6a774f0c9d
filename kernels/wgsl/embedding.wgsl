{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("table", table) }}
{{ putter("y", y) }}
fn item(n: u32, c: u32, m: u32) {
    let i = ld_index(at_index(n));
    if i < 0 || u32(i) >= params.rows {
        put_y(n, c, m, vec4<f32>(0.0));
    } else {
        put_y(n, c, m, get_table(u32(i), c, m));
    }
}
{{ main(2, workgroup, workgroup_size) }}
