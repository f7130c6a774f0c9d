{% from "chunks.wgsl" import args, index, putter, main %}
{{ putter("y", y) }}
fn item({{ args(y.rank) }}c: u32, m: u32) {
    put_y({{ index(y.rank) }}c, m, vec4<i32>(i32(c)) + vec4<i32>(0, 1, 2, 3));
}
{{ main(y.rank, workgroup, workgroup_size) }}
