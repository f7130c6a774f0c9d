{% from "chunks.wgsl" import args, index, getter, putter, main %}
{% set integers = ("i32", "u32", "u8", "i8") %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{% if y.dtype in integers and x.dtype not in integers %}
// Towards zero, saturating, 0 for NaN: by the bits, as the language leaves NaN open.
fn convert(v: f32) -> {{ "u32" if y.dtype == "u32" else "i32" }} {
    if (bitcast<u32>(v) & 0x7fffffffu) > 0x7f800000u { return {{ "0u" if y.dtype == "u32" else "0" }}; }
{% if y.dtype == "u32" %}
    if v >= 4294967296.0 { return 0xffffffffu; }
    if v <= 0.0 { return 0u; }
    return u32(v);
{% elif y.dtype == "i32" %}
    if v >= 2147483648.0 { return 2147483647; }
    if v <= -2147483648.0 { return -2147483647 - 1; }
    return i32(v);
{% elif y.dtype == "u8" %}
    return i32(clamp(v, 0.0, 255.0));
{% else %}
    return i32(clamp(v, -128.0, 127.0));
{% endif %}
}
{% endif %}
fn item({{ args(x.rank) }}c: u32, m: u32) {
    let v = get_x({{ index(x.rank) }}c, m);
{% if y.dtype not in integers %}
    put_y({{ index(x.rank) }}c, m, vec4<f32>(v));
{% elif x.dtype not in integers %}
    put_y({{ index(x.rank) }}c, m, vec4(convert(v.x), convert(v.y), convert(v.z), convert(v.w)));
{% elif y.dtype == "u32" and x.dtype == "u32" %}
    put_y({{ index(x.rank) }}c, m, v);
{% elif y.dtype == "u32" %}
    put_y({{ index(x.rank) }}c, m, vec4<u32>(max(v, vec4<i32>(0))));
{% else %}
    {% if x.dtype == "u32" %}
    let w = vec4<i32>(min(v, vec4<u32>(0x7fffffffu)));
    {% else %}
    let w = v;
    {% endif %}
    {% if y.dtype == "u8" %}
    put_y({{ index(x.rank) }}c, m, clamp(w, vec4<i32>(0), vec4<i32>(255)));
    {% elif y.dtype == "i8" %}
    put_y({{ index(x.rank) }}c, m, clamp(w, vec4<i32>(-128), vec4<i32>(127)));
    {% else %}
    put_y({{ index(x.rank) }}c, m, w);
    {% endif %}
{% endif %}
}
{{ main(x.rank, workgroup, workgroup_size) }}
