{% from "chunks.wgsl" import getter, putter, main %}
{% from "combined.wgsl" import combined %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{% if accumulate %}
{{ getter("y", y) }}
{% endif %}
{{ combined("x", weighted, "rows") }}
fn item(t: u32, c: u32, m: u32) {
    put_y(t, c, m, combined({% if accumulate %}get_y(t, c, m){% else %}vec4<f32>(0.0){% endif %}, t, c, m));
}
{{ main(2, workgroup, workgroup_size) }}
