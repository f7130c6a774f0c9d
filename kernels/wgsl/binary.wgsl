{% from "chunks.wgsl" import args, index, getter, putter, main %}
{{ getter("a", a) }}
{{ getter("b", b) }}
{{ putter("y", y) }}
fn item({{ args(a.rank) }}c: u32, m: u32) {
    let v = get_a({{ index(a.rank) }}c, m);
    let w = get_b({{ index(a.rank) }}c, m);
    put_y({{ index(a.rank) }}c, m,
{% if f == "add" %} v + w
{% elif f == "sub" %} v - w
{% elif f == "mul" %} v * w
{% elif f == "div" %} v / w
{% elif f == "max" %} max(v, w)
{% elif f == "min" %} min(v, w)
{% elif f == "equal" %} select(vec4<f32>(0.0), vec4<f32>(1.0), v == w)
{% elif f == "less" %} select(vec4<f32>(0.0), vec4<f32>(1.0), v < w)
{% endif %}
    );
}
{{ main(a.rank, workgroup, workgroup_size) }}
