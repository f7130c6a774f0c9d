{% from "chunks.wgsl" import args, index, getter, putter, main %}
{% include "math.wgsl" %}
{{ getter("gate", gate) }}
{{ getter("up", up) }}
{{ putter("y", y) }}
fn item({{ args(y.rank) }}c: u32, m: u32) {
    let g = get_gate({{ index(y.rank) }}c, m);
    put_y({{ index(y.rank) }}c, m, g * sigmoid4(g) * get_up({{ index(y.rank) }}c, m));
}
{{ main(y.rank, workgroup, workgroup_size) }}
