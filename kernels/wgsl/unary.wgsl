{% from "chunks.wgsl" import args, index, getter, putter, main %}
{% include "math.wgsl" %}
{{ getter("x", x) }}
{{ putter("y", y) }}
fn item({{ args(x.rank) }}c: u32, m: u32) {
    let v = get_x({{ index(x.rank) }}c, m);
    put_y({{ index(x.rank) }}c, m,
{% if f == "neg" %} -v
{% elif f == "abs" %} abs(v)
{% elif f == "exp" %} exp(v)
{% elif f == "log" %} vec4<f32>(ln(v.x), ln(v.y), ln(v.z), ln(v.w))
{% elif f == "sqrt" %} sqrt(v)
{% elif f == "rsqrt" %} 1.0 / sqrt(v)
{% elif f == "recip" %} 1.0 / v
{% elif f == "square" %} v * v
{% elif f == "sigmoid" %} sigmoid4(v)
{% elif f == "silu" %} v * sigmoid4(v)
{% elif f == "tanh" %} tanh4(v)
{% elif f == "relu" %} max(v, vec4<f32>(0.0))
{% elif f == "affine" %} params.scale * v + params.shift
{% endif %}
    );
}
{{ main(x.rank, workgroup, workgroup_size) }}
