{% from "chunks.wgsl" import getter, putter, main %}
{{ getter("x", x) }}
{{ putter("y", y) }}
{% if accumulate %}
{{ getter("y", y) }}
{% endif %}
fn item(t: u32, c: u32, m: u32) {
    var sum = {% if accumulate %}get_y(t, c, m){% else %}vec4<f32>(0.0){% endif %};
    for (var j = 0u; j < params.k; j++) {
        let p = ld_positions(at_positions(t, j));
        if p >= 0 && u32(p) < params.rows {
            sum += {% if weighted %}ld_weights(at_weights(t, j)) * {% endif %}get_x(u32(p), c, m);
        }
    }
    put_y(t, c, m, sum);
}
{{ main(2, workgroup, workgroup_size) }}
