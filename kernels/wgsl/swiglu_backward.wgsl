{% from "chunks.wgsl" import args, index, getter, putter, main %}
{% include "math.wgsl" %}
{{ getter("dy", dy) }}
{{ getter("gate", gate) }}
{{ getter("up", up) }}
{{ putter("dgate", dgate) }}
{{ putter("dup", dup) }}
fn item({{ args(dy.rank) }}c: u32, m: u32) {
    let d = get_dy({{ index(dy.rank) }}c, m);
    let g = get_gate({{ index(dy.rank) }}c, m);
    let u = get_up({{ index(dy.rank) }}c, m);
    let s = sigmoid4(g);
    put_dgate({{ index(dy.rank) }}c, m, d * u * s * (1.0 + g * (1.0 - s)));
    put_dup({{ index(dy.rank) }}c, m, d * g * s);
}
{{ main(dy.rank, workgroup, workgroup_size) }}
